"""How a run ends or stops: undone, cancelled, handed back. The same for plain and coroutine workflows, on both databases."""

from __future__ import annotations

import asyncio

import pytest

from workflow_runs.authoring import Retry
from workflow_runs.errors import Cancelled, RunSuspended, StepFailed
from workflow_runs.execution.wants import Stop
from workflow_runs.model.digests import digest
from workflow_runs.model.entries import RunChanged
from workflow_runs.model.records import ErrorRecord, StepKey
from workflow_runs.model.requests import Seed
from workflow_runs.model.states import EffectClass, RunState, StepState

QUICK = Retry(attempts=3, first_delay_s=0.001)


# --- compensation -------------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_undone_in_reverse_order_with_the_outputs(ground, failing, calls):
    def body(run):
        yield run.step("book", lambda: "b", compensate=lambda v: calls.append(("unbook", v)))
        yield run.step("note", lambda: "n")
        yield run.step("pay", lambda: "p", compensate=lambda v: calls.append(("refund", v)))
        yield run.step("ship", failing(RuntimeError("no stock")))

    run = ground.do(ground.workflow(body))
    assert (run.state, run.status, run.error.message) == ("compensated", "failed", "no stock")
    assert calls == [("refund", "p"), ("unbook", "b")]
    assert ground.states(run) == {
        "book": ["compensated"],
        "note": ["succeeded"],
        "pay": ["compensated"],
        "ship": ["failed"],
    }


def test_one_compensation_that_fails_does_not_keep_the_others_from_being_undone(ground, failing, calls):
    def body(run):
        yield run.step("book", lambda: 1, compensate=calls.give(None))
        yield run.step("pay", lambda: 2, compensate=failing(OSError("bank away")))
        raise RuntimeError("no stock")

    run = ground.do(ground.workflow(body))
    assert (run.state, run.status, run.error.message, len(calls)) == ("compensation_failed", "failed", "no stock", 1)
    assert ground.states(run) == {"book": ["compensated"], "pay": ["compensation_failed"]}


def test_a_compensation_is_tried_again_under_the_retry_of_its_step(ground, calls):
    def body(run):
        yield run.step("pay", lambda: 2, compensate=calls.fail(OSError("bank away"), times=2), retry=QUICK)
        raise RuntimeError("no stock")

    assert (ground.do(ground.workflow(body)).state, len(calls)) == ("compensated", 3)


def test_a_run_cut_off_in_its_undoing_goes_on_undoing_and_executes_nothing_more(ground, calls):
    def body(run):
        yield run.step("book", lambda: 1, compensate=lambda v: calls.append("unbook"))
        yield run.step("pay", lambda: 2, compensate=lambda v: calls.append("refund"))
        try:
            yield run.step("ship", calls.give("ship"))
        except StepFailed:
            yield run.step("never done before", calls.give("new"))

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.write(RunChanged(run_id, RunState.RUNNING, ground.clock.now_millis()))
    ground.ended(run_id, "book", StepState.SUCCEEDED, output="1", sequence=1)
    ground.ended(run_id, "pay", StepState.COMPENSATED, output="2", sequence=2)
    ground.ended(run_id, "ship", StepState.FAILED, error=ErrorRecord("no stock", None, "RuntimeError"), sequence=3)
    ground.write(RunChanged(run_id, RunState.COMPENSATING, ground.clock.now_millis()))
    run = ground.drive(workflow, run_id)
    assert (run.state, calls, run.error.message) == ("compensated", ["unbook"], "no stock")


def test_seeded_steps_are_undone_too(ground, calls):
    def body(run):
        yield run.step("book", lambda: 1, compensate=calls.append)
        raise RuntimeError("no")

    run = ground.do(ground.workflow(body), seeds=(Seed(StepKey("book"), 1, "5", input_digest=digest(())),))
    assert (run.state, calls, ground.states(run)) == ("compensated", [5], {"book": ["compensated"]})


def cut_off_in_its_undoing(ground, workflow, **charge):
    run_id = ground.begin(workflow)
    ground.write(RunChanged(run_id, RunState.RUNNING, ground.clock.now_millis()))
    ground.ended(run_id, "book", StepState.SUCCEEDED, output="1", sequence=1)
    ground.ended(run_id, "charge", StepState.SUCCEEDED, output="2", sequence=2, **charge)
    ground.ended(run_id, "ship", StepState.FAILED, error=ErrorRecord("no stock", None, "RuntimeError"), sequence=3)
    ground.write(RunChanged(run_id, RunState.COMPENSATING, ground.clock.now_millis()))
    return run_id


def test_a_run_whose_undoing_drifts_says_that_not_all_is_undone_and_keeps_its_error(ground, calls):
    def body(run):
        yield run.step("book", lambda: 1, compensate=lambda v: calls.append("unbook"))
        yield run.step("charge", lambda x: x, 99, compensate=lambda v: calls.append("refund"))

    workflow = ground.workflow(body)
    run = ground.drive(workflow, cut_off_in_its_undoing(ground, workflow, args=(10,)))
    assert (run.state, run.error.message, calls) == ("compensation_failed", "no stock", ["unbook"])


def test_a_run_whose_replay_does_not_reach_what_was_done_says_that_not_all_is_undone(ground, calls):
    def body(run):
        raise ValueError("the input is no longer read")
        yield

    workflow = ground.workflow(body)
    run = ground.drive(workflow, cut_off_in_its_undoing(ground, workflow))
    assert (run.state, run.error.message) == ("compensation_failed", "no stock")


def test_a_branch_that_has_nothing_on_record_does_not_keep_the_others_from_being_undone(ground, calls):
    def body(run):
        try:
            yield run.step("never done before", calls.give("new"))
        except RunSuspended:
            calls.append("suspended")
        yield run.step("book", lambda: 1, compensate=lambda v: calls.append("unbook"))
        yield run.step("charge", lambda: 2, compensate=lambda v: calls.append("refund"))
        yield run.step("ship", calls.give("ship"))

    workflow = ground.workflow(body)
    run = ground.drive(workflow, cut_off_in_its_undoing(ground, workflow))
    assert (run.state, calls) == ("compensated", ["suspended", "refund", "unbook"])


# --- ending and stopping ---------------------------------------------------------------------------------------------------------


def test_a_workflow_can_end_itself_as_cancelled_with_a_reason_and_nothing_is_undone(ground, calls):
    def body(run):
        yield run.step("book", lambda: 1, compensate=calls.give(None))
        raise Cancelled("nobody wants it")

    run = ground.do(ground.workflow(body))
    assert (run.state, run.error.message, calls) == ("cancelled", "nobody wants it", [])


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interrupt_inside_a_step_is_recorded_as_cancelled_and_raised_on(sqlite_ground, failing, interrupt):
    seen = []

    def body(run):
        try:
            yield run.step("long", failing(interrupt("stop")), retry=QUICK)
        except BaseException as raised:
            seen.append(type(raised))
            raise

    run = sqlite_ground.do(sqlite_ground.workflow(body))
    assert (run.state, seen, sqlite_ground.states(run)) == ("cancelled", [interrupt], {"long": ["cancelled"]})


def test_an_operators_cancel_ends_the_run_at_the_next_step(ground, calls):
    def body(run):
        yield run.step("first", lambda: ground.course.stop(Stop.CANCELLED, "wrong customer"))
        yield run.step("second", calls.give(1))

    run = ground.do(ground.workflow(body))
    assert (run.state, run.error.message, calls) == ("cancelled", "wrong customer", [])


def test_a_run_that_is_being_undone_cannot_be_cancelled(ground, calls):
    def body(run):
        yield run.step("book", lambda: 1, compensate=lambda v: calls.append(ground.course.stop(Stop.CANCELLED)))
        raise RuntimeError("no")

    assert (ground.do(ground.workflow(body)).state, calls) == ("compensated", [False])


def test_a_handed_back_run_goes_on_where_it_was(ground, calls):
    def body(run):
        yield run.step("first", calls.give(1), "first")
        if len(calls) == 1:
            ground.course.stop(Stop.HANDED_BACK)
        yield run.step("second", calls.give(2), "second")

    workflow = ground.workflow(body)
    run = ground.do(workflow)
    assert (run.state, calls) == ("queued", [("first",)])
    calls.append("second process")
    assert (ground.drive(workflow, run.id).state, calls) == ("succeeded", [("first",), "second process", ("second",)])


def test_code_that_swallows_even_the_suspension_does_nothing_more(ground, calls):
    def body(run):
        try:
            yield run.step("first", lambda: ground.course.stop(Stop.HANDED_BACK))
            yield run.step("second", calls.give(1))
        except BaseException:  # noqa: BLE001  # what documentation forbids
            calls.append("swallowed")
        try:
            yield run.step("third", calls.give(3))
        except RunSuspended:
            calls.append("again")

    run = ground.do(ground.workflow(body))
    assert (run.state, calls) == ("queued", ["swallowed", "again"])


def test_a_lost_claim_stops_the_run_and_nothing_is_written(ground, calls):
    def body(run):
        yield run.step("first", lambda: ground.course.stop(Stop.CLAIM_LOST))
        yield run.step("second", calls.give(1))

    run = ground.do(ground.workflow(body))
    assert (run.state, calls) == ("running", [])


def test_no_step_is_started_while_the_lease_may_be_over(ground, calls):
    asked = []

    def holds():
        asked.append(len(calls))
        return len(asked) > 2

    def body(run):
        yield run.step("first", calls.give(1))

    workflow = ground.workflow(body, idempotency="safe")
    run = ground.drive(workflow, ground.begin(workflow), holds)
    assert (run.state, asked) == ("succeeded", [0, 0, 0])


def test_a_step_inside_a_step_is_refused(ground):
    def body(run):
        yield run.step("outer", lambda: run.step("inner", lambda: 1))

    run = ground.do(ground.workflow(body))
    assert "inside step 'outer'" in run.error.message


def test_a_name_that_is_not_fit_fails_the_run_and_says_so(ground):
    def body(run):
        yield run.step("", lambda: 1)

    assert ground.do(ground.workflow(body)).error.code == "invalid_request"


@pytest.mark.parametrize("ending", ["cancelled", "failed", "succeeded"])
def test_nobody_knows_how_an_attempt_ended_that_a_dead_process_left_and_nobody_asked_for_again(ground, ending):
    def body(run):
        if ending == "failed":
            raise RuntimeError("before any step")
        if ending == "cancelled":
            ground.course.stop(Stop.CANCELLED, "not wanted")
            yield run.step("other", lambda: 1)

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.started(run_id, "meet")
    run = ground.drive(workflow, run_id)
    assert run.state == ending
    assert ground.states(run)["meet"] == ["unknown"]
    assert "whether it took effect is not known" in ground.steps(run)["meet"].last.error.message


def test_an_attempt_that_was_taken_up_again_stays_as_it_ended(ground):
    def body(run):
        yield run.step("meet", lambda: 1, effect="idempotent")

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.started(run_id, "meet", effect=EffectClass.IDEMPOTENT)
    run = ground.drive(workflow, run_id)
    assert (run.state, ground.states(run)) == ("succeeded", {"meet": ["unknown", "succeeded"]})
