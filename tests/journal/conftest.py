"""A store in memory whose writer can be held, broken and healed: an ordinary implementation of ``StoreWriter``."""

import threading
from collections import deque

import pytest

from workflow_runs.errors import StoreUnavailable
from workflow_runs.journal import Journal
from workflow_runs.model.entries import GapNoted, StepEnded, StepStarted
from workflow_runs.model.records import StepKey
from workflow_runs.model.states import EffectClass, Origin, StepKind, StepState
from workflow_runs.settings import JournalSettings

DEADLINE_S = 60.0


class MemoryStore:
    """``batches`` are the entries of each ``apply`` that succeeded, ``attempts`` of each, ``leaders`` the threads that called."""

    url = "memory:"  # has no place for a spool

    def __init__(self):
        self.attempts, self.batches, self.leaders = [], [], []
        self.failures = deque()  # raised by the next calls of apply, one each
        self.refuse = lambda entry: None  # entry -> exception that refuses it, or None
        self.choke = lambda entry: None  # entry -> exception that its batch raises, or None
        self.entries_max = None  # a transaction of more is cut off, as a statement timeout does it
        self.may_commit = threading.Event()  # cleared: apply waits
        self.may_commit.set()
        self.is_committing = threading.Event()
        self.writers_opened = self.writers_closed = 0
        self._changed = threading.Condition()

    def open_writer(self):
        self.writers_opened += 1
        return self

    def apply(self, entries):
        with self._changed:
            self.attempts.append(list(entries))
            self._changed.notify_all()
        self.leaders.append(threading.get_ident())
        self.is_committing.set()
        assert self.may_commit.wait(DEADLINE_S)
        if self.failures:
            raise self.failures.popleft()
        if self.entries_max is not None and len(entries) > self.entries_max:
            raise StoreUnavailable("the transaction took too long")
        for entry in entries:
            if error := self.choke(entry):
                raise error
        self.batches.append(list(entries))
        return [self.refuse(entry) for entry in entries]

    def close(self):
        self.writers_closed += 1

    def wait_for_attempts(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.attempts) >= count, DEADLINE_S)

    @property
    def written(self):
        return [entry for batch in self.batches for entry in batch]


@pytest.fixture
def memory():
    return MemoryStore()


@pytest.fixture
def new_journal(memory):
    """Makes journals on ``memory``, by default with short pauses, and closes them."""
    made = []

    def make(store=memory, **settings):
        defaults = {"retry_pause_s": 0.001, "retry_pause_max_s": 0.01}
        made.append(Journal(store, JournalSettings(**(defaults | settings))))
        return made[-1]

    yield make
    memory.failures.clear()
    memory.may_commit.set()
    for journal in made:
        journal.close(DEADLINE_S)


@pytest.fixture
def journal(new_journal):
    return new_journal()


@pytest.fixture
def hold(memory, journal):
    """Keeps a first entry in the store's hands: whatever is submitted then waits in the queue until ``memory.may_commit.set()``."""
    memory.may_commit.clear()
    receipt = journal.submit(GapNoted("first"))
    assert memory.is_committing.wait(DEADLINE_S)
    return receipt


@pytest.fixture
def step_started():
    def make(run_id, number=1):
        return StepStarted(
            run_id=run_id,
            claim=None,
            step=StepKey(f"step-{number}"),
            attempt=1,
            sequence=number,
            kind=StepKind.STEP,
            effect=EffectClass.IDEMPOTENT,
            input_digest=None,
            started_ms=1_700_000_000_000,
        )

    return make


@pytest.fixture
def step_ended(step_started):
    def make(run_id, number=1, output='"done"'):
        return StepEnded(
            *step_started(run_id, number),
            state=StepState.SUCCEEDED,
            origin=Origin.EXECUTED,
            output=output,
            error=None,
            ended_ms=1_700_000_000_005,
            duration_ms=5,
        )

    return make
