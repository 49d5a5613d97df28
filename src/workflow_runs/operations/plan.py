"""The plan: what a rerun or resume of a run will do, before it does it. Run, steps and target in; kept, executed, refused out.

The plan carries the seeds that the new run starts with, so what it says and what happens cannot differ: there is no second place
that computes them. Its hash covers the run with its input, the target, everything kept (outputs included), everything known to be
executed again and the code version; an action that names the hash is refused with ``plan_changed`` once any of these differs.

Which steps are kept:

* By default the target is the step whose error ended the run. Every completed step is kept, also parallel siblings that began
  after the target. A step whose error was caught is executed again: nothing of it can be kept.
* When an operator names a step, that step and all that began after it are executed again; completed steps before it are kept.

What the run did not reach has no record: unless it succeeded under the same code, ``rest_known`` is False and the plan says so.
Order is the recorded sequence, never the order of a map (fault B1 of the original); a step is (name, key, occurrence) (B6).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from ..errors import (
    AlreadyResumed,
    GuardFailed,
    IncompletePriorStep,
    InvalidBody,
    NoFailedStep,
    Refusal,
)
from ..model.jsontext import check_json
from ..model.records import Run, Step, StepKey
from ..model.requests import Seed, undone_elsewhere
from ..model.states import (
    KEPT_STEP_STATES,
    REPEATABLE_EFFECTS,
    Idempotency,
    RecordingMode,
    RunState,
    StepKind,
    StepState,
)
from .drift import code_changed
from .policy import Standing, may_rerun, may_resume, needs_confirmation

PlanKind = Literal["rerun", "resume"]


class GuardAnswer(StrEnum):
    """What the host's guard says about a plan. Only ``ALLOWED`` is a yes."""

    NONE = "none"  # the workflow has no guard for the action
    NOT_ASKED = "not_asked"
    ALLOWED = "allowed"
    REFUSED = "refused"
    FAILED = "failed"  # it raised, or gave something that is no answer
    SILENT = "silent"  # it was asked, and had not answered when whoever asked stopped waiting


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the planned action would be declined now. ``error`` is what the action itself would raise."""

    error: Refusal | GuardFailed

    @property
    def code(self) -> str:
        """The stable code."""
        return self.error.code

    @property
    def message(self) -> str:
        """A sentence for people."""
        return str(self.error)

    @property
    def details(self) -> dict[str, Any]:
        """Further members of the answer, such as ``runId``."""
        return self.error.details if isinstance(self.error, Refusal) else {}


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen. ``kept`` and ``executed`` are in order of the recorded sequence."""

    kind: PlanKind
    run_id: str
    hash: str
    target: StepKey | None = None  # a rerun has none
    kept: tuple[StepKey, ...] = ()
    executed: tuple[StepKey, ...] = ()  # the recorded steps that are executed again
    rest_known: bool = False  # False: the run stopped early or its code changed; further steps are not known yet
    refused: Refused | None = None
    code_changed: bool | None = None
    existing_resume_run_id: str | None = None
    idempotency: Idempotency | None = None
    confirm_required: bool = False
    guard: GuardAnswer = GuardAnswer.NONE
    seeds: tuple[Seed, ...] = field(default=(), repr=False)


def make_plan(
    kind: PlanKind,
    run: Run,
    steps: Sequence[Step],
    standing: Standing,
    *,
    existing_resume_run_id: str | None = None,
    undone: Mapping[StepKey, str] | None = None,
    from_step: str | None = None,
    accept_gap: bool = False,
    guarded: bool = False,
) -> Plan:
    """Return the plan. It is complete but for the guard, which is asked about a plan that nothing else refuses.

    Args:
        steps: All steps of the run; with outputs where the run failed and ``kind`` is resume.
        existing_resume_run_id: A run of the same resume chain that is live or has succeeded.
        undone: The steps that other runs of the chain carried over and compensated, each with the run that did.
        from_step: The step an operator chose, as people write it (``charge``, ``charge#2``, ``notify[order-7]``).
        accept_gap: A resume of a run whose record has a gap is not refused for that.
        guarded: Whether a guard of the host will be asked; its answer is put into the plan by who asks it.

    Raises:
        InvalidBody: ``from_step`` names no recorded step, or more than one.
    """
    ordered = sorted(steps, key=lambda step: step.sequence)
    if kind == "rerun":
        draft = _plan_rerun(run, ordered, standing)
    else:
        draft = _plan_resume(run, ordered, standing, from_step, accept_gap=accept_gap)
    if undone and draft.refused is None:
        again = (step.step for step in draft.kept if step.step in undone)
        draft.refused = next((undone_elsewhere(step, undone[step]) for step in again), None)
    if kind == "resume" and draft.refused is None and existing_resume_run_id is not None:
        draft.refused = AlreadyResumed("A resume of this run exists already.", runId=existing_resume_run_id)
    changed = code_changed(run.code_version, standing.code_version)
    return Plan(
        kind=kind,
        run_id=run.id,
        hash=_hash(kind, run, draft, standing.code_version),
        target=draft.target,
        kept=tuple(step.step for step in draft.kept if step.kind is StepKind.STEP),
        executed=tuple(step.step for step in draft.executed),
        rest_known=run.state is RunState.SUCCEEDED and changed is False,
        refused=None if draft.refused is None else Refused(draft.refused),
        code_changed=changed,
        existing_resume_run_id=existing_resume_run_id,
        idempotency=standing.idempotency,
        confirm_required=needs_confirmation(kind, standing.idempotency),
        guard=GuardAnswer.NOT_ASKED if guarded else GuardAnswer.NONE,
        seeds=_seeds(draft),
    )


@dataclass(slots=True)
class _Draft:
    target: StepKey | None = None
    kept: tuple[Step, ...] = ()  # of every kind: readings of the clock are carried over too
    executed: tuple[Step, ...] = ()
    refused: Refusal | None = None


def _plan_rerun(run: Run, steps: Sequence[Step], standing: Standing) -> _Draft:
    executed = tuple(step for step in steps if step.kind is StepKind.STEP)
    return _Draft(executed=executed, refused=may_rerun(run, standing))


def _plan_resume(
    run: Run, steps: Sequence[Step], standing: Standing, from_step: str | None, *, accept_gap: bool
) -> _Draft:
    refused = may_resume(run, standing, accept_gap=accept_gap)
    if refused is not None:
        return _Draft(refused=refused)
    target = _step_that_ended(run, steps) if from_step is None else find_step(steps, from_step)
    if target is None:
        return _Draft(refused=NoFailedStep("No step's error ended this run; choose the step to resume from."))
    chosen = from_step is not None
    kept = tuple(step for step in steps if _is_kept(step, target, chosen=chosen))
    keys = {step.step for step in kept}
    executed = tuple(step for step in steps if step.kind is StepKind.STEP and step.step not in keys)
    refused = _incomplete(steps, target, chosen=chosen) or _unreadable(run, kept)
    return _Draft(target.step, kept, executed, refused)


def find_step(steps: Sequence[Step], label: str) -> Step:
    """Return the one recorded step that ``label`` names: its full label, or its name where that leaves no choice.

    Raises:
        InvalidBody: none, or several.
    """
    candidates = [step for step in steps if step.kind is StepKind.STEP]
    named = [step for step in candidates if step.step.label() == label]
    named = named or [step for step in candidates if step.step.name == label]
    if not named:
        raise InvalidBody("fromStep names no step that this run has recorded", field="fromStep")
    if len(named) > 1:
        raise InvalidBody("fromStep names several steps of this run; write its key or number too", field="fromStep")
    return named[0]


def _step_that_ended(run: Run, steps: Sequence[Step]) -> Step | None:
    """Return the step whose error ended the run.

    Not "the first failed step": that one may have succeeded at a later attempt, or its error may have been caught (fault B5). Of
    several steps of the name that the run's error gives it is the one with the same message, and of these the last to end.
    """
    if run.error is None:
        return None
    named, message = run.error.step_name, run.error.message
    failed = [step for step in steps if step.kind is StepKind.STEP and _is_over(step)]
    if named is not None:
        ended = [step for step in failed if named in {step.step.name, step.step.label()}]
    elif run.mode is RecordingMode.OBSERVE:
        # Whoever records from elsewhere need not say which step it was; the message tells.
        ended = [step for step in failed if _message(step) == message]
    else:
        ended = []
    return max(
        ended,
        key=lambda step: (_message(step) == message, step.last.ended_at or step.last.started_at, step.sequence),
        default=None,
    )


def _is_over(step: Step) -> bool:
    """Whether the step failed in a way that lets it be executed again. One that was interrupted may have had its effect."""
    repeatable = step.effect in REPEATABLE_EFFECTS
    return step.state is StepState.FAILED or (step.state is StepState.CANCELLED and repeatable)


def _is_uncertain(step: Step) -> bool:
    return step.state in {StepState.RUNNING, StepState.UNKNOWN, StepState.CANCELLED}


def _message(step: Step) -> str | None:
    return None if step.last.error is None else step.last.error.message


def _is_kept(step: Step, target: Step, *, chosen: bool) -> bool:
    if step.state not in KEPT_STEP_STATES or step.step == target.step:
        return False
    return not chosen or step.sequence < target.sequence


def _incomplete(steps: Sequence[Step], target: Step, *, chosen: bool) -> Refusal | None:
    for step in steps:
        if step.kind is not StepKind.STEP or step.step == target.step:
            continue
        if step.sequence < target.sequence:
            open_ = not (step.state in KEPT_STEP_STATES or _is_over(step))
        else:
            # A parallel sibling that began later. Undone or repeatable, it may be executed again. An unsafe one whose outcome
            # nobody knows is never repeated silently (promise 3); an operator who names a step has seen it in the plan.
            open_ = not chosen and step.effect not in REPEATABLE_EFFECTS and _is_uncertain(step)
        if open_:
            return IncompletePriorStep(
                f"Step {step.step.label()} is {step.state.value.replace('_', ' ')}: it can be neither kept nor repeated.",
                stepName=step.step.label(),
                state=step.state.value,
            )
    return None


def _unreadable(run: Run, kept: Sequence[Step]) -> Refusal | None:
    """Refuse to keep a step whose output is not there to be handed on."""
    for step in kept:
        output = step.last.output
        # Observed code need not say what a step gave. An engine of ours always records it, if only ``null``; what has none was lost.
        lost = output is None and run.mode is RecordingMode.JOURNAL and step.state is StepState.SUCCEEDED
        if lost or (output is not None and check_json(output) is None):
            return IncompletePriorStep(
                f"The recorded output of step {step.step.label()} cannot be read.", stepName=step.step.label()
            )
    return None


def _seeds(draft: _Draft) -> tuple[Seed, ...]:
    """Return the seeds of a plan that is not refused.

    A seed named like the target would skip it, and one that no step stands behind would be a ghost (fault B4).
    """
    if draft.refused is not None or draft.target is None:
        return ()
    seeds = tuple(
        Seed(step.step, step.sequence, step.last.output, step.kind, step.effect, step.input_digest)
        for step in draft.kept
    )
    names = {(seed.kind, seed.step) for seed in seeds}
    assert len(names) == len(seeds), "a step is seeded twice"
    assert (StepKind.STEP, draft.target) not in names, "the target is among the seeds"
    assert all(step.state in KEPT_STEP_STATES for step in draft.kept), "a seed that is not completed"
    return seeds


def _hash(kind: str, run: Run, draft: _Draft, code_version: str | None) -> str:
    kept = [[*step.step, step.kind, step.sequence, _text_digest(step.last.output)] for step in draft.kept]
    executed = [[*step.step, step.state] for step in draft.executed]
    given = _text_digest(run.input)
    basis = json.dumps([kind, run.id, given, draft.target, kept, executed, code_version], separators=(",", ":"))
    return hashlib.blake2b(basis.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _text_digest(text: str | None) -> str | None:
    if text is None:
        return None
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
