"""The parts put together: what an application writes, on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from workflow_runs import AsyncRun, EngineSettings, JournalSettings, Run, Runner, WorkflowRuns, workflow
from workflow_runs.errors import (
    CannotEncode,
    ConfigurationError,
    IdempotencyKeyReused,
    InvalidRequest,
    NotConfigured,
    NotFound,
    RunnerNotRegistered,
    SchemaMismatch,
)

DEADLINE_S = 30.0


@workflow("double", idempotency="safe")
def double(run: Run, number: int) -> int:
    return run.step("double", lambda: number * 2)


@workflow("where-am-i", idempotency="safe")
async def where_am_i(run: AsyncRun) -> str:
    return threading.current_thread().name


def test_a_triggered_run_executes_and_its_end_is_waited_for(database_url):
    with WorkflowRuns(database_url, workflows=[double], migrate=True) as runs:
        run = runs.wait(runs.trigger(double, 21))
        assert (run.state, run.result, run.trigger) == ("succeeded", "42", "api")


def test_a_workflow_is_triggered_by_its_name_too(sqlite_url):
    with WorkflowRuns(sqlite_url, workflows=[double]) as runs:
        assert runs.wait(runs.trigger("double", 4)).result == "8"


@pytest.mark.anyio
async def test_a_coroutine_triggers_and_waits_without_a_thread_of_its_own(database_url):
    async with WorkflowRuns(database_url, workflows=[where_am_i, double], migrate=True) as runs:
        ids = await asyncio.gather(
            *(runs.trigger_async(where_am_i, tags=["t"], triggered_by_user_id="ada") for _ in range(20))
        )
        ended = [await runs.wait_async(run_id) for run_id in ids]
        assert {run.state for run in ended} == {"succeeded"}
        assert [(entry.action, entry.actor) for entry in runs.store.get_audit(ids[0])] == [("trigger", "ada")]
        assert (await runs.wait_async(await runs.trigger_async(double, 4))).result == "8"


@pytest.mark.anyio
async def test_a_coroutine_triggers_on_an_engine_with_a_loop_of_its_own(sqlite_url):
    runs = WorkflowRuns(sqlite_url, workflows=[where_am_i])
    await asyncio.to_thread(runs.start)
    try:
        assert (await runs.wait_async(await runs.trigger_async(where_am_i))).result == '"workflow-runs-loop"'
    finally:
        await asyncio.to_thread(runs.close)


@pytest.mark.anyio
async def test_a_coroutine_is_refused_what_a_thread_is_refused(sqlite_url):
    made = []
    own = Runner("own", idempotency="safe", trigger=lambda _input, ctx: made.append(ctx) or "elsewhere")
    async with WorkflowRuns(sqlite_url, workflows=[double], runners=[own]) as runs:
        with pytest.raises(CannotEncode):
            await runs.trigger_async(double, "many")
        with pytest.raises(InvalidRequest):
            await runs.trigger_async(double, 1, tags=["\n"])
        with pytest.raises(RunnerNotRegistered):
            await runs.trigger_async("nobody")
        first = await runs.trigger_async(double, 1, idempotency_key="k")
        assert await runs.trigger_async(double, 1, idempotency_key="k") == first
        with pytest.raises(IdempotencyKeyReused):
            await runs.trigger_async(double, 2, idempotency_key="k")
        assert (await runs.trigger_async("own"), len(made)) == ("elsewhere", 1)
        with pytest.raises(NotFound):
            await runs.wait_async("wfrn_nowhere")


def test_waiting_for_a_run_that_does_not_exist_says_so(sqlite_url):
    with WorkflowRuns(sqlite_url) as runs, pytest.raises(NotFound):
        runs.wait("wfrn_nowhere")


def test_waiting_ends_when_its_time_is_over_and_the_run_goes_on(sqlite_url):
    gate = threading.Event()

    @workflow("held", idempotency="safe")
    def held(run: Run) -> bool:
        return run.step("hold", lambda: gate.wait(30))

    with WorkflowRuns(sqlite_url, workflows=[held]) as runs:
        run_id = runs.trigger(held)
        with pytest.raises(TimeoutError):
            runs.wait(run_id, timeout_s=0.05)
        gate.set()
        assert runs.wait(run_id).result == "true"


def test_a_run_that_ends_in_another_process_is_waited_for_too(sqlite_url):
    with (
        WorkflowRuns(sqlite_url, workflows=[double], execute=False) as desk_only,
        WorkflowRuns(sqlite_url, workflows=[double], engine_settings=EngineSettings(poll_s=0.05)),
    ):
        assert desk_only.wait(desk_only.trigger(double, 1)).result == "2"


async def test_coroutine_workflows_execute_on_the_loop_that_entered(sqlite_url):
    async with WorkflowRuns(sqlite_url, workflows=[where_am_i]) as runs:
        run_id = await asyncio.to_thread(runs.trigger, where_am_i)
        run = await asyncio.to_thread(runs.wait, run_id)
        assert run.result == f'"{threading.current_thread().name}"'


def test_coroutine_workflows_execute_on_a_thread_of_the_engine_otherwise(sqlite_url):
    with WorkflowRuns(sqlite_url, workflows=[where_am_i]) as runs:
        run = runs.wait(runs.trigger(where_am_i))
        assert run.result != f'"{threading.current_thread().name}"'


def test_a_postgresql_schema_is_not_made_unasked(postgres_url):
    runs = WorkflowRuns(postgres_url, workflows=[double])
    with pytest.raises(SchemaMismatch, match="migrate"):
        runs.start()
    runs.close()


def test_a_process_without_a_registry_does_not_act(sqlite_url):
    with WorkflowRuns(sqlite_url, workflows=[double], registry=False, execute=False) as runs:
        with pytest.raises(NotConfigured):
            runs.trigger(double, 1)
        assert runs.desk.workflows() == ()


def test_a_runner_of_ones_own_takes_the_place_of_the_workflows(sqlite_url):
    def trigger_with_twenty(input, ctx):
        return runs.engine.start(ctx.request(double, input=20)).run_id

    mine = Runner("double", idempotency="safe", trigger=trigger_with_twenty)
    with WorkflowRuns(sqlite_url, workflows=[double], runners=[mine]) as runs:
        assert runs.wait(runs.trigger("double", 1)).result == "40"


def test_starting_twice_is_a_mistake_that_is_said(sqlite_url):
    with WorkflowRuns(sqlite_url) as runs, pytest.raises(ConfigurationError):
        runs.start()


def test_a_cancel_that_its_owner_did_not_hear_of_before_it_stopped_is_kept(database_url):
    began, gate, charged = threading.Event(), threading.Event(), []

    @workflow("two-steps", idempotency="unsafe")
    def two_steps(run: Run) -> None:
        run.step("hold", lambda: began.set() or gate.wait(30))
        run.step("charge", lambda: charged.append(1))

    with WorkflowRuns(database_url, workflows=[two_steps], migrate=True, execute=False) as web:
        with WorkflowRuns(database_url, workflows=[two_steps]) as first:
            run_id = web.trigger(two_steps)
            assert began.wait(30)
            web.desk.cancel(run_id, actor="ann", reason="not wanted")
            threading.Timer(0.2, gate.set).start()
            first.close()
        with WorkflowRuns(database_url, workflows=[two_steps]):
            run = web.wait(run_id)
    assert (run.state, run.error.message, charged) == ("cancelled", "not wanted", [])


def test_a_stop_ends_although_the_database_cannot_be_written(sqlite_url):
    begun, go_on = threading.Event(), threading.Event()

    @workflow("slow", idempotency="safe")
    def slow(run: Run) -> None:
        def wait():
            begun.set()
            go_on.wait(DEADLINE_S)

        run.step("wait", wait)

    patient = JournalSettings(close_timeout_s=10 * DEADLINE_S)
    runs = WorkflowRuns(sqlite_url, workflows=[slow], journal_settings=patient)
    runs.start()
    runs.trigger(slow)
    assert begun.wait(DEADLINE_S)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        go_on.set()  # the step ends, and its output cannot be written
        stopping = threading.Thread(target=runs.close, args=(0.0,), daemon=True)
        stopping.start()
        stopping.join(DEADLINE_S)
        assert not stopping.is_alive()
