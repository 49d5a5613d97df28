"""Threads for sync code."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from workflow_runs.execution.threads import Threads, call_in_own_thread


def test_outcomes_of_whatever_class_come_back():
    threads = Threads(2, "test")
    assert threads.submit(pow, 2, 5).result(10) == 32
    with pytest.raises(SystemExit):
        threads.submit(sys.exit, 3).result(10)


def test_no_more_threads_work_than_allowed_and_the_rest_waits_in_order():
    threads = Threads(2, "test")
    gate, begun, order = threading.Event(), threading.Semaphore(0), []

    def work(number):
        order.append(number)
        begun.release()
        gate.wait(10)

    futures = [threads.submit(work, number) for number in range(5)]
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    assert not begun.acquire(blocking=False)
    gate.set()
    for future in futures:
        future.result(10)
    assert sorted(order[:2]) == [0, 1]
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_what_is_not_taken_up_can_be_cancelled():
    threads = Threads(1, "test")
    gate = threading.Event()
    first, second = threads.submit(gate.wait, 10), threads.submit(pow, 1, 1)
    assert second.cancel()
    gate.set()
    assert first.result(10)


def test_a_thread_that_never_returns_does_not_keep_the_process_from_ending():
    code = (
        "import threading; from workflow_runs.execution.threads import Threads, call_in_own_thread as own\n"
        "begun = threading.Barrier(3)\n"
        "def stuck(): begun.wait(); threading.Event().wait()\n"
        "Threads(1, 'x').submit(stuck); own(stuck); begun.wait()"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_a_thread_of_its_own_gives_its_outcome_too():
    assert call_in_own_thread(pow, 3, 2).result(10) == 9
