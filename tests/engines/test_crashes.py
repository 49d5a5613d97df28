"""Processes that are killed, frozen, or leave politely. What they had acknowledged is kept, and nothing is done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

PROCESS = Path(__file__).with_name("crash_process.py")
WAIT_S = 60.0


class Process:
    """A process of ``crash_process``, and what it says."""

    def __init__(self, **told):
        self.popen = subprocess.Popen([sys.executable, PROCESS, json.dumps(told)], stdout=subprocess.PIPE, text=True)
        self.said = []
        self.heard = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.popen.stdout:
            with self.heard:
                self.said.append(json.loads(line))
                self.heard.notify_all()

    def hear(self, **fields):
        """Wait until the process says something with these fields."""

        def found():
            return next((said for said in self.said if fields.items() <= said.items()), None)

        with self.heard:
            assert self.heard.wait_for(found, WAIT_S), (fields, self.said)
            return found()

    def wait(self):
        code = self.popen.wait(WAIT_S)
        self.reader.join(WAIT_S)
        return code

    def end(self):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
        code = self.wait()
        self.popen.stdout.close()
        return code


class World:
    def __init__(self, url, ledger, open_house):
        self.url, self.ledger, self.processes = url, ledger, []
        self.desk = open_house(launch=False)

    def process(self, **told):
        process = Process(url=self.url, ledger=str(self.ledger), **told)
        self.processes.append(process)
        return process

    def run_of(self, process):
        with process.heard:
            assert process.heard.wait_for(lambda: any("started" in said for said in process.said), WAIT_S)
            return next(said["started"] for said in process.said if "started" in said)

    def effects(self):
        """(step, pid) in the order in which they happened."""
        if not self.ledger.exists():
            return []
        return [(line.split()[1], int(line.split()[3])) for line in self.ledger.read_text().splitlines()]

    def times(self):
        return Counter(step for step, _ in self.effects())


@pytest.fixture
def world(database_url, tmp_path, open_house):
    world = World(database_url, tmp_path / "ledger", open_house)
    yield world
    for process in world.processes:
        process.end()


@pytest.mark.parametrize("name", ["plain", "coroutine"])
@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("s1.before-effect", {"s0": 1, "s1": 1, "s2": 1}),
        ("s1.after-effect", {"s0": 1, "s1": 2, "s2": 1}),  # the window that no journal closes: hence effect keys
        ("s1.after-journal", {"s0": 1, "s1": 1, "s2": 1}),
    ],
)
def test_after_a_kill_no_acknowledged_step_is_executed_again_and_the_run_ends(world, name, point, times):
    first = world.process(name="one", start=[name], point=point, deed="kill")
    assert first.wait() == -signal.SIGKILL
    run_id = world.run_of(first)
    acknowledged = {said["acknowledged"] for said in first.said if "acknowledged" in said}
    world.process(name="one")
    run = world.desk.ended(run_id)
    assert (run.state, run.result) == ("succeeded", '["did s0","did s1","did s2"]')
    assert world.times() == times
    assert all(times[step] == 1 for step in acknowledged)


def test_a_neighbour_takes_a_killed_process_up_without_waiting_for_its_lease(world):
    neighbour = world.process(lease_s=3600)
    neighbour.hear(ready=True)
    first = world.process(lease_s=3600, start=["plain"], point="s1.after-journal", deed="kill")
    first.wait()
    assert world.desk.ended(world.run_of(first)).state == "succeeded"
    assert world.effects()[-1] == ("s2", neighbour.popen.pid)


@pytest.mark.parametrize(
    ("point", "states"),
    [("s1.before-effect", ["unknown", "succeeded"]), ("s1.after-effect", ["succeeded"])],
)
def test_verify_closes_the_window_of_an_unsafe_step(world, point, states):
    first = world.process(name="one", start=["verified"], point=point, deed="kill")
    first.wait()
    world.process(name="one")
    run_id = world.run_of(first)
    assert world.desk.ended(run_id).state == "succeeded"
    assert world.times() == {"s0": 1, "s1": 1, "s2": 1}
    assert world.desk.states(run_id)["s1"] == states


def test_an_unsafe_step_that_was_cut_off_waits_for_a_person_and_its_run_has_no_owner(world):
    first = world.process(name="one", start=["unsafe"], point="s1.after-effect", deed="kill")
    first.wait()
    world.process(name="one")
    run = world.desk.until_state(world.run_of(first), "unknown")
    assert (run.claim_owner, world.times()) == (None, {"s0": 1, "s1": 1})


def test_undoing_goes_on_after_a_kill_and_what_is_undone_is_not_undone_again(world):
    first = world.process(name="one", start=["undone"], point="undo-s1", deed="kill")
    first.wait()
    world.process(name="one")
    run = world.desk.ended(world.run_of(first))
    assert (run.state, run.error.message, run.error.step_name) == ("compensated", "division by zero", "fail")
    # undo-s1 was cut off between its effect and its record; undo-s2 was on record.
    assert world.times() == {"s0": 1, "s1": 1, "s2": 1, "undo-s2": 1, "undo-s1": 2, "undo-s0": 1}


@pytest.mark.parametrize("point", ["s1.after-effect", "s1.after-journal"])
@pytest.mark.parametrize("name", ["plain", "coroutine"])
def test_a_process_that_was_frozen_beyond_its_lease_writes_and_starts_nothing_when_it_wakes(world, name, point):
    frozen = world.process(lease_s=1, start=[name], point=point, deed="freeze")
    frozen.hear(at=point)
    other = world.process(lease_s=1)
    run_id = world.run_of(frozen)
    done = world.desk.ended(run_id)
    before = world.effects()
    frozen.popen.send_signal(signal.SIGCONT)
    frozen.hear(unwound="RunSuspended" if name == "plain" else frozen_error(frozen))
    assert world.effects() == before
    assert before[-1] == ("s2", other.popen.pid)
    assert world.desk.store.get_run(run_id) == done
    assert frozen.end() == 0


def frozen_error(process):
    """A coroutine is cancelled where it stands, or stopped at its next step: whichever comes first."""
    with process.heard:
        process.heard.wait_for(lambda: any("unwound" in said for said in process.said), WAIT_S)
        unwound = next(said["unwound"] for said in process.said if "unwound" in said)
    assert unwound in {"CancelledError", "RunSuspended"}
    return unwound


def test_a_process_that_was_frozen_takes_part_again(world):
    frozen = world.process(lease_s=1, start=["plain"], point="s1.after-journal", deed="freeze")
    frozen.hear(at="s1.after-journal")
    other = world.process(lease_s=1)
    world.desk.ended(world.run_of(frozen))
    frozen.popen.send_signal(signal.SIGCONT)
    frozen.hear(unwound="RunSuspended")
    assert other.end() == 0
    run_id = world.desk.start("plain")
    assert world.desk.ended(run_id).state == "succeeded"
    assert world.effects()[-1] == ("s2", frozen.popen.pid)


def test_terminating_politely_ends_with_code_0_and_the_run_goes_on_elsewhere(world):
    first = world.process(start=["plain"] * 20)
    first.hear(ready=True)
    runs = [said["started"] for said in first.said if "started" in said]
    assert first.end() == 0
    world.process()
    assert {world.desk.ended(run_id).state for run_id in runs} == {"succeeded"}
    assert set(world.times().values()) == {20}
