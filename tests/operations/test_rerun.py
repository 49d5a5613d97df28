"""Running again from the start: lineage, policy, guards."""

import asyncio

import pytest

from workflow_runs.errors import (
    ConfirmationRequired,
    GuardFailed,
    HandlerFailed,
    InvalidBody,
    NotConfigured,
    NotFound,
    PlanChanged,
    RerunBlocked,
    RerunNotAllowed,
    RunnerNotRegistered,
    RunNotFinished,
)
from workflow_runs.model.states import RunState
from workflow_runs.operations.desk import Desk


def test_a_rerun_repeats_the_recorded_input_under_the_parents_lineage(shop):
    parent = shop.failed(correlation_id="c1", tags=("x",), idempotency_key="k1", triggered_by_user_id="bob")
    accepted = shop.desk.rerun(parent, actor="ann")
    run = shop.run(accepted.run_id)
    assert (accepted.parent_run_id, accepted.resume_from_step) == (parent, None)
    assert (run.trigger, run.input, run.correlation_id) == ("manual.rerun", '{"order":7}', "c1")
    assert (run.tags, run.triggered_by_user_id, run.idempotency_key) == (("x", "rerun:true"), "ann", None)
    assert (run.parent_run_id, run.root_run_id, run.chain_run_id) == (parent, parent, run.id)
    assert shop.store.get_steps(run.id) == ()


def test_a_rerun_of_a_rerun_keeps_the_root(shop):
    first = shop.failed()
    second = shop.end(shop.desk.rerun(first).run_id, RunState.CANCELLED)
    third = shop.run(shop.desk.rerun(second).run_id)
    assert (third.parent_run_id, third.root_run_id, third.tags) == (second, first, ("rerun:true", "rerun:true"))


def test_a_rerun_leaves_an_audit_entry_that_names_both_runs(shop):
    parent = shop.failed()
    plan = shop.desk.plan(parent, "rerun")
    run_id = shop.desk.rerun(parent, actor="ann", reason="prices were wrong", request_id="q1").run_id
    [entry] = shop.audit(run_id)
    assert (entry.action, entry.actor, entry.run_id, entry.target_run_id) == ("rerun", "ann", run_id, parent)
    assert (entry.reason, entry.request_id, entry.plan_hash) == ("prices were wrong", "q1", plan.hash)
    assert shop.audit(parent) == [entry]


def test_a_succeeded_run_may_be_rerun_as_often_as_one_likes(shop):
    parent = shop.end(shop.live(), RunState.SUCCEEDED)
    made = {shop.desk.rerun(parent).run_id for _ in range(3)}
    assert set(shop.children(parent)) == made
    assert len(made) == 3


def test_a_process_without_a_registry_reruns_nothing(shop):
    with pytest.raises(NotConfigured) as caught:
        Desk(shop.store, shop.journal, None, shop.engine).rerun("no such run")
    assert caught.value.code == "rerun_not_configured"


@pytest.mark.parametrize(
    "run_id", ["wfrn_01m81srpafe07vg00hcm7rdwd5", "nonsense", "", "\ud800", "a\x00b", "../x", "x" * 9_000]
)
def test_an_id_of_any_shape_is_just_not_found(shop, run_id):
    with pytest.raises(NotFound):
        shop.desk.rerun(run_id)


def test_a_live_run_is_not_rerun(shop):
    with pytest.raises(RunNotFinished):
        shop.desk.rerun(shop.live("nobody"))


def test_a_run_without_a_runner_is_not_rerun(shop):
    with pytest.raises(RunnerNotRegistered) as caught:
        shop.desk.rerun(shop.failed("nobody"))
    assert caught.value.details["action"] == "rerun"


def test_a_resume_only_workflow_is_not_rerun_even_when_confirmed(shop):
    with pytest.raises(RerunNotAllowed):
        shop.desk.rerun(shop.failed("once"), confirm=True)


def test_a_runner_without_a_rerun_handler_is_refused(shop):
    shop.register("silent", rerun=None)
    with pytest.raises(NotConfigured) as caught:
        shop.desk.rerun(shop.failed("silent"))
    assert caught.value.code == "rerun_not_supported"


def test_an_unsafe_workflow_is_rerun_only_when_confirmed(shop):
    parent = shop.failed("payout")
    with pytest.raises(ConfirmationRequired) as caught:
        shop.desk.rerun(parent)
    assert caught.value.details == {"idempotency": "unsafe"}
    assert shop.children(parent) == []
    assert shop.desk.rerun(parent, confirm=True).parent_run_id == parent


def test_the_guard_is_asked_after_the_confirmation_with_run_plan_and_actor(shop):
    asked = []

    def guard(run, plan, actor):
        asked.append((run.id, run.input, plan.kind, actor))

    shop.register("guarded", idempotency="unsafe", can_rerun=guard)
    parent = shop.failed("guarded")
    with pytest.raises(ConfirmationRequired):
        shop.desk.rerun(parent)
    assert asked == []
    shop.desk.rerun(parent, confirm=True, actor="ann")
    assert asked == [(parent, '{"order":7}', "rerun", "ann")]


async def _reason(run, plan, actor):
    await asyncio.sleep(0)
    return "the month is closed"


@pytest.mark.parametrize("guard", [lambda *_: "the month is closed", _reason], ids=["plain", "coroutine"])
def test_a_guard_blocks_with_its_reason(sqlite_shop, guard):
    sqlite_shop.register("guarded", can_rerun=guard)
    parent = sqlite_shop.failed("guarded")
    with pytest.raises(RerunBlocked, match="the month is closed"):
        sqlite_shop.desk.rerun(parent)
    assert sqlite_shop.children(parent) == []


def _raises(*_):
    raise RuntimeError("password=hunter2")


@pytest.mark.parametrize("guard", [_raises, lambda *_: {"ok": True}], ids=["raises", "no answer"])
def test_a_guard_that_fails_allows_nothing_and_tells_nothing(sqlite_shop, guard):
    sqlite_shop.register("guarded", can_rerun=guard)
    parent = sqlite_shop.failed("guarded")
    with pytest.raises(GuardFailed) as caught:
        sqlite_shop.desk.rerun(parent)
    assert "hunter2" not in str(caught.value)
    assert sqlite_shop.children(parent) == []


def test_a_rerun_whose_plan_has_changed_is_refused_with_the_new_hash(shop):
    parent = shop.failed()
    plan = shop.desk.plan(parent, "rerun")
    with pytest.raises(PlanChanged) as caught:
        shop.desk.rerun(parent, plan_hash="another")
    assert caught.value.details == {"planHash": plan.hash}
    assert shop.desk.rerun(parent, plan_hash=plan.hash).parent_run_id == parent


def test_a_handlers_exception_is_told_and_nothing_is_recorded(shop):
    def broken(_input, _context):
        raise ValueError("no stock left")

    shop.register("broken", rerun=broken)
    parent = shop.failed("broken")
    with pytest.raises(HandlerFailed, match="no stock left") as caught:
        shop.desk.rerun(parent)
    assert caught.value.code == "rerun_failed"
    assert (shop.children(parent), shop.audit(parent)) == ([], [])


@pytest.mark.parametrize("reason", ["x" * 16_001, "a\x00b", "\ud800"])
def test_a_reason_has_to_fit_into_the_record(sqlite_shop, reason):
    with pytest.raises(InvalidBody) as caught:
        sqlite_shop.desk.rerun(sqlite_shop.failed(), reason=reason)
    assert caught.value.field == "reason"
