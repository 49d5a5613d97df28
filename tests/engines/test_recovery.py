"""Taking up runs: several engines on one database, each run with one owner, each step executed once."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest

from workflow_runs.authoring import AsyncRun, Run, workflow
from workflow_runs.clock import Clock, LeaseTime
from workflow_runs.errors import ClaimLost
from workflow_runs.model.entries import Claim, Heartbeat, RegisterExecutor, RunChanged, StartRun
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import RunState

WAIT_S = 60.0


class FakeLease(Clock):
    """A clock whose lease time the test moves on."""

    def __init__(self):
        self.ahead_s = 0.0

    def lease_time(self):
        real = super().lease_time()
        return LeaseTime(real.boot_id, real.seconds + self.ahead_s)


def counted(counts, lock):
    def note(run_id, step):
        with lock:
            counts[run_id, step] += 1

    @workflow("plain", idempotency="safe")
    def plain(run: Run) -> None:
        for number in range(3):
            run.step(f"s{number}", note, run.id, number)

    @workflow("coroutine", idempotency="safe")
    async def coroutine(run: AsyncRun) -> None:
        async def later(run_id, step):
            await asyncio.sleep(0)
            note(run_id, step)

        for number in range(3):
            await run.step(f"s{number}", later, run.id, number)

    return plain, coroutine


def test_two_engines_share_fifty_runs_and_execute_each_step_once(open_house):
    counts, lock = Counter(), threading.Lock()
    workflows = counted(counts, lock)
    desk = open_house(launch=False)
    runs = [desk.start(name) for name in ["plain", "coroutine"] * 25]
    houses = [open_house(*workflows, runs_max=5), open_house(*workflows, runs_max=5)]
    for run_id in runs:
        assert houses[0].ended(run_id).state == "succeeded"
    assert set(counts.values()) == {1}
    assert len(counts) == 150


def test_a_restart_under_the_same_name_takes_up_its_own_runs_at_once(open_house):
    counts = Counter()
    plain, _ = counted(counts, threading.Lock())
    desk = open_house(launch=False)
    # What a process leaves behind that died before its first step, on another machine, with a long lease.
    claim = desk.journal.submit(RegisterExecutor("worker-1", 3600, "elsewhere", 1, "1")).result()
    run_id = desk.clock.new_run_id()
    desk.journal.submit(StartRun(run_id, RunRequest("plain", "plain"), claim=claim)).result()
    desk.journal.submit(RunChanged(run_id, RunState.RUNNING, desk.clock.now_millis(), claim)).result()
    other = open_house(plain)
    assert other.store.get_run(run_id).claim_owner == "worker-1"
    restarted = open_house(plain, name="worker-1")
    assert restarted.ended(run_id).state == "succeeded"


def test_a_run_that_was_taken_up_knows_it(open_house):
    seen = []

    @workflow("plain")
    def plain(run: Run) -> None:
        seen.append(run.attempt)

    desk = open_house(launch=False)
    claim = desk.journal.submit(RegisterExecutor("gone", 3600, "elsewhere", 1, "1")).result()
    run_id = desk.clock.new_run_id()
    desk.journal.submit(StartRun(run_id, RunRequest("plain", "plain"), claim=claim)).result()
    desk.journal.submit(RunChanged(run_id, RunState.RUNNING, desk.clock.now_millis(), claim)).result()
    assert open_house(plain, name="gone").ended(run_id).state == "succeeded"
    assert seen == [2]


def test_a_fenced_engine_gives_up_its_runs_and_comes_back_under_another_name(open_house):
    entered, gate = threading.Event(), threading.Event()

    @workflow("plain", idempotency="safe")
    def plain(run: Run) -> None:
        run.step("wait", lambda: entered.set() or (gate.wait(WAIT_S) and None))
        run.step("after", int)

    first = open_house(plain, name="twin", lease_s=2)
    run_id = first.start("plain")
    first.until(lambda: first.states(run_id) == {"wait": ["running"]})
    entered.clear()
    second = open_house(plain, name="twin", lease_s=2)  # by mistake, or the first was thought dead
    assert entered.wait(WAIT_S)
    first.until(lambda: first.engine._tenure.claim and first.engine._tenure.claim.owner.startswith("twin~"))
    gate.set()
    assert second.ended(run_id).state == "succeeded"
    assert second.states(run_id) == {"wait": ["unknown", "succeeded"], "after": ["succeeded"]}
    assert second.engine._tenure.claim.owner == "twin"


def test_an_owner_whose_lease_may_be_over_starts_no_step_until_a_heartbeat_succeeded(open_house):
    clock = FakeLease()
    holding = []

    @workflow("plain", idempotency="safe")
    def plain(run: Run) -> None:
        tenure, frozen_s = house.engine._tenure, 3600
        clock.ahead_s += frozen_s
        holding.append(tenure.holds(tenure.claim))
        tenure.renew_now()
        run.step("late", lambda: holding.append(tenure.holds(tenure.claim)))

    house = open_house(plain, clock=clock, lease_s=30)
    run_id = house.start("plain")
    house.until(lambda: len(holding) == 2)
    assert holding == [False, True]
    assert house.ended(run_id).state == "succeeded"


def test_a_dead_owner_writes_nothing_once_it_was_relieved(open_house):
    desk = open_house(launch=False)
    old = desk.journal.submit(RegisterExecutor("x", 3600, "elsewhere", 1, "1")).result()
    new = desk.journal.submit(RegisterExecutor("x", 3600, "elsewhere", 2, "2")).result()
    assert (old, new) == (Claim("x", 1), Claim("x", 2))
    with pytest.raises(ClaimLost):
        desk.journal.submit(Heartbeat(old)).result()


def test_a_loop_that_is_busy_without_a_pause_does_not_cost_the_lease(open_house):
    @workflow("spin", idempotency="safe")
    async def spin(run: AsyncRun) -> None:
        loop = asyncio.get_running_loop()
        clock = house.clock
        end = clock.monotonic() + 3
        while clock.monotonic() < end:
            slice_end = loop.time() + 0.002
            while loop.time() < slice_end:
                pass
            await asyncio.sleep(0)
        await run.step("after", int)

    house = open_house(spin, lease_s=1)
    claim = house.engine._tenure.claim
    assert house.ended(house.start("spin")).state == "succeeded"
    assert house.engine._tenure.claim is claim
