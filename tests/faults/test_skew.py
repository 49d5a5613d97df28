"""Wall clocks that differ and jump change what is shown as a time, and nothing that is decided.

Here by a ``Clock`` of our own, within one process. ``python -m tests.faults --only skew`` bends the clock of real processes.
"""

import threading
import time
from collections import Counter

import pytest

from workflow_runs import EngineSettings, Run, WorkflowRuns, workflow
from workflow_runs.clock import Clock

HOUR_MS = 3_600_000
JUMPS_MS = (HOUR_MS, -HOUR_MS, 24 * HOUR_MS, 0)
DEADLINE_S = 60.0
HELD = "held"


class Jumping(Clock):
    """A wall clock that is wrong; every other clock is right."""

    ahead_ms = 0

    def now_millis(self):
        return super().now_millis() + self.ahead_ms


@pytest.fixture
def two(database_url):
    """Two desks on one database, the first with a clock that jumps before each step, and what their steps did."""
    done = Counter()
    clock = Jumping()
    held, release = threading.Event(), threading.Event()

    @workflow("jumps", idempotency="safe")
    def jumps(run: Run, where: str) -> list[int]:
        def step(i):
            done[run.id, i] += 1
            if where != HELD:
                clock.ahead_ms = JUMPS_MS[i % len(JUMPS_MS)]
            elif not held.is_set():
                held.set()
                release.wait(DEADLINE_S)
            return i

        return [run.step(f"s{i}", step, i) for i in range(8)]

    settings = EngineSettings(lease_s=10.0, heartbeat_s=0.2, poll_s=0.05)
    desks = [
        WorkflowRuns(database_url, [jumps], executor=name, clock=used, engine_settings=settings, migrate=True)
        for name, used in (("ahead", clock), ("right", Clock()))
    ]
    desks[1].held, desks[1].release = held, release
    with desks[0], desks[1]:
        yield desks, done, clock
        release.set()


def test_no_step_runs_twice_and_no_duration_is_negative_while_a_clock_jumps(two):
    desks, done, clock = two
    clock.ahead_ms = HOUR_MS
    ids = [desks[i % 2].trigger("jumps", str(i)) for i in range(8)]

    runs = [desks[1].wait(run_id, DEADLINE_S) for run_id in ids]

    assert {run.status for run in runs} == {"succeeded"}
    assert len(done) == 8 * 8
    assert set(done.values()) == {1}
    assert [run for run in runs if run.duration_ms < 0] == []
    steps = [step for run_id in ids for step in desks[1].store.get_steps(run_id)]
    assert len(steps) == 8 * 8
    assert [attempt for step in steps for attempt in step.attempts if attempt.duration_ms < 0] == []


def test_a_clock_that_is_an_hour_ahead_takes_nobody_for_dead(two):
    desks, done, clock = two
    clock.ahead_ms = HOUR_MS
    ahead, right = (desk.engine._tenure for desk in desks)
    claim = right.claim
    run_id = desks[1].trigger("jumps", HELD)
    assert desks[1].held.wait(DEADLINE_S)

    for _ in range(4):  # it is alive and looks for the dead, many times between two heartbeats
        renewed_at = ahead._renewed_at
        assert poll(lambda before=renewed_at: ahead._renewed_at > before)
    desks[1].release.set()

    assert desks[1].wait(run_id, DEADLINE_S).status == "succeeded"
    assert set(done.values()) == {1}
    assert right.claim is claim


def poll(look):
    deadline = time.monotonic() + DEADLINE_S
    while not look() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return look()
