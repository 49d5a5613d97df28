"""Promise P26: cancelled is cancelled. What interrupts a run, at whichever await, is raised on and recorded as what it is.

Each case executes the same body again and again, interrupted at its first suspension, its second, and so on, until it is no longer reached:
every await of the body, of its steps, and of what the engine waits for between them.
"""

import asyncio
import types

import pytest

from workflow_runs.authoring import Workflow
from workflow_runs.clock import Clock
from workflow_runs.execution.recorder import current_recorder, recorded_workflow
from workflow_runs.execution.wants import Stop
from workflow_runs.journal import Journal
from workflow_runs.store.opening import open_store

SUSPENSIONS_MAX = 200  # more than any of the bodies has
PATIENCE_S = 60.0


class Interrupt:
    """Counts the suspensions of a coroutine, and does something at one of them."""

    def __init__(self, at):
        self.at = at
        self.left = at
        self.act = lambda: None  # at the suspension; what it returns is thrown into the coroutine
        self.sibling_may_fail = asyncio.Event()

    @property
    def is_reached(self):
        return self.left <= 0

    @types.coroutine
    def around(self, coroutine):
        given, thrown = None, None
        while True:
            try:
                waits_for = coroutine.send(given) if thrown is None else coroutine.throw(thrown)
            except StopIteration as end:
                return end.value
            given = thrown = None
            self.left -= 1
            if self.left == 0:
                thrown = self.act()
                if thrown is not None:
                    continue  # as a signal does it: instead of waiting
            try:
                given = yield waits_for
            except BaseException as error:  # noqa: BLE001  # it is the coroutine's
                thrown = error


async def twice(value):
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return value


async def steps(step, interrupt):
    """The body: steps that wait, one after the other."""
    first = await step("first", twice, 1)
    await asyncio.sleep(0)
    return first + await step("second", twice, 2)


async def under_timeout(step, interrupt):
    async with asyncio.timeout(None) as scope:
        interrupt.act = lambda: scope.reschedule(asyncio.get_running_loop().time())
        return await steps(step, interrupt)


async def beside_a_sibling(step, interrupt):
    async def sibling():
        await interrupt.sibling_may_fail.wait()
        raise ValueError("the sibling failed")

    interrupt.act = interrupt.sibling_may_fail.set
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(sibling())
        value = await steps(step, interrupt)
        failing.cancel()
    return value


def acting(act):
    async def body(step, interrupt):
        interrupt.act = act
        return await steps(step, interrupt)

    return body


def throws(kind):
    return acting(lambda: kind("stop"))


def once_cancelled(states):
    """Whether what is on record of steps is what may be: done, or cancelled and nothing after it."""
    return states in ([], ["succeeded"], ["cancelled"], ["succeeded"] * 2, ["succeeded", "cancelled"])


# --- observed --------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(sqlite_url):
    store = open_store(sqlite_url, clock=Clock())
    store.migrate()
    journal = Journal(store)
    yield journal
    journal.close()
    store.close()


def observe(journal, body, at, *, cancels=False):
    """Execute the body observed; return what came of it, the run and its steps' states, or None if it was not interrupted."""
    recorders = []

    async def business(interrupt):
        recorders.append(current_recorder())
        return await body(current_recorder().step, interrupt)

    async def main():
        interrupt = Interrupt(at)
        coroutine = recorded_workflow(journal, name="order")(business)(interrupt)
        task = asyncio.ensure_future(interrupt.around(coroutine))
        if cancels:
            interrupt.act = lambda: asyncio.get_running_loop().call_soon(task.cancel) and None
        return interrupt, await asyncio.gather(task, return_exceptions=True)

    try:
        interrupt, (outcome,) = asyncio.run(main())
        is_reached = interrupt.is_reached
    except (KeyboardInterrupt, SystemExit) as error:  # these leave the event loop too
        outcome, is_reached = error, True
    (recorder,) = recorders
    assert recorder.flush(PATIENCE_S)
    run = journal._store.get_run(recorder.run_id)
    found = [step.state.value for step in journal._store.get_steps(recorder.run_id)]
    return outcome, run.state.value, found, is_reached


OBSERVED = {
    "cancel": (steps, asyncio.CancelledError, "cancelled"),
    "timeout": (under_timeout, TimeoutError, "failed"),
    "sibling": (beside_a_sibling, ExceptionGroup, "failed"),
    "KeyboardInterrupt": (throws(KeyboardInterrupt), KeyboardInterrupt, "cancelled"),
    "SystemExit": (throws(SystemExit), SystemExit, "cancelled"),
    "GeneratorExit": (throws(GeneratorExit), GeneratorExit, "cancelled"),
}


@pytest.mark.parametrize("how", OBSERVED)
def test_an_observed_run_that_is_interrupted_raises_it_on_and_records_it_as_what_it_is(journal, how):
    body, kind, state = OBSERVED[how]
    reached = 0
    for at in range(1, SUSPENSIONS_MAX):
        outcome, run_state, found, is_reached = observe(journal, body, at, cancels=how == "cancel")
        if not is_reached or outcome == 3:
            break
        reached += 1
        assert (type(outcome), run_state) == (kind, state), at
        assert once_cancelled(found), (at, found)
    assert reached >= 5  # two awaits of each step and one between them
    assert (outcome, run_state, found) == (3, "succeeded", ["succeeded"] * 2)


# --- executed --------------------------------------------------------------------------------------------------------


def execute(ground, body, at, *, cancels=False):
    interrupts = []

    async def workflow(run):
        interrupt = Interrupt(at)
        interrupts.append(interrupt)
        if cancels:
            loop = asyncio.get_running_loop()

            def cancel():
                if ground.course.stop(Stop.CANCELLED, "enough"):
                    ground.async_drive.interrupt()

            interrupt.act = lambda: loop.call_soon(cancel) and None
        return await interrupt.around(body(run.step, interrupt))

    run = ground.do(Workflow(workflow, "order"))
    found = [states[-1] for states in ground.states(run).values()]
    return run, found, interrupts[0].is_reached


EXECUTED = {
    "cancel": (steps, "cancelled", "enough"),
    "timeout": (under_timeout, "failed", "TimeoutError"),
    "sibling": (beside_a_sibling, "failed", "unhandled errors in a TaskGroup (1 sub-exception)"),
    "KeyboardInterrupt": (throws(KeyboardInterrupt), "cancelled", "KeyboardInterrupt('stop')"),
    "SystemExit": (throws(SystemExit), "cancelled", "SystemExit('stop')"),
}


@pytest.mark.parametrize("sqlite_ground", ["coroutine"], indirect=True)
@pytest.mark.parametrize("how", EXECUTED)
def test_an_executed_run_that_is_interrupted_is_recorded_as_what_interrupted_it(sqlite_ground, how):
    body, state, message = EXECUTED[how]
    reached = 0
    for at in range(1, SUSPENSIONS_MAX):
        run, found, is_reached = execute(sqlite_ground, body, at, cancels=how == "cancel")
        if not is_reached or run.state == "succeeded":
            break
        reached += 1
        assert run.state == state, (at, run.error, found)
        assert once_cancelled(found), (at, found)
        assert run.error.message == message, at
    assert reached >= 5
    assert (run.state, run.result, found) == ("succeeded", "3", ["succeeded"] * 2)
