"""Event loops: one hand-over a turn, one wake-up a batch, loops that close, and loops that are never idle."""

import asyncio
import hashlib
import threading
import time

import pytest

from workflow_runs.model.entries import GapNoted

DEADLINE_S = 60.0


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often another thread wakes it."""

    def __init__(self):
        super().__init__()
        self.wake_ups = 0

    def call_soon_threadsafe(self, *args, **kwargs):
        self.wake_ups += 1
        return super().call_soon_threadsafe(*args, **kwargs)


def run(main, loop_factory=asyncio.SelectorEventLoop):
    """Run a coroutine on a loop of its own, in this thread."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)


async def entries_one_after_another(journal, name, count=5):
    for number in range(count):
        await journal.submit(GapNoted(f"{name}/{number}"))


def test_a_loop_is_woken_once_for_a_batch(memory, journal):
    async def main():
        loop = asyncio.get_running_loop()
        memory.may_commit.clear()
        waiting = [asyncio.ensure_future(entries_one_after_another(journal, "first", 1))]
        assert await asyncio.to_thread(memory.is_committing.wait, DEADLINE_S)
        waiting += [asyncio.ensure_future(entries_one_after_another(journal, str(n), 1)) for n in range(200)]
        await asyncio.sleep(0)
        before = loop.wake_ups
        memory.may_commit.set()
        await asyncio.gather(*waiting)
        return loop.wake_ups - before

    assert run(main(), CountingLoop) == len(memory.batches) == 2


def test_several_loops_share_the_journal(memory, journal):
    async def main(name):
        await asyncio.gather(*(entries_one_after_another(journal, f"{name}/{number}") for number in range(20)))

    threads = [threading.Thread(target=run, args=(main(f"loop-{number}"),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len({entry.run_id for entry in memory.written}) == len(memory.written) == 400


def test_a_loop_that_was_closed_before_its_commit_harms_nobody(memory, journal):
    async def leave_without_waiting():
        memory.may_commit.clear()
        receipt = journal.submit(GapNoted("left"))
        receipt.__await__()  # as a task does that never runs again
        assert await asyncio.to_thread(memory.is_committing.wait, DEADLINE_S)

    run(leave_without_waiting())
    memory.may_commit.set()
    assert journal.submit(GapNoted("next")).result() is None
    assert memory.written == [GapNoted("left"), GapNoted("next")]
    run(entries_one_after_another(journal, "new loop"))


def test_what_a_loop_submits_in_its_last_turn_is_written(memory, journal):
    async def submit_and_end():
        journal.submit(GapNoted("last"))

    run(submit_and_end())
    journal.close(DEADLINE_S)
    assert memory.written == [GapNoted("last")]


async def test_a_cancelled_wait_does_not_cancel_the_write(memory, journal):
    memory.may_commit.clear()
    task = asyncio.ensure_future(entries_one_after_another(journal, "a", 1))
    assert await asyncio.to_thread(memory.is_committing.wait, DEADLINE_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    memory.may_commit.set()
    await journal.submit(GapNoted("b"))
    assert [entry.run_id for entry in memory.written] == ["a/0", "b"]


async def test_waiting_like_a_thread_on_the_loop_does_not_hang(journal):
    # Wrong, since it blocks the loop, but the entry was not handed over yet and the loop cannot do it now.
    assert journal.submit(GapNoted("a")).result() is None


def let_go_as_a_driver_does(entry):
    """Release the interpreter lock and take it back, several times for each row. An impolite loop takes minutes over this test."""
    for _ in range(20):
        hashlib.sha256(bytes(3_000))


@pytest.mark.parametrize("slice_s", [0.0005, 0.002])
def test_a_loop_that_is_always_busy_does_not_starve_the_writer(memory, journal, slice_s):
    memory.choke = let_go_as_a_driver_does

    async def never_idle(ended):
        while not ended.is_set():
            until = time.perf_counter() + slice_s
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    async def main():
        ended = asyncio.Event()
        busy = asyncio.ensure_future(never_idle(ended))
        await asyncio.gather(*(entries_one_after_another(journal, str(number)) for number in range(50)))
        ended.set()
        await busy

    run(asyncio.wait_for(main(), DEADLINE_S * 2))
    assert len(memory.written) == 250


def test_a_loop_that_is_always_busy_lets_lazy_entries_become_visible(memory, new_journal, step_started):
    journal = new_journal(start_visible_after_s=0.01)

    async def main():
        journal.submit(step_started("a"), lazy=True)
        while not memory.is_committing.is_set():
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    run(asyncio.wait_for(main(), DEADLINE_S * 2))
    assert memory.attempts == [[step_started("a")]]
