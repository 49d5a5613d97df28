"""What is kept, what is executed, what is refused, and when two plans are the same."""

from dataclasses import replace

import pytest

from workflow_runs.errors import InvalidBody
from workflow_runs.model.records import StepKey
from workflow_runs.model.states import (
    EffectClass,
    Idempotency,
    RecordingMode,
    RunState,
    StepKind,
    StepState,
)
from workflow_runs.operations.plan import GuardAnswer, make_plan
from workflow_runs.operations.policy import Standing

DONE, FAILED, RUNNING = StepState.SUCCEEDED, StepState.FAILED, StepState.RUNNING
SAFE = Standing(idempotency=Idempotency.SAFE, supported=True, code_version="v1")


def resume(run, *steps, standing=SAFE, **options):
    return make_plan("resume", run, steps, standing, **options)


def rerun(run, *steps, standing=SAFE):
    return make_plan("rerun", run, steps, standing)


def labels(keys):
    return [key.label() for key in keys]


def refusal(plan):
    return None if plan.refused is None else plan.refused.code


def test_a_resume_keeps_completed_steps_and_executes_the_failed_one(make_run, make_step):
    plan = resume(make_run(), make_step(1, "reserve"), make_step(2, "charge", FAILED))
    assert (labels(plan.kept), labels(plan.executed), plan.target) == (["reserve"], ["charge"], StepKey("charge"))
    assert refusal(plan) is None


def test_the_order_is_the_sequence_and_not_the_order_of_names_or_rows(make_run, make_step):
    # R1: the original lost the order in a map and executed everything again.
    steps = [make_step(3, "a"), make_step(1, "a much longer name"), make_step(4, "charge", FAILED), make_step(2, "zz")]
    plan = resume(make_run(), *steps)
    assert labels(plan.kept) == ["a much longer name", "zz", "a"]
    assert [seed.sequence for seed in plan.seeds] == [1, 2, 3]


def test_seeds_hold_the_recorded_outputs_and_never_the_target(make_run, make_step):
    steps = [
        make_step(1, "reserve", output='{"ref":"r1"}'),
        make_step(2, "scalar", output="7"),
        make_step(3, "charge", FAILED),
    ]
    plan = resume(make_run(), *steps)
    assert [(seed.step.name, seed.output, seed.input_digest) for seed in plan.seeds] == [
        ("reserve", '{"ref":"r1"}', "digest"),
        ("scalar", "7", "digest"),
    ]


def test_a_step_that_failed_and_then_succeeded_is_kept(make_run, make_step):
    # R5, first half: the original took it for the target.
    plan = resume(make_run(), make_step(1, "flaky", FAILED, DONE), make_step(2, "charge", FAILED))
    assert (labels(plan.kept), plan.target) == (["flaky"], StepKey("charge"))


def test_a_step_whose_error_was_caught_is_executed_again_and_is_not_the_target(make_run, make_step):
    # R5, second half.
    plan = resume(make_run(), make_step(1, "lookup", FAILED), make_step(2, "reserve"), make_step(3, "charge", FAILED))
    assert (labels(plan.kept), labels(plan.executed)) == (["reserve"], ["lookup", "charge"])
    assert plan.target == StepKey("charge")


def test_repeated_names_are_told_apart_by_their_number(make_run, make_step):
    # R6: the third charge failed; the outputs of the first two are two seeds.
    steps = [
        make_step(1, "charge", output="1"),
        make_step(2, "charge", occurrence=2, output="2"),
        make_step(3, "charge", FAILED, occurrence=3),
    ]
    plan = resume(make_run(), *steps)
    assert plan.target == StepKey("charge", "", 3)
    assert [(seed.step.label(), seed.output) for seed in plan.seeds] == [("charge", "1"), ("charge#2", "2")]


def test_of_several_failures_under_one_name_the_last_ended_the_run(make_run, make_step):
    steps = [make_step(1, "charge", FAILED), make_step(2, "charge", FAILED, occurrence=2)]
    assert resume(make_run(), *steps).target == StepKey("charge", "", 2)


def test_of_parallel_failures_under_one_name_the_one_with_the_runs_message_ended_it(make_run, make_step):
    steps = [make_step(1, "charge", FAILED, key="a"), make_step(2, "charge", FAILED, key="b", message="cancelled too")]
    assert resume(make_run(), *steps).target == StepKey("charge", "a")


def test_parallel_siblings_that_completed_are_kept_though_they_began_later(make_run, make_step):
    plan = resume(make_run(), make_step(1, "charge", FAILED), make_step(2, "notify"))
    assert (labels(plan.kept), labels(plan.executed)) == (["notify"], ["charge"])


def test_readings_of_the_clock_are_seeded_but_are_no_steps_of_the_plan(make_run, make_step):
    steps = [make_step(1, "now", kind=StepKind.NOW, output='"2026"'), make_step(2, "charge", FAILED)]
    plan = resume(make_run(), *steps)
    assert (plan.kept, [seed.kind for seed in plan.seeds]) == ((), [StepKind.NOW])


def test_a_chosen_step_and_everything_after_it_is_executed_again(make_run, make_step):
    steps = [make_step(1, "a"), make_step(2, "b"), make_step(3, "c"), make_step(4, "charge", FAILED)]
    plan = resume(make_run(), *steps, from_step="b")
    assert (labels(plan.kept), labels(plan.executed), plan.target) == (["a"], ["b", "c", "charge"], StepKey("b"))


def test_a_step_is_chosen_by_name_number_or_key(make_run, make_step):
    steps = [
        make_step(1, "a"),
        make_step(2, "a", occurrence=2),
        make_step(3, "n", key="order-7"),
        make_step(4, "charge", FAILED),
    ]
    chosen = {label: resume(make_run(), *steps, from_step=label).target for label in ("a", "a#2", "n[order-7]", "n")}
    assert chosen == {
        "a": StepKey("a"),
        "a#2": StepKey("a", "", 2),
        "n[order-7]": StepKey("n", "order-7"),
        "n": StepKey("n", "order-7"),
    }


@pytest.mark.parametrize("label", ["ghost", "a#3", "A", "", "now", "n"])
def test_a_name_that_no_step_or_several_steps_have_is_not_taken(make_run, make_step, label):
    steps = [
        make_step(1, "a"),
        make_step(2, "now", kind=StepKind.NOW),
        make_step(3, "n", key="1"),
        make_step(4, "n", key="2"),
        make_step(5, "charge", FAILED),
    ]
    with pytest.raises(InvalidBody) as caught:
        resume(make_run(), *steps, from_step=label)
    assert caught.value.field == "fromStep"


def test_a_run_that_failed_outside_any_step_has_no_target(make_run, make_step):
    run = make_run(failed_step=None)
    assert refusal(resume(run, make_step(1, "charge", FAILED), make_step(2, "reserve"))) == "no_failed_step"
    assert refusal(resume(run, make_step(1, "reserve"), from_step="reserve")) is None


def test_a_run_whose_failed_step_is_not_recorded_has_no_target(make_run, make_step):
    assert refusal(resume(make_run(), make_step(1, "reserve"))) == "no_failed_step"
    assert refusal(resume(make_run(), make_step(1, "charge"))) == "no_failed_step"
    assert refusal(resume(make_run(error=None), make_step(1, "charge", FAILED))) == "no_failed_step"


def test_in_a_run_recorded_elsewhere_the_step_with_the_same_message_is_the_target(make_run, make_step):
    run = make_run(failed_step=None, mode=RecordingMode.OBSERVE)
    plan = resume(run, make_step(1, "lookup", FAILED, message="other"), make_step(2, "charge", FAILED))
    assert plan.target == StepKey("charge")


@pytest.mark.parametrize(
    "state", [RUNNING, StepState.UNKNOWN, StepState.CANCELLED, StepState.COMPENSATED, StepState.COMPENSATION_FAILED]
)
def test_a_step_before_the_target_that_is_open_or_undone_refuses_the_resume(make_run, make_step, state):
    # R3: the original took compensated steps for done.
    plan = resume(make_run(), make_step(1, "reserve", state), make_step(2, "charge", FAILED))
    assert (refusal(plan), plan.refused.details["stepName"], plan.seeds) == ("incomplete_prior_step", "reserve", ())


def test_a_compensated_step_after_the_target_is_executed_again(make_run, make_step):
    plan = resume(make_run(), make_step(1, "charge", FAILED), make_step(2, "notify", StepState.COMPENSATED))
    assert (refusal(plan), labels(plan.executed)) == (None, ["charge", "notify"])


@pytest.mark.parametrize("state", [RUNNING, StepState.UNKNOWN, StepState.CANCELLED])
def test_an_unsafe_sibling_with_unknown_outcome_is_repeated_only_when_an_operator_names_a_step(
    make_run, make_step, state
):
    steps = [make_step(1, "charge", FAILED), make_step(2, "pay", state)]
    assert refusal(resume(make_run(), *steps)) == "incomplete_prior_step"
    assert refusal(resume(make_run(), *steps, from_step="charge")) is None


def test_an_interrupted_step_is_a_target_by_itself_only_if_it_may_be_repeated(make_run, make_step):
    interrupted = make_step(1, "charge", StepState.CANCELLED)
    assert refusal(resume(make_run(), interrupted)) == "no_failed_step"
    assert refusal(resume(make_run(), interrupted, from_step="charge")) is None
    assert refusal(resume(make_run(), replace(interrupted, effect=EffectClass.IDEMPOTENT))) is None


def test_a_repeatable_sibling_with_unknown_outcome_is_executed_again(make_run, make_step):
    sibling = make_step(2, "look", StepState.UNKNOWN, effect=EffectClass.READ)
    assert refusal(resume(make_run(), make_step(1, "charge", FAILED), sibling)) is None


def test_a_kept_output_that_cannot_be_read_refuses_the_resume(make_run, make_step):
    plan = resume(make_run(), make_step(1, "reserve", output='{"half'), make_step(2, "charge", FAILED))
    assert refusal(plan) == "incomplete_prior_step"


def test_an_output_that_is_gone_refuses_the_resume_where_one_was_recorded(make_run, make_step):
    steps = [make_step(1, "reserve", output=None), make_step(2, "charge", FAILED)]
    plan = resume(make_run(), *steps)
    assert (refusal(plan), plan.refused.details) == ("incomplete_prior_step", {"stepName": "reserve"})
    # Who records from elsewhere need not say what a step gave, and a resume of that run is handed as much.
    assert refusal(resume(make_run(mode=RecordingMode.OBSERVE), *steps)) is None
    carried = [make_step(1, "reserve", StepState.SKIPPED, output=None), make_step(2, "charge", FAILED)]
    assert refusal(resume(make_run(), *carried)) is None


def test_another_resume_refuses_and_is_named(make_run, make_step):
    plan = resume(make_run(), make_step(1, "charge", FAILED), existing_resume_run_id="wfrn_other")
    assert (refusal(plan), plan.refused.details) == ("already_resumed", {"runId": "wfrn_other"})
    assert plan.existing_resume_run_id == "wfrn_other"


def test_a_run_that_is_not_failed_has_a_plan_that_only_refuses(make_run, make_step):
    plan = resume(make_run(RunState.SUCCEEDED), make_step(1, "a"))
    assert (refusal(plan), plan.kept, plan.executed, plan.target) == ("resume_not_allowed", (), (), None)


def test_a_rerun_keeps_nothing_and_executes_every_step(make_run, make_step):
    plan = rerun(make_run(RunState.SUCCEEDED), make_step(1, "a"), make_step(2, "now", kind=StepKind.NOW))
    assert (plan.kept, labels(plan.executed), plan.seeds, plan.target) == ((), ["a"], (), None)


def test_a_rerun_of_an_unsafe_workflow_says_that_it_wants_confirmation(make_run):
    unsafe = replace(SAFE, idempotency=Idempotency.UNSAFE)
    assert rerun(make_run(), standing=unsafe).confirm_required
    assert not resume(make_run(), standing=unsafe).confirm_required


def test_the_rest_is_known_only_of_a_run_that_reached_its_end_under_the_same_code(make_run):
    changed = replace(SAFE, code_version="v2")
    assert rerun(make_run(RunState.SUCCEEDED)).rest_known
    assert not rerun(make_run(RunState.SUCCEEDED), standing=changed).rest_known
    assert not rerun(make_run(RunState.FAILED)).rest_known


def test_a_plan_says_whether_the_code_changed(make_run):
    assert rerun(make_run()).code_changed is False
    assert rerun(make_run(), standing=replace(SAFE, code_version="v2")).code_changed is True
    assert rerun(make_run(), standing=replace(SAFE, code_version=None)).code_changed is None


def test_the_hash_is_stable_and_changes_with_all_that_the_plan_is_made_of(make_run, make_step):
    run, reserve, charge = make_run(), make_step(1, "reserve"), make_step(2, "charge", FAILED)
    base = resume(run, reserve, charge)
    assert resume(run, charge, reserve).hash == base.hash
    others = [
        resume(replace(run, id="wfrn_other"), reserve, charge),
        resume(replace(run, input='{"order":8}'), reserve, charge),
        resume(replace(run, input=None), reserve, charge),
        resume(run, make_step(1, "reserve", output='{"ref":2}'), charge),
        resume(run, reserve, charge, make_step(3, "notify")),
        resume(run, reserve, charge, from_step="reserve"),
        resume(run, reserve, charge, standing=replace(SAFE, code_version="v2")),
        rerun(run, reserve, charge),
    ]
    assert len({plan.hash for plan in (base, *others)}) == 1 + len(others)


def test_a_plan_says_that_a_guard_is_still_to_be_asked_and_the_hash_does_not_depend_on_it(make_run, make_step):
    run, charge = make_run(), make_step(1, "charge", FAILED)
    plain, guarded = resume(run, charge), resume(run, charge, guarded=True)
    assert (plain.guard, guarded.guard) == (GuardAnswer.NONE, GuardAnswer.NOT_ASKED)
    assert plain.hash == guarded.hash
