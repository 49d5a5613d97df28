"""Going on with a failed run: seeds, lineage, claims, refusals."""

import pytest

from workflow_runs.errors import (
    AlreadyResumed,
    HandlerFailed,
    IdempotencyKeyReused,
    IncompletePriorStep,
    InvalidBody,
    NoFailedStep,
    NotConfigured,
    NotFound,
    PlanChanged,
    RecordHasGap,
    ResumeBlocked,
    ResumeNotAllowed,
    RunnerNotRegistered,
)
from workflow_runs.model.entries import GapNoted, StepUndone
from workflow_runs.model.records import StepKey
from workflow_runs.model.states import Origin, RunState, StepState
from workflow_runs.operations.desk import Desk

FAILED = StepState.FAILED


def seeded(shop, run_id):
    return {step.step.label(): step.last.output for step in shop.store.get_steps(run_id)}


def test_a_resume_starts_with_the_outputs_of_completed_steps(shop):
    parent = shop.failed(correlation_id="c1", tags=("x",))
    accepted = shop.desk.resume(parent, actor="ann")
    run = shop.run(accepted.run_id)
    assert (accepted.parent_run_id, accepted.resume_from_step) == (parent, "charge")
    assert (run.trigger, run.input, run.correlation_id) == ("manual.resume", '{"order":7}', "c1")
    assert (run.tags, run.triggered_by_user_id, run.resume_from) == (("x", "resume:true"), "ann", StepKey("charge"))
    assert (run.parent_run_id, run.root_run_id, run.chain_run_id) == (parent, parent, parent)
    [step] = shop.store.get_steps(run.id)
    assert (step.step.name, step.sequence, step.state, step.last.origin) == (
        "reserve",
        1,
        StepState.SKIPPED,
        Origin.SEEDED,
    )
    assert step.last.output == '{"step":"reserve"}'


def test_steps_are_kept_whatever_the_length_of_their_names(shop):
    # R1
    run_id = shop.live()
    names = ["b", "a much longer name", "zz", "reserve the room"]
    for sequence, name in enumerate(names, 1):
        shop.step(run_id, sequence, name)
    shop.step(run_id, 5, "x", FAILED)
    resumed = shop.desk.resume(shop.end(run_id, step="x")).run_id
    assert list(seeded(shop, resumed)) == names


def test_the_target_is_never_among_the_seeds_and_no_completed_step_is_missing(shop):
    # R4: also not when it succeeded under another number.
    run_id = shop.live()
    shop.step(run_id, 1, "charge", output="1")
    shop.step(run_id, 2, "reserve", output="2")
    shop.step(run_id, 3, "charge#2", FAILED)
    accepted = shop.desk.resume(shop.end(run_id))
    assert accepted.resume_from_step == "charge#2"
    assert seeded(shop, accepted.run_id) == {"charge": "1", "reserve": "2"}


def test_a_step_that_succeeded_at_a_later_attempt_is_kept_and_a_caught_error_is_not_the_target(shop):
    # R5
    run_id = shop.live()
    shop.step(run_id, 1, "flaky", FAILED)
    shop.step(run_id, 1, "flaky", attempt=2, output='"second"')
    shop.step(run_id, 2, "optional", FAILED)
    shop.step(run_id, 3, "reserve", output="3")
    shop.step(run_id, 4, "charge", FAILED)
    accepted = shop.desk.resume(shop.end(run_id))
    assert accepted.resume_from_step == "charge"
    assert seeded(shop, accepted.run_id) == {"flaky": '"second"', "reserve": "3"}


def test_repeated_names_are_seeded_each_with_its_own_output(shop):
    # R6
    run_id = shop.live()
    for number in (1, 2, 3):
        shop.step(run_id, number, f"charge#{number}", output=str(number))
    shop.step(run_id, 4, "charge#4", FAILED)
    resumed = shop.desk.resume(shop.end(run_id)).run_id
    assert seeded(shop, resumed) == {"charge": "1", "charge#2": "2", "charge#3": "3"}


def test_a_resume_of_a_resume_keeps_what_either_completed(shop):
    first = shop.failed()
    second = shop.desk.resume(first).run_id
    shop.step(second, 2, "charge", output='"paid"')
    shop.step(second, 3, "notify", FAILED)
    shop.end(second, step="notify")
    third = shop.desk.resume(second)
    run = shop.run(third.run_id)
    assert third.resume_from_step == "notify"
    assert seeded(shop, third.run_id) == {"reserve": '{"step":"reserve"}', "charge": '"paid"'}
    assert (run.parent_run_id, run.root_run_id, run.chain_run_id) == (second, first, first)


def test_a_resume_of_a_rerun_belongs_to_the_reruns_chain(shop):
    first = shop.failed()
    rerun = shop.fail_again(shop.desk.rerun(first).run_id)
    run = shop.run(shop.desk.resume(rerun).run_id)
    assert (run.root_run_id, run.chain_run_id, run.parent_run_id) == (first, rerun, rerun)


def test_an_operator_may_choose_an_earlier_step(shop):
    run_id = shop.live()
    for sequence, name in enumerate(("a", "b", "c"), 1):
        shop.step(run_id, sequence, name)
    shop.step(run_id, 4, "charge", FAILED)
    accepted = shop.desk.resume(shop.end(run_id), from_step="b")
    assert (accepted.resume_from_step, list(seeded(shop, accepted.run_id))) == ("b", ["a"])
    assert shop.run(accepted.run_id).resume_from == StepKey("b")


def test_a_step_that_is_not_recorded_cannot_be_chosen(shop):
    with pytest.raises(InvalidBody) as caught:
        shop.desk.resume(shop.failed(), from_step="ghost")
    assert caught.value.field == "fromStep"


def test_a_resume_leaves_an_audit_entry_that_names_both_runs(shop):
    parent = shop.failed()
    plan = shop.desk.plan(parent, "resume")
    run_id = shop.desk.resume(parent, actor="ann", reason="the bank is back", request_id="q1").run_id
    [entry] = shop.audit(run_id)
    assert (entry.action, entry.actor, entry.run_id, entry.target_run_id) == ("resume", "ann", run_id, parent)
    assert (entry.reason, entry.request_id, entry.plan_hash) == ("the bank is back", "q1", plan.hash)


def test_a_handler_is_handed_lineage_and_decoded_seeds(shop):
    seen = []

    def resume(input, context):
        seen.append((input, context.parent_run_id, context.resume_from_step, context.seed_results, context.tags))
        return shop.engine.start(context.request("checkout"))

    shop.register("seeing", resume=resume)
    parent = shop.failed("seeing", tags=("x",))
    shop.desk.resume(parent)
    assert seen == [({"order": 7}, parent, "charge", {"reserve": {"step": "reserve"}}, ("x",))]


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_process_without_a_registry_resumes_nothing(shop):
    with pytest.raises(NotConfigured) as caught:
        Desk(shop.store, shop.journal, None, shop.engine).resume("no such run")
    assert caught.value.code == "resume_not_configured"


def test_a_run_that_is_not_there_is_not_found(shop):
    with pytest.raises(NotFound):
        shop.desk.resume("wfrn_01m81srpafe07vg00hcm7rdwd5")


@pytest.mark.parametrize("state", [None, RunState.SUCCEEDED, RunState.CANCELLED])
def test_only_failed_runs_are_resumed(shop, state):
    run_id = shop.live("nobody")
    if state is not None:
        shop.end(run_id, state)
    with pytest.raises(ResumeNotAllowed):
        shop.desk.resume(run_id)


def test_a_run_with_a_gap_in_its_record_is_not_resumed(shop):
    run_id = shop.live()
    shop.step(run_id, 1, "charge", FAILED)
    shop.journal.submit(GapNoted(run_id)).result()
    shop.end(run_id)
    with pytest.raises(RecordHasGap):
        shop.desk.resume(run_id)
    assert shop.desk.plan(run_id, "resume").refused.code == "record_has_gap"


def test_a_run_with_a_gap_is_resumed_by_who_accepts_it_as_the_plan_said(shop):
    run_id = shop.live()
    shop.step(run_id, 1, "charge", FAILED)
    shop.journal.submit(GapNoted(run_id)).result()
    shop.end(run_id)
    plan = shop.desk.plan(run_id, "resume", accept_gap=True)
    assert (plan.refused, plan.executed) == (None, (StepKey("charge"),))
    accepted = shop.desk.resume(run_id, accept_gap=True, plan_hash=plan.hash, idempotency_key="k")
    assert accepted.parent_run_id == run_id
    with pytest.raises(IdempotencyKeyReused):
        shop.desk.resume(run_id, idempotency_key="k")


def test_a_run_without_a_runner_is_not_resumed(shop):
    with pytest.raises(RunnerNotRegistered) as caught:
        shop.desk.resume(shop.failed("nobody"))
    assert caught.value.details["action"] == "resume"


def test_a_runner_without_a_resume_handler_is_refused(shop):
    shop.register("silent", resume=None)
    with pytest.raises(NotConfigured) as caught:
        shop.desk.resume(shop.failed("silent"))
    assert caught.value.code == "resume_not_supported"


def test_a_run_that_failed_outside_any_step_needs_a_chosen_step(shop):
    run_id = shop.live()
    shop.step(run_id, 1, "reserve")
    shop.end(run_id, step=None)
    with pytest.raises(NoFailedStep):
        shop.desk.resume(run_id)
    assert shop.desk.resume(run_id, from_step="reserve").resume_from_step == "reserve"


def test_a_compensated_step_is_not_taken_for_done(shop):
    run_id = shop.live()
    shop.step(run_id, 1, "reserve")
    shop.step(run_id, 2, "charge", FAILED)
    undone = StepUndone(run_id, None, StepKey("reserve"), 1, StepState.COMPENSATED, None, shop.clock.now_millis())
    shop.journal.submit(undone).result()
    with pytest.raises(IncompletePriorStep) as caught:
        shop.desk.resume(shop.end(run_id))
    assert caught.value.details["stepName"] == "reserve"


def test_a_step_that_another_resume_undid_is_not_taken_for_done(shop):
    parent = shop.failed()
    first = shop.desk.resume(parent).run_id
    undone = StepUndone(first, None, StepKey("reserve"), 1, StepState.COMPENSATED, None, shop.clock.now_millis())
    shop.journal.submit(undone).result()
    shop.fail_again(first)
    with pytest.raises(IncompletePriorStep) as caught:
        shop.desk.resume(parent)
    assert caught.value.details == {"stepName": "reserve", "runId": first}
    assert shop.desk.plan(parent, "resume").refused.code == "incomplete_prior_step"
    with pytest.raises(IncompletePriorStep):
        shop.desk.resume(first)
    assert shop.desk.resume(parent, from_step="reserve").resume_from_step == "reserve"


def test_a_second_resume_is_refused_and_told_the_first(shop):
    parent = shop.failed()
    first = shop.desk.resume(parent).run_id
    with pytest.raises(AlreadyResumed) as caught:
        shop.desk.resume(parent)
    assert caught.value.details == {"runId": first}
    shop.end(first, RunState.SUCCEEDED)
    with pytest.raises(AlreadyResumed):
        shop.desk.resume(parent)


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.FAILED])
def test_a_failure_whose_resume_ended_without_success_may_be_resumed_again(shop, state):
    parent = shop.failed()
    first = shop.end(shop.desk.resume(parent).run_id, state)
    second = shop.desk.resume(parent).run_id
    assert sorted(shop.children(parent)) == sorted([first, second])


def test_within_a_chain_only_one_resume_lives_whichever_failure_it_started_from(shop):
    first = shop.failed()
    second = shop.fail_again(shop.desk.resume(first).run_id)
    third = shop.desk.resume(second).run_id
    with pytest.raises(AlreadyResumed) as caught:
        shop.desk.resume(first)
    assert caught.value.details == {"runId": third}


def test_a_resume_that_runs_elsewhere_counts_as_going_on(shop):
    shop.register("foreign", resume=lambda _input, _context: "job-17")
    parent = shop.failed("foreign")
    assert shop.desk.resume(parent).run_id == "job-17"
    assert [entry.run_id for entry in shop.audit(parent)] == ["job-17"]
    with pytest.raises(AlreadyResumed) as caught:
        shop.desk.resume(parent)
    assert caught.value.details == {"runId": "job-17"}


def test_a_guard_may_block_a_resume(shop):
    shop.register("guarded", can_resume=lambda _run, plan, _actor: f"not from {plan.target.label()}")
    parent = shop.failed("guarded")
    with pytest.raises(ResumeBlocked, match="not from charge"):
        shop.desk.resume(parent)
    assert shop.children(parent) == []


def test_an_unsafe_workflow_is_resumed_without_confirmation(shop):
    parent = shop.failed("payout")
    assert shop.desk.resume(parent).parent_run_id == parent


def test_a_resume_whose_plan_has_changed_is_refused(shop):
    parent = shop.failed()
    plan = shop.desk.plan(parent, "resume")
    chosen = shop.desk.plan(parent, "resume", from_step="reserve")
    with pytest.raises(PlanChanged):
        shop.desk.resume(parent, plan_hash=chosen.hash)
    assert shop.desk.resume(parent, plan_hash=plan.hash).parent_run_id == parent


def test_a_handler_that_raises_leaves_no_claim_behind(shop):
    broken = [True]

    def resume(_input, context):
        if broken:
            raise ValueError("bank is down")
        return shop.engine.start(context.request("checkout"))

    shop.register("broken", resume=resume)
    parent = shop.failed("broken")
    with pytest.raises(HandlerFailed, match="bank is down") as caught:
        shop.desk.resume(parent, idempotency_key="k")
    assert caught.value.code == "resume_failed"
    assert (shop.children(parent), shop.audit(parent), shop.run(parent).resumed_by_run_id) == ([], [], None)
    broken.clear()
    assert shop.desk.resume(parent, idempotency_key="k").parent_run_id == parent
