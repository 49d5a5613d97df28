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


@dataclass(frozen=True, slots=True)
class RecorderHealth:
    """How recording does in this process since it began."""

    queued: int  # entries that wait to be written, those in a spool included
    oldest_s: float | None  # for how long they have been tried already; None while nothing waits
    failures: int  # attempts to write that failed
    last_error: str | None  # class name of the last failure; kept after it healed
    dropped: int  # entries that were given up: their runs, if they could be written at all, are marked as having a gap
    database_ms: float | None  # how long it took to answer a question; None: it does not answer
