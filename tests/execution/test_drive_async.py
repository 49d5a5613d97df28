"""What is particular to coroutine workflows: cancelling, tasks, threads that cannot be cancelled."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from workflow_runs.authoring import Retry, Workflow, current_step
from workflow_runs.errors import StepFailed
from workflow_runs.execution.wants import Stop

pytestmark = pytest.mark.parametrize("sqlite_ground", ["coroutine"], indirect=True)


@pytest.fixture
def ground(sqlite_ground):
    return sqlite_ground


async def for_ever():
    await asyncio.Event().wait()


def cancel(ground, reason="enough"):
    """What the engine does when an operator cancels."""
    if ground.course.stop(Stop.CANCELLED, reason):
        ground.async_drive.interrupt()


def test_a_cancelled_run_records_its_step_as_cancelled_and_ends_with_the_reason(ground):
    async def body(run):
        asyncio.get_running_loop().call_soon(cancel, ground)
        await run.step("wait", for_ever)

    run = ground.do(Workflow(body, "order"))
    assert (run.state, run.error.message, ground.states(run)) == ("cancelled", "enough", {"wait": ["cancelled"]})


def test_all_branches_of_a_cancelled_run_are_cancelled(ground):
    async def body(run):
        asyncio.get_running_loop().call_later(0.01, cancel, ground)
        task = asyncio.create_task(run.step("task", for_ever))
        await run.gather(run.step("a", for_ever), run.step("b", for_ever))
        await task

    run = ground.do(Workflow(body, "order"))
    assert (run.state, ground.states(run)) == (
        "cancelled",
        {"a": ["cancelled"], "b": ["cancelled"], "task": ["cancelled"]},
    )


def test_a_thread_of_a_cancelled_run_is_waited_for_and_its_true_outcome_recorded(ground):
    gate = threading.Event()

    def slow():
        ground.async_drive._loop.call_soon_threadsafe(cancel, ground)
        ground.async_drive._loop.call_soon_threadsafe(gate.set)
        gate.wait(10)
        return "paid"

    async def body(run):
        await run.step("pay", slow)
        await run.step("after", int)

    run = ground.do(Workflow(body, "order"))
    assert (run.state, ground.states(run), ground.steps(run)["pay"].last.output) == (
        "cancelled",
        {"pay": ["succeeded"]},
        '"paid"',
    )


def test_a_cancelled_run_that_waits_for_its_next_attempt_ends_at_once(ground):
    def fail():
        ground.async_drive._loop.call_soon_threadsafe(cancel, ground)
        raise ConnectionError

    async def body(run):
        await run.step("retry", fail, retry=Retry(attempts=2, first_delay_s=3600, delay_s_max=3600))

    run = ground.do(Workflow(body, "order"))
    assert (run.state, ground.states(run)) == ("cancelled", {"retry": ["failed"]})


def test_a_step_cut_off_by_the_workflows_own_timeout_is_recorded_as_cancelled_and_the_run_goes_on(ground):
    async def body(run):
        try:
            async with asyncio.timeout(0.01):
                await run.step("slow", for_ever)
        except TimeoutError:
            return await run.step("instead", lambda: "else")

    run = ground.do(Workflow(body, "order"))
    assert (run.result, ground.states(run)) == ('"else"', {"slow": ["cancelled"], "instead": ["succeeded"]})


def test_the_workflows_own_timeout_around_a_thread_waits_for_its_outcome_and_still_is_a_timeout(ground):
    async def body(run):
        loop, gate = asyncio.get_running_loop(), threading.Event()
        try:
            async with asyncio.timeout(None) as scope:

                def slow():
                    loop.call_soon_threadsafe(scope.reschedule, loop.time())
                    loop.call_soon_threadsafe(loop.call_later, 0.01, gate.set)
                    gate.wait(10)

                await run.step("thread", slow)
                await asyncio.sleep(0)
        except TimeoutError:
            return "timed out"

    run = ground.do(Workflow(body, "order"))
    assert (run.result, ground.states(run)) == ('"timed out"', {"thread": ["succeeded"]})


def test_a_sibling_that_fails_in_a_task_group_cancels_the_others_and_that_is_what_is_recorded(ground):
    async def fail():
        raise ValueError("no")

    async def body(run):
        async with asyncio.TaskGroup() as group:
            group.create_task(run.step("wait", for_ever))
            group.create_task(run.step("fail", fail))

    run = ground.do(Workflow(body, "order"))
    assert (run.state, ground.states(run)) == ("failed", {"wait": ["cancelled"], "fail": ["failed"]})


def test_a_thread_that_ended_although_a_sibling_had_failed_is_undone(ground, calls):
    began, failed = threading.Event(), threading.Event()

    def charge():
        began.set()
        # Past the cancellation by the group: this coroutine takes it in and waits for the thread.
        failed.wait(10)
        return "paid"

    async def fail():
        await asyncio.to_thread(began.wait, 10)
        asyncio.get_running_loop().call_later(0.01, failed.set)
        raise ValueError("no")

    async def body(run):
        async with asyncio.TaskGroup() as group:
            group.create_task(run.step("charge", charge, compensate=calls.append))
            group.create_task(run.step("fail", fail))

    run = ground.do(Workflow(body, "order"))
    assert (run.state, calls, ground.states(run)) == (
        "compensated",
        ["paid"],
        {"charge": ["compensated"], "fail": ["failed"]},
    )


@pytest.mark.parametrize("exit_error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["step", "timed step", "task", "workflow"])
def test_an_exit_ends_only_the_run_and_not_the_event_loop(ground, where, exit_error):
    async def leave():
        raise exit_error(3)

    async def body(run):
        if where == "workflow":
            await leave()
        step = run.step("leave", leave, timeout_s=60 if where == "timed step" else None)
        await (asyncio.create_task(step) if where == "task" else step)

    run = ground.do(Workflow(body, "order"))
    assert (run.state, run.error.message) == ("cancelled", f"{exit_error.__name__}(3)")


def test_steps_in_tasks_that_the_workflow_left_behind_are_waited_for(ground):
    async def fail():
        raise ValueError("no")

    async def slow():
        await asyncio.sleep(0.02)
        return "done"

    async def body(run):
        await asyncio.gather(run.step("fail", fail), run.step("slow", slow))

    run = ground.do(Workflow(body, "order"))
    assert (run.error.message, ground.states(run)) == ("no", {"fail": ["failed"], "slow": ["succeeded"]})


def test_a_loop_that_is_shut_down_hands_the_run_back(ground):
    async def body(run):
        # What asyncio.run does at its end to every task, the drive's own included.
        asyncio.get_running_loop().call_later(0.01, lambda: [task.cancel() for task in asyncio.all_tasks()])
        await run.step("wait", for_ever)

    run = ground.do(Workflow(body, "order", idempotency="safe"))
    assert (run.state, ground.states(run)) == ("queued", {"wait": ["cancelled"]})


def test_a_coroutine_step_runs_in_the_task_of_the_workflow_and_a_thread_in_a_copy_of_its_context(ground):
    mark = contextvars.ContextVar("mark", default="none")

    async def coroutine():
        return [mark.get(), current_step().name]

    async def body(run):
        mark.set("mine")
        return [await run.step("a", coroutine), await run.step("b", lambda: [mark.get(), current_step().name])]

    assert ground.do(Workflow(body, "order")).result == '[["mine","a"],["mine","b"]]'


def test_a_thread_that_does_not_end_in_time_is_left_behind(ground):
    gate = threading.Event()

    async def body(run):
        try:
            await run.step("stuck", lambda: gate.wait(60), effect="read", timeout_s=0.01)
        except StepFailed as failure:
            return failure.error_code

    run = ground.do(Workflow(body, "order"))
    gate.set()
    assert (run.result, ground.states(run)) == ('"step_timeout"', {"stuck": ["failed"]})


def test_a_coroutine_that_does_not_end_in_time_is_cancelled(ground):
    async def body(run):
        await run.step("stuck", for_ever, effect="read", timeout_s=0.01)

    run = ground.do(Workflow(body, "order"))
    assert (run.error.code, ground.states(run)) == ("step_timeout", {"stuck": ["failed"]})
