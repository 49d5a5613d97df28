"""``recorded_workflow``: the function does what it does without it, and run, steps and end are on record."""

import asyncio
import json
import threading
from dataclasses import dataclass

import pytest

from workflow_runs.clock import Clock
from workflow_runs.errors import Cancelled, ConfigurationError, WorkflowError
from workflow_runs.execution.recorder import WorkflowRunRecorder, current_recorder, recorded_workflow
from workflow_runs.journal import Journal
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.states import RunState
from workflow_runs.store.opening import open_store

PATIENCE_S = 30.0


@dataclass
class Recording:
    """What ``WorkflowRuns`` is for the recorder."""

    journal: Journal
    store: object
    clock: Clock

    def settled(self):
        """All runs, oldest first, after everything queued was written."""
        self.journal.close(PATIENCE_S)
        return self.store.list_runs(RunFilter(), Page(), payloads=True).runs[::-1]


@pytest.fixture
def runs(database_url):
    clock = Clock()
    store = open_store(database_url, clock=clock)
    store.migrate()
    journal = Journal(store, clock=clock)
    yield Recording(journal, store, clock)
    journal.close()
    store.close()


def test_a_call_is_a_run_with_its_steps(runs):
    @recorded_workflow(runs, name="checkout")
    def checkout(order_id):
        step = current_recorder().step
        ref = step("reserve", lambda number: f"r{number}", order_id)
        return {"ref": ref, "charged": step("charge", len, ref)}

    assert checkout("77") == {"ref": "r77", "charged": 3}
    (run,) = runs.settled()
    assert (run.workflow_name, run.state, run.trigger) == ("checkout", RunState.SUCCEEDED, "manual")
    assert (json.loads(run.input), json.loads(run.result)) == ("77", {"ref": "r77", "charged": 3})
    assert [(step.step.name, step.last.output) for step in runs.store.get_steps(run.id)] == [
        ("reserve", '"r77"'),
        ("charge", "3"),
    ]


def test_a_coroutine_is_recorded_the_same_way(runs):
    async def charge(ref):
        return await asyncio.sleep(0, ref)

    @recorded_workflow(runs, name="checkout")
    async def checkout(order_id):
        step = current_recorder().step
        return await asyncio.gather(*[step("charge", charge, number, key=str(number)) for number in range(3)])

    assert asyncio.iscoroutinefunction(checkout)
    assert asyncio.run(checkout(7)) == [0, 1, 2]
    (run,) = runs.settled()
    assert (run.state, run.input, run.result) == (RunState.SUCCEEDED, "7", "[0,1,2]")
    assert len(runs.store.get_steps(run.id)) == 3


def test_an_exception_fails_the_run_and_is_raised_on_unchanged(runs):
    class GatewayError(Exception):
        code = "refused"

    error = GatewayError("gateway refused")

    def charge():
        raise error

    @recorded_workflow(runs, name="checkout")
    def checkout():
        current_recorder().step("charge", charge)

    with pytest.raises(GatewayError) as caught:
        checkout()
    assert caught.value is error
    assert error.__cause__ is error.__context__ is None
    (run,) = runs.settled()
    assert run.state is RunState.FAILED
    assert (run.error.message, run.error.code, run.error.step_name) == ("gateway refused", "refused", "charge")


@pytest.mark.parametrize("error", [Cancelled("customer withdrew"), KeyboardInterrupt("customer withdrew")], ids=repr)
def test_a_cancellation_and_an_interrupt_end_the_run_as_cancelled(runs, error):
    @recorded_workflow(runs, name="checkout")
    def checkout():
        raise error

    with pytest.raises(type(error)) as caught:
        checkout()
    assert caught.value is error
    (run,) = runs.settled()
    assert (run.state, run.error.message) == (RunState.CANCELLED, "customer withdrew")


def test_a_cancelled_task_ends_the_run_as_cancelled(runs):
    @recorded_workflow(runs, name="checkout")
    async def checkout():
        await asyncio.Event().wait()

    async def cancel():
        task = asyncio.ensure_future(checkout())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
    (run,) = runs.settled()
    assert run.state is RunState.CANCELLED


def test_a_function_may_end_its_run_itself(runs, caplog):
    @recorded_workflow(runs, name="checkout")
    def checkout():
        current_recorder().cancel("nothing to do")
        return 7

    assert checkout() == 7
    (run,) = runs.settled()
    assert (run.state, run.error.message) == (RunState.CANCELLED, "nothing to do")
    assert not caplog.records


def test_the_input_is_what_the_function_was_called_with(runs):
    @recorded_workflow(runs, name="a")
    def none():
        pass

    @recorded_workflow(runs, name="b")
    def several(order_id, *, dry=False):
        pass

    class Service:
        @recorded_workflow(runs, name="c")
        def method(self, order_id):
            pass

    none()
    several(7, dry=True)
    Service().method([1])
    assert [run.input for run in runs.settled()] == [None, '{"order_id":7,"dry":true}', "[1]"]


def test_options_are_values_or_functions_of_the_call(runs):
    @recorded_workflow(
        runs,
        name="checkout",
        trigger="payment.completed",
        correlation_id=lambda order: order["id"],
        tags=lambda order: [f"order:{order['id']}"],
        triggered_by_user_id=lambda order: order["missing"],
    )
    def checkout(order):
        pass

    checkout({"id": "o7"})
    (run,) = runs.settled()
    assert (run.trigger, run.correlation_id, run.tags) == ("payment.completed", "o7", ("order:o7",))
    assert (run.triggered_by_user_id, run.state) == (None, RunState.SUCCEEDED)


@pytest.mark.parametrize("nothing", [lambda: None, lambda: 1 / 0], ids=["none", "raises"])
def test_without_something_to_record_to_the_function_runs_all_the_same(nothing):
    @recorded_workflow(nothing, name="checkout")
    def checkout(order_id):
        return current_recorder().step("charge", lambda: order_id)

    assert checkout(7) == 7


def test_the_recording_may_be_made_after_the_function_was_defined(runs):
    later = {}

    @recorded_workflow(lambda: later["runs"], name="checkout")
    def checkout():
        return 7

    later["runs"] = runs
    checkout()
    assert len(runs.settled()) == 1


def test_calls_within_calls_have_recorders_of_their_own(runs):
    @recorded_workflow(runs, name="inner")
    def inner():
        return current_recorder().run_id

    @recorded_workflow(runs, name="outer")
    def outer():
        before = current_recorder().run_id
        return before, inner(), current_recorder().run_id

    first, within, last = outer()
    assert first == last != within
    assert {run.id for run in runs.settled()} == {first, within}


def test_calls_in_several_threads_are_told_apart(runs):
    @recorded_workflow(runs, name="checkout")
    def checkout(number):
        assert isinstance(current_recorder(), WorkflowRunRecorder)
        return current_recorder().step("give", lambda: number)

    threads = [threading.Thread(target=checkout, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted((run.input, run.result) for run in runs.settled()) == [(str(n), str(n)) for n in range(8)]


def test_a_wrong_call_raises_what_it_raises_without_recording(runs):
    @recorded_workflow(runs, name="checkout")
    def checkout(order_id):
        pass

    with pytest.raises(TypeError, match="order_id"):
        checkout()
    (run,) = runs.settled()
    assert (run.state, run.error.type_name) == (RunState.FAILED, "TypeError")


def test_outside_of_a_recorded_function_there_is_no_recorder():
    with pytest.raises(WorkflowError, match="recorded_workflow"):
        current_recorder()


def test_a_generator_is_no_workflow(runs):
    with pytest.raises(ConfigurationError, match="generator"):

        @recorded_workflow(runs, name="checkout")
        def checkout():
            yield
