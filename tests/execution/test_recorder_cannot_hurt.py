"""Promise P8: a business function of a thousand steps does what it does without recording, whatever the database, the disk or a value does.

Each case runs the function bare and recorded, and compares results and exceptions by identity. Nothing is timed; what would wait would
wait for the test's timeout. ``bench/observing.py`` has the figures.
"""

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from workflow_runs.clock import Clock
from workflow_runs.errors import StoreUnavailable
from workflow_runs.execution.recorder import current_recorder, recorded_workflow
from workflow_runs.journal import Journal
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.states import RunState
from workflow_runs.settings import JournalSettings
from workflow_runs.store.opening import open_store

sys.path.insert(0, os.path.dirname(__file__))
from outage import Outage

STEPS = 1_000
PATIENCE_S = 60.0


class Refused(Exception):
    """What the business raises."""


def step_once(fn, *args):
    return current_recorder().step("step", fn, *args)


def business(fail_with=None):
    """A thousand steps, some of which fail; returns what the steps gave and the exceptions that it saw."""
    seen = []
    for number in range(STEPS):
        try:
            seen.append(step_once(one, number))
        except Refused as error:
            seen.append(error)
    if fail_with is not None:
        raise fail_with
    return seen


ERRORS = [Refused(f"no {number}") for number in range(STEPS)]


def one(number):
    if number % 50 == 49:
        raise ERRORS[number]
    return number


def bare():
    return [ERRORS[number] if number % 50 == 49 else number for number in range(STEPS)]


def recorded(journal, fn=business):
    """Run a function as a recorded workflow in this thread, or in an event loop."""
    return recorded_workflow(journal, name="business")(fn)


async def business_async():
    seen = []
    for number in range(STEPS):
        try:
            seen.append(await step_once(one_async, number))
        except Refused as error:
            seen.append(error)
    return seen


async def one_async(number):
    await asyncio.sleep(0)
    return one(number)


@pytest.fixture
def new_journal(request, tmp_path):
    def make(url, migrate=False, **settings):
        store = open_store(url, clock=Clock())
        if migrate:
            store.migrate()
        folder = str(tmp_path / "spool")
        defaults = {"spool_folder": folder, "spool_after_s": 0.05, "close_timeout_s": 0.5}
        journal = Journal(store, JournalSettings(**(defaults | settings)))
        request.addfinalizer(store.close)
        request.addfinalizer(journal.close)
        return journal

    return make


# --- what the database does ------------------------------------------------------------------------------------------


@contextmanager
def absent(tmp_path, _request):
    yield f"sqlite:///{tmp_path / 'missing' / 'runs.db'}"


@contextmanager
def no_schema(tmp_path, _request):
    yield f"sqlite:///{tmp_path / 'runs.db'}"


@contextmanager
def refused(_tmp_path, _request):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        yield f"postgresql+psycopg://u@127.0.0.1:{taken.getsockname()[1]}/runs"


@contextmanager
def black_hole(_tmp_path, _request):
    with socket.create_server(("127.0.0.1", 0)) as never:  # takes connections, and never says a word
        yield f"postgresql+psycopg://u@127.0.0.1:{never.getsockname()[1]}/runs"


@contextmanager
def read_only(tmp_path, _request):
    url = migrated(tmp_path)
    path = url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    # As root any file can be written: a folder in its place cannot.
    os.unlink(path)
    os.mkdir(path)
    yield url


@contextmanager
def locked(tmp_path, _request):
    url = migrated(tmp_path)
    with Outage(url):
        yield url


@contextmanager
def shut(_tmp_path, request):
    url = request.getfixturevalue("postgres_url")
    store = open_store(url, clock=Clock())
    store.migrate()
    store.close()
    with Outage(url):
        yield url


def migrated(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    store = open_store(url, clock=Clock())
    store.migrate()
    store.close()
    return url


FAULTS = [absent, no_schema, refused, black_hole, read_only, locked, shut]


@pytest.mark.parametrize(
    ("fault", "spool"),
    [*[(fault, 64_000_000) for fault in FAULTS], (refused, 0), (locked, 0)],
    ids=[*[fault.__name__ for fault in FAULTS], "refused, memory", "locked, memory"],
)
def test_the_business_does_not_notice_a_database_that_cannot_be_used(fault, spool, tmp_path, request, new_journal):
    with fault(tmp_path, request) as url:
        journal = new_journal(url, spool_bytes_max=spool, queue_entries_max=300)
        assert recorded(journal)() == bare()
        assert asyncio.run(recorded(journal, business_async)()) == bare()
        error = Refused("the end")
        with pytest.raises(Refused) as caught:
            recorded(journal)(error)
        assert caught.value is error
        assert error.__cause__ is None
        stats = journal.stats()
        # An entry for each step, three times, with begin and end; what is not lost waits, here or there.
        waiting = stats.queued + stats.spooled
        assert stats.dropped + waiting >= 3 * (STEPS + 2)
        if spool == 0:
            assert waiting <= 3 * 300 * 1.25  # memory is bounded


def test_after_an_outage_nothing_is_missing_that_was_not_counted(new_journal, tmp_path):
    url = migrated(tmp_path)
    journal = new_journal(url)
    with Outage(url):
        for _ in range(3):
            assert recorded(journal, lambda: len(business()))() == STEPS
    runs = settled(journal, url)
    assert [(run.state, run.has_gap) for run, _ in runs] == [(RunState.SUCCEEDED, False)] * 3
    assert [len(steps) for _, steps in runs] == [STEPS] * 3
    assert journal.stats().dropped == 0


def settled(journal, url):
    """All runs with their steps, when nothing waits any more."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 100)):
        stats = journal.stats()
        if (stats.queued, stats.spooled) == (0, 0):
            break
        pause.wait(0.01)
    store = open_store(url, clock=Clock())
    runs = store.list_runs(RunFilter(), Page(), payloads=True).runs
    found = [(run, store.get_steps(run.id)) for run in runs]
    store.close()
    return found


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[3])
from test_recorder_cannot_hurt import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(
    open_store(sys.argv[1], clock=Clock()),
    JournalSettings(spool_folder=sys.argv[2], spool_after_s=0.05, close_timeout_s=0.5, queue_entries_max=500),
)
assert recorded(journal)() == bare()
"""


def test_a_full_disk_costs_the_record_and_nothing_else(tmp_path):
    url = migrated(tmp_path)
    # Each file may have so many bytes and no more: the database's log is full at once, the spool a little later.
    program = FULL_DISK.replace(
        "assert recorded", "resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\nassert recorded"
    )
    program += "\nassert recorded(journal)() == bare()\nprint(journal.stats().dropped > 0)\n"
    result = subprocess.run(
        [sys.executable, "-c", program, url, str(tmp_path / "spool"), os.path.dirname(__file__)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "True\n"), result.stderr
    assert "Traceback" not in result.stderr


def test_a_store_that_raises_what_it_should_not_costs_the_record_and_nothing_else(new_journal, tmp_path, monkeypatch):
    journal = new_journal(migrated(tmp_path))
    errors = [MemoryError(), SystemExit(), KeyboardInterrupt(), RuntimeError(), StoreUnavailable("x"), OSError(28, "x")]

    class Raising:
        def apply(self, _entries):
            raise errors[0]

        def close(self):
            pass

    monkeypatch.setattr(journal._store, "open_writer", Raising)
    for _ in range(len(errors)):
        assert recorded(journal)() == bare()
        del errors[0]
        errors.append(RuntimeError())
    assert journal._thread.is_alive()


def test_a_process_without_a_free_thread_loses_the_record_and_nothing_else(new_journal, tmp_path, monkeypatch):
    journal = new_journal(migrated(tmp_path))

    def start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    recorder = []
    assert recorded(journal, lambda: recorder.append(current_recorder()) or business())() == bare()
    assert recorder[0].lost >= 2 * STEPS


# --- what values do --------------------------------------------------------------------------------------------------


class Hostile:
    """Raises in everything that a recorder might ask of it."""

    def _raise(self, *_args):
        raise Refused("do not touch")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __reduce_ex__ = __getstate__ = _raise
    __fspath__ = __format__ = __int__ = __float__ = __index__ = __contains__ = __getitem__ = keys = items = _raise


class Slotted:
    __slots__ = ("a", "missing")

    def __init__(self):
        self.a = 1


def cyclic():
    value = {"list": []}
    value["list"].append(value)
    return value


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


VALUES = {
    "cyclic": cyclic,
    "deep": deep,
    "20 MB": lambda: "x" * 20_000_000,
    "a million items": lambda: list(range(1_000_000)),
    "generator": lambda: (number for number in range(3)),
    "lock": threading.Lock,
    "hostile": Hostile,
    "hostile inside": lambda: {"a": [Hostile()]},
    "slots": Slotted,
    "surrogates": lambda: "a\ud800b",
    "nul": lambda: "a\x00b",
    "infinite": lambda: float("inf"),
    "endless integer": lambda: 10**6_000,
    "class": lambda: Hostile,
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_any_value_is_given_back_untouched_and_its_status_is_recorded(make, new_journal, tmp_path):
    url = migrated(tmp_path)
    journal = new_journal(url)
    value = make()
    same = recorded(journal, lambda given: step_once(lambda: given))(value)
    assert same is value
    ((run, steps),) = settled(journal, url)
    assert (run.state, [step.state.value for step in steps]) == (RunState.SUCCEEDED, ["succeeded"])
    assert len(run.input) <= 1_000_000
    assert journal.stats().dropped == 0
    if "generator" in VALUES and make is VALUES["generator"]:
        assert list(value) == [0, 1, 2]  # it was not used up


class Unpicklable(Exception):
    def __init__(self, a, *, b):
        super().__init__(a, threading.Lock(), lambda: b)


class Loud(Exception):
    __slots__ = ()

    def __str__(self):
        raise Refused("no words")

    __repr__ = __str__


class Sly(Exception):
    @property
    def __cause__(self):
        raise Refused("no cause")

    code = property(lambda self: 1 / 0)


def chained():
    first = last = ValueError("0")
    for number in range(5_000):
        following = ValueError(str(number))
        last.__cause__ = following
        last = following
    last.__cause__ = first  # and round again
    return first


EXCEPTIONS = {
    "unpicklable": lambda: Unpicklable(1, b=2),
    "endless causes": chained,
    "group of 1,000": lambda: ExceptionGroup("many", [ValueError(str(number)) for number in range(1_000)]),
    "nested groups": lambda: nested_group(200),
    "20 MB message": lambda: ValueError("m" * 20_000_000),
    "loud": Loud,
    "sly": Sly,
    "surrogates": lambda: ValueError("a\ud800\x00"),
    "hostile argument": lambda: ValueError(Hostile()),
    "notes that are none": lambda: noted(),  # noqa: PLW0108  # made further down
    "interrupt": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "generator exit": GeneratorExit,
    "base": lambda: BaseException("base"),
}


def nested_group(depth):
    error = ValueError("inmost")
    for _ in range(depth):
        error = ExceptionGroup("outer", [error])
    return error


def noted():
    error = ValueError("noted")
    error.__notes__ = Hostile()
    return error


@pytest.mark.parametrize("make", EXCEPTIONS.values(), ids=EXCEPTIONS)
def test_any_exception_is_raised_on_the_same_and_is_recorded(make, new_journal, tmp_path):
    url = migrated(tmp_path)
    journal = new_journal(url)
    error = make()
    cause = BaseException.__dict__["__cause__"].__get__(error)

    def fail():
        raise error

    with pytest.raises(BaseException) as caught:  # whatever it is
        recorded(journal, lambda: step_once(fail))()
    assert caught.value is error
    assert BaseException.__dict__["__cause__"].__get__(error) is cause
    assert BaseException.__dict__["__context__"].__get__(error) is None
    ((run, steps),) = settled(journal, url)
    expected = "failed" if isinstance(error, Exception) else "cancelled"
    assert (run.state.value, [step.state.value for step in steps]) == (expected, [expected])
    assert len(run.error.message) <= 17_000
    assert journal.stats().dropped == 0
