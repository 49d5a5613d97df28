"""The verdict: what can honestly be said about a rerun, a resume or a cancel before it is done. Values in, sentences out.

Four words, each bound to evidence:

    NO       the plan is refused: the reason, and what would change it
    REASON   something that happened happens again, the code is another one, or something that should be known is not
    CHECK    a step with an effect may have taken effect before it failed, and no guard says that it may be repeated
    YES      every single finding is good

So nothing is inferred from what is not known: an answer that is missing (code version, guard, relatives, what an observed run did
between its steps) is a finding of its own, *unknown*, and its presence alone keeps the verdict from YES. What an effect is and
whether it bears repeating is what was declared (``EffectClass``); of a failed attempt nobody knows whether it took effect.

What has happened already is looked for in the whole lineage, not only in the run itself: when a resume of this run has charged the card
and then failed, resuming this run once more charges it again, and this run's own record knows nothing of it.

The texts are for an operator in a hurry. Names of steps in them, and reasons of guards, are others' text: whoever shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from ..errors import StepTimeout
from ..model.records import Attempt, Run, Step, StepKey
from ..model.states import (
    KEPT_STEP_STATES,
    REPEATABLE_EFFECTS,
    EffectClass,
    Idempotency,
    Origin,
    RecordingMode,
    RunState,
    RunStatus,
    StepKind,
    StepState,
    is_finished,
)
from .plan import GuardAnswer, Plan, PlanKind, Refused

Level: TypeAlias = Literal["good", "warn", "bad", "unknown"]

_TOLD_MAX: Final = 10  # steps that are told of one by one; more are counted
_NAMED_MAX: Final = 3  # steps that are named in one sentence
_TYPED_LENGTH_MAX: Final = 64  # a longer business key is not typed by anybody

_TOOK_EFFECT: Final = KEPT_STEP_STATES | {StepState.COMPENSATION_FAILED}
_BEARS_REPEATING: Final = {
    EffectClass.PURE: "it has no effect",
    EffectClass.READ: "it only reads",
    EffectClass.IDEMPOTENT: "a second time changes nothing",
}
_ENDED: Final = {
    StepState.FAILED: "failed after it was started",
    StepState.CANCELLED: "was interrupted after it was started",
}
_ENDED_UNKNOWN: Final = "was started, and how it ended is not known"


class Word(StrEnum):
    """The four answers."""

    YES = "yes"
    CHECK = "check"
    REASON = "reason"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence, as a sentence. ``step`` is the label of the step that it is about, if it is about one."""

    level: Level
    text: str
    step: str | None = None


@dataclass(frozen=True, slots=True)
class Demands:
    """What an operator has to give before the action is taken: see ``unmet``."""

    reason: bool = False
    checked: str | None = None  # the step, or steps, whose effect has to be looked for, and that ticked
    typed: str | None = None  # the text to be typed: the business key, else the run's id


@dataclass(frozen=True, slots=True)
class Repeat:
    """An effect that would come about a second time."""

    step: StepKey
    effect: EffectClass
    first_at: datetime | None  # None: not known
    certain: bool = True  # False: the first time may not have taken effect
    run_id: str | None = None  # the relative that has it on record; None: the run itself


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about a planned rerun or resume."""

    word: Word
    title: str
    findings: tuple[Finding, ...]
    demands: Demands = Demands()
    repeats: tuple[Repeat, ...] = ()  # in recorded order
    target: StepKey | None = None


@dataclass(frozen=True, slots=True)
class Relative:
    """Another run of the same lineage, with its steps."""

    run: Run
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class CancelOutlook:
    """What a cancel would do now."""

    possible: bool
    at_once: bool  # False: the process that executes the run ends it
    title: str
    findings: tuple[Finding, ...]


def judge(
    kind: PlanKind,
    run: Run,
    steps: Sequence[Step],
    plan: Plan,
    *,
    from_step_chosen: bool,
    relatives: Sequence[Relative] | None = (),
) -> Verdict:
    """Return the verdict on a plan.

    Args:
        kind: ``rerun`` or ``resume``.
        run: The run that would be acted on.
        steps: All its steps.
        plan: What would happen.
        from_step_chosen: Whether an operator named the step to start from.
        relatives: The other runs of the lineage; None: there are more than were looked at.
    """
    if plan.refused is not None:
        return _refusal(run, plan, plan.refused)
    if plan.guard is GuardAnswer.REFUSED:
        return Verdict(Word.NO, "No. The guard refuses.", (_GUARD_REFUSES,), target=plan.target)
    traces = _traces(run, steps, relatives or (), frozenset(plan.kept))
    if kind == "rerun":
        return _judge_rerun(run, plan, traces, relatives)
    return _judge_resume(run, steps, plan, traces, relatives, from_step_chosen=from_step_chosen)


def unmet(demands: Demands, *, reason: str, checked: bool, typed: str) -> tuple[tuple[str, str], ...]:
    """Return (field, message) of each demand that was not met: ``reason``, ``checked``, ``typed``."""
    missing: list[tuple[str, str]] = []
    if demands.checked is not None and not checked:
        missing.append(("checked", f"Look whether {demands.checked} took effect, then tick that you did."))
    if demands.typed is not None and typed.strip() != demands.typed:
        missing.append(("typed", f"Type {demands.typed} to show that this is the run you mean."))
    if demands.reason and not reason.strip():
        missing.append(("reason", "Write a reason: it is kept with the action."))
    return tuple(missing)


# --- what happened already -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trace:
    """An effect on record that is not kept, so that it comes about again when its step is executed."""

    step: StepKey
    effect: EffectClass
    sequence: int
    state: StepState
    timed_out: bool
    certain: bool  # it took effect; else it may have
    first_at: datetime | None
    run_id: str | None  # None: the run that is judged

    def repeat(self) -> Repeat:
        return Repeat(self.step, self.effect, self.first_at, self.certain, self.run_id)


def _traces(
    run: Run, steps: Sequence[Step], relatives: Iterable[Relative], kept: Collection[StepKey]
) -> tuple[_Trace, ...]:
    """Return the effects of the whole lineage that a plan does not keep, in recorded order.

    Chain by chain, oldest run first: within a chain of resumes a later run carries over what an earlier one did, and may undo it;
    what a rerun does and undoes is its own. Undone is what a finished attempt did. An attempt before it whose outcome nobody knows
    is no part of that, and stays evidence.
    """
    chains: dict[str, tuple[dict[StepKey, _Trace], dict[StepKey, _Trace]]] = {}
    for member in sorted((Relative(run, tuple(steps)), *relatives), key=lambda member: member.run.id):
        done, doubted = chains.setdefault(member.run.chain_run_id, ({}, {}))
        run_id = None if member.run.id == run.id else member.run.id
        for step in member.steps:
            if step.step in kept or step.kind is not StepKind.STEP or step.effect in REPEATABLE_EFFECTS:
                continue
            # One that was recorded as skipped was not executed at all; its output was given.
            executed = [attempt for attempt in step.attempts if attempt.origin is not Origin.SKIPPED]
            finished = [attempt for attempt in executed if attempt.state in _TOOK_EFFECT]
            unsure = [attempt for attempt in executed if attempt.state not in _TOOK_EFFECT | {StepState.COMPENSATED}]
            if unsure:
                trace = _trace(step, unsure, run_id, certain=False)
                doubted[step.step] = _stronger(doubted.get(step.step), trace)
            if finished:
                done[step.step] = _stronger(done.get(step.step), _trace(step, finished, run_id, certain=True))
            elif step.state is StepState.COMPENSATED and step.last.origin is Origin.SEEDED:
                # What was carried over is undone for the chain. What a run executed itself and undid leaves the traces of others alone.
                done.pop(step.step, None)
    whole: dict[StepKey, _Trace] = {}
    for found in chains.values():
        for key, trace in (*found[0].items(), *found[1].items()):
            whole[key] = _stronger(whole.get(key), trace)
    return tuple(sorted(whole.values(), key=lambda trace: (trace.sequence, trace.step)))


def _trace(step: Step, attempts: Sequence[Attempt], run_id: str | None, *, certain: bool) -> _Trace:
    first, last = attempts[0], attempts[-1]
    return _Trace(
        step=step.step,
        effect=step.effect,
        sequence=step.sequence,
        state=last.state,
        timed_out=last.error is not None and last.error.type_name == StepTimeout.__name__,
        certain=certain,
        # The row of a step that was carried over was written when the resume began.
        first_at=None if first.origin is Origin.SEEDED else first.started_at,
        run_id=run_id,
    )


def _stronger(one: _Trace | None, other: _Trace) -> _Trace:
    """Return what two records of one step say together: that it took effect outweighs that it may have."""
    if one is None:
        return other
    first = min((trace.first_at for trace in (one, other) if trace.first_at is not None), default=None)
    ranked = max((one, other), key=lambda trace: (trace.certain, trace.run_id is None))
    return replace(ranked, first_at=first)


# --- resume ----------------------------------------------------------------------------------------------------------


def _judge_resume(
    run: Run,
    steps: Sequence[Step],
    plan: Plan,
    traces: Sequence[_Trace],
    relatives: Sequence[Relative] | None,
    *,
    from_step_chosen: bool,
) -> Verdict:
    executed = [step for step in steps if step.step in set(plan.executed)]
    repeated = [trace for trace in traces if trace.certain]
    doubtful = [trace for trace in traces if not trace.certain]
    unchecked = [] if plan.guard is GuardAnswer.ALLOWED else doubtful
    # By whoever named the step; a step that was finished is executed again only then.
    finished = [step for step in executed if step.state in KEPT_STEP_STATES]
    assert from_step_chosen or not finished, "a plan that nobody chose a step for keeps every finished step"
    findings = (
        _kept(steps, plan),
        *_told(repeated, lambda trace: _certain(run, trace)),
        *_told(doubtful, lambda trace: _doubtful(run, trace, plan.guard)),
        *_executed_again(plan, executed, finished, {trace.step for trace in traces}),
        _code(plan, "it may not fit what is kept"),
        *_guard(plan, needed=bool(doubtful)),
        _alone(plan, relatives),
        *_not_known(run, relatives),
    )
    risky = bool(repeated or finished or plan.code_changed)
    if unchecked and not repeated:
        word, title = Word.CHECK, _check_title(unchecked)
    else:
        word, title = _word(findings)
    demands = Demands(
        reason=word is not Word.YES,
        checked=_named([trace.step for trace in unchecked]) if unchecked else None,
        typed=_typed(run) if risky else None,
    )
    return Verdict(word, title, findings, demands, tuple(trace.repeat() for trace in repeated), plan.target)


def _check_title(unchecked: Sequence[_Trace]) -> str:
    named = _named([trace.step for trace in unchecked])
    one = len(unchecked) == 1
    states = {trace.state for trace in unchecked}
    if states == {StepState.FAILED}:
        return f"Check first: {named} may have taken effect before {'it' if one else 'they'} failed."
    if states == {StepState.CANCELLED}:
        return f"Check first: {named} may have taken effect before {'it was' if one else 'they were'} interrupted."
    return f"Check first: {named} may have taken effect; how {'it' if one else 'they'} ended is not known."


def _kept(steps: Sequence[Step], plan: Plan) -> Finding:
    if not plan.kept:
        return Finding("good", "Keeps nothing: no step before it is finished")
    effects = {step.step: step.effect for step in steps}
    # The one that an operator would fear for: the last that must not happen twice.
    dear = [step for step in plan.kept if effects.get(step) not in REPEATABLE_EFFECTS]
    named = (dear or plan.kept)[-1].label()
    if len(plan.kept) == 1:
        return Finding("good", f"Keeps 1 finished step, {named}", named)
    return Finding("good", f"Keeps {len(plan.kept)} finished steps, {named} among them", named)


def _executed_again(
    plan: Plan, executed: Sequence[Step], finished: Sequence[Step], traced: Collection[StepKey]
) -> Iterable[Finding]:
    """Tell of the steps that are executed again and leave no effect to worry about."""
    rest = [step for step in executed if step.step not in traced]
    again = [step.step for step in rest if step in finished]
    if again:
        yield Finding("warn", f"Executes {_counted(len(again), 'finished step')} again: {_named(again)}")
    unfinished = [step for step in rest if step not in finished]
    undone = [step.step for step in unfinished if step.effect not in REPEATABLE_EFFECTS]
    if undone:
        yield Finding("good", f"Compensated, so the effect is undone: {_named(undone)}")
    bearing = [step for step in unfinished if step.effect in REPEATABLE_EFFECTS]
    for step in bearing:
        if step.step == plan.target:
            label = step.step.label()
            yield Finding("good", f"{label} is declared {step.effect}: {_BEARS_REPEATING[step.effect]}", label)
    others = [step.step for step in bearing if step.step != plan.target]
    if others:
        yield Finding("good", f"Declared to bear repeating, and executed again: {_named(others)}")


# --- rerun -----------------------------------------------------------------------------------------------------------


def _judge_rerun(run: Run, plan: Plan, traces: Sequence[_Trace], relatives: Sequence[Relative] | None) -> Verdict:
    findings = (
        _policy(plan),
        *_told([trace for trace in traces if trace.certain], lambda trace: _certain(run, trace)),
        # An answer of the guard clears a failed step of a resume. A rerun repeats on purpose, and that takes a reason.
        *_told([trace for trace in traces if not trace.certain], lambda trace: _doubtful(run, trace, GuardAnswer.NONE)),
        *(() if traces or run.has_gap else (_NOTHING_TO_REPEAT,)),
        _code(plan, "it may do other things than this run did"),
        *_guard(plan, needed=False),
        _alone(plan, relatives),
        *_not_known(run, relatives),
    )
    word, title = _word(findings)
    risky = bool(traces) or plan.idempotency is not Idempotency.SAFE
    demands = Demands(reason=word is not Word.YES, typed=_typed(run) if risky else None)
    return Verdict(word, title, findings, demands, tuple(trace.repeat() for trace in traces))


_NOTHING_TO_REPEAT: Final = Finding("good", "Every recorded step is declared to bear repeating, or had no effect")


def _policy(plan: Plan) -> Finding:
    if plan.idempotency is Idempotency.SAFE:
        return Finding("good", "The workflow is declared safe: all of it may run again")
    return Finding("bad", "The workflow is declared unsafe: running it again repeats its effects")


# --- findings that both share ----------------------------------------------------------------------------------------


def _word(findings: Iterable[Finding]) -> tuple[Word, str]:
    """Return yes if every finding is good. Nothing else makes a yes, so a finding that is not known keeps it away."""
    if all(finding.level == "good" for finding in findings):
        return Word.YES, "Yes. Nothing that already happened will repeat."
    return Word.REASON, "Only with a reason."


def _certain(run: Run, trace: _Trace) -> Finding:
    label = trace.step.label()
    return Finding(
        "bad", f"{label} {_declared(run, trace)} and took effect{_where(trace)}: it will happen again", label
    )


def _doubtful(run: Run, trace: _Trace, guard: GuardAnswer) -> Finding:
    label = trace.step.label()
    ended = "timed out after it was started" if trace.timed_out else _ENDED.get(trace.state, _ENDED_UNKNOWN)
    said = f"{label} {_declared(run, trace)} and {ended}{_where(trace)}"
    if guard is GuardAnswer.ALLOWED:
        return Finding("good", f"{said}; the guard allows to execute it again", label)
    return Finding("warn", f"{said}: look whether it took effect", label)


def _declared(run: Run, trace: _Trace) -> str:
    # Who records from elsewhere declares no effects; the strictest class stands in.
    return f"{'counts as' if run.mode is RecordingMode.OBSERVE else 'is declared'} {trace.effect}"


def _where(trace: _Trace) -> str:
    return "" if trace.run_id is None else f" in run {trace.run_id}"


def _code(plan: Plan, risk: str) -> Finding:
    if plan.code_changed is None:
        return Finding("unknown", "Whether the code has changed since this run is not known")
    if plan.code_changed:
        return Finding("warn", f"The code has changed since this run: {risk}")
    return Finding("good", "Code is unchanged since this run")


_GUARD_REFUSES: Final = Finding("bad", "The guard refuses")
_GUARD_UNKNOWN: Final = {
    GuardAnswer.NOT_ASKED: "it was not asked",
    GuardAnswer.SILENT: "it has not answered in time",
    GuardAnswer.FAILED: "it raised an exception, which is in the log of this process",
}


def _guard(plan: Plan, *, needed: bool) -> Iterable[Finding]:
    """Tell what the guard says. That there is none is worth a word only where one is missed."""
    if plan.guard is GuardAnswer.ALLOWED:
        yield Finding("good", "Guard allows it")
    elif plan.guard is not GuardAnswer.NONE:
        yield Finding("unknown", f"Whether the guard allows it is not known: {_GUARD_UNKNOWN[plan.guard]}")
    elif needed:
        yield Finding("unknown", "The workflow has no guard")


def _alone(plan: Plan, relatives: Sequence[Relative] | None) -> Finding:
    live = [relative.run.id for relative in relatives or () if not is_finished(relative.run.state)]
    if live:
        return Finding("bad", f"Run {live[0]} of the same lineage is under way: what it still does is not known")
    if plan.kind == "resume":
        return Finding("good", "No other resume of this run is under way")
    if relatives is None:
        return Finding("unknown", "Whether another run of this lineage is under way is not known")
    return Finding("good", "No other run of this lineage is under way")


def _not_known(run: Run, relatives: Sequence[Relative] | None) -> Iterable[Finding]:
    if run.mode is RecordingMode.OBSERVE:
        yield Finding("unknown", "This run was recorded from outside: only what its code told of is known")
    if run.has_gap:
        yield Finding("unknown", "The record of this run has a gap: what is missing may repeat")
    if relatives is None:
        yield Finding("unknown", "This run has too many relatives to look at: what they did is not known")


def _typed(run: Run) -> str:
    """Return what is to be typed: the business key, if a keyboard has all of it, else the run's id."""
    key = run.correlation_id
    fit = key is not None and key == key.strip() and 0 < len(key) <= _TYPED_LENGTH_MAX and key.isprintable()
    return key if key is not None and fit else run.id


def _told(traces: Sequence[_Trace], tell: Callable[[_Trace], Finding]) -> Iterable[Finding]:
    yield from map(tell, traces[:_TOLD_MAX])
    more = traces[_TOLD_MAX:]
    if more:
        yield Finding(
            tell(more[0]).level,
            f"The same is true of {_counted(len(more), 'more step')}: {_named([trace.step for trace in more])}",
        )


def _named(steps: Sequence[StepKey]) -> str:
    labels = [step.label() for step in steps]
    if len(labels) > _NAMED_MAX:
        labels[_NAMED_MAX - 1 :] = [f"{len(labels) - _NAMED_MAX + 1} more"]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# --- no --------------------------------------------------------------------------------------------------------------


def _refusal(run: Run, plan: Plan, refused: Refused) -> Verdict:
    step = refused.details.get("stepName")
    finding = _GUARD_REFUSES if plan.guard is GuardAnswer.REFUSED else _way_out(run, plan, refused)
    findings = () if finding is None else (replace(finding, step=step if isinstance(step, str) else None),)
    return Verdict(Word.NO, f"No. {refused.message}", findings, target=plan.target)


def _way_out(run: Run, plan: Plan, refused: Refused) -> Finding | None:
    """Return what would change a refusal, where that is known."""
    if refused.code == "guard_failed":
        return Finding("unknown", f"Whether the guard allows it is not known: {_GUARD_UNKNOWN[GuardAnswer.FAILED]}")
    other = refused.details.get("runId")  # not there for whoever may not see that run
    instead = "Leave it to the run that took it up" if other is None else f"Open run {other} instead"
    texts = {
        "runner_not_registered": f"This process has no runner for {run.workflow_name}: act where one is registered",
        "already_resumed": f"{instead}: it is under way, or has succeeded",
        "no_failed_step": "Choose the step to resume from",
        "incomplete_prior_step": f"Resume from {refused.details.get('stepName')} or an earlier step instead",
        "run_not_finished": "Wait until it has ended, or cancel it first",
        "resume_not_allowed": _instead_of_resume(run),
        "record_has_gap": "Find out what was done; a rerun needs no record of the steps",
        "rerun_not_allowed": _instead_of_rerun(run, plan),
    }
    text = texts.get(refused.code)
    if text is None and refused.code.endswith(("_not_configured", "_not_supported")):
        text = "Act from a process whose runner of this workflow can do it"
    return None if text is None else Finding("warn", text)


def _instead_of_resume(run: Run) -> str:
    if not is_finished(run.state):
        return "It is still under way: wait until it has ended, or cancel it first"
    if run.status is not RunStatus.FAILED:
        return "There is nothing to go on with; a rerun starts over"
    return "Trigger the workflow anew, with the input written out"


def _instead_of_rerun(run: Run, plan: Plan) -> str | None:
    resumable = plan.idempotency is Idempotency.RESUME_ONLY and run.status is RunStatus.FAILED
    return "Resume it instead" if resumable else None


# --- cancel ----------------------------------------------------------------------------------------------------------

# What nobody executes: the record alone ends it.
_AT_REST: Final = frozenset({RunState.UNKNOWN, RunState.WAITING, RunState.PAUSED})


def cancel_outlook(run: Run, steps: Sequence[Step]) -> CancelOutlook:
    """Return what a cancel stops now, what a running step still does, and what stays done."""
    if is_finished(run.state):
        return CancelOutlook(possible=False, at_once=True, title="No. The run has ended.", findings=())
    observed = run.mode is RecordingMode.OBSERVE
    at_once = observed or run.claim_owner is None or run.state in _AT_REST
    undoing = run.state is RunState.COMPENSATING
    if undoing and not at_once:
        title = "Too late: the run is being undone, and that is brought to its end."
    elif at_once:
        title = "The run ends at once."
    else:
        title = "The run ends when its process hears of it and it reaches its next step."
    findings: list[Finding] = []
    if run.cancel_requested_at is not None:
        findings.append(Finding("warn", "A cancel was asked for already"))
    if observed:
        findings.append(
            Finding("unknown", "Its code runs outside our engines and is not stopped; only the record ends")
        )
    if undoing and at_once:
        findings.append(Finding("bad", "Undoing stops where it is: the steps that are not undone stay done"))
    open_steps = [step for step in steps if step.kind is StepKind.STEP and _is_open(step)]
    findings += [_open_step(step, at_once=at_once, observed=observed) for step in open_steps[:_TOLD_MAX]]
    if len(open_steps) > _TOLD_MAX:
        findings.append(
            Finding("warn", f"{_counted(len(open_steps) - _TOLD_MAX, 'more step')} are not finished either")
        )
    if not at_once and not open_steps and not undoing:
        findings.append(Finding("unknown", "If it takes no further step, it ends as it would have"))
    findings += _stays_done(steps, undoing=undoing)
    return CancelOutlook(possible=True, at_once=at_once, title=title, findings=tuple(findings))


def _is_open(step: Step) -> bool:
    return step.state in {StepState.RUNNING, StepState.UNKNOWN}


def _open_step(step: Step, *, at_once: bool, observed: bool) -> Finding:
    label = step.step.label()
    if observed and step.state is StepState.RUNNING:
        return Finding("warn", f"{label} was started and is not stopped", label)
    if not at_once and step.state is StepState.RUNNING:
        done = "a coroutine is interrupted, a plain function runs to its end and is recorded"
        return Finding("warn", f"{label} is running: {done}", label)
    if step.effect in REPEATABLE_EFFECTS:
        return Finding("good", f"{label} stays unfinished; it is declared {step.effect}", label)
    return Finding("unknown", f"Whether {label} took effect stays unknown: look", label)


def _stays_done(steps: Sequence[Step], *, undoing: bool) -> Iterable[Finding]:
    done = [step for step in steps if step.kind is StepKind.STEP and step.state in _TOOK_EFFECT]
    dear = [step.step for step in done if step.effect not in REPEATABLE_EFFECTS]
    if undoing:
        return
    if dear:
        yield Finding("warn", f"Nothing is undone: {_named(dear)} {'stays' if len(dear) == 1 else 'stay'} done")
    elif done:
        yield Finding("good", f"Nothing is undone: {_counted(len(done), 'finished step')}, none with an effect to undo")
