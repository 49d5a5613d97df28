"""Fork, interpreter exit, and death: what the record says afterwards, and that nobody hangs. Each case is a process of its own."""

import subprocess
import sys

import pytest

from workflow_runs.clock import Clock
from workflow_runs.store.opening import open_store

PRELUDE = """
import asyncio, os, signal, sys
from workflow_runs.clock import Clock
from workflow_runs.errors import JournalClosed
from workflow_runs.journal import Journal
from workflow_runs.model.entries import StartRun
from workflow_runs.model.requests import RunRequest
from workflow_runs.store.opening import open_store

clock = Clock()
journal = Journal(open_store(sys.argv[1], clock=clock))

def start(name):
    return StartRun(clock.new_run_id(), RunRequest(name, name))
"""


def run_process(url, program):
    """Run a program after the prelude to its end and give its exit code."""
    # Newer Pythons warn of any fork of a process with threads, which is what is tested here.
    options = ["-W", "ignore::DeprecationWarning"]
    result = subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + program, url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stderr == ""
    return result.returncode


@pytest.fixture
def store(database_url):
    store = open_store(database_url, clock=Clock())
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def names(store):
    """Names of the workflows on record, sorted."""
    from workflow_runs.model.records import Page, RunFilter

    return lambda: sorted(
        run.workflow_name for run in store.list_runs(RunFilter(), Page(limit=200), payloads=False).runs
    )


def test_what_is_queued_when_the_interpreter_ends_is_written(database_url, names):
    assert run_process(database_url, "for number in range(100): journal.submit(start(f'run-{number:02}'))") == 0
    assert names() == [f"run-{number:02}" for number in range(100)]


def test_what_an_event_loop_left_when_the_interpreter_ends_is_written(database_url, names):
    program = """
async def main():
    for number in range(10): journal.submit(start(f'run-{number}'))
asyncio.run(main())
"""
    assert run_process(database_url, program) == 0
    assert names() == [f"run-{number}" for number in range(10)]


def test_what_was_acknowledged_survives_a_kill(database_url, names):
    assert run_process(database_url, "journal.submit(start('acknowledged')).result(); os.kill(os.getpid(), 9)") == -9
    assert names() == ["acknowledged"]


def test_a_forked_child_writes_through_a_connection_of_its_own(database_url, names):
    program = """
journal.submit(start('before')).result()
pid = os.fork()
journal.submit(start('parent' if pid else 'child')).result()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    journal.submit(start('parent after its child')).result()
"""
    assert run_process(database_url, program) == 0
    assert names() == ["before", "child", "parent", "parent after its child"]


def test_what_waited_at_the_fork_is_written_by_the_parent_alone(database_url, names):
    program = """
receipts = [journal.submit(start(f'run-{number}'), lazy=True) for number in range(3)]
pid = os.fork()
if pid == 0:
    for receipt in receipts:
        try:
            receipt.result()
        except JournalClosed:
            pass
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    assert run_process(database_url, program) == 0
    assert names() == ["run-0", "run-1", "run-2"]


OBSERVE = """
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from workflow_runs.execution.recorder import begin_workflow_run

def observe(name, steps=3):
    recorder = begin_workflow_run(journal, workflow_name=name)
    for number in range(steps):
        recorder.step('step', int, number)
    recorder.complete()
    return recorder
"""


def test_children_forked_while_others_record_neither_hang_nor_write_what_is_not_theirs(database_url, names):
    program = """
import logging
logging.disable()  # a slow machine's commits are spoken of
shared = begin_workflow_run(journal, workflow_name='shared')
stop = threading.Event()

def hammer():
    while not stop.wait(0.002):
        shared.start_step('step').complete()

threads = [threading.Thread(target=hammer) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(10):
    pid = os.fork()
    if pid == 0:
        shared.step('in the child', int)  # its lock may have been held when the process was forked
        done = observe(f'child {number}').flush(60)
        os._exit(0 if done else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
shared.complete()
"""
    assert run_process(database_url, OBSERVE + program) == 0
    assert names() == sorted(["shared", *(f"child {number}" for number in range(10))])


def test_runs_observed_in_a_thread_pool_are_complete_when_the_interpreter_ends(database_url, names, store):
    program = """
with ThreadPoolExecutor(8) as pool:
    list(pool.map(observe, [f'run-{number:02}' for number in range(40)]))
"""
    assert run_process(database_url, OBSERVE + program) == 0
    assert names() == [f"run-{number:02}" for number in range(40)]
    from workflow_runs.model.records import Page, RunFilter
    from workflow_runs.model.states import RunState

    runs = store.list_runs(RunFilter(), Page(limit=200), payloads=False).runs
    assert {(run.state, run.has_gap) for run in runs} == {(RunState.SUCCEEDED, False)}
    assert [len(store.get_steps(run.id)) for run in runs] == [3] * 40


def test_children_of_a_process_pool_record_for_themselves(database_url, names):
    program = """
def work(number):
    return observe(f'run-{number}').flush(60)

observe('before')
with ProcessPoolExecutor(2) as pool:
    assert all(pool.map(work, range(6)))
"""
    assert run_process(database_url, OBSERVE + program) == 0
    assert names() == ["before", *(f"run-{number}" for number in range(6))]


@pytest.mark.parametrize(
    "entry", ["observe('observed')", "journal.submit(start('awaited'))"], ids=["observed", "awaited"]
)
def test_an_interpreter_ends_in_time_although_the_database_never_answers(entry):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as never:
        url = f"postgresql+psycopg://u@127.0.0.1:{never.getsockname()[1]}/runs"
        program = f"""
from workflow_runs.settings import JournalSettings
import logging
logging.disable()
journal = Journal(open_store(sys.argv[1], clock=clock), JournalSettings(close_timeout_s=0.1, spool_bytes_max=0))
{entry}
"""
        assert run_process(url, OBSERVE + program) == 0  # run_process gives up after two minutes


def test_a_child_forked_out_of_a_running_event_loop_begins_anew(database_url, names):
    program = """
async def main():
    await journal.submit(start('before'))
    journal.submit(start('queued'))
    pid = os.fork()
    if pid == 0:
        try:
            journal.submit(start('child')).result()
        finally:
            os._exit(0)
    await journal.submit(start('parent'))
    os.waitpid(pid, 0)
asyncio.run(main())
"""
    assert run_process(database_url, program) == 0
    assert names() == ["before", "child", "parent", "queued"]
