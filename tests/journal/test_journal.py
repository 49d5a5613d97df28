"""Entries go in from threads and event loops, come out in order and in groups, and answer after their commit."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from workflow_runs.errors import AlreadyFinished, ConfigurationError, JournalClosed, QueueFull
from workflow_runs.model.entries import GapNoted, Heartbeat, StepStarted

DEADLINE_S = 60.0


def in_thread(function, *args):
    """Run on a thread of its own (the main thread never leads) and give what it returns or raises."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result(DEADLINE_S)


def test_a_receipt_answers_with_the_outcome_of_its_entry(memory, journal):
    memory.refuse = lambda entry: entry.run_id.upper()
    assert journal.submit(GapNoted("a")).result() == "A"


async def test_a_receipt_is_awaited_in_an_event_loop(memory, journal):
    memory.refuse = lambda entry: entry.run_id.upper()
    assert await journal.submit(GapNoted("a")) == "A"


async def test_a_receipt_that_is_done_is_awaited_without_waiting(journal):
    receipt = journal.submit(GapNoted("a"))
    await receipt
    assert receipt.done
    assert await receipt is None


async def test_a_receipt_of_a_thread_is_awaited_in_an_event_loop(memory, journal):
    receipt = await asyncio.to_thread(journal.submit, GapNoted("a"))
    await receipt
    assert memory.written == [GapNoted("a")]


async def test_several_coroutines_and_threads_wait_for_one_receipt(journal, hold, memory):
    receipt = journal.submit(GapNoted("a"))

    async def waiting():
        return await receipt

    waiters = [asyncio.ensure_future(waiting()) for _ in range(3)]
    waiters += [asyncio.ensure_future(asyncio.to_thread(receipt.result)) for _ in range(3)]
    await asyncio.to_thread(memory.may_commit.set)
    assert await asyncio.gather(*waiters) == [None] * 6


def test_no_receipt_is_done_before_the_commit(journal, hold, memory):
    assert not hold.done
    memory.may_commit.set()
    assert hold.result() is None


def test_an_entry_that_nobody_waits_for_is_written_all_the_same(journal, memory):
    journal.submit(GapNoted("a"))
    assert memory.is_committing.wait(DEADLINE_S)


def test_what_is_queued_during_a_commit_is_the_next_commit(journal, hold, memory):
    receipts = [journal.submit(GapNoted(f"run-{number}")) for number in range(500)]
    memory.may_commit.set()
    receipts[-1].result()
    assert [len(batch) for batch in memory.batches] == [1, 500]


def test_a_batch_is_bounded(new_journal, memory):
    journal = new_journal(batch_entries_max=10)
    memory.may_commit.clear()
    receipts = [journal.submit(GapNoted(f"run-{number}")) for number in range(35)]
    memory.may_commit.set()
    for receipt in receipts:
        receipt.result()
    assert max(len(batch) for batch in memory.batches) == 10


async def test_two_hundred_coroutines_share_commits(memory, journal):
    async def one_run(name):
        for number in range(5):
            await journal.submit(GapNoted(f"{name}/{number}"))

    await asyncio.gather(*(one_run(f"run-{number}") for number in range(200)))
    assert sorted(entry.run_id for entry in memory.written) == sorted(
        f"run-{n}/{m}" for n in range(200) for m in range(5)
    )
    assert journal.stats().commits < 250


def test_fifty_threads_write_everything_once_and_in_their_order(memory, journal):
    def one_run(name):
        for number in range(20):
            journal.submit(GapNoted(f"{name}/{number:02}")).result()

    with ThreadPoolExecutor(50) as pool:
        done, _ = wait([pool.submit(one_run, f"run-{number:02}") for number in range(50)])
    assert [task.exception() for task in done] == [None] * 50
    names = [entry.run_id for entry in memory.written]
    assert sorted(names) == [f"run-{n:02}/{m:02}" for n in range(50) for m in range(20)]
    for number in range(50):
        mine = [name for name in names if name.startswith(f"run-{number:02}/")]
        assert mine == sorted(mine)


async def test_threads_and_coroutines_together_write_everything_once(memory, journal):
    def in_a_thread(name):
        for number in range(20):
            journal.submit(GapNoted(f"{name}/{number}")).result()

    async def in_the_loop(name):
        for number in range(20):
            await journal.submit(GapNoted(f"{name}/{number}"))

    await asyncio.gather(
        *(in_the_loop(f"async-{number}") for number in range(50)),
        *(asyncio.to_thread(in_a_thread, f"sync-{number}") for number in range(20)),
    )
    expected = [f"async-{n}/{m}" for n in range(50) for m in range(20)] + [
        f"sync-{n}/{m}" for n in range(20) for m in range(20)
    ]
    assert sorted(entry.run_id for entry in memory.written) == sorted(expected)


def test_entries_of_one_caller_are_committed_in_their_order(memory, new_journal):
    journal = new_journal(batch_entries_max=7)
    receipts = [journal.submit(GapNoted(f"{number:03}")) for number in range(300)]
    receipts[-1].result()
    assert [entry.run_id for entry in memory.written] == [f"{number:03}" for number in range(300)]


# --- who commits -----------------------------------------------------------------------------------------------------


def test_a_lone_thread_commits_its_own_entries(memory, journal):
    def three_entries():
        for number in range(3):
            journal.submit(GapNoted(str(number))).result()
        return threading.get_ident()

    me = in_thread(three_entries)
    # The writer thread takes an entry whose thread was kept waiting by the machine for longer than it is given to come.
    assert memory.leaders.count(me) >= 1


def test_the_main_thread_never_commits(memory, journal):
    # Ctrl-C strikes the main thread between any two lines, also between taking a batch and giving it back.
    journal.submit(GapNoted("a")).result()
    assert threading.main_thread().ident not in memory.leaders


def test_who_bounds_its_wait_does_not_commit(memory, journal):
    def bounded():
        journal.submit(GapNoted("a")).result(DEADLINE_S)
        journal.submit(GapNoted("b"), give_up_after_s=DEADLINE_S).result()
        return threading.get_ident()

    assert in_thread(bounded) not in memory.leaders


def test_what_arrives_while_a_thread_commits_is_not_forgotten(memory, journal):
    memory.may_commit.clear()
    with ThreadPoolExecutor(3) as pool:
        leader = pool.submit(lambda: journal.submit(GapNoted("a")).result())
        assert memory.is_committing.wait(DEADLINE_S)
        followers = [pool.submit(lambda: journal.submit(GapNoted("b")).result()) for _ in range(2)]
        memory.may_commit.set()
        assert [task.result(DEADLINE_S) for task in (leader, *followers)] == [None] * 3


# --- lazy entries ----------------------------------------------------------------------------------------------------


def test_the_end_of_a_step_takes_the_place_of_its_lazy_start(memory, new_journal, step_started, step_ended):
    journal = new_journal(start_visible_after_s=3_600)
    start = journal.submit(step_started("a"), lazy=True)
    end = journal.submit(step_ended("a"))
    assert not start.done
    end.result()
    assert start.done
    assert start.result() is None
    assert memory.batches == [[step_ended("a")]]


async def test_a_lazy_start_that_gave_way_is_waited_for_like_its_end(memory, new_journal, step_started, step_ended):
    journal = new_journal(start_visible_after_s=3_600)
    memory.may_commit.clear()
    start = journal.submit(step_started("a"), lazy=True)
    ended = journal.submit(step_ended("a"))
    waiting = [asyncio.ensure_future(start), asyncio.get_running_loop().run_in_executor(None, start.result, DEADLINE_S)]
    memory.may_commit.set()
    await asyncio.gather(*waiting)
    assert ended.done


def test_a_lazy_start_of_whose_outcome_somebody_is_told_is_written(memory, new_journal, step_started, step_ended):
    journal = new_journal(start_visible_after_s=3_600)
    told = []
    journal.submit(step_started("a"), lazy=True, tell=told.append)
    journal.submit(step_ended("a")).result()
    assert (told, memory.written) == ([None], [step_started("a"), step_ended("a")])


def test_a_lazy_start_waits_while_other_runs_are_written(memory, new_journal, step_started):
    journal = new_journal(start_visible_after_s=3_600)
    start = journal.submit(step_started("a"), lazy=True)
    journal.submit(GapNoted("b")).result()
    assert not start.done
    assert memory.written == [GapNoted("b")]


def test_a_lazy_start_of_a_slow_step_becomes_visible_by_itself(memory, new_journal, step_started):
    journal = new_journal(start_visible_after_s=0.01)
    journal.submit(step_started("a"), lazy=True)
    assert memory.is_committing.wait(DEADLINE_S)
    assert memory.attempts == [[step_started("a")]]


async def test_a_lazy_start_becomes_visible_while_the_step_blocks_the_event_loop(memory, new_journal, step_started):
    journal = new_journal(start_visible_after_s=0.01)
    journal.submit(step_started("a"), lazy=True)
    assert memory.is_committing.wait(DEADLINE_S)  # on the loop's own thread: no turn of the loop comes to help


def test_a_lazy_entry_that_somebody_waits_for_is_written_at_once(memory, new_journal, step_started):
    journal = new_journal(start_visible_after_s=3_600)
    journal.submit(step_started("a"), lazy=True).result()
    assert memory.written == [step_started("a")]


async def test_a_lazy_entry_that_a_coroutine_waits_for_is_written_at_once(memory, new_journal, step_started):
    journal = new_journal(start_visible_after_s=3_600)
    await journal.submit(step_started("a"), lazy=True)
    assert memory.written == [step_started("a")]


def test_lazy_starts_stand_before_what_comes_later_of_their_run_but_the_ends_of_other_steps(
    memory, new_journal, step_started, step_ended
):
    journal = new_journal(start_visible_after_s=3_600)
    entries = [step_started("a", 1), step_started("a", 2), step_ended("a", 2), step_started("a", 3), GapNoted("a")]
    for entry in entries:
        receipt = journal.submit(entry, lazy=isinstance(entry, StepStarted))
    receipt.result()
    assert memory.written == [step_ended("a", 2), step_started("a", 1), step_started("a", 3), GapNoted("a")]


def test_entries_without_a_run_leave_lazy_starts_alone(memory, new_journal, step_started):
    journal = new_journal(start_visible_after_s=3_600)
    start = journal.submit(step_started("a"), lazy=True)
    journal.submit(Heartbeat(("me", 1))).result()
    assert not start.done


# --- refusals and observers ------------------------------------------------------------------------------------------


def test_a_refused_entry_raises_its_refusal_and_spares_its_neighbours(journal, hold, memory):
    refusal = AlreadyFinished("The run has ended.", state="failed")
    memory.refuse = lambda entry: refusal if entry.run_id == "bad" else None
    before, bad, after = [journal.submit(GapNoted(name)) for name in ("before", "bad", "after")]
    memory.may_commit.set()
    with pytest.raises(AlreadyFinished) as caught:
        bad.result()
    assert caught.value is refusal
    assert (before.result(), after.result()) == (None, None)


async def test_a_coroutine_gets_the_refusal_of_its_entry(journal, memory):
    memory.refuse = lambda entry: AlreadyFinished("The run has ended.")
    with pytest.raises(AlreadyFinished):
        await journal.submit(GapNoted("a"))


def test_observers_see_what_was_written_and_not_what_was_refused(journal, hold, memory):
    seen = []
    memory.refuse = lambda entry: AlreadyFinished("ended") if entry.run_id == "bad" else None
    journal.add_observer(seen.extend)
    receipts = [journal.submit(GapNoted(name)) for name in ("good", "bad", "last")]
    memory.may_commit.set()
    receipts[-1].result()
    journal.close()
    assert seen == [GapNoted("first"), GapNoted("good"), GapNoted("last")]


def test_an_observer_that_raises_is_logged_and_harms_nobody(journal, memory, caplog):
    seen = []
    journal.add_observer(lambda entries: 1 / 0)
    journal.add_observer(seen.extend)
    journal.submit(GapNoted("a")).result()
    journal.close()
    assert seen == [GapNoted("a")]
    assert "ZeroDivisionError at test_journal.py" in caplog.text


def test_an_observer_that_waits_for_the_journal_is_told_so_instead_of_hanging(journal, caplog):
    told = threading.Event()

    def observer(entries):
        if entries == [GapNoted("a")]:
            with pytest.raises(ConfigurationError):
                journal.submit(GapNoted("b")).result()
            told.set()

    journal.add_observer(observer)
    journal.submit(GapNoted("a")).result()
    assert told.wait(DEADLINE_S)


def test_who_does_not_wait_is_told_of_outcomes_and_refusals(journal, hold, memory):
    refusal, told = AlreadyFinished("ended"), []
    memory.refuse = lambda entry: refusal if entry.run_id == "bad" else "written"
    journal.submit(GapNoted("good"), tell=told.append)
    journal.submit(GapNoted("bad"), tell=told.append)
    memory.may_commit.set()
    journal.close(DEADLINE_S)
    assert told == ["written", refusal]


def test_who_is_told_may_submit_the_next_entry(journal, memory):
    journal.submit(GapNoted("a"), tell=lambda outcome: journal.submit(GapNoted("b"))).result()
    journal.submit(GapNoted("c")).result()
    assert sorted(entry.run_id for entry in memory.written) == ["a", "b", "c"]


def test_a_function_that_is_told_and_raises_is_logged_and_harms_nobody(journal, memory, caplog):
    told = []
    journal.submit(GapNoted("a"), tell=lambda outcome: 1 / 0)
    journal.submit(GapNoted("b"), tell=told.append)
    journal.close(DEADLINE_S)
    assert told == [None]
    assert "ZeroDivisionError at test_journal.py" in caplog.text


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_threads_wait_for_room_in_a_full_queue(memory, new_journal):
    journal = new_journal(queue_entries_max=5)
    memory.may_commit.clear()
    with ThreadPoolExecutor(20) as pool:
        tasks = [pool.submit(lambda: journal.submit(GapNoted("a")).result()) for _ in range(20)]
        assert memory.is_committing.wait(DEADLINE_S)
        assert journal.stats().queued <= 5 + len(memory.attempts[0])
        memory.may_commit.set()
        assert [task.result(DEADLINE_S) for task in tasks] == [None] * 20
    assert len(memory.written) == 20


def test_who_cannot_wait_is_told_that_the_queue_is_full(memory, new_journal):
    journal = new_journal(queue_entries_max=1)
    memory.may_commit.clear()
    journal.submit(GapNoted("a"))
    assert memory.is_committing.wait(DEADLINE_S)
    journal.submit(GapNoted("b"))
    with pytest.raises(QueueFull):
        journal.submit(GapNoted("c"), give_up_after_s=0.001)


def test_who_does_not_wait_at_all_is_told_at_once_that_the_queue_is_full(memory, new_journal):
    journal = new_journal(queue_entries_max=1)
    memory.may_commit.clear()
    journal.submit(GapNoted("a"))
    assert memory.is_committing.wait(DEADLINE_S)
    journal.submit(GapNoted("b"))
    with pytest.raises(QueueFull):
        journal.submit(GapNoted("c"), tell=print)


async def test_an_event_loop_is_told_at_once_that_the_queue_is_full(memory, new_journal):
    journal = new_journal(queue_entries_max=1)
    memory.may_commit.clear()
    journal.submit(GapNoted("a"))
    assert await asyncio.to_thread(memory.is_committing.wait, DEADLINE_S)
    journal.submit(GapNoted("b"))
    with pytest.raises(QueueFull):
        journal.submit(GapNoted("c"), give_up_after_s=DEADLINE_S)


async def test_coroutines_that_wait_are_taken_beyond_the_bound(memory, new_journal):
    journal = new_journal(queue_entries_max=1)

    async def one_entry(number):
        await journal.submit(GapNoted(str(number)))

    await asyncio.gather(*(one_entry(number) for number in range(20)))
    assert len(memory.written) == 20


# --- the end ---------------------------------------------------------------------------------------------------------


def test_closing_writes_what_is_queued(journal, hold, memory, step_started):
    lazy = journal.submit(step_started("a"), lazy=True)
    receipts = [hold, lazy, *(journal.submit(GapNoted(str(number))) for number in range(100))]
    memory.may_commit.set()
    journal.close(DEADLINE_S)
    assert [receipt.result() for receipt in receipts] == [None] * 102
    assert (memory.writers_opened, memory.writers_closed) == (1, 1)


def test_a_closed_journal_takes_nothing(journal):
    journal.close()
    with pytest.raises(JournalClosed):
        journal.submit(GapNoted("a"))
    assert not journal.healthy


def test_closing_twice_or_unused_is_harmless(journal, new_journal):
    journal.submit(GapNoted("a")).result()
    journal.close()
    journal.close()
    new_journal().close()


def test_a_journal_that_was_never_used_opens_nothing(memory, journal):
    assert memory.writers_opened == 0
    assert journal.healthy


def test_closing_in_vain_fails_what_waits_instead_of_hanging(journal, hold, memory):
    waiting = journal.submit(GapNoted("waiting"))
    journal.close(0.0)  # the store still holds the first entry in its hands
    with pytest.raises(JournalClosed, match="not known"):
        hold.result()
    with pytest.raises(JournalClosed, match="was not written"):
        waiting.result()
    memory.may_commit.set()


def test_a_thread_waiting_for_room_learns_that_the_journal_was_closed(memory, new_journal):
    journal = new_journal(queue_entries_max=1)
    memory.may_commit.clear()
    journal.submit(GapNoted("a"))
    assert memory.is_committing.wait(DEADLINE_S)
    journal.submit(GapNoted("b"))
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(journal.submit, GapNoted("c"))
        journal.close(0.0)
        with pytest.raises(JournalClosed):
            task.result(DEADLINE_S)
    memory.may_commit.set()


def test_receipts_are_not_kept_by_the_journal(journal):
    journal.submit(GapNoted("a")).result()
    journal.submit(GapNoted("b")).result()
    gc.collect()
    assert journal.stats().queued == 0
