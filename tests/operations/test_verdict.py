"""What is said about a rerun, a resume and a cancel, and that a yes never rests on something that is not known."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from workflow_runs.errors import GuardFailed, ResumeBlocked
from workflow_runs.model.records import ErrorRecord, StepKey
from workflow_runs.model.states import (
    EffectClass,
    Idempotency,
    Origin,
    RecordingMode,
    RunState,
    RunStatus,
    StepKind,
    StepState,
)
from workflow_runs.operations.plan import GuardAnswer, Refused, make_plan
from workflow_runs.operations.policy import Standing
from workflow_runs.operations.verdict import Demands, Relative, Word, cancel_outlook, judge, unmet

from .conftest import BEGIN

DONE, FAILED, RUNNING, UNKNOWN = StepState.SUCCEEDED, StepState.FAILED, StepState.RUNNING, StepState.UNKNOWN
CANCELLED, SKIPPED, UNDONE = StepState.CANCELLED, StepState.SKIPPED, StepState.COMPENSATED
PURE, READ, IDEMPOTENT = EffectClass.PURE, EffectClass.READ, EffectClass.IDEMPOTENT
COMPENSATABLE, UNSAFE = EffectClass.COMPENSATABLE, EffectClass.UNSAFE
SAFE = Standing(idempotency=Idempotency.SAFE, supported=True, code_version="v1")
YES = "Yes. Nothing that already happened will repeat."
ID = "wfrn_01m81srpafe07vg00hcm7rdwd5"
# Runs of the same lineage, an hour before and after it.
EARLIER, LATER = "wfrn_01m81p00000000000000000001", "wfrn_01m81x00000000000000000001"
KEY = Demands(reason=True, typed=ID)
ASK = Demands(reason=True)


@pytest.fixture
def verdict_of(make_run):
    """Return a maker of verdicts: of the plan that the desk would make, with the guard's answer and relatives put in."""

    def make(kind, steps, *, run=None, standing=SAFE, guard=GuardAnswer.NONE, relatives=(), from_step=None, **options):
        run = run or make_run()
        plan = make_plan(kind, run, steps, standing, from_step=from_step, **options)
        if plan.refused is None:
            plan = replace(plan, guard=guard)
        return judge(kind, run, steps, plan, from_step_chosen=from_step is not None, relatives=relatives)

    return make


def texts(verdict):
    return [f"{finding.level}: {finding.text}" for finding in verdict.findings]


def labels(verdict):
    return [repeat.step.label() for repeat in verdict.repeats]


# --- resume: one row for each thing that may be different ------------------------------------------------------------

DOUBT = "Check first: charge may have taken effect before it failed."
FAILED_AFTER = "charge is declared unsafe and failed after it was started"

# The step that ended the run: effect, its attempts, what the guard says -> word, title, demands, a finding
TARGETS = {
    "pure": (PURE, [FAILED], "none", Word.YES, YES, Demands(), "good: charge is declared pure: it has no effect"),
    "read": (READ, [FAILED], "none", Word.YES, YES, Demands(), "good: charge is declared read: it only reads"),
    "idempotent": (
        *(IDEMPOTENT, [FAILED, FAILED], "none", Word.YES, YES, Demands()),
        "good: charge is declared idempotent: a second time changes nothing",
    ),
    "idempotent, interrupted": (
        *(IDEMPOTENT, [CANCELLED], "none", Word.YES, YES, Demands()),
        "good: charge is declared idempotent: a second time changes nothing",
    ),
    "unsafe": (
        *(UNSAFE, [FAILED], "none", Word.CHECK, DOUBT, Demands(reason=True, checked="charge")),
        f"warn: {FAILED_AFTER}: look whether it took effect",
    ),
    "compensatable": (
        *(COMPENSATABLE, [FAILED], "none", Word.CHECK, DOUBT, Demands(reason=True, checked="charge")),
        "warn: charge is declared compensatable and failed after it was started: look whether it took effect",
    ),
    "unsafe, and there is no guard": (
        *(UNSAFE, [FAILED], "none", Word.CHECK, DOUBT, Demands(reason=True, checked="charge")),
        "unknown: The workflow has no guard",
    ),
    "unsafe, the guard allows": (
        *(UNSAFE, [FAILED], "allowed", Word.YES, YES, Demands()),
        f"good: {FAILED_AFTER}; the guard allows to execute it again",
    ),
    "unsafe, the guard allows, told": (
        *(UNSAFE, [FAILED], "allowed", Word.YES, YES, Demands()),
        "good: Guard allows it",
    ),
    "unsafe, the guard is silent": (
        *(UNSAFE, [FAILED], "silent", Word.CHECK, DOUBT, Demands(reason=True, checked="charge")),
        "unknown: Whether the guard allows it is not known: it has not answered in time",
    ),
    "unsafe, the guard was not asked": (
        *(UNSAFE, [FAILED], "not_asked", Word.CHECK, DOUBT, Demands(reason=True, checked="charge")),
        "unknown: Whether the guard allows it is not known: it was not asked",
    ),
    "unsafe, the guard failed": (
        *(UNSAFE, [FAILED], "failed", Word.CHECK, DOUBT, Demands(reason=True, checked="charge")),
        "unknown: Whether the guard allows it is not known: it raised an exception, which is in the log of this process",
    ),
    "idempotent, the guard is silent": (
        *(IDEMPOTENT, [FAILED], "silent", Word.REASON, "Only with a reason.", ASK),
        "unknown: Whether the guard allows it is not known: it has not answered in time",
    ),
    "idempotent, the guard refuses": (
        *(IDEMPOTENT, [FAILED], "refused", Word.NO, "No. The guard refuses.", Demands()),
        "bad: The guard refuses",
    ),
}


@pytest.mark.parametrize("case", TARGETS)
def test_the_failed_step_and_the_guard_decide(verdict_of, make_step, case):
    effect, attempts, guard, word, title, demands, finding = TARGETS[case]
    steps = [make_step(1, "reserve"), make_step(2, "charge", *attempts, effect=effect)]
    verdict = verdict_of("resume", steps, guard=GuardAnswer(guard))
    assert (verdict.word, verdict.title, verdict.demands) == (word, title, demands)
    assert finding in texts(verdict)
    assert verdict.target == StepKey("charge")


def test_a_yes_names_what_it_rests_on(verdict_of, make_run, make_step):
    steps = [make_step(1, "quote", effect=PURE), make_step(2, "charge"), make_step(3, "look", effect=READ)]
    invoice = make_step(4, "invoice", FAILED, effect=IDEMPOTENT)
    verdict = verdict_of("resume", [*steps, invoice], run=make_run(failed_step="invoice"), guard=GuardAnswer.ALLOWED)
    assert texts(verdict) == [
        "good: Keeps 3 finished steps, charge among them",
        "good: invoice is declared idempotent: a second time changes nothing",
        "good: Code is unchanged since this run",
        "good: Guard allows it",
        "good: No other resume of this run is under way",
    ]


def test_a_timeout_is_called_one(verdict_of, make_step):
    charge = make_step(1, "charge", FAILED)
    timeout = replace(charge.last, error=ErrorRecord("gateway refused", type_name="StepTimeout"))
    verdict = verdict_of("resume", [replace(charge, attempts=(timeout,))])
    assert verdict.word is Word.CHECK
    text = "warn: charge is declared unsafe and timed out after it was started: look whether it took effect"
    assert text in texts(verdict)


# Everything else about a resume whose failed step is idempotent, so that it alone would be a yes.
@pytest.mark.parametrize(
    ("code_version", "current", "word", "demands", "finding"),
    [
        ("v1", "v1", Word.YES, Demands(), "good: Code is unchanged since this run"),
        ("v1", "v2", Word.REASON, KEY, "warn: The code has changed since this run: it may not fit what is kept"),
        (None, "v1", Word.REASON, ASK, "unknown: Whether the code has changed since this run is not known"),
        ("v1", None, Word.REASON, ASK, "unknown: Whether the code has changed since this run is not known"),
    ],
)
def test_the_code_decides(verdict_of, make_run, make_step, code_version, current, word, demands, finding):
    steps = [make_step(1, "reserve"), make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    run, standing = make_run(code_version=code_version), replace(SAFE, code_version=current)
    verdict = verdict_of("resume", steps, run=run, standing=standing)
    assert (verdict.word, verdict.demands) == (word, demands)
    assert finding in texts(verdict)


def test_a_doubtful_step_outweighs_an_unknown_code_and_the_demands_add_up(verdict_of, make_run, make_step):
    steps = [make_step(1, "reserve"), make_step(2, "charge", FAILED)]
    verdict = verdict_of("resume", steps, standing=replace(SAFE, code_version=None))
    assert (verdict.title, verdict.demands) == (DOUBT, Demands(reason=True, checked="charge"))
    verdict = verdict_of("resume", steps, standing=replace(SAFE, code_version="v2"))
    assert (verdict.title, verdict.demands) == (DOUBT, Demands(reason=True, checked="charge", typed=ID))


def test_a_run_recorded_from_outside_is_never_a_yes_whatever_the_guard_says(verdict_of, make_run, make_step):
    run = make_run(mode=RecordingMode.OBSERVE, failed_step=None)
    steps = [make_step(1, "reserve", output=None), make_step(2, "charge", FAILED)]
    verdict = verdict_of("resume", steps, run=run)
    assert verdict.word is Word.CHECK
    assert "warn: charge counts as unsafe and failed after it was started: look whether it took effect" in texts(
        verdict
    )
    verdict = verdict_of("resume", steps, run=run, guard=GuardAnswer.ALLOWED)
    assert (verdict.word, verdict.demands) == (Word.REASON, ASK)
    assert "unknown: This run was recorded from outside: only what its code told of is known" in texts(verdict)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ([], "Keeps nothing: no step before it is finished"),
        ([UNSAFE], "Keeps 1 finished step, a"),
        ([UNSAFE, READ, UNSAFE, PURE], "Keeps 4 finished steps, c among them"),
        ([READ, PURE], "Keeps 2 finished steps, b among them"),
    ],
)
def test_of_what_is_kept_the_step_is_named_that_must_not_happen_twice(verdict_of, make_step, outputs, text):
    kept = [
        make_step(number, name, effect=effect)
        for number, (name, effect) in enumerate(zip("abcd", outputs, strict=False), 1)
    ]
    verdict = verdict_of("resume", [*kept, make_step(9, "charge", FAILED, effect=IDEMPOTENT)])
    assert texts(verdict)[0] == f"good: {text}"
    assert verdict.word is Word.YES


# --- resume: other steps of the run ----------------------------------------------------------------------------------


def test_an_earlier_step_repeats_what_was_finished_and_takes_the_key(verdict_of, make_run, make_step):
    steps = [
        make_step(1, "reserve"),
        make_step(2, "pick", effect=IDEMPOTENT),
        make_step(3, "pack", effect=PURE),
        make_step(4, "charge", FAILED, effect=IDEMPOTENT),
    ]
    verdict = verdict_of("resume", steps, from_step="reserve", run=make_run(correlation_id="bk_4821"))
    assert (verdict.word, verdict.title) == (Word.REASON, "Only with a reason.")
    assert verdict.demands == Demands(reason=True, typed="bk_4821")
    assert labels(verdict) == ["reserve"]
    assert verdict.repeats[0].first_at == BEGIN + timedelta(seconds=1)
    assert "bad: reserve is declared unsafe and took effect: it will happen again" in texts(verdict)
    assert "warn: Executes 2 finished steps again: pick and pack" in texts(verdict)
    # Nothing unsafe among them: still by choice, and still with a reason.
    verdict = verdict_of("resume", steps, from_step="pick")
    assert (verdict.word, verdict.demands, verdict.repeats) == (Word.REASON, KEY, ())


def test_an_earlier_step_repeats_for_certain_even_if_a_guard_allows_it(verdict_of, make_step):
    steps = [make_step(1, "reserve"), make_step(2, "charge", FAILED)]
    verdict = verdict_of("resume", steps, from_step="reserve", guard=GuardAnswer.ALLOWED)
    assert (verdict.word, verdict.demands, labels(verdict)) == (Word.REASON, KEY, ["reserve"])


def test_naming_the_step_that_failed_is_judged_like_not_naming_it(verdict_of, make_step):
    steps = [make_step(1, "reserve"), make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    assert verdict_of("resume", steps, from_step="charge") == verdict_of("resume", steps)


@pytest.mark.parametrize(
    ("state", "title", "said"),
    [
        (CANCELLED, "may have taken effect before it was interrupted.", "was interrupted after it was started"),
        (RUNNING, "may have taken effect; how it ended is not known.", "was started, and how it ended is not known"),
        (UNKNOWN, "may have taken effect; how it ended is not known.", "was started, and how it ended is not known"),
    ],
)
def test_an_unfinished_sibling_is_to_be_looked_for_when_an_operator_names_the_step(
    verdict_of, make_step, state, title, said
):
    steps = [make_step(1, "charge", FAILED, effect=IDEMPOTENT), make_step(2, "pay", state)]
    assert verdict_of("resume", steps).word is Word.NO  # promise 3: never silently
    verdict = verdict_of("resume", steps, from_step="charge")
    assert (verdict.word, verdict.title, verdict.demands.checked) == (Word.CHECK, f"Check first: pay {title}", "pay")
    assert f"warn: pay is declared unsafe and {said}: look whether it took effect" in texts(verdict)


def test_repeatable_siblings_and_caught_failures_run_again_without_a_worry(verdict_of, make_step):
    steps = [
        make_step(1, "lookup", FAILED, effect=READ),
        make_step(2, "charge", FAILED, effect=IDEMPOTENT),
        make_step(3, "look", UNKNOWN, effect=READ),
    ]
    verdict = verdict_of("resume", steps)
    assert verdict.word is Word.YES
    assert "good: Declared to bear repeating, and executed again: lookup and look" in texts(verdict)


def test_a_caught_failure_of_an_unsafe_step_is_doubtful_too(verdict_of, make_step):
    steps = [make_step(1, "mail", FAILED), make_step(2, "charge", FAILED)]
    verdict = verdict_of("resume", steps)
    assert verdict.title == "Check first: mail and charge may have taken effect before they failed."
    assert verdict.demands.checked == "mail and charge"


def test_a_compensated_step_leaves_no_effect_to_repeat(verdict_of, make_step):
    steps = [make_step(1, "charge", FAILED, effect=IDEMPOTENT), make_step(2, "reserve", UNDONE)]
    verdict = verdict_of("resume", steps)
    assert (verdict.word, verdict.repeats) == (Word.YES, ())
    assert "good: Compensated, so the effect is undone: reserve" in texts(verdict)


def test_a_step_whose_compensation_failed_took_effect(verdict_of, make_step):
    failed = make_step(2, "reserve", StepState.COMPENSATION_FAILED)
    verdict = verdict_of("resume", [make_step(1, "charge", FAILED, effect=IDEMPOTENT), failed])
    assert (verdict.word, verdict.demands, labels(verdict)) == (Word.REASON, KEY, ["reserve"])


def test_many_doubtful_steps_are_counted(verdict_of, make_step):
    steps = [make_step(number, "mail", FAILED, occurrence=number) for number in range(1, 30)]
    verdict = verdict_of("resume", [*steps, make_step(30, "charge", FAILED)])
    assert verdict.title == "Check first: mail, mail#2 and 28 more may have taken effect before they failed."
    assert len(verdict.findings) < 20
    assert "warn: The same is true of 20 more steps: mail#11, mail#12 and 18 more" in texts(verdict)


# --- resume: relatives -----------------------------------------------------------------------------------------------


@pytest.fixture
def relative(make_run):
    """Return a maker of other runs of the lineage; a rerun has a chain of its own."""

    def make(run_id, *steps, state=RunState.FAILED, chain=ID, **fields):
        return Relative(make_run(state, id=run_id, chain_run_id=chain, **fields), steps)

    return make


def test_what_a_failed_resume_did_already_would_happen_again(verdict_of, make_step, relative):
    # This run's own record knows nothing of charge: it never came so far.
    steps = [make_step(1, "reserve"), make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    seeded = make_step(1, "reserve", SKIPPED)
    child = relative(
        LATER, seeded, make_step(2, "charge", effect=IDEMPOTENT), make_step(3, "pay"), make_step(4, "x", FAILED)
    )
    verdict = verdict_of("resume", steps, relatives=[child])
    assert (verdict.word, verdict.demands, labels(verdict)) == (Word.REASON, Demands(True, "x", ID), ["pay"])
    assert verdict.repeats[0].run_id == LATER
    assert f"bad: pay is declared unsafe and took effect in run {LATER}: it will happen again" in texts(verdict)
    assert (
        f"warn: x is declared unsafe and failed after it was started in run {LATER}: look whether it took effect"
        in texts(verdict)
    )


def test_what_is_kept_does_not_happen_again_whoever_did_it(verdict_of, make_step, relative):
    steps = [make_step(1, "reserve", SKIPPED), make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    parent = relative(EARLIER, make_step(1, "reserve"), make_step(2, "charge", FAILED, effect=IDEMPOTENT))
    verdict = verdict_of("resume", steps, relatives=[parent])
    assert (verdict.word, verdict.repeats) == (Word.YES, ())


def test_what_a_parent_did_beyond_this_run_would_happen_again(verdict_of, make_step, relative):
    # An operator resumed the parent from its first step, and this run failed there: pay is done, and on the parent's record only.
    parent = relative(
        EARLIER, make_step(1, "reserve", effect=READ), make_step(2, "pay"), make_step(3, "charge", FAILED)
    )
    steps = [make_step(1, "charge", FAILED, effect=IDEMPOTENT)]
    verdict = verdict_of("resume", steps, relatives=[parent])
    assert (verdict.word, labels(verdict)) == (Word.REASON, ["pay"])


def test_within_a_chain_what_was_undone_is_undone_and_another_chain_does_not_undo_it(verdict_of, make_step, relative):
    steps = [make_step(1, "charge", FAILED, effect=IDEMPOTENT)]
    own = make_step(2, "pay", UNDONE)
    carried = replace(own, attempts=(replace(own.last, origin=Origin.SEEDED),))
    did, undid = relative(EARLIER, make_step(2, "pay")), relative(LATER, carried)
    assert verdict_of("resume", steps, relatives=[undid, did]).word is Word.YES
    # A run that executed the step itself has undone its own effect: the earlier one stands.
    assert labels(verdict_of("resume", steps, relatives=[relative(LATER, own), did])) == ["pay"]
    rerun = replace(undid, run=replace(undid.run, chain_run_id=LATER))
    assert labels(verdict_of("resume", steps, relatives=[rerun, did])) == ["pay"]


def test_undoing_the_last_attempt_says_nothing_of_an_earlier_one(verdict_of, make_step):
    """The first may have charged before it failed; what was undone is the second."""
    for lost in (FAILED, UNKNOWN, CANCELLED, RUNNING):
        steps = [make_step(1, "charge", FAILED, effect=IDEMPOTENT), make_step(2, "pay", lost, UNDONE)]
        verdict = verdict_of("resume", steps)
        assert (verdict.word, verdict.demands) == (Word.CHECK, Demands(reason=True, checked="pay"))
        assert verdict_of("resume", steps, guard=GuardAnswer.ALLOWED).word is Word.YES
        assert labels(verdict_of("rerun", steps)) == ["pay"]
    assert verdict_of("resume", [steps[0], make_step(2, "pay", UNDONE)]).word is Word.YES


def test_what_a_chain_undid_leaves_what_an_earlier_run_of_it_may_have_done(verdict_of, make_step, relative):
    steps = [make_step(1, "charge", FAILED, effect=IDEMPOTENT)]
    own = make_step(2, "pay", UNDONE)
    carried = replace(own, attempts=(replace(own.last, origin=Origin.SEEDED),))
    undid = relative(LATER, carried)
    for did in (make_step(2, "pay", FAILED, DONE), make_step(2, "pay", FAILED)):
        verdict = verdict_of("resume", steps, relatives=[undid, relative(EARLIER, did)])
        assert (verdict.word, verdict.demands.checked) == (Word.CHECK, "pay")
        told = f"pay is declared unsafe and failed after it was started in run {EARLIER}: look whether it took effect"
        assert f"warn: {told}" in texts(verdict)
    assert verdict_of("resume", steps, relatives=[undid, relative(EARLIER, make_step(2, "pay"))]).word is Word.YES


def test_a_live_relative_and_too_many_relatives_keep_a_yes_away(verdict_of, make_step, relative):
    steps = [make_step(1, "charge", FAILED, effect=IDEMPOTENT)]
    live = relative(LATER, state=RunState.RUNNING, chain=LATER)
    verdict = verdict_of("resume", steps, relatives=[live])
    assert (verdict.word, verdict.demands) == (Word.REASON, ASK)
    assert f"bad: Run {LATER} of the same lineage is under way: what it still does is not known" in texts(verdict)
    verdict = verdict_of("resume", steps, relatives=None)
    assert (verdict.word, verdict.demands) == (Word.REASON, ASK)
    assert "unknown: This run has too many relatives to look at: what they did is not known" in texts(verdict)


# --- rerun -----------------------------------------------------------------------------------------------------------

UNSAFE_POLICY = replace(SAFE, idempotency=Idempotency.UNSAFE)


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_a_rerun_of_a_safe_workflow_without_effects_is_a_yes(verdict_of, make_run, make_step, state):
    steps = [make_step(1, "quote", effect=PURE), make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    verdict = verdict_of("rerun", steps, run=make_run(state))
    assert (verdict.word, verdict.title, verdict.demands, verdict.repeats) == (Word.YES, YES, Demands(), ())
    assert texts(verdict) == [
        "good: The workflow is declared safe: all of it may run again",
        "good: Every recorded step is declared to bear repeating, or had no effect",
        "good: Code is unchanged since this run",
        "good: No other run of this lineage is under way",
    ]


def test_a_rerun_of_an_unsafe_workflow_takes_the_key_and_a_reason(verdict_of, make_run, make_step):
    steps = [make_step(1, "quote", effect=PURE)]
    run = make_run(RunState.SUCCEEDED, correlation_id="bk_4821")
    verdict = verdict_of("rerun", steps, run=run, standing=UNSAFE_POLICY, guard=GuardAnswer.ALLOWED)
    assert (verdict.word, verdict.demands) == (Word.REASON, Demands(reason=True, typed="bk_4821"))
    assert "bad: The workflow is declared unsafe: running it again repeats its effects" in texts(verdict)


@pytest.mark.parametrize("guard", [GuardAnswer.NONE, GuardAnswer.ALLOWED])
def test_a_rerun_names_each_effect_that_repeats_or_may(verdict_of, make_run, make_step, guard):
    steps = [make_step(1, "reserve"), make_step(2, "look", effect=READ), make_step(3, "charge", FAILED)]
    verdict = verdict_of("rerun", steps, guard=guard)
    assert (verdict.word, verdict.demands) == (Word.REASON, KEY)
    assert [(repeat.step.name, repeat.certain) for repeat in verdict.repeats] == [("reserve", True), ("charge", False)]
    assert f"warn: {FAILED_AFTER}: look whether it took effect" in texts(verdict)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"code_version": "v0"}, "warn: The code has changed since this run: it may do other things than this run did"),
        ({"code_version": None}, "unknown: Whether the code has changed since this run is not known"),
        ({"has_gap": True}, "unknown: The record of this run has a gap: what is missing may repeat"),
        (
            {"mode": RecordingMode.OBSERVE},
            "unknown: This run was recorded from outside: only what its code told of is known",
        ),
    ],
)
def test_what_is_not_known_of_a_rerun_takes_a_reason(verdict_of, make_run, change, finding):
    verdict = verdict_of("rerun", [], run=make_run(**change))
    assert (verdict.word, verdict.demands) == (Word.REASON, ASK)
    assert finding in texts(verdict)


def test_a_rerun_repeats_what_was_carried_over_and_what_a_resume_did(verdict_of, make_step, relative):
    # The row of a step that was carried over was written when the resume began; its effect is older.
    seeded = make_step(1, "reserve", SKIPPED)
    seeded = replace(seeded, attempts=(replace(seeded.last, origin=Origin.SEEDED),))
    steps = [seeded, make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    assert [repeat.first_at for repeat in verdict_of("rerun", steps).repeats] == [None]
    parent, child = relative(EARLIER, make_step(1, "reserve")), relative(LATER, make_step(3, "pay"))
    verdict = verdict_of("rerun", steps, relatives=[child, parent])
    assert [(repeat.step.name, repeat.first_at) for repeat in verdict.repeats] == [
        ("reserve", BEGIN + timedelta(seconds=1)),
        ("pay", BEGIN + timedelta(seconds=3)),
    ]


def test_a_step_that_was_recorded_as_skipped_had_no_effect(verdict_of, make_step):
    skipped = make_step(1, "mail", SKIPPED)
    skipped = replace(skipped, attempts=(replace(skipped.last, origin=Origin.SKIPPED),))
    verdict = verdict_of("rerun", [skipped, make_step(2, "now", kind=StepKind.NOW)])
    assert (verdict.word, verdict.repeats) == (Word.YES, ())


# --- no: the reason, and what would change it ------------------------------------------------------------------------

REFUSALS = {
    "resumed already": (
        *("resume", {}, {"existing_resume_run_id": LATER}, "No. A resume of this run exists already."),
        f"warn: Open run {LATER} instead: it is under way, or has succeeded",
    ),
    "not registered": (
        *("resume", {}, {"standing": Standing()}, "No. No runner is registered for this workflow."),
        "warn: This process has no runner for checkout: act where one is registered",
    ),
    "no registry": (
        *(
            "rerun",
            {},
            {"standing": Standing(configured=False)},
            "No. No workflow runners are configured in this process.",
        ),
        "warn: Act from a process whose runner of this workflow can do it",
    ),
    "no handler": (
        *(
            "resume",
            {},
            {"standing": replace(SAFE, supported=False)},
            "No. The runner of this workflow has no resume handler.",
        ),
        "warn: Act from a process whose runner of this workflow can do it",
    ),
    "live, resume": (
        *("resume", {"state": RunState.RUNNING}, {}, "No. Only failed runs are resumed."),
        "warn: It is still under way: wait until it has ended, or cancel it first",
    ),
    "live, rerun": (
        *("rerun", {"state": RunState.WAITING}, {}, "No. The run has not ended yet; a live run is not rerun."),
        "warn: Wait until it has ended, or cancel it first",
    ),
    "succeeded": (
        *("resume", {"state": RunState.SUCCEEDED}, {}, "No. Only failed runs are resumed."),
        "warn: There is nothing to go on with; a rerun starts over",
    ),
    "gap": (
        *("resume", {"has_gap": True}, {}),
        "No. The record of this run has a gap: which steps were completed is not known for certain.",
        "warn: Find out what was done; a rerun needs no record of the steps",
    ),
    "input, resume": (
        *("resume", {"input": None, "unreadable": ("input",)}, {}, "No. The run's stored input cannot be read."),
        "warn: Trigger the workflow anew, with the input written out",
    ),
    "input, rerun": (
        *("rerun", {"input": '{"half'}, {}),
        "No. The run's stored input cannot be read, so there is nothing to run again with.",
        None,
    ),
    "resume-only, failed": (
        *("rerun", {}, {"standing": replace(SAFE, idempotency=Idempotency.RESUME_ONLY)}),
        "No. The workflow is resume-only: a finished run of it never starts over.",
        "warn: Resume it instead",
    ),
    "resume-only, succeeded": (
        *("rerun", {"state": RunState.SUCCEEDED}, {"standing": replace(SAFE, idempotency=Idempotency.RESUME_ONLY)}),
        "No. The workflow is resume-only: a finished run of it never starts over.",
        None,
    ),
    "no target": (
        *("resume", {"failed_step": None}, {}),
        "No. No step's error ended this run; choose the step to resume from.",
        "warn: Choose the step to resume from",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_no_says_why_and_what_would_change_it(verdict_of, make_run, make_step, case):
    kind, fields, options, title, finding = REFUSALS[case]
    steps = [make_step(1, "reserve"), make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    verdict = verdict_of(kind, steps, run=make_run(**fields), **options)
    assert (verdict.word, verdict.title, verdict.demands) == (Word.NO, title, Demands())
    assert texts(verdict) == ([] if finding is None else [finding])


@pytest.mark.parametrize(
    ("reserve", "title"),
    [
        ({"states": [RUNNING]}, "No. Step reserve is running: it can be neither kept nor repeated."),
        ({"states": [UNDONE]}, "No. Step reserve is compensated: it can be neither kept nor repeated."),
        ({"output": '{"half'}, "No. The recorded output of step reserve cannot be read."),
        ({"output": None}, "No. The recorded output of step reserve cannot be read."),
    ],
)
def test_a_step_that_can_be_neither_kept_nor_repeated_is_the_place_to_start_from(verdict_of, make_step, reserve, title):
    states = reserve.pop("states", [DONE])
    steps = [make_step(1, "reserve", *states, **reserve), make_step(2, "charge", FAILED, effect=IDEMPOTENT)]
    verdict = verdict_of("resume", steps)
    assert (verdict.word, verdict.title) == (Word.NO, title)
    assert texts(verdict) == ["warn: Resume from reserve or an earlier step instead"]
    assert verdict.findings[0].step == "reserve"
    assert verdict_of("resume", steps, from_step="reserve").word is not Word.NO


def test_the_guards_reason_is_the_no(make_run, make_step):
    run, steps = make_run(), [make_step(1, "charge", FAILED)]
    plan = make_plan("resume", run, steps, SAFE, guarded=True)
    plan = replace(plan, guard=GuardAnswer.REFUSED, refused=Refused(ResumeBlocked("invoice for bk_4821 exists")))
    verdict = judge("resume", run, steps, plan, from_step_chosen=False)
    assert (verdict.word, verdict.title) == (Word.NO, "No. invoice for bk_4821 exists")
    assert texts(verdict) == ["bad: The guard refuses"]


def test_a_guard_that_raised_is_a_no_that_says_that_nothing_is_known(make_run, make_step):
    run, steps = make_run(), [make_step(1, "charge", FAILED)]
    plan = make_plan("resume", run, steps, SAFE, guarded=True)
    plan = replace(plan, guard=GuardAnswer.FAILED, refused=Refused(GuardFailed("The guard raised an exception.")))
    verdict = judge("resume", run, steps, plan, from_step_chosen=False)
    assert (verdict.word, verdict.title) == (Word.NO, "No. The guard raised an exception.")
    assert [finding.level for finding in verdict.findings] == ["unknown"]


# --- what has to be given --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correlation_id", "typed"),
    [
        ("bk_4821", "bk_4821"),
        ("Order 7 / Zürich", "Order 7 / Zürich"),
        (None, ID),
        ("", ID),
        (" bk", ID),
        ("b\u202ek", ID),
        ("b\tk", ID),
        ("b\u00a0k", ID),
        ("k" * 65, ID),
    ],
)
def test_the_business_key_is_typed_if_a_keyboard_has_all_of_it(verdict_of, make_run, correlation_id, typed):
    verdict = verdict_of("rerun", [], run=make_run(correlation_id=correlation_id), standing=UNSAFE_POLICY)
    assert verdict.demands.typed == typed


def test_each_demand_that_is_not_met_is_named_with_its_field():
    demands = Demands(reason=True, checked="charge", typed="bk_4821")
    assert [field for field, _ in unmet(demands, reason=" ", checked=False, typed="bk_482")] == [
        "checked",
        "typed",
        "reason",
    ]
    assert unmet(demands, reason="gateway is back", checked=True, typed=" bk_4821 ") == ()
    assert [field for field, _ in unmet(demands, reason="", checked=True, typed="BK_4821")] == ["typed", "reason"]
    assert unmet(Demands(), reason="", checked=False, typed="") == ()


# --- a yes never rests on what is not known --------------------------------------------------------------------------

EFFECTS, STATES = st.sampled_from(EffectClass), st.sampled_from(StepState)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)  # the fixtures hold no state
@given(data=st.data())
def test_whatever_the_record_looks_like_a_yes_has_every_piece_of_evidence(data, make_run, make_step):
    kind = data.draw(st.sampled_from(["resume", "rerun"]))
    run = make_run(
        data.draw(st.sampled_from([RunState.FAILED, RunState.SUCCEEDED, RunState.LOST, RunState.RUNNING])),
        mode=data.draw(st.sampled_from(RecordingMode)),
        has_gap=data.draw(st.booleans()),
        code_version=data.draw(st.sampled_from(["v1", None])),
    )
    drawn = data.draw(st.lists(st.tuples(STATES, EFFECTS, st.sampled_from(Origin)), max_size=4))
    steps = [make_step(1, "charge", data.draw(STATES), effect=data.draw(EFFECTS))]
    for number, (state, effect, origin) in enumerate(drawn, 2):
        step = make_step(number, f"s{number}", state, effect=effect)
        steps.append(replace(step, attempts=(replace(step.last, origin=origin),)))
    other = Relative(make_run(id=LATER), (make_step(1, "pay", data.draw(STATES), effect=data.draw(EFFECTS)),))
    relatives = data.draw(st.sampled_from([(), (other,), None]))
    policy = data.draw(st.sampled_from([Idempotency.SAFE, Idempotency.UNSAFE]))
    standing = replace(SAFE, idempotency=policy, code_version=data.draw(st.sampled_from(["v1", "v2", None])))
    chosen = data.draw(st.sampled_from([None, "charge"])) if kind == "resume" else None
    plan = make_plan(kind, run, steps, standing, from_step=chosen)
    plan = replace(plan, guard=data.draw(st.sampled_from(GuardAnswer)))

    verdict = judge(kind, run, steps, plan, from_step_chosen=chosen is not None, relatives=relatives)

    refused = plan.refused is not None or plan.guard is GuardAnswer.REFUSED
    assert (verdict.word is Word.NO) is refused
    # Looked for anew, not in the findings: what must be known before nothing is said to repeat.
    everything = [*steps, *(step for relative in relatives or () for step in relative.steps)]
    loose = [step for step in everything if step.step not in plan.kept and step.effect in {UNSAFE, COMPENSATABLE}]
    loose = [step for step in loose if step.last.origin is not Origin.SKIPPED and step.state is not UNDONE]
    happened = [step for step in loose if step.state in {DONE, SKIPPED, StepState.COMPENSATION_FAILED}]
    known = (
        run.mode is RecordingMode.JOURNAL
        and not run.has_gap
        and plan.code_changed is False
        and plan.guard in {GuardAnswer.NONE, GuardAnswer.ALLOWED}
        and relatives is not None
    )
    if kind == "resume":
        again = [step for step in steps if step.step in plan.executed and step.state in {DONE, SKIPPED}]
        harmless = not happened and not again and (plan.guard is GuardAnswer.ALLOWED or not loose)
    else:
        harmless = policy is Idempotency.SAFE and not loose
    assert (verdict.word is Word.YES) is (not refused and known and harmless)
    if verdict.word is Word.YES:
        assert {finding.level for finding in verdict.findings} == {"good"}
        assert (verdict.demands, verdict.repeats) == (Demands(), ())
        needed = {
            "resume": ("Keeps ", "Code is", "No other"),
            "rerun": ("The workflow is declared safe", "Code is", "No other"),
        }
        for beginning in needed[kind]:
            assert any(finding.text.startswith(beginning) for finding in verdict.findings)
    else:
        assert refused or verdict.demands.reason
        said = " ".join((verdict.title, *(finding.text for finding in verdict.findings)))
        assert (policy is Idempotency.SAFE and kind == "rerun") or not re.search(r"\bsafe\b", said)


# --- cancel ----------------------------------------------------------------------------------------------------------


def outlook(run, *steps):
    found = cancel_outlook(run, steps)
    return found.title, [f"{finding.level}: {finding.text}" for finding in found.findings]


def test_a_run_that_has_ended_is_not_cancelled(make_run):
    found = cancel_outlook(make_run(), [])
    assert (found.possible, found.title) == (False, "No. The run has ended.")


def test_a_run_that_nobody_executes_ends_at_once(make_run, make_step):
    assert outlook(make_run(RunState.QUEUED)) == ("The run ends at once.", [])
    waiting = make_run(RunState.UNKNOWN, claim_owner="a")
    assert outlook(waiting, make_step(1, "reserve"), make_step(2, "charge", UNKNOWN)) == (
        "The run ends at once.",
        ["unknown: Whether charge took effect stays unknown: look", "warn: Nothing is undone: reserve stays done"],
    )


def test_an_executing_run_is_ended_by_its_process_and_a_running_step_may_finish(make_run, make_step):
    run = make_run(RunState.RUNNING, claim_owner="a")
    title = "The run ends when its process hears of it and it reaches its next step."
    assert outlook(run, make_step(1, "look", effect=READ), make_step(2, "charge", RUNNING)) == (
        title,
        [
            "warn: charge is running: a coroutine is interrupted, a plain function runs to its end and is recorded",
            "good: Nothing is undone: 1 finished step, none with an effect to undo",
        ],
    )
    assert outlook(replace(run, cancel_requested_at=BEGIN), make_step(1, "reserve"), make_step(2, "pay")) == (
        title,
        [
            "warn: A cancel was asked for already",
            "unknown: If it takes no further step, it ends as it would have",
            "warn: Nothing is undone: reserve and pay stay done",
        ],
    )


def test_code_that_runs_elsewhere_is_not_stopped(make_run, make_step):
    run = make_run(RunState.RUNNING, mode=RecordingMode.OBSERVE)
    assert outlook(run, make_step(1, "charge", RUNNING)) == (
        "The run ends at once.",
        [
            "unknown: Its code runs outside our engines and is not stopped; only the record ends",
            "warn: charge was started and is not stopped",
        ],
    )


def test_undoing_is_brought_to_its_end_by_who_is_at_it(make_run, make_step):
    run, steps = make_run(RunState.COMPENSATING, claim_owner="a"), [make_step(1, "reserve")]
    assert outlook(run, *steps) == ("Too late: the run is being undone, and that is brought to its end.", [])
    assert outlook(replace(run, claim_owner=None), *steps) == (
        "The run ends at once.",
        ["bad: Undoing stops where it is: the steps that are not undone stay done"],
    )


def test_the_run_states_are_all_thought_of(make_run):
    for state in RunState:
        found = cancel_outlook(make_run(state), [])
        assert (
            found.possible is (found.title != "No. The run has ended.") is (make_run(state).status is RunStatus.RUNNING)
        )
