"""Cancelling: recorded first, told to the engine then."""

import pytest

from workflow_runs.errors import CancelNotAllowed, InvalidBody, NotFound
from workflow_runs.model.states import RunState, RunStatus
from workflow_runs.operations.desk import Desk


def test_a_run_that_nobody_executes_ends_at_once(shop):
    run_id = shop.desk.trigger("checkout").run_id
    accepted = shop.desk.cancel(run_id, actor="ann", reason="ordered twice", request_id="q1")
    run = shop.run(run_id)
    assert (accepted.run_id, accepted.status) == (run_id, RunStatus.CANCELLED)
    assert (run.state, run.error.message) == (RunState.CANCELLED, "ordered twice")


def test_a_run_that_executes_is_marked_and_its_engine_is_told(shop):
    run_id = shop.live()
    accepted = shop.desk.cancel(run_id)
    assert (accepted.status, shop.engine.cancels) == (RunStatus.RUNNING, [run_id])
    assert shop.run(run_id).cancel_requested_at is not None


def test_a_cancellation_leaves_an_audit_entry(shop):
    run_id = shop.live()
    shop.desk.cancel(run_id, actor="ann", reason="ordered twice", request_id="q1")
    [entry] = shop.audit(run_id)
    assert (entry.action, entry.actor, entry.reason, entry.request_id) == ("cancel", "ann", "ordered twice", "q1")


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_a_run_that_has_ended_is_not_cancelled(shop, state):
    run_id = shop.end(shop.live(), state)
    with pytest.raises(CancelNotAllowed):
        shop.desk.cancel(run_id)
    assert shop.audit(run_id) == []


def test_a_run_that_is_not_there_is_not_found(shop):
    with pytest.raises(NotFound):
        shop.desk.cancel("wfrn_01m81srpafe07vg00hcm7rdwd5")


def test_a_reason_has_to_fit_into_the_record(sqlite_shop):
    with pytest.raises(InvalidBody):
        sqlite_shop.desk.cancel(sqlite_shop.live(), reason="\x00")


def test_a_run_of_no_runner_is_cancelled_too(shop):
    run_id = shop.live("nobody")
    assert shop.desk.cancel(run_id).status is RunStatus.RUNNING


def test_a_process_without_an_engine_cancels_through_the_record(shop):
    run_id = shop.desk.trigger("checkout").run_id
    assert Desk(shop.store, shop.journal, None, None).cancel(run_id).status is RunStatus.CANCELLED


def test_an_engine_that_cannot_be_told_does_not_undo_the_cancellation(shop, monkeypatch):
    def deaf(_run_id):
        raise RuntimeError("loop is closed")

    monkeypatch.setattr(shop.engine, "request_cancel", deaf)
    run_id = shop.live()
    assert shop.desk.cancel(run_id).status is RunStatus.RUNNING
    assert shop.run(run_id).cancel_requested_at is not None
