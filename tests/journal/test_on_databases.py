"""The journal on the real stores: everything is written once, in few transactions, and an outage in the middle loses nothing."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from workflow_runs.clock import Clock
from workflow_runs.errors import EntryRejected, StoreUnavailable
from workflow_runs.journal import Journal
from workflow_runs.model.entries import EndOutcome, RunEnded, RunStarted, StartRun
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import RunState
from workflow_runs.settings import JournalSettings
from workflow_runs.store.opening import open_store

DEADLINE_S = 60.0
STEPS = 5


class Interrupted:
    """A real store whose writer fails as planned, once per call: ``before`` it writes, or ``after``, when only the answer gets lost."""

    def __init__(self, store):
        self.store = store
        self.url = store.url
        self.plan = []

    def open_writer(self):
        self.writer = self.store.open_writer()
        return self

    def apply(self, entries):
        fault = self.plan.pop() if self.plan else None
        outcomes = None if fault == "before" else self.writer.apply(entries)
        if fault is not None:
            raise StoreUnavailable("the database is away")
        return outcomes

    def close(self):
        self.writer.close()


@pytest.fixture
def store(database_url):
    store = open_store(database_url, clock=Clock())
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def broken(store):
    return Interrupted(store)


@pytest.fixture
def journal(broken):
    journal = Journal(broken, JournalSettings(retry_pause_s=0.001, retry_pause_max_s=0.01))
    yield journal
    journal.close(DEADLINE_S)


@pytest.fixture
def one_run(journal, step_started, step_ended):
    """The entries of a run of five steps, in their order; each yields whether its receipt is waited for."""
    clock = Clock()

    def entries():
        run_id = clock.new_run_id()
        yield StartRun(run_id, RunRequest("checkout", "checkout", input='{"order": 7}'), RunState.RUNNING), True
        for number in range(1, STEPS + 1):
            yield step_started(run_id, number), False
            yield step_ended(run_id, number, output=f'"{number}"'), True
        yield RunEnded(run_id, RunState.SUCCEEDED, clock.now_millis(), result='"done"'), True

    async def in_a_loop():
        outcomes = []
        for entry, is_awaited in entries():
            receipt = journal.submit(entry, lazy=not is_awaited)
            if is_awaited:
                outcomes.append(await receipt)
        return outcomes

    def in_a_thread():
        receipts = [(journal.submit(entry, lazy=not is_awaited), is_awaited) for entry, is_awaited in entries()]
        return [receipt.result() for receipt, is_awaited in receipts if is_awaited]

    return in_a_loop, in_a_thread


def check_run(store, outcomes):
    assert isinstance(outcomes[0], RunStarted)
    assert outcomes[-1] == EndOutcome(changed=True, state=RunState.SUCCEEDED)
    steps = store.get_steps(outcomes[0].run_id)
    assert [(step.step.name, step.last.output) for step in steps] == [
        (f"step-{n}", f'"{n}"') for n in range(1, STEPS + 1)
    ]
    assert [len(step.attempts) for step in steps] == [1] * STEPS


async def test_two_hundred_runs_of_coroutines_are_on_record_after_few_commits(store, journal, one_run):
    in_a_loop, _ = one_run
    for outcomes in await asyncio.gather(*(in_a_loop() for _ in range(200))):
        check_run(store, outcomes)
    stats = journal.stats()
    assert stats.commits * 4 < stats.committed


def test_fifty_threads_are_on_record_after_fewer_commits_than_entries(store, journal, one_run):
    _, in_a_thread = one_run
    with ThreadPoolExecutor(50) as pool:
        for outcomes in pool.map(lambda _: in_a_thread(), range(50)):
            check_run(store, outcomes)
    stats = journal.stats()
    assert stats.commits < stats.committed


async def test_coroutines_and_threads_through_outages_are_on_record_once(store, broken, one_run):
    in_a_loop, in_a_thread = one_run
    broken.plan = ["before", "after", "before", None, "after", None, None] * 10
    runs = [in_a_loop() for _ in range(20)] + [asyncio.to_thread(in_a_thread) for _ in range(5)]
    for outcomes in await asyncio.wait_for(asyncio.gather(*runs), DEADLINE_S):
        check_run(store, outcomes)


def test_a_commit_whose_answer_got_lost_is_acknowledged_by_writing_again(store, broken, one_run):
    _, in_a_thread = one_run
    broken.plan = ["after"] * 5
    check_run(store, in_a_thread())


def test_one_entry_that_the_database_refuses_leaves_its_batch_written(store, journal, step_ended):
    run_id = Clock().new_run_id()
    start = StartRun(run_id, RunRequest("checkout", "checkout"))
    bad = RunEnded(Clock().new_run_id(), RunState.SUCCEEDED, 0)  # of a run that does not exist
    receipts = [journal.submit(entry) for entry in (start, bad, step_ended(run_id))]
    with pytest.raises(EntryRejected):
        receipts[1].result()
    assert (receipts[0].result(), receipts[2].result()) == (RunStarted(run_id, created=True), None)
    assert len(store.get_steps(run_id)) == 1
