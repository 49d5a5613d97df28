"""Entries that nobody waits for while the database is away: in a file, in order, delivered, counted if not."""

import logging
import os
import threading
from contextlib import suppress

import pytest

from workflow_runs.errors import EntryRejected, JournalClosed, QueueFull, StoreUnavailable
from workflow_runs.journal import COPIED
from workflow_runs.journal.spool import Spool
from workflow_runs.model.entries import GapNoted, RunEnded
from workflow_runs.model.entry_lines import to_line
from workflow_runs.model.states import RunState

DEADLINE_S = 60.0
RUN, OTHER = (f"wfrn_01jz000000000000000000000{end}" for end in "01")
FOREVER = 1_000_000


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "spool")


@pytest.fixture
def spooling(new_journal, folder):
    """Makes journals with a spool that open soon."""

    def make(**settings):
        return new_journal(**{"spool_after_s": 0.02, "spool_folder": folder, **settings})

    return make


class Sent(list):
    """What became of entries, by their order."""

    def __init__(self, journal):
        self.journal = journal

    def send(self, *entries):
        """Return of each whether it is in the journal's queue."""
        return [self.journal.unwaited.send(entry, self.told) is not None for entry in entries]

    def told(self, entry, outcome):
        self.append(outcome)
        if isinstance(outcome, JournalClosed):
            self.journal.unwaited.keep(entry)


def away(memory):
    memory.failures.extend([StoreUnavailable("away")] * FOREVER)


def until_open(journal):
    until(lambda: journal.unwaited.is_open)


def until(condition):
    """Wait for what another thread brings about and tells nobody."""
    pause = threading.Event()
    for _ in range(int(DEADLINE_S * 200)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it has not come about")


def files(folder, ending):
    return [name for name in os.listdir(folder) if name.endswith(ending)] if os.path.isdir(folder) else []


def spooled(folder):
    """What the files hold."""
    content = b""
    for name in sorted(files(folder, ".spool")):
        with open(os.path.join(folder, name), "rb") as file:
            content += file.read()
    return content


def test_in_an_outage_entries_go_to_a_file_and_are_delivered_in_order_after_it(memory, spooling, step_ended, folder):
    journal = spooling()
    away(memory)
    sent = Sent(journal)
    before = [step_ended(RUN, number) for number in range(5)]
    assert sent.send(*before) == [True] * 5
    until_open(journal)
    meanwhile = [step_ended(RUN, number) for number in range(5, 300)]
    assert sent.send(*meanwhile) == [False] * 295
    until(lambda: spooled(folder))
    assert journal.stats().spooled >= 295
    memory.failures.clear()
    assert journal.unwaited.wait(RUN, DEADLINE_S)
    until(lambda: not journal.unwaited.is_open)
    assert list(dict.fromkeys(memory.written)) == before + meanwhile
    assert files(folder, ".spool") == []
    assert (journal.stats().spooled, journal.stats().dropped) == (0, 0)
    assert sent.send(step_ended(RUN, 300)) == [True]


def test_what_waits_in_memory_when_the_outage_is_noticed_is_in_the_file_too(memory, spooling, step_ended, folder):
    journal = spooling()
    memory.may_commit.clear()
    sent = Sent(journal)
    sent.send(step_ended(RUN, 1))
    assert memory.is_committing.wait(DEADLINE_S)
    sent.send(step_ended(RUN, 2), step_ended(RUN, 3))
    until(lambda: spooled(folder) == b"".join(to_line(step_ended(RUN, number)) for number in (1, 2, 3)))
    until(lambda: COPIED in sent)


def test_nobody_overtakes_while_outages_come_and_go(memory, spooling, step_ended):
    journal = spooling(spool_after_s=0.001)
    runs = [f"wfrn_01jz00000000000000000000{number:02}" for number in range(4)]

    together = threading.Barrier(5, timeout=DEADLINE_S)

    def work(run_id):
        for number in range(1_000):
            if number % 50 == 0:
                together.wait()
            Sent(journal).send(step_ended(run_id, number))

    threads = [threading.Thread(target=work, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    for number in range(20):
        memory.failures.extend([StoreUnavailable("away")] * (number % 4))
        together.wait()
    for thread in threads:
        thread.join(DEADLINE_S)
    until(lambda: (journal.stats().queued, journal.stats().spooled) == (0, 0))
    written = list(dict.fromkeys(memory.written))
    for run_id in runs:
        assert [entry.step.name for entry in written if entry.run_id == run_id] == [f"step-{n}" for n in range(1_000)]


def test_a_queue_that_is_full_loses_nothing_while_the_file_has_room(memory, spooling, step_ended):
    journal = spooling(queue_entries_max=10, spool_after_s=DEADLINE_S)
    memory.may_commit.clear()
    sent = Sent(journal)
    entries = [step_ended(RUN, number) for number in range(15)]
    sent.send(*entries[:11])
    until(lambda: not journal.unwaited._pending)
    for entry in entries[11:]:
        sent.send(entry)
        until(lambda: not journal.unwaited._pending)
    memory.may_commit.set()
    assert journal.unwaited.wait(RUN, DEADLINE_S)
    until(lambda: not journal.unwaited.is_open)
    journal.close(DEADLINE_S)
    assert list(dict.fromkeys(memory.written)) == entries


def test_large_payloads_are_bounded_in_memory_too(memory, spooling, step_ended, folder):
    journal = spooling(unwaited_characters_max=100_000, spool_after_s=DEADLINE_S)
    memory.may_commit.clear()
    sent = Sent(journal)
    entries = [step_ended(RUN, number, output=f'"{"x" * 30_000}"') for number in range(20)]
    for number, entry in enumerate(entries):
        sent.send(entry)
        if number:
            until(lambda: not journal.unwaited._pending)
    assert files(folder, ".spool")
    memory.may_commit.set()
    assert journal.unwaited.wait(RUN, DEADLINE_S)
    assert list(dict.fromkeys(memory.written)) == entries


def test_a_full_file_refuses_steps_and_keeps_room_for_begins_and_ends(memory, spooling, step_ended, folder):
    journal = spooling(spool_bytes_max=10_000)
    away(memory)
    sent = Sent(journal)
    sent.send(step_ended(RUN))
    until_open(journal)
    taken = 0
    with suppress(QueueFull):
        while sent.send(step_ended(RUN, taken)) == [False]:
            taken += 1
            until(lambda: not journal.unwaited._pending)
    assert sent.send(RunEnded(RUN, RunState.SUCCEEDED, 1), GapNoted(RUN)) == [False, False]
    until(lambda: not journal.unwaited._pending)
    assert 7_000 < sum(os.path.getsize(os.path.join(folder, name)) for name in files(folder, ".spool")) <= 10_000
    memory.failures.clear()
    assert journal.unwaited.wait(RUN, DEADLINE_S)
    assert len(set(memory.written)) == taken + 2
    until(lambda: not journal.unwaited.is_open)
    assert sent.send(step_ended(RUN, taken)) == [True]


def test_without_a_place_for_a_file_memory_has_to_do(memory, spooling, step_ended, tmp_path, caplog):
    journal = spooling(spool_folder=str(tmp_path / "missing" / "spool"), queue_entries_max=50)
    away(memory)
    sent = Sent(journal)
    sent.send(step_ended(RUN))
    until_open(journal)
    with pytest.raises(QueueFull):
        sent.send(*[step_ended(RUN, number) for number in range(1, 1_000)])
    memory.failures.clear()
    assert journal.unwaited.wait(RUN, DEADLINE_S)
    assert len(set(memory.written)) >= 40
    assert [record.levelno for record in caplog.records if "spool" in record.message].count(logging.ERROR) == 1


def test_no_file_is_written_when_it_is_switched_off(memory, spooling, step_ended, folder):
    journal = spooling(spool_bytes_max=0)
    away(memory)
    Sent(journal).send(step_ended(RUN))
    until_open(journal)
    memory.failures.clear()
    assert journal.unwaited.wait(RUN, DEADLINE_S)
    assert not os.path.exists(folder)


# --- the end and the next process ------------------------------------------------------------------------------------


def test_what_waits_at_the_end_is_delivered_by_the_next_process(memory, spooling, step_ended, folder):
    journal = spooling()
    away(memory)
    sent = Sent(journal)
    sent.send(step_ended(RUN, 1))
    until_open(journal)
    sent.send(step_ended(RUN, 2))
    journal.close(DEADLINE_S)  # does not take so long: it does not wait for a database that is away
    with pytest.raises(JournalClosed):
        sent.send(step_ended(RUN, 3))
    memory.failures.clear()
    assert files(folder, ".lock")
    spooling().unwaited.watch()
    until(lambda: not files(folder, ".lock"))
    assert list(dict.fromkeys(memory.written)) == [step_ended(RUN, 1), step_ended(RUN, 2)]


def test_an_end_in_the_first_moment_of_an_outage_loses_nothing(memory, spooling, step_ended, folder):
    journal = spooling(spool_after_s=DEADLINE_S)
    away(memory)
    Sent(journal).send(*[step_ended(RUN, number) for number in range(5)])
    memory.wait_for_attempts(1)
    until(lambda: not journal.healthy)
    journal.close(DEADLINE_S)
    memory.failures.clear()
    spooling().unwaited.watch()
    until(lambda: not files(folder, ".lock"))
    assert list(dict.fromkeys(memory.written)) == [step_ended(RUN, number) for number in range(5)]


def test_a_database_that_does_not_answer_is_not_waited_for_longer_than_said(memory, spooling, step_ended, folder):
    journal = spooling(spool_after_s=DEADLINE_S)
    memory.may_commit.clear()
    Sent(journal).send(step_ended(RUN))
    assert memory.is_committing.wait(DEADLINE_S)
    journal.close(0.05)
    assert files(folder, ".spool")
    memory.may_commit.set()


def test_what_waits_is_delivered_before_the_end_when_the_database_is_back(memory, spooling, step_ended, folder):
    journal = spooling()
    away(memory)
    Sent(journal).send(step_ended(RUN))
    until_open(journal)
    Sent(journal).send(*[step_ended(RUN, number) for number in range(2, 50)])
    until(lambda: spooled(folder))
    memory.failures.clear()
    until(lambda: journal.healthy)
    journal.close(DEADLINE_S)
    assert len(set(memory.written)) == 49
    assert os.listdir(folder) == []


def test_a_damaged_line_is_counted_marks_its_run_and_costs_nothing_else(memory, spooling, step_ended, folder, caplog):
    lines = [to_line(step_ended(RUN, number)) for number in range(3)]
    spool = Spool.make(folder, "memory:", 10_000)
    spool.append(lines[0] + lines[1].replace(b"succeeded", b"exploded!") + lines[2] + b"torn")
    spool.abandon()
    journal = spooling()
    journal.unwaited.watch()
    until(lambda: not files(folder, ".lock"))
    assert memory.written == [step_ended(RUN, 0), GapNoted(RUN), step_ended(RUN, 2)]
    assert journal.stats().dropped == 2
    assert "damaged" in caplog.text


def test_what_is_refused_when_it_is_delivered_is_counted_and_marks_its_run(memory, spooling, step_ended):
    journal = spooling()
    memory.refuse = lambda entry: EntryRejected("no") if getattr(entry, "sequence", 0) == 7 else None
    away(memory)
    sent = Sent(journal)
    sent.send(step_ended(RUN, 1))
    until_open(journal)
    sent.send(step_ended(RUN, 7), step_ended(RUN, 8))
    memory.failures.clear()
    assert journal.unwaited.wait(RUN, DEADLINE_S)
    until(lambda: GapNoted(RUN) in memory.written)
    assert (journal.unwaited.lost_of(RUN), journal.stats().dropped) == (1, 1)


def test_those_who_hold_something_back_are_asked_for_it_soon_and_at_the_end(memory, spooling, step_started):
    journal = spooling(start_visible_after_s=0.01)

    class Holder:
        left = 3

        def sweep(self, *, all_of_them=False):
            self.left = 0 if all_of_them else self.left - 1
            return self.left > 0

    soon, late = Holder(), Holder()
    assert journal.unwaited.hold_for(soon)
    until(lambda: soon.left == 0)
    late.left = 1_000_000
    journal.unwaited.hold_for(late)
    journal.close(DEADLINE_S)
    assert late.left == 0
    assert not journal.unwaited.hold_for(late)


def test_those_who_owe_are_asked_when_there_is_room(memory, spooling, step_ended, folder):
    journal = spooling(spool_folder=os.path.join(folder, "missing"), queue_entries_max=4)
    away(memory)
    sent = Sent(journal)
    sent.send(step_ended(RUN))
    until_open(journal)

    class Debtor:
        def pay(self):
            sent.send(GapNoted(OTHER))
            journal.unwaited.paid(self)

    with pytest.raises(QueueFull):
        sent.send(*[step_ended(RUN, number) for number in range(20)])
    journal.unwaited.owe(Debtor())
    assert GapNoted(OTHER) not in memory.written
    memory.failures.clear()
    until(lambda: GapNoted(OTHER) in memory.written)
