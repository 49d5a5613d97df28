"""The database fails and heals, an entry cannot be written, the store raises what it should not: nothing is lost, nothing hangs."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from workflow_runs.clock import Clock
from workflow_runs.errors import EntryRejected, JournalClosed, SchemaMismatch, StoreUnavailable
from workflow_runs.journal import Journal
from workflow_runs.model.entries import GapNoted
from workflow_runs.settings import JournalSettings

DEADLINE_S = 60.0
FOREVER = 10_000  # failures: more than any test lives to see


def away(times=1):
    return [StoreUnavailable("the database is away") for _ in range(times)]


# --- the database is away --------------------------------------------------------------------------------------------


def test_entries_are_kept_while_the_database_is_away_and_written_once_it_is_back(memory, journal, step_ended):
    memory.failures.extend(away(5))
    receipts = [journal.submit(step_ended("a", number, output=f'"{number}"')) for number in range(10)]
    assert [receipt.result() for receipt in receipts] == [None] * 10
    assert memory.written == [step_ended("a", number, output=f'"{number}"') for number in range(10)]
    assert len(memory.attempts) > 5


async def test_coroutines_wait_until_the_database_is_back(memory, journal):
    memory.failures.extend(away(5))
    assert await asyncio.gather(*(journal_entry(journal, str(number)) for number in range(50))) == [None] * 50
    assert len(memory.written) == 50


async def journal_entry(journal, name):
    return await journal.submit(GapNoted(name))


def test_the_order_holds_over_failures(memory, new_journal, step_started, step_ended):
    journal = new_journal(batch_entries_max=3)
    memory.failures.extend(away(3))
    entries = [entry for number in range(20) for entry in (step_started("a", number), step_ended("b", number))]
    for entry in entries:
        receipt = journal.submit(entry)
    receipt.result()
    assert memory.written == entries


@pytest.mark.parametrize("entries_max", [1, 3])
def test_a_batch_that_the_database_never_finishes_is_written_in_smaller_ones(memory, journal, hold, entries_max):
    entries = [GapNoted(str(number)) for number in range(20)]
    receipts = [journal.submit(entry) for entry in entries]
    memory.entries_max = entries_max
    memory.may_commit.set()
    assert [receipt.result(DEADLINE_S) for receipt in receipts] == [None] * 20
    assert memory.written == [GapNoted("first"), *entries]
    assert [len(attempt) for attempt in memory.attempts[:5]] == [1, 20, 20, 10, 5]


def test_batches_grow_again_once_the_database_takes_them(memory, journal, hold):
    receipts = [journal.submit(GapNoted(str(number))) for number in range(20)]
    memory.failures.extend([*away(5)])
    memory.may_commit.set()
    assert [receipt.result(DEADLINE_S) for receipt in (hold, *receipts)] == [None] * 21
    assert [len(batch) for batch in memory.batches] == [1, 2, 4, 8, 6]


def test_a_thread_that_leads_into_an_outage_gets_its_answer_after_it(memory, journal):
    memory.failures.extend(away(3))
    with ThreadPoolExecutor(10) as pool:
        tasks = [pool.submit(lambda: journal.submit(GapNoted("a")).result()) for _ in range(10)]
        assert [task.result(DEADLINE_S) for task in tasks] == [None] * 10
    assert len(memory.written) == 10


def test_health_and_the_last_error_tell_of_an_outage_and_its_end(memory, journal, caplog):
    caplog.set_level("INFO", "workflow_runs")
    memory.failures.extend(away(FOREVER))
    receipt = journal.submit(GapNoted("a"))
    memory.wait_for_attempts(3)
    assert not journal.healthy
    memory.failures.clear()
    receipt.result()
    assert journal.healthy
    stats = journal.stats()
    assert (stats.queued, stats.committed, stats.last_error) == (0, 1, "StoreUnavailable")
    assert stats.failures >= 3
    journal.close(DEADLINE_S)
    assert len([line for line in caplog.messages if "cannot be used" in line]) == 1  # not one line for each attempt
    assert "can be used again" in caplog.text


def test_stats_tell_since_when_the_oldest_entry_is_tried(memory):
    clock = SettableClock()
    journal = Journal(memory, JournalSettings(retry_pause_s=0.001), clock)
    assert journal.stats().oldest_s is None
    memory.failures.extend(away(FOREVER))
    receipt = journal.submit(GapNoted("a"))
    memory.wait_for_attempts(2)
    clock.ahead_s = 90.0
    journal.submit(GapNoted("b"))
    assert journal.stats().oldest_s >= 90.0
    memory.failures.clear()
    receipt.result(DEADLINE_S)
    journal.close(DEADLINE_S)
    assert (journal.stats().queued, journal.stats().oldest_s) == (0, None)


class SettableClock(Clock):
    """The machine's clock, put forward by hand."""

    ahead_s = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead_s


def test_a_schema_of_another_version_is_waited_for_like_an_outage(memory, journal):
    memory.failures.append(SchemaMismatch("the schema is newer"))
    assert journal.submit(GapNoted("a")).result() is None


def test_a_wait_that_timed_out_leaves_the_entry_to_be_written(memory, journal):
    memory.failures.extend(away(FOREVER))
    receipt = journal.submit(GapNoted("a"))
    with pytest.raises(StoreUnavailable, match="written later"):
        receipt.result(0.01)
    memory.failures.clear()
    assert receipt.result() is None
    assert memory.written == [GapNoted("a")]


def test_closing_during_an_outage_is_bounded_and_says_what_is_not_known(memory, journal):
    memory.failures.extend(away(FOREVER))
    receipt = journal.submit(GapNoted("a"))
    journal.close(0.05)
    with pytest.raises(JournalClosed, match="not known"):
        receipt.result()


def test_closing_waits_for_a_database_that_comes_back(memory, journal):
    memory.failures.extend(away(3))
    receipt = journal.submit(GapNoted("a"))
    journal.close(DEADLINE_S)
    assert receipt.result() is None


# --- callers that would rather be refused than wait ------------------------------------------------------------------


def test_an_entry_given_up_before_the_store_saw_it_is_never_written(journal, hold, memory):
    receipt = journal.submit(GapNoted("withdrawn"), give_up_after_s=0.01)
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        receipt.result()
    memory.may_commit.set()
    journal.close(DEADLINE_S)
    assert memory.written == [GapNoted("first")]


async def test_a_coroutine_gives_up_too(journal, hold, memory):
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        await journal.submit(GapNoted("withdrawn"), give_up_after_s=0.01)
    memory.may_commit.set()
    await asyncio.to_thread(journal.close, DEADLINE_S)
    assert memory.written == [GapNoted("first")]


def test_an_entry_given_up_in_the_hands_of_the_store_says_that_the_outcome_is_not_known(memory, journal):
    memory.may_commit.clear()
    with pytest.raises(StoreUnavailable, match="not known"):
        journal.submit(GapNoted("a"), give_up_after_s=0.05).result()
    memory.may_commit.set()


def test_an_entry_in_doubt_is_answered_truly_when_the_database_is_back_in_time(memory, journal):
    memory.failures.extend(away(2))
    assert journal.submit(GapNoted("a"), give_up_after_s=DEADLINE_S).result() is None
    assert memory.written == [GapNoted("a")]


def test_an_entry_given_up_in_doubt_is_not_tried_again(memory, journal):
    memory.failures.extend(away(FOREVER))
    with pytest.raises(StoreUnavailable, match="not known"):
        journal.submit(GapNoted("a"), give_up_after_s=0.02).result()
    memory.failures.clear()
    journal.submit(GapNoted("b")).result()
    assert memory.written == [GapNoted("b")]


def test_an_entry_that_nobody_waits_for_is_given_up_in_an_outage_too(memory, journal):
    memory.failures.extend(away(FOREVER))
    told = threading.Event()
    expiring = journal.submit(GapNoted("a"), give_up_after_s=0.001, tell=lambda outcome: told.set())
    journal.submit(GapNoted("b"))
    assert told.wait(DEADLINE_S)
    memory.failures.clear()
    journal.close(DEADLINE_S)
    with pytest.raises(StoreUnavailable):
        expiring.result()
    assert memory.written == [GapNoted("b")]


def test_giving_up_a_lazy_entry_leaves_the_rest_of_its_run(memory, new_journal, step_started, step_ended):
    journal = new_journal(start_visible_after_s=3_600)
    journal.submit(step_started("a", 1), lazy=True)
    journal.give_up([journal.submit(step_started("a", 2), lazy=True)])
    journal.give_up([journal.submit(step_started("b", 1), lazy=True)])
    journal.submit(step_ended("a", 1)).result()
    journal.close(DEADLINE_S)
    assert memory.written == [step_ended("a", 1)]


# --- the store raises what it should not -----------------------------------------------------------------------------


def test_an_entry_on_which_the_store_chokes_is_refused_and_its_neighbours_are_written(journal, hold, memory, caplog):
    memory.choke = lambda entry: TypeError("secret payload") if entry.run_id == "bad" else None
    receipts = [journal.submit(GapNoted(name)) for name in ("before", "bad", "after")]
    memory.may_commit.set()
    with pytest.raises(EntryRejected, match="TypeError") as caught:
        receipts[1].result()
    assert isinstance(caught.value.__cause__, TypeError)
    assert (receipts[0].result(), receipts[2].result()) == (None, None)
    assert [entry.run_id for entry in memory.written] == ["first", "before", "after"]
    assert "TypeError at" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(1), KeyboardInterrupt(), RuntimeError("a bug")])
def test_nothing_that_the_store_raises_once_loses_an_entry_or_the_writer(memory, journal, error):
    memory.failures.append(error)
    receipts = [journal.submit(GapNoted(str(number))) for number in range(10)]
    assert [receipt.result() for receipt in receipts] == [None] * 10
    assert [entry.run_id for entry in memory.written] == [str(number) for number in range(10)]
    assert journal.stats().last_error == type(error).__name__


def test_a_thread_whose_commit_is_interrupted_leaves_the_entries_to_the_writer(memory, journal):
    memory.may_commit.clear()
    memory.failures.append(SystemExit("the thread is to end"))
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(lambda: journal.submit(GapNoted("a")).result())
        assert memory.is_committing.wait(DEADLINE_S)
        receipt = journal.submit(GapNoted("b"))
        memory.may_commit.set()
        assert receipt.result() is None
        # The writer thread swallows it. A thread that led ends, as it was told.
        assert task.exception(DEADLINE_S) is None or isinstance(task.exception(), SystemExit)
    assert sorted(entry.run_id for entry in memory.written) == ["a", "b"]


def test_a_store_that_always_raises_refuses_each_entry_and_hangs_none(memory, journal):
    memory.choke = lambda entry: ValueError("always")
    receipts = [journal.submit(GapNoted(str(number))) for number in range(5)]
    for receipt in receipts:
        with pytest.raises(EntryRejected):
            receipt.result()


def test_a_store_that_cannot_be_opened_at_first_is_opened_later(memory, journal):
    opened = memory.open_writer
    failures = [StoreUnavailable("not yet"), OSError("no socket")]

    def open_writer():
        if failures:
            raise failures.pop()
        return opened()

    memory.open_writer = open_writer
    assert journal.submit(GapNoted("a")).result() is None


def test_a_store_that_answers_too_little_is_not_believed(memory, journal):
    apply, answers = memory.apply, [[]]

    def shortened(entries):
        outcomes = apply(entries)
        return answers.pop() if answers else outcomes

    memory.apply = shortened
    assert journal.submit(GapNoted("a")).result() is None


def test_a_process_without_a_free_thread_refuses_instead_of_hanging(journal, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(StoreUnavailable, match="thread"):
        journal.submit(GapNoted("a"))
    monkeypatch.undo()
    assert journal.submit(GapNoted("b")).result() is None
