"""What is particular to plain workflows: threads, branches, timeouts of functions that cannot be stopped."""

from __future__ import annotations

import asyncio
import threading

import pytest

from workflow_runs.authoring import Workflow, current_step
from workflow_runs.errors import ParallelStepNeedsKey, StepFailed
from workflow_runs.execution.wants import Stop


@pytest.fixture
def ground(sqlite_ground):
    return sqlite_ground


def test_branches_of_a_gather_run_side_by_side_and_results_come_in_order(ground):
    meeting = threading.Barrier(3)

    def meet(number):
        meeting.wait(10)
        return number

    def body(run):
        return run.gather(*(lambda n=n: run.step("meet", meet, n, key=str(n)) for n in range(3)))

    run = ground.do(Workflow(body, "order"))
    assert (run.state, run.result) == ("succeeded", "[0,1,2]")


def test_gather_lets_all_branches_end_before_it_raises_the_first_error_in_order(ground):
    ended = []

    def fail(number):
        ended.append(number)
        raise ValueError(str(number))

    def body(run):
        run.gather(*(lambda n=n: run.step("fail", fail, n, key=str(n)) for n in range(3)))

    run = ground.do(Workflow(body, "order"))
    assert (run.error.message, sorted(ended)) == ("0", [0, 1, 2])


def test_a_gather_within_a_gather_needs_no_more_threads_than_there_are(ground):
    def inner(run, outer):
        return run.gather(*(lambda n=n: run.step("leaf", int, n, key=f"{outer}-{n}") for n in range(8)))

    def body(run):
        return run.gather(*(lambda n=n: sum(inner(run, n)) for n in range(16)))

    assert ground.do(Workflow(body, "order")).result == str([28] * 16).replace(" ", "")


@pytest.mark.parametrize(
    ("why", "state"), [(Stop.CANCELLED, "cancelled"), (Stop.HANDED_BACK, "queued")], ids=["cancelled", "handed back"]
)
def test_a_coroutine_step_of_a_stopped_run_is_cancelled_and_its_end_waited_for(ground, calls, why, state):
    async def for_ever():
        ground.course.stop(why, "enough")
        ground.plain_drive.interrupt()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(calls.append, "cleaned up")

    def body(run):
        try:
            run.step("wait", for_ever)
        finally:
            calls.append("unwound")

    run = ground.do(Workflow(body, "order"))
    assert (run.state, calls, ground.states(run)) == (state, ["cleaned up", "unwound"], {"wait": ["cancelled"]})


def test_a_coroutine_step_that_begins_after_the_interrupt_is_cancelled(ground):
    async def for_ever():
        await asyncio.Event().wait()

    def late():  # called in the thread of the workflow, when nothing is under way on the loop yet
        ground.course.stop(Stop.CANCELLED, "enough")
        ground.plain_drive.interrupt()
        return for_ever()

    run = ground.do(Workflow(lambda run: run.step("wait", late), "order"))
    assert (run.state, run.error.message) == ("cancelled", "enough")


def test_what_undoes_a_step_is_not_interrupted(ground, calls):
    async def undo(value):
        ground.course.stop(Stop.HANDED_BACK)
        ground.plain_drive.interrupt()
        await asyncio.to_thread(calls.append, value)

    def body(run):
        run.step("book", lambda: "b", compensate=undo)
        raise ValueError("no")

    run = ground.do(Workflow(body, "order"))
    assert (calls, ground.states(run)) == (["b"], {"book": ["compensated"]})


def test_an_exit_in_a_coroutine_step_ends_only_the_run_and_not_the_event_loop(ground):
    async def leave():
        raise SystemExit(3)

    async def stay():
        return "here"

    run = ground.do(Workflow(lambda run: run.step("leave", leave), "order"))
    assert (run.state, run.error.message) == ("cancelled", "SystemExit(3)")
    assert ground.do(Workflow(lambda run: run.step("stay", stay), "order")).result == '"here"'


def test_a_name_repeated_in_branches_asks_for_a_key(ground):
    def body(run):
        try:
            run.gather(lambda: run.step("send", int), lambda: run.step("send", int))
        except ParallelStepNeedsKey as error:
            return str(error)

    assert "key" in ground.do(Workflow(body, "order")).result


def test_the_current_step_is_known_in_threads_and_coroutines_of_its_function(ground):
    async def in_coroutine():
        await asyncio.sleep(0)
        return current_step().name

    def body(run):
        return [
            run.step("plain", lambda: current_step().name),
            run.step("timed", lambda: current_step().name, timeout_s=10),
            run.step("coroutine", in_coroutine),
        ]

    assert ground.do(Workflow(body, "order")).result == '["plain","timed","coroutine"]'


def test_a_function_that_does_not_end_in_time_is_left_behind_and_its_result_ignored(ground):
    gate = threading.Event()

    def body(run):
        try:
            run.step("stuck", lambda: gate.wait(60), effect="read", timeout_s=0.01)
        except StepFailed as failure:
            return failure.error_code

    run = ground.do(Workflow(body, "order"))
    gate.set()
    assert (run.result, ground.states(run)) == ('"step_timeout"', {"stuck": ["failed"]})


def test_a_coroutine_that_does_not_end_in_time_is_cancelled(ground):
    cancelled = threading.Event()

    async def stuck():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def body(run):
        run.step("stuck", stuck, effect="read", timeout_s=0.01)

    assert ground.do(Workflow(body, "order")).error.code == "step_timeout"
    assert cancelled.wait(10)


def test_a_timeout_error_of_the_functions_own_is_an_error_like_any_other(ground):
    def own():
        raise TimeoutError("mine")

    def body(run):
        run.step("own", own, timeout_s=10)

    run = ground.do(Workflow(body, "order"))
    assert (run.state, run.error.type_name, run.error.message) == ("failed", "TimeoutError", "mine")


def test_steps_in_threads_that_the_workflow_left_behind_are_waited_for(ground):
    gate, begun = threading.Event(), threading.Event()

    def slow():
        begun.set()
        gate.wait(10)
        return "done"

    def body(run):
        threading.Thread(target=run.step, args=("slow", slow)).start()
        begun.wait(10)
        threading.Timer(0.01, gate.set).start()

    run = ground.do(Workflow(body, "order"))
    assert (run.state, ground.states(run)) == ("succeeded", {"slow": ["succeeded"]})


def test_a_thread_that_is_left_behind_starts_no_step_after_the_end(ground):
    gate, refused = threading.Event(), threading.Event()

    def body(run):
        def later():
            gate.wait(10)
            try:
                run.step("late", int)
            except BaseException:  # noqa: BLE001  # RunSuspended
                refused.set()

        threading.Thread(target=later).start()

    run = ground.do(Workflow(body, "order"))
    gate.set()
    assert refused.wait(10)
    assert (run.state, ground.states(run)) == ("succeeded", {})
