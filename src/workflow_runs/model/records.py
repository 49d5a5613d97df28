"""What is read back: runs, steps, attempts, audit rows; filters and pages.

Payloads (inputs, outputs, results, errors' stacks) stay JSON text to the end: they are shown as recorded, and decoding a step's
output only to encode it again costs ten times the read on a run of 1,000 steps (spec: performance, section 7.10).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from .states import EffectClass, Origin, RecordingMode, RunState, RunStatus, StepKind, StepState


class StepKey(NamedTuple):
    """Which step of a run: its name, the explicit key (empty without one) and the count of that pair, from 1."""

    name: str
    key: str = ""
    occurrence: int = 1

    def label(self) -> str:
        """Return the key as people write it: ``charge``, ``charge#2``, ``charge[order-7]``."""
        shown = f"{self.name}[{self.key}]" if self.key else self.name
        return shown if self.occurrence == 1 else f"{shown}#{self.occurrence}"


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """An exception as it is kept. Texts are bounded and clean (see ``failures``)."""

    message: str
    code: str | None = None
    type_name: str | None = None
    step_name: str | None = None
    stack: str | None = None
    cause: ErrorRecord | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a step: one row of the journal."""

    number: int
    state: StepState
    origin: Origin
    output: str | None  # JSON text
    error: ErrorRecord | None
    started_at: datetime
    ended_at: datetime | None
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run with its attempts, oldest first; its state and output are those of the last one."""

    run_id: str
    step: StepKey
    sequence: int
    kind: StepKind
    effect: EffectClass
    input_digest: str | None
    attempts: tuple[Attempt, ...]

    @property
    def last(self) -> Attempt:
        """The attempt that counts."""
        return self.attempts[-1]

    @property
    def state(self) -> StepState:
        """The state of the last attempt."""
        return self.last.state


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the list and the head of a run's page.

    ``input``, ``result`` and ``error.stack`` are None in a summary (``RunList`` says so); JSON text otherwise.
    """

    id: str
    workflow_name: str
    definition: (
        str  # the workflow whose code executes it; differs from the name only where a runner records under another
    )
    trigger: str
    correlation_id: str | None
    tags: tuple[str, ...]
    state: RunState
    status: RunStatus
    input: str | None
    result: str | None
    error: ErrorRecord | None
    fingerprint: str | None
    parent_run_id: str | None
    root_run_id: str  # first run of the lineage: over reruns and resumes
    chain_run_id: str  # first run of the resume chain: what effect keys are made from
    triggered_by_user_id: str | None
    idempotency_key: str | None
    resume_from: StepKey | None
    mode: RecordingMode
    has_gap: bool  # something of an observed run could not be recorded
    code_version: str | None
    started_at: datetime  # acceptance
    execution_started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime
    duration_ms: int | None
    cancel_requested_at: datetime | None
    claim_owner: str | None
    resumed_by_run_id: str | None  # the resume that holds the claim on this failure, whatever became of it
    unreadable: tuple[str, ...] = ()  # fields whose stored value is damaged; they read as None


class RunField(StrEnum):
    """What of a run a ``Choice`` asks about; the values are compared whole and exactly where nothing else is said."""

    WORKFLOW_NAME = "workflow_name"
    CORRELATION_ID = "correlation_id"
    TRIGGER = "trigger"
    TRIGGERED_BY_USER_ID = "triggered_by_user_id"
    PARENT_RUN_ID = "parent_run_id"
    FINGERPRINT = "fingerprint"
    CODE_VERSION = "code_version"
    ERROR_STEP = "error_step"
    TAG = "tag"
    ERROR_TEXT = "error_text"  # the shown error of a run that ended without success holds it, A-Z in any case
    INPUT = "input"  # the string, number, boolean or null at ``path`` is written so


class RunKind(StrEnum):
    """How a run came about. Each run is of one kind."""

    ROOT = "root"  # no parent
    RERUN = "rerun"
    RESUME = "resume"  # keeps steps of its parent


@dataclass(frozen=True, slots=True)
class Choice:
    """A condition: the field has one of the values. ``path`` leads into the input, by members' names and places in arrays."""

    field: RunField
    values: tuple[str, ...]
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs: those for which every condition holds. Within ``states``, ``statuses`` and ``kinds`` any matches, of ``tags`` and
    ``choices`` all must; None and empty do not filter.

    A run that one of the ``excluded`` filters matches is left out.
    """

    workflow_names: tuple[str, ...] = ()
    statuses: tuple[RunStatus, ...] = ()
    states: tuple[RunState, ...] = ()
    tags: tuple[str, ...] = ()
    correlation_id: str | None = None
    trigger: str | None = None
    triggered_by_user_id: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    fingerprint: str | None = None
    started_since: datetime | None = None  # inclusive
    started_until: datetime | None = None  # exclusive
    duration_ms_min: int | None = None
    duration_ms_max: int | None = None
    kinds: tuple[RunKind, ...] = ()
    has_resume: bool | None = None  # whether a resume holds the claim on its failure
    newer_than: str | None = None  # only runs whose id comes after this one
    choices: tuple[Choice, ...] = ()
    excluded: tuple[RunFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list: ``after`` is the last id of the page before (keyset); ``offset`` is the original's way."""

    limit: int = 50
    offset: int = 0
    after: str | None = None


@dataclass(frozen=True, slots=True)
class RunList:
    """One page, newest first. ``total`` is exact up to 10,000, then 10,000 with ``total_capped``."""

    runs: tuple[Run, ...]
    total: int
    total_capped: bool
    next_after: str | None  # None on the last page


@dataclass(frozen=True, slots=True)
class Audit:
    """Who did what to which run, when and why."""

    id: str
    at: datetime
    actor: str | None
    action: str  # trigger, rerun, resume, cancel
    workflow_name: str
    run_id: str  # the run that the action made or changed
    target_run_id: str | None  # the run it was done to, when it made another
    reason: str | None
    plan_hash: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class IdempotentAction:
    """What an idempotency key was used for."""

    run_id: str
    request_hash: str
