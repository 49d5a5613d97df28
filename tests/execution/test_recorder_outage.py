"""The database goes away while a run is observed: nobody waits, nothing is lost that can be kept, and a kill takes nothing that was."""

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from workflow_runs.clock import Clock
from workflow_runs.execution.recorder import begin_workflow_run
from workflow_runs.journal import Journal
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.states import RunState
from workflow_runs.settings import JournalSettings
from workflow_runs.store.opening import open_store

sys.path.insert(0, os.path.dirname(__file__))
from outage import Outage

PATIENCE_S = 60.0
TOO_LONG_S = PATIENCE_S * 100  # would be the test's timeout


@dataclass
class Recording:
    """What ``WorkflowRuns`` is for the recorder."""

    journal: Journal
    store: object
    clock: Clock
    url: str


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "spool")


@pytest.fixture
def open_recording(request, folder):
    def make(url, **settings):
        clock = Clock()
        store = open_store(url, clock=clock)
        store.migrate()
        journal = Journal(store, JournalSettings(spool_folder=folder, **{"spool_after_s": 0.05, **settings}), clock)
        request.addfinalizer(store.close)
        request.addfinalizer(journal.close)
        return Recording(journal, store, clock, url)

    return make


@pytest.fixture
def runs(database_url, open_recording):
    return open_recording(database_url)


def until(condition):
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 100)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it has not come about")


def spooled(folder):
    paths = [os.path.join(folder, name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
    return b"".join(Path(path).read_bytes() for path in paths if path.endswith(".spool"))


def states(runs, run_id):
    return [(step.step.name, step.state.value, step.last.output) for step in runs.store.get_steps(run_id)]


def test_a_step_that_ends_while_the_database_is_away_is_on_record_when_it_is_back(runs):  # R16
    recorder = begin_workflow_run(runs, workflow_name="checkout")
    handle = recorder.start_step("charge")
    assert recorder.flush(PATIENCE_S)
    with Outage(runs.url):
        assert handle.complete({"charged": 7})
        assert recorder.step("ship", lambda: "shipped") == "shipped"
        assert recorder.complete("done")
        assert recorder.flush(0.0) is False
        until(lambda: runs.journal.unwaited.is_open)
    assert recorder.flush(PATIENCE_S)
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.result, run.has_gap, recorder.lost) == (RunState.SUCCEEDED, '"done"', False, 0)
    assert states(runs, run.id) == [("charge", "succeeded", '{"charged":7}'), ("ship", "succeeded", '"shipped"')]


def test_once_the_database_is_known_to_be_away_no_begin_waits_for_it(runs):
    with Outage(runs.url):
        recorders = [begin_workflow_run(runs, workflow_name="checkout", wait_s=TOO_LONG_S) for _ in range(100)]
        for recorder in recorders:
            recorder.start_step("charge").complete()
            recorder.complete()
    assert all(recorder.flush(PATIENCE_S) for recorder in recorders)
    assert {runs.store.get_run(recorder.run_id).state for recorder in recorders} == {RunState.SUCCEEDED}


def test_after_the_outage_begins_wait_for_their_rows_again(database_url, open_recording):
    runs = open_recording(database_url, spool_after_s=1.0)
    with Outage(runs.url):
        recorder = begin_workflow_run(runs, workflow_name="checkout", wait_s=TOO_LONG_S)
    assert recorder.flush(PATIENCE_S)
    until(lambda: not runs.journal.unwaited.is_open)
    again = begin_workflow_run(runs, workflow_name="checkout", wait_s=PATIENCE_S)
    assert runs.store.get_run(again.run_id) is not None


def test_coroutines_and_threads_record_through_an_outage_in_their_order(runs):
    def work():
        recorder = begin_workflow_run(runs, workflow_name="thread", wait_s=0)
        for number in range(50):
            recorder.start_step("step").complete(number)
        recorder.complete()
        return recorder

    async def work_async():
        recorder = begin_workflow_run(runs, workflow_name="coroutine")
        for number in range(50):
            await recorder.step("step", asyncio.sleep, 0, number)
        recorder.complete()
        return recorder

    async def record():
        threads = [asyncio.to_thread(work) for _ in range(4)]
        return await asyncio.gather(*threads, *[work_async() for _ in range(4)])

    with Outage(runs.url):
        recorders = asyncio.run(record())
    assert all(recorder.flush(PATIENCE_S) for recorder in recorders)
    for recorder in recorders:
        assert [output for _, _, output in states(runs, recorder.run_id)] == [str(number) for number in range(50)]
        assert runs.store.get_run(recorder.run_id).state is RunState.SUCCEEDED


def test_what_the_file_has_no_room_for_is_counted_and_a_gap(sqlite_url, open_recording):
    runs = open_recording(sqlite_url, spool_bytes_max=20_000, queue_entries_max=50)
    with Outage(runs.url):
        recorder = begin_workflow_run(runs, workflow_name="checkout", wait_s=TOO_LONG_S)
        taken = 1
        for number in range(2_000):
            taken += recorder.start_step("loop").complete(number)
        assert recorder.complete()
        assert recorder.lost > 1_000
    until(lambda: (run := runs.store.get_run(recorder.run_id)) is not None and run.state is RunState.SUCCEEDED)
    until(lambda: runs.store.get_run(recorder.run_id).has_gap)
    ended = [step for step in runs.store.get_steps(recorder.run_id) if step.state.value == "succeeded"]
    assert len(ended) == taken - 1
    assert runs.journal.stats().dropped == recorder.lost


def test_a_gap_is_marked_although_nobody_keeps_the_recorder(sqlite_url, open_recording):
    runs = open_recording(sqlite_url, spool_bytes_max=0, queue_entries_max=20)
    with Outage(runs.url):
        crowd = [begin_workflow_run(runs, workflow_name="crowd", wait_s=0) for _ in range(60)]
        for recorder in crowd:
            recorder.start_step("lost").complete()
        run_ids = [recorder.run_id for recorder in crowd if recorder.lost]
        assert len(run_ids) > 10
        del crowd, recorder
    until(lambda: all(runs.store.get_run(run_id) is not None for run_id in run_ids))
    until(lambda: all(runs.store.get_run(run_id).has_gap for run_id in run_ids))


# --- processes -------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys
from workflow_runs.clock import Clock
from workflow_runs.execution.recorder import begin_workflow_run
from workflow_runs.journal import Journal
from workflow_runs.settings import JournalSettings
from workflow_runs.store.opening import open_store

journal = Journal(open_store(sys.argv[1], clock=Clock()), JournalSettings(spool_folder=sys.argv[2], spool_after_s=0.05))
"""

RECORD = """
print("begin", flush=True)
sys.stdin.readline()
recorder = begin_workflow_run(journal, workflow_name="checkout", wait_s=1_000)
recorder.start_step("reserve").complete({"ref": "r1"})
recorder.start_step("charge")
"""


def run_process(url, folder, program):
    options = ["-W", "ignore::DeprecationWarning", "-c", PROGRAM + program, url, folder]
    return subprocess.Popen([sys.executable, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def delivered(runs, folder):
    """Deliver what dead processes left."""
    runs.journal.unwaited.watch()
    until(lambda: not os.listdir(folder))
    runs.journal.close()
    return runs.store.list_runs(RunFilter(), Page(), payloads=True).runs


def test_what_was_recorded_in_an_outage_survives_a_kill_and_is_delivered_by_the_next_process(runs, folder):
    with run_process(runs.url, folder, RECORD + "sys.stdin.readline()") as process:
        assert process.stdout.readline() == "begin\n"
        with Outage(runs.url):
            process.stdin.write("go\n")
            process.stdin.flush()
            until(lambda: b"charge" in spooled(folder))
            process.kill()
            process.wait()
    (run,) = delivered(runs, folder)
    assert (run.workflow_name, run.state, run.has_gap) == ("checkout", RunState.RUNNING, False)
    assert states(runs, run.id) == [("reserve", "succeeded", '{"ref":"r1"}'), ("charge", "running", None)]


def test_an_end_of_the_interpreter_in_an_outage_leaves_the_record_to_the_next_process(runs, folder):
    with run_process(runs.url, folder, RECORD + "recorder.complete(7)") as process:
        assert process.stdout.readline() == "begin\n"
        with Outage(runs.url):
            process.communicate("go\n", timeout=PATIENCE_S)
            assert process.returncode == 0
    (run,) = delivered(runs, folder)
    assert (run.state, run.result, run.has_gap) == (RunState.SUCCEEDED, "7", False)
    assert [name for name, _, _ in states(runs, run.id)] == ["reserve", "charge"]


def test_a_forked_child_has_a_file_of_its_own(runs, folder):
    program = """
recorder.start_step("before").complete()
until_open = lambda: journal.unwaited.is_open or os.sched_yield()
while not until_open(): pass
pid = os.fork()
mine = begin_workflow_run(journal, workflow_name="child" if pid == 0 else "parent", wait_s=1_000)
mine.start_step("own").complete()
mine.complete()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""
    with run_process(runs.url, folder, RECORD + program) as process:
        assert process.stdout.readline() == "begin\n"
        with Outage(runs.url):
            process.communicate("go\n", timeout=PATIENCE_S)
            assert process.returncode == 0
    found = {run.workflow_name: run for run in delivered(runs, folder)}
    assert sorted(found) == ["checkout", "child", "parent"]
    assert [name for name, _, _ in states(runs, found["checkout"].id)] == ["reserve", "charge", "before"]
    for name in ("child", "parent"):
        assert states(runs, found[name].id) == [("own", "succeeded", None)]
        assert found[name].state is RunState.SUCCEEDED
