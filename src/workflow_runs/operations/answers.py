"""What the desk answers, beside runs, pages and plans."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.records import Run, Step
from ..model.states import Idempotency, RunStatus


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run and its steps."""

    run: Run
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run was made, or, for a key that was used before, had been made; it executes in the background."""

    run_id: str
    workflow_name: str
    parent_run_id: str | None = None
    resume_from_step: str | None = None  # label


@dataclass(frozen=True, slots=True)
class CancelAccepted:
    """A run is cancelled, or marked to be: then ``status`` is still running until its owner has ended it."""

    run_id: str
    status: RunStatus


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """What the registry of this process says about a workflow."""

    name: str
    description: str
    idempotency: Idempotency
    tags: tuple[str, ...]
    version: str | None  # the declared one, or a hash of the code; None where this process does not hold the workflow
    can_trigger: bool
    can_rerun: bool
    can_resume: bool
    can_cancel: bool
    has_rerun_guard: bool
    has_resume_guard: bool
