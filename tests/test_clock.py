"""Ids and times: what the list's order and every lease rest on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from workflow_runs.clock import (
    Clock,
    ProcessIdentity,
    from_millis,
    run_id_floor,
    run_id_millis,
    step_id,
    this_process,
    to_millis,
)

RUN_ID = re.compile(r"wfrn_[0-7][0-9a-hjkmnp-tv-z]{25}")
STEP_ID = re.compile(r"wfrs_[0-7][0-9a-hjkmnp-tv-z]{25}")


def test_run_ids_are_well_formed_and_increase() -> None:
    clock = Clock()
    ids = [clock.new_run_id() for _ in range(5_000)]
    assert all(RUN_ID.fullmatch(run_id) for run_id in ids)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_a_run_id_carries_the_time_at_which_it_was_made() -> None:
    clock = Clock()
    before = clock.now_millis()
    run_id = clock.new_run_id()
    assert before <= run_id_millis(run_id) <= clock.now_millis()


@given(st.integers(0, 7_258_118_400_000).map(from_millis))
def test_the_floor_of_a_moment_reads_back_as_the_moment(moment: datetime) -> None:
    floor = run_id_floor(moment)
    assert RUN_ID.fullmatch(floor)
    assert run_id_millis(floor) == to_millis(moment)
    assert run_id_floor(moment) < run_id_floor(moment + timedelta(milliseconds=1))


def test_a_run_made_at_a_moment_is_not_below_its_floor() -> None:
    run_id = Clock().new_run_id()
    made_at = from_millis(run_id_millis(run_id))
    assert run_id_floor(made_at) <= run_id < run_id_floor(made_at + timedelta(milliseconds=1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "wfrn_",
        "wfrs_01m81srpafe07vg00hcm7rdwd5",
        "wfrn_01m81srpafe07vg00hcm7rdwd",
        "wfrn_01M81srpafe07vg00hcm7rdwd5",
        "wfrn_01l81srpafe07vg00hcm7rdwd5",
        "wfrn_ 1m81srpafe07vg00hcm7rdwd5",
        "wfrn_\u0660\u06601m81srpafe07vg00hcm7rdwd5",
    ],
)
def test_text_that_is_no_run_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a run id|invalid literal"):
        run_id_millis(text)


def test_a_step_id_is_the_same_for_ever_and_differs_with_each_part_of_the_identity() -> None:
    run_id = Clock().new_run_id()
    ids = {
        step_id(run_id, "charge", "", 1, 1),
        step_id(run_id, "charge", "", 1, 2),
        step_id(run_id, "charge", "", 2, 1),
        step_id(run_id, "charge", "1", 1, 1),
        step_id(run_id, "charg", "e", 1, 1),
        step_id(Clock().new_run_id(), "charge", "", 1, 1),
    }
    assert len(ids) == 6
    assert all(STEP_ID.fullmatch(one) for one in ids)
    assert step_id(run_id, "charge", "", 1, 1) in ids


def test_wall_time_is_aware_and_cut_to_milliseconds() -> None:
    now = Clock().now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert from_millis(to_millis(now)) == now


def test_the_lease_clock_names_its_boot_and_goes_forward() -> None:
    clock = Clock()
    first, second = clock.lease_time(), clock.lease_time()
    assert first.boot_id == second.boot_id != ""
    assert first.seconds <= second.seconds


def test_this_process_is_seen_alive() -> None:
    assert this_process().is_alive() is True


def test_a_process_that_ended_is_seen_dead_by_its_neighbour() -> None:
    code = "import dataclasses, json; from workflow_runs.clock import this_process as t; print(json.dumps(dataclasses.astuple(t())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scope, pid, started = done.stdout.strip().strip("[]").replace('"', "").split(", ")
    neighbour = ProcessIdentity(scope, int(pid), started)
    assert neighbour.scope == this_process().scope
    assert neighbour.is_alive() is False


def test_a_reused_pid_is_not_taken_for_the_process_that_had_it() -> None:
    me = this_process()
    assert ProcessIdentity(me.scope, os.getpid(), "0").is_alive() is False


def test_nothing_is_said_about_processes_of_another_machine() -> None:
    assert ProcessIdentity("elsewhere", 1, "0").is_alive() is None
