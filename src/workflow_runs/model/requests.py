"""``RunRequest``: the only value an engine receives. A resume is a start with seeds, not a second mechanism."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import IncompletePriorStep
from .records import StepKey
from .states import EffectClass, StepKind


@dataclass(frozen=True, slots=True)
class Seed:
    """A finished step of an earlier run whose output the new run keeps. ``output`` is JSON text, as recorded."""

    step: StepKey
    sequence: int
    output: str | None
    kind: StepKind = StepKind.STEP
    effect: EffectClass = EffectClass.UNSAFE
    input_digest: str | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key. It belongs to its ``scope`` (``trigger:checkout``, ``rerun:wfrn_...``); ``request_hash`` is of the body."""

    scope: str
    key: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class Action:
    """An operator's action on its way to the transaction that creates the run: lineage, audit, claim, key."""

    kind: str  # trigger, rerun, resume
    actor: str | None = None
    reason: str | None = None
    plan_hash: str | None = None
    request_id: str | None = None
    target_run_id: str | None = None  # the run that is rerun or resumed
    claims_failure: bool = False  # resume: at most one live child of the failed run
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything about a run that is to start. ``input`` is JSON text, raw as the caller gave it."""

    workflow_name: str
    definition: str
    input: str | None = None
    trigger: str = "manual"
    correlation_id: str | None = None
    tags: tuple[str, ...] = ()
    triggered_by_user_id: str | None = None
    idempotency_key: str | None = None  # shown to the workflow; enforced by ``action.idempotency``
    parent_run_id: str | None = None
    root_run_id: str | None = None  # None: the run is its own root
    chain_run_id: str | None = None  # None: the run begins its own chain
    resume_from: StepKey | None = None
    seeds: tuple[Seed, ...] = ()
    code_version: str | None = None
    action: Action | None = None


def undone_elsewhere(step: StepKey, run_id: str) -> IncompletePriorStep:
    """Return the refusal of a resume that would keep what another run of its chain has undone."""
    return IncompletePriorStep(
        f"Run {run_id} carried step {step.label()} over and compensated it, or tried to: it cannot be kept.",
        stepName=step.label(),
        runId=run_id,
    )
