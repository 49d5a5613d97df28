"""The local engine: starting, executing, cancelling, closing. On both databases."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest

from workflow_runs.authoring import AsyncRun, Retry, Run, workflow
from workflow_runs.engines import local
from workflow_runs.errors import ConfigurationError, IdempotencyKeyReused, JournalClosed, StoreUnavailable
from workflow_runs.model.entries import CancelRun, StartRun
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.requests import Action, IdempotencyKey, RunRequest

WAIT_S = 60.0


@dataclass
class Order:
    id: str
    amount: int


@workflow("plain", idempotency="safe")
def plain(run: Run, order: Order) -> Order:
    charged = run.step("charge", lambda o: o.amount * 2, order)
    return Order(order.id, charged)


@workflow("coroutine", idempotency="unsafe")
async def coroutine(run: AsyncRun, order: Order) -> Order:
    async def charge(order: Order) -> int:
        await asyncio.sleep(0)
        return order.amount * 2

    charged = await run.step("charge", charge, order)
    thread = await run.step("plain", lambda: threading.current_thread().name)
    assert thread != threading.current_thread().name
    return Order(order.id, charged)


class Gate:
    """A step function that waits inside for the test."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self):
        self.entered.release()
        assert self.opened.wait(WAIT_S)
        return "through"

    async def later(self):
        self.entered.release()
        while not self.opened.is_set():  # noqa: ASYNC110  # opened by the test's thread
            await asyncio.sleep(0.001)
        return "through"

    def wait_entered(self):
        assert self.entered.acquire(timeout=WAIT_S)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture(params=["plain", "coroutine"])
def gated(request, gate):
    """A workflow of two steps; the first waits at the gate."""
    if request.param == "plain":

        @workflow("gated", idempotency="safe")
        def gated(run: Run) -> str:
            run.step("wait", gate)
            return run.step("after", lambda: "after")

    else:

        @workflow("gated", idempotency="safe")
        async def gated(run: AsyncRun) -> str:
            await run.step("wait", gate.later)
            return await run.step("after", lambda: "after")

    return gated


# --- starting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "coroutine"])
def test_a_run_is_stored_when_its_id_is_given_and_then_executed(open_house, name):
    house = open_house(plain, coroutine)
    run_id = house.start(name, '{"id": "7", "amount": 21}')
    assert house.store.get_run(run_id).input == '{"id": "7", "amount": 21}'
    run = house.ended(run_id)
    assert (run.state, run.result) == ("succeeded", '{"id":"7","amount":42}')
    assert run.execution_started_at is not None
    assert run.code_version == plain.code_version if name == "plain" else coroutine.code_version


def test_a_run_that_begins_at_once_is_stored_as_running_and_one_that_waits_for_a_thread_as_queued(
    open_house, gated, gate
):
    house = open_house(gated, threads_max=1)
    first, second = house.start("gated"), house.start("gated")
    stored = house.store.get_run(second)
    assert (house.store.get_run(first).state, stored.claim_owner is not None) == ("running", True)
    assert stored.state == ("running" if gated.is_async else "queued")
    gate.opened.set()
    assert [house.ended(run_id).state for run_id in (first, second)] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("loop_of", ["engine", "caller"])
def test_a_coroutine_starts_runs_beside_others_and_an_interrupted_start_that_was_stored_is_executed(
    open_house, monkeypatch, loop_of
):
    house = open_house(plain, coroutine, launch=False)
    slow = SlowStart(house.store)

    async def start():
        requests = [RunRequest(name, name, '{"id": "7", "amount": 1}') for name in ("plain", "coroutine")]
        if loop_of == "engine":
            await asyncio.to_thread(house.engine.launch, asyncio.get_running_loop())
        tasks = [asyncio.create_task(house.engine.start_async(request)) for request in requests]
        await asyncio.to_thread(slow.entered.wait, WAIT_S)
        tasks[0].cancel()
        slow.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await tasks[1]
        ids = {run.id for run in house.store.list_runs(RunFilter(), Page(), payloads=False).runs}
        return [(await asyncio.to_thread(house.ended, run_id)) for run_id in ids]

    if loop_of == "caller":
        house.engine.launch()
    try:
        ended = asyncio.run(start())
    finally:
        house.engine.close(0)
    assert [(run.state, run.result) for run in ended] == [("succeeded", '{"id":"7","amount":2}')] * 2


def test_an_input_that_is_not_of_the_declared_type_fails_the_run_and_says_where(open_house):
    house = open_house(plain)
    run = house.ended(house.start("plain", '{"id": "7", "amount": "much"}'))
    assert (run.state, run.error.code) == ("failed", "invalid_request")


def test_a_run_knows_what_it_was_started_with(open_house):
    @workflow("facts")
    def facts(run: Run) -> list:
        return [run.id, run.workflow, run.correlation_id, list(run.tags), run.triggered_by_user_id, run.attempt]

    house = open_house(facts)
    request = RunRequest("shown", "facts", correlation_id="c", tags=("a",), triggered_by_user_id="u")
    run_id = house.engine.start(request).run_id
    assert house.ended(run_id).result == f'["{run_id}","shown","c",["a"],"u",1]'


def test_a_key_used_again_gives_the_first_run_and_executes_nothing(open_house, gated, gate):
    house = open_house(gated)

    def start(body):
        key = IdempotencyKey("trigger:gated", "k", body)
        return house.engine.start(RunRequest("gated", "gated", action=Action("trigger", idempotency=key)))

    first, again = start("a"), start("a")
    with pytest.raises(IdempotencyKeyReused):
        start("b")
    gate.opened.set()
    house.ended(first.run_id)
    assert (again.run_id, again.created) == (first.run_id, False)
    gate.wait_entered()
    assert not gate.entered.acquire(blocking=False)


def test_a_workflow_that_nobody_here_knows_is_stored_and_left_to_others(open_house):
    house = open_house(plain)
    run_id = house.start("elsewhere")
    assert (house.store.get_run(run_id).state, house.store.get_run(run_id).claim_owner) == ("queued", None)


def test_an_engine_that_is_not_launched_stores_and_another_executes(open_house):
    desk, worker = open_house(plain, launch=False), open_house(plain)
    run_id = desk.start("plain", '{"id": "7", "amount": 1}')
    assert worker.ended(run_id).state == "succeeded"


def test_runs_beyond_the_bound_wait_in_the_database_and_are_taken_up_as_slots_become_free(open_house, gated, gate):
    house = open_house(gated, runs_max=2, poll_s=30)
    runs = [house.start("gated") for _ in range(6)]
    gate.wait_entered(), gate.wait_entered()
    assert [house.store.get_run(run_id).state for run_id in runs].count("queued") == 4
    assert not gate.entered.acquire(blocking=False)
    gate.opened.set()
    assert {house.ended(run_id).state for run_id in runs} == {"succeeded"}


def test_two_workflows_of_one_name_are_refused(open_house):
    with pytest.raises(ConfigurationError, match="plain"):
        open_house(plain, plain)


def test_an_engine_runs_on_the_loop_it_is_given(open_house, gated):
    loops = []

    @workflow("where")
    async def where(run: AsyncRun) -> None:
        loops.append(asyncio.get_running_loop())

    async def host():
        loop = asyncio.get_running_loop()
        house = await asyncio.to_thread(open_house, where, loop=loop)
        run_id = await asyncio.to_thread(house.start, "where")
        await asyncio.to_thread(house.ended, run_id)
        with pytest.raises(ConfigurationError):
            house.engine.close()
        await asyncio.to_thread(house.close)
        return loop

    assert asyncio.run(host()) is loops[0]


# --- failing and retrying -----------------------------------------------------------------------------------------------------


def test_a_run_shows_that_it_waits_for_its_next_attempt(open_house):
    @workflow("patient", idempotency="safe")
    def patient(run: Run) -> None:
        run.step("fail", lambda: 1 / 0, retry=Retry(attempts=2, first_delay_s=3600, delay_s_max=3600))

    house = open_house(patient)
    run_id = house.start("patient")
    run = house.until_state(run_id, "retrying")
    assert (run.status, house.states(run_id)) == ("running", {"fail": ["failed"]})


def test_an_error_inside_the_engine_ends_the_run_and_does_not_show_its_text(open_house, monkeypatch, caplog):
    house = open_house(plain)

    def broken(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(house.engine, "_course", broken)
    run = house.ended(house.start("plain", '{"id": "7", "amount": 1}'))
    assert (run.state, run.error.code, "secret" in run.error.message) == ("failed", "internal_error", False)
    assert "secret" in caplog.text


# --- cancelling --------------------------------------------------------------------------------------------------------------


def cancel(house, run_id, reason="wrong"):
    entry = CancelRun(run_id, Action("cancel", "op", reason), house.clock.new_audit_id(), house.clock.now_millis())
    outcome = house.journal.submit(entry).result()
    house.engine.request_cancel(run_id)
    return outcome


def test_an_executing_run_is_cancelled_with_the_reason(open_house, gated, gate):
    house = open_house(gated)
    run_id = house.start("gated")
    gate.wait_entered()
    cancel(house, run_id)
    if not gated.is_async:  # a thread cannot be interrupted: the run ends at its next step
        house.until(lambda: house.engine._jobs[run_id].course._stop)
        gate.opened.set()
    run = house.ended(run_id)
    assert (run.state, run.error.message) == ("cancelled", "wrong")
    assert "after" not in house.states(run_id)


def test_another_process_cancels_by_the_record_alone(open_house, gated, gate):
    owner, other = open_house(gated, lease_s=1), open_house(launch=False)
    run_id = owner.start("gated")
    gate.wait_entered()
    cancel(other, run_id, None)
    owner.until(lambda: owner.engine._jobs.get(run_id) is None or owner.engine._jobs[run_id].course._stop)
    gate.opened.set()
    assert owner.ended(run_id).error.message == "Cancelled"


def test_a_queued_run_without_an_owner_is_cancelled_at_once_and_never_executed(open_house, gated, gate):
    house = open_house(gated, runs_max=1)
    house.start("gated")
    gate.wait_entered()
    waiting = house.start("gated")
    assert cancel(house, waiting).state == "cancelled"
    gate.opened.set()
    assert house.ended(waiting).state == "cancelled"
    assert house.states(waiting) == {}


# --- closing -----------------------------------------------------------------------------------------------------------------


def test_a_polite_close_lets_steps_end_hands_the_rest_over_and_repeats_nothing(open_house, gated, gate):
    first = open_house(gated)
    runs = [first.start("gated") for _ in range(3)]
    for _ in runs:
        gate.wait_entered()
    closing = threading.Thread(target=first.close)
    closing.start()
    first.until(lambda: all(job.course._stop for job in first.engine._jobs.values()))
    gate.opened.set()
    closing.join(WAIT_S)
    second = open_house(gated)
    for run_id in runs:
        assert second.ended(run_id).state == "succeeded"
        assert second.states(run_id) == {"wait": ["succeeded"], "after": ["succeeded"]}
    assert not gate.entered.acquire(blocking=False)


def test_a_coroutine_that_outlasts_the_drain_time_is_cut_off_and_its_run_goes_on_elsewhere(open_house, gate):
    @workflow("long", idempotency="safe")
    async def long(run: AsyncRun) -> str:
        return await run.step("wait", gate.later)

    first = open_house(long)
    run_id = first.start("long")
    gate.wait_entered()
    first.close(drain_s=0)
    gate.opened.set()
    second = open_house(long)
    assert second.ended(run_id).state == "succeeded"
    assert second.states(run_id) == {"wait": ["cancelled", "succeeded"]}


def test_an_unsafe_step_that_is_cut_off_at_the_end_of_the_drain_time_waits_for_a_person(open_house, gate):
    @workflow("long", idempotency="unsafe")
    async def long(run: AsyncRun) -> str:
        return await run.step("charge", gate.later)

    first = open_house(long)
    run_id = first.start("long")
    gate.wait_entered()
    first.close(drain_s=0)
    second = open_house(long)
    assert second.until_state(run_id, "unknown").claim_owner is None


def test_a_closed_engine_refuses_new_runs(open_house):
    house = open_house(plain)
    house.close()
    with pytest.raises(JournalClosed):
        house.start("plain")


# --- a database that fails ---------------------------------------------------------------------------------------------------


class Outage:
    """A writer whose database can be away; ``answers_lost``: it commits, and the answer does not arrive."""

    def __init__(self, store):
        self.away = self.answers_lost = False
        self.tried = threading.Event()
        self._open = store.open_writer
        store.open_writer = lambda: self

    def apply(self, entries):
        self._writer = getattr(self, "_writer", None) or self._open()
        if self.away:
            if self.answers_lost:
                self._writer.apply(entries)
            self.tried.set()
            raise StoreUnavailable("away")
        return self._writer.apply(entries)

    def close(self):
        self._writer.close()


def test_no_step_runs_twice_because_the_database_was_away_when_it_ended(open_house, gated, gate):
    house = open_house(gated, launch=False)
    outage = Outage(house.store)
    house.engine.launch()
    run_id = house.start("gated")
    gate.wait_entered()
    outage.away = True
    gate.opened.set()
    assert outage.tried.wait(WAIT_S)
    outage.away = False
    assert house.ended(run_id).state == "succeeded"
    assert house.states(run_id) == {"wait": ["succeeded"], "after": ["succeeded"]}
    assert not gate.entered.acquire(blocking=False)


@pytest.mark.parametrize("answers_lost", [False, True])
def test_a_run_that_was_refused_is_executed_if_it_was_stored_after_all(open_house, monkeypatch, answers_lost):
    house = open_house(plain, launch=False)
    outage = Outage(house.store)
    house.engine.launch()
    outage.away, outage.answers_lost = True, answers_lost
    with monkeypatch.context() as patch:
        patch.setattr(local, "_START_GIVE_UP_S", 0.05)
        with pytest.raises(StoreUnavailable):
            house.start("plain", '{"id": "7", "amount": 1}')
    outage.away = False
    later = house.start("plain", '{"id": "8", "amount": 1}')
    assert house.ended(later).state == "succeeded"
    house.until(lambda: not house.engine._doubtful)
    runs = house.store.list_runs(RunFilter(), Page(), payloads=False).runs
    assert len(runs) == (2 if answers_lost else 1)
    assert {house.ended(run.id).state for run in runs} == {"succeeded"}


class SlowStart:
    """A writer that waits inside the transaction which stores a new run."""

    def __init__(self, store):
        self.entered, self.opened = threading.Event(), threading.Event()
        self._open = store.open_writer
        store.open_writer = lambda: self

    def apply(self, entries):
        self._writer = getattr(self, "_writer", None) or self._open()
        if any(isinstance(entry, StartRun) for entry in entries):
            self.entered.set()
            assert self.opened.wait(WAIT_S)
        return self._writer.apply(entries)

    def close(self):
        self._writer.close()


def test_a_run_that_is_stored_long_after_it_was_refused_is_executed(open_house, monkeypatch):
    house = open_house(plain, launch=False)
    slow = SlowStart(house.store)
    house.engine.launch()
    house.engine._claimer.stop()  # the test looks when it suits it
    monkeypatch.setattr(local, "_START_GIVE_UP_S", 0.05)
    with pytest.raises(StoreUnavailable):
        house.start("plain", '{"id": "7", "amount": 1}')
    assert slow.entered.is_set()
    looking = threading.Thread(target=house.engine._resolve_doubts)
    looking.start()
    looking.join(0.3)  # who does not wait for the transaction sees no run, and forgets the doubt
    slow.opened.set()
    looking.join(WAIT_S)
    (run,) = house.until(lambda: house.store.list_runs(RunFilter(), Page(), payloads=False).runs)
    assert house.ended(run.id).state == "succeeded"
    assert not house.engine._doubtful


def test_a_run_whose_start_was_interrupted_is_executed_if_it_is_stored(open_house, monkeypatch):
    house = open_house(plain)
    submit = house.journal.submit

    def interrupted(entry, **options):
        submit(entry, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            house.journal, "submit", lambda e, **o: (interrupted if isinstance(e, StartRun) else submit)(e, **o)
        )
        with pytest.raises(KeyboardInterrupt):
            house.start("plain", '{"id": "7", "amount": 1}')
    (run,) = house.until(lambda: house.store.list_runs(RunFilter(), Page(), payloads=False).runs)
    assert house.ended(run.id).state == "succeeded"


# --- a process that fails -----------------------------------------------------------------------------------------------------


def close_loop(house):
    """End the engine's event loop as code that stops it does."""
    house.engine._loop.call_soon_threadsafe(house.engine._loop.stop)
    house.engine._loop_thread.join(WAIT_S)
    assert house.engine._loop.is_closed()


@pytest.mark.parametrize("name", ["plain", "coroutine"])
def test_an_engine_whose_loop_is_closed_leaves_new_runs_to_others(open_house, name):
    house = open_house(plain, coroutine)
    close_loop(house)
    run_id = house.start(name, '{"id": "7", "amount": 1}')
    # A look that had begun before may still take it, and gives it back.
    house.until(lambda: house.store.get_run(run_id).claim_owner is None)
    assert open_house(plain, coroutine).ended(run_id).state == "succeeded"


@pytest.mark.parametrize("name", ["plain", "coroutine"])
def test_a_run_that_finds_the_loop_closed_is_handed_back_and_not_failed(open_house, monkeypatch, name):
    house = open_house(plain, coroutine)
    read = house.engine._course

    def closing(*args):
        close_loop(house)
        if name == "plain":
            raise RuntimeError("Event loop is closed")
        return read(*args)

    monkeypatch.setattr(house.engine, "_course", closing)
    run_id = house.start(name, '{"id": "7", "amount": 1}')
    assert open_house(plain, coroutine).ended(run_id).state == "succeeded"
    assert not house.engine._jobs


def test_a_run_for_which_no_thread_can_be_started_is_handed_back(open_house, monkeypatch):
    house, other = open_house(plain, poll_s=30), open_house(plain, launch=False)
    start = threading.Thread.start

    def refused(thread):
        if thread.name == "workflow-runs-run":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    run_id = house.start("plain", '{"id": "7", "amount": 1}')
    house.until(lambda: house.store.get_run(run_id).claim_owner is None)
    assert not house.engine._jobs
    monkeypatch.undo()
    other.engine.launch()
    assert other.ended(run_id).state == "succeeded"


def test_a_pool_that_could_not_start_a_thread_has_lost_no_place_and_no_work(monkeypatch):
    threads, gate = local.Threads(2, "test"), threading.Event()

    def refused(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        for _ in range(3):
            with pytest.raises(RuntimeError):
                threads.submit(gate.set)
    first = threads.submit(gate.wait, WAIT_S)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        second = threads.submit(pow, 2, 5)
    gate.set()
    assert (first.result(WAIT_S), second.result(WAIT_S)) == (True, 32)


# --- host code ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launch", [True, False])
def test_an_async_handler_is_run_to_its_end_for_a_sync_caller(open_house, launch):
    async def handler():
        await asyncio.sleep(0)
        return "run-1"

    assert open_house(plain, launch=launch).engine.wait_for(handler()) == "run-1"
