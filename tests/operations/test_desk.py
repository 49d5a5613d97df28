"""Questions to the desk: runs, workflows, plans."""

import os
from datetime import timedelta

import pytest

from workflow_runs.errors import InvalidQuery, NotFound
from workflow_runs.model.figures import Totals
from workflow_runs.model.records import Page, RunFilter, StepKey
from workflow_runs.model.states import Idempotency, RunState, RunStatus
from workflow_runs.operations.desk import Desk


def test_a_run_is_shown_with_its_steps_in_order(shop):
    detail = shop.desk.get_run(shop.failed())
    assert detail.run.state is RunState.FAILED
    assert [step.step.name for step in detail.steps] == ["reserve", "charge"]


def test_without_payloads_neither_input_nor_outputs_are_read(shop):
    detail = shop.desk.get_run(shop.failed(), payloads=False)
    assert (detail.run.input, detail.steps[0].last.output) == (None, None)


def test_a_run_that_is_not_there_is_not_found(shop):
    with pytest.raises(NotFound):
        shop.desk.get_run("nonsense")


def test_runs_are_listed_newest_first(shop):
    older, newer = shop.failed(), shop.failed()
    listed = shop.desk.list_runs(RunFilter(workflow_names=("checkout",)), Page(), payloads=False)
    assert [run.id for run in listed.runs] == [newer, older]


def test_workflows_say_what_can_be_done_with_them(sqlite_shop):
    sqlite_shop.register("guarded", trigger=None, can_rerun=lambda *_: None, workflow=None)
    known = {info.name: info for info in sqlite_shop.desk.workflows()}
    assert list(known) == sorted(known)
    once, guarded = known["once"], known["guarded"]
    assert (once.idempotency, once.can_rerun, once.can_resume) == (Idempotency.RESUME_ONLY, False, True)
    assert (guarded.can_trigger, guarded.has_rerun_guard, guarded.has_resume_guard) == (False, True, False)
    assert (known["checkout"].version, guarded.version) == ("v1", None)


def test_a_process_without_a_registry_knows_no_workflows(sqlite_shop):
    assert Desk(sqlite_shop.store, sqlite_shop.journal, None, None).workflows() == ()


def test_figures_are_counted_as_runs_end(shop):
    since = shop.clock.now() - timedelta(hours=1)
    until = since + timedelta(hours=2)
    assert shop.desk.totals(since, until) == Totals(0, 0, 0, 0, None, None)
    shop.failed()
    shop.end(shop.live(), RunState.SUCCEEDED, step=None)
    shop.live("payout")
    totals = shop.desk.totals(since, until)
    assert (totals.succeeded, totals.failed, totals.live, totals.success_rate) == (1, 1, 1, 0.5)
    checkout, payout = shop.desk.workflow_figures(since, until, spark_bars=4)
    assert (checkout.workflow_name, checkout.ended, payout.live) == ("checkout", 2, 1)
    assert sum(bar.total for bar in checkout.spark) == 2
    assert sum(bar.total for bar in shop.desk.histogram(RunFilter(), since, until, 7).bars) == 3
    assert shop.desk.recorded_workflows() == ("checkout", "payout")
    assert shop.desk.count_runs(RunFilter(statuses=(RunStatus.RUNNING,))) == (1, False)


def test_health_tells_of_the_journal_and_of_the_database(sqlite_shop):
    healthy = sqlite_shop.desk.health()
    assert (healthy.queued, healthy.oldest_s, healthy.failures, healthy.dropped) == (0, None, 0, 0)
    assert healthy.database_ms >= 0
    os.rename(
        sqlite_shop.store.url.removeprefix("sqlite:///"), sqlite_shop.store.url.removeprefix("sqlite:///") + ".gone"
    )
    sqlite_shop.store.close()
    assert sqlite_shop.desk.health().database_ms is None


def test_a_plan_says_what_is_kept_and_executed_and_changes_nothing(shop):
    parent = shop.failed()
    plan = shop.desk.plan(parent, "resume")
    assert (plan.kept, plan.executed, plan.target) == ((StepKey("reserve"),), (StepKey("charge"),), StepKey("charge"))
    assert (plan.refused, plan.code_changed, plan.idempotency) == (None, False, Idempotency.SAFE)
    assert (shop.children(parent), shop.audit(parent)) == ([], [])
    assert shop.desk.plan(parent, "resume") == plan


def test_what_the_plan_keeps_is_what_the_resume_is_seeded_with(shop):
    parent = shop.failed()
    plan = shop.desk.plan(parent, "resume")
    steps = shop.store.get_steps(shop.desk.resume(parent, plan_hash=plan.hash).run_id)
    assert tuple(step.step for step in steps) == plan.kept


def test_a_plan_names_the_resume_that_exists(shop):
    parent = shop.failed()
    child = shop.desk.resume(parent).run_id
    plan = shop.desk.plan(parent, "resume")
    assert (plan.refused.code, plan.refused.details, plan.existing_resume_run_id) == (
        "already_resumed",
        {"runId": child},
        child,
    )


@pytest.mark.parametrize(("kind", "code"), [("rerun", "run_not_finished"), ("resume", "resume_not_allowed")])
def test_a_plan_of_a_live_run_says_why_not(sqlite_shop, kind, code):
    plan = sqlite_shop.desk.plan(sqlite_shop.live(), kind)
    assert (plan.refused.code, plan.refused.message[-1]) == (code, ".")


@pytest.mark.parametrize("kind", ["rerun", "resume"])
def test_a_plan_in_a_process_without_a_registry_says_so(sqlite_shop, kind):
    plan = Desk(sqlite_shop.store, sqlite_shop.journal, None, None).plan(sqlite_shop.failed(), kind)
    assert plan.refused.code == f"{kind}_not_configured"


def test_a_plan_tells_what_the_guard_says(shop):
    def raises(*_):
        raise RuntimeError("hunter2")

    shop.register("blocked", can_rerun=lambda *_: "the month is closed", can_resume=raises)
    run_id = shop.failed("blocked")
    rerun, resume = shop.desk.plan(run_id, "rerun"), shop.desk.plan(run_id, "resume")
    assert (rerun.refused.code, rerun.refused.message) == ("rerun_blocked", "the month is closed")
    assert (resume.refused.code, resume.refused.details) == ("guard_failed", {})
    assert "hunter2" not in resume.refused.message
    assert shop.desk.plan(run_id, "rerun", guard=False).refused is None


def test_a_plan_of_changed_code_says_so(shop):
    assert shop.desk.plan(shop.failed(code_version="v0"), "resume").code_changed is True


def test_a_plan_from_a_step_that_is_not_recorded_is_an_invalid_query(sqlite_shop):
    run_id = sqlite_shop.failed()
    for kind, from_step in (("resume", "ghost"), ("rerun", "charge")):
        with pytest.raises(InvalidQuery) as caught:
            sqlite_shop.desk.plan(run_id, kind, from_step=from_step)
        assert caught.value.field == "fromStep"
