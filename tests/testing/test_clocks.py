"""The clock for tests: three times that go together, or apart."""

from __future__ import annotations

import pytest

from workflow_runs import Run, WorkflowRuns, workflow
from workflow_runs.clock import run_id_millis
from workflow_runs.testing import FakeClock


def test_it_stands_still_until_told():
    clock = FakeClock(1_000)
    before = (clock.now_millis(), clock.monotonic(), clock.lease_time().seconds)
    assert (clock.now_millis(), clock.monotonic(), clock.lease_time().seconds) == before
    clock.advance(2.5)
    assert (clock.now_millis(), clock.monotonic(), clock.lease_time().seconds) == (
        3_500,
        pytest.approx(before[1] + 2.5),
        pytest.approx(before[2] + 2.5),
    )


def test_the_wall_clock_can_be_set_back_and_no_other():
    clock = FakeClock(10_000)
    before = clock.monotonic()
    clock.advance(0, wall_s=-5)
    assert (clock.now_millis(), clock.monotonic()) == (5_000, before)
    with pytest.raises(ValueError, match="only the wall clock"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="only the wall clock"):
        clock.advance(0, lease_s=-1)


def test_after_a_reboot_leases_are_of_another_time():
    clock = FakeClock()
    before = clock.lease_time().boot_id
    clock.reboot()
    assert clock.lease_time().boot_id != before


def test_durations_on_record_are_the_clocks(sqlite_url):
    clock = FakeClock()

    @workflow("slow", idempotency="safe")
    def slow(run: Run) -> None:
        run.step("wait", clock.advance, 90.0)

    with WorkflowRuns(sqlite_url, [slow], clock=clock) as app:
        run_id = app.trigger(slow)
        run = app.wait(run_id, timeout_s=3600)
        (step,) = app.store.get_steps(run_id)
    assert step.last.duration_ms == 90_000
    assert run.duration_ms == 90_000


def test_ids_are_of_its_time_and_in_their_order():
    clock = FakeClock(1_700_000_000_000)
    ids = [clock.new_run_id() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert {run_id_millis(run_id) for run_id in ids} == {1_700_000_000_000}
    assert clock.new_audit_id().startswith("wfra_")
