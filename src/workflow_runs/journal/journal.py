"""``Journal``: takes entries, commits them, answers. The package says how and why."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import random
import threading
import weakref

# None where the public get_running_loop() raises, which costs half a microsecond for each entry of a thread.
from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ..clock import Clock
from ..errors import (
    ConfigurationError,
    EntryRejected,
    JournalClosed,
    QueueFull,
    RecordingError,
    SchemaMismatch,
    StoreUnavailable,
)
from ..model.entries import Entry
from ..settings import JournalSettings
from ..store.base import Outcome, Store, StoreWriter
from .gate import MOVED, Quiet
from .lead import Lead
from .loops import LoopSide
from .queue import PENDING, Queued, describe, wake
from .relay import Relay

_log = logging.getLogger(__name__)

_UNWAITED_S: Final = 0.01  # time for a thread to come and lead before the writer thread takes what it submitted
_STRIKES_MAX: Final = 3  # how often an entry may make the store raise something unexpected
_SAME_AGAIN: Final = 2  # how often a batch may fail before a smaller one is tried
_JOIN_S: Final = 1.0
_FORK_WAIT_S: Final = 1.0


class Receipt(Queued):
    """What ``submit`` gives: pending until the entry's commit. ``result()`` for threads, ``await`` for coroutines of any loop.

    Both give the outcome named in ``model.entries``, or raise what refused the entry.
    """

    __slots__ = ("_journal",)

    def __init__(self, entry: Entry, journal: Journal) -> None:
        Queued.__init__(self, entry)
        self._journal = journal

    @property
    def done(self) -> bool:
        """Whether the outcome is there."""
        return (self.merged_into or self).outcome is not PENDING

    def result(self, timeout_s: float | None = None) -> Outcome:
        """Wait for the commit and return the outcome. From an event loop use ``await``: this blocks it.

        Raises:
            StoreUnavailable: not committed within ``timeout_s`` seconds (it stays queued and is written later), or given up.
            JournalClosed: the journal was closed before it could write.
            WorkflowRunsError: whatever refused the entry.
        """
        if self.outcome is PENDING:
            self._journal.wait(self, timeout_s)
        return self._given()

    def __await__(self) -> Generator[Any, None, Outcome]:
        future = self._journal.future(self) if self.outcome is PENDING else None
        return self._at_once() if future is None else future.__await__()

    def _at_once(self) -> Generator[Any, None, Outcome]:
        yield from ()
        return self._given()

    def _given(self) -> Outcome:
        outcome = self.outcome if self.merged_into is None else self.merged_into.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@dataclass(frozen=True, slots=True)
class JournalStats:
    """How the journal has done since the process began or was forked."""

    queued: int  # entries that wait, those of a batch that is being written included
    committed: int  # entries
    commits: int  # transactions
    failures: int  # attempts to write that raised
    last_error: str | None  # class name of the last failure; kept after it healed
    oldest_s: float | None  # since the oldest entry that is being written was first given to the store; None: none is
    dropped: int  # entries that their callers could not wait for and gave up (``count_dropped``)
    spooled: int = 0  # entries of observed runs that wait in a file, or in memory, for the database to come back


class Journal:
    """The one way to write to a store.

    Args:
        store: Its writer is opened here, by the first entry, and nowhere else.
        settings: Bounds and pauses.
        clock: For pauses and deadlines.
    """

    def __init__(self, store: Store, settings: JournalSettings | None = None, clock: Clock | None = None) -> None:
        self._store = store
        self._settings = settings or JournalSettings()
        self._entries_max = self._settings.queue_entries_max
        self._now = (clock or Clock()).monotonic
        self._observers: tuple[Callable[[Sequence[Entry]], None], ...] = ()
        self._closed = False  # takes nothing more
        self._abandoned: list[StoreWriter] = []
        self.unwaited = Relay(self, self._settings, store.url, self._now)  # the way of entries that nobody waits for
        self._begin()
        journal = weakref.ref(self)
        os.register_at_fork(
            before=partial(_around_fork, journal, Journal.before_fork),
            after_in_parent=partial(_around_fork, journal, Journal.after_fork_in_parent),
            after_in_child=partial(_around_fork, journal, Journal.after_fork),
        )

    def _begin(self) -> None:
        """Set up what a forked child has to have anew."""
        self._lead = Lead(self._now, self._settings.batch_entries_max)
        self._writer: StoreWriter | None = None  # used by the leader alone
        self._commits_now = threading.Lock()
        self._is_held_for_fork = False
        self._thread: threading.Thread | None = None
        self._sides: dict[asyncio.AbstractEventLoop, LoopSide] = {}
        self._failed_in_a_row = 0  # attempts, since the last one that succeeded
        self._strikes = 0  # of the first entry of the queue
        self._committed = self._commits = self._failures = self._dropped = 0
        self._last_error: str | None = None

    # --- in ---------------------------------------------------------------------------------------------------------

    def submit(
        self,
        entry: Entry,
        *,
        lazy: bool = False,
        give_up_after_s: float | None = None,
        tell: Callable[[Outcome], None] | None = None,
    ) -> Receipt:
        """Queue an entry; from any thread and any event loop. What one caller submits is committed in this order.

        With ``queue_entries_max`` entries waiting, a thread waits for room. An event loop cannot: its entry is queued
        nevertheless, since the coroutine waits for the receipt, and the number of coroutines is what bounds the queue then.

        Args:
            entry: What is to be written.
            lazy: Nobody waits for it: hold it back until another entry of its run comes (the ends of other steps aside), or for
                ``start_visible_after_s``. The start of a step is not written at all if the step's end comes first.
            give_up_after_s: The caller would rather be refused than wait: after so many seconds the receipt raises
                ``StoreUnavailable``. If the store has not been given the entry, it is withdrawn; if it has, the message says that
                the outcome is not known, and the write is not tried again. Default: it is tried until it succeeds.
            tell: The caller does not wait, neither for the commit nor for room: called with the outcome (an exception if it was
                refused), on the thread that settled it. It must be quick and must not wait.

        Raises:
            QueueFull: no room, and ``give_up_after_s`` is over; in an event loop, or with ``tell``, at once.
            JournalClosed: the journal was closed.
            StoreUnavailable: the process cannot start the writer thread.
        """
        loop = _get_running_loop()
        receipt = Receipt(entry, self)
        lead = self._lead
        if give_up_after_s is not None:
            receipt.expires_at = self._now() + give_up_after_s
        if tell is not None:
            receipt.waiters = [tell]
        queue = lead.queue
        with lead.lock:
            # len(queue) would be a Python call in the one function that is called twice for every step.
            if self._thread is None or self._closed or len(queue.ready) + queue.held_count >= self._entries_max:
                self._admit(receipt, in_loop=loop is not None, waits=tell is None)
            if lazy:
                due_at = self._now() + self._settings.start_visible_after_s
                queue.hold(receipt, due_at)
                lead.rouse(due_at)
            elif loop is None:
                due_at = self._now() + _UNWAITED_S
                queue.append(receipt, due_at)
                lead.rouse(due_at)
            else:
                queue.append(receipt)
        if loop is not None:
            side = self._sides.get(loop) or self._side(loop)
            if lazy:
                side.expect(self._settings.start_visible_after_s)
            elif not side.is_requested:
                side.request()
        return receipt

    def _admit(self, receipt: Receipt, *, in_loop: bool, waits: bool) -> None:
        """See to what is not the rule: closed, no writer thread yet, no room. The lock is held."""
        lead = self._lead
        if self._thread is None and not self._closed:
            self._start_writer()
        while not self._closed and len(lead.queue) >= self._entries_max:
            left_s = None if receipt.expires_at is None else receipt.expires_at - self._now()
            if in_loop and waits and left_s is None:
                break
            lead.queue.hurry()
            lead.rouse()
            # The leader comes here from an observer, and would wait for room that only the leader makes.
            if in_loop or not waits or lead.is_mine() or not lead.changed.wait(left_s):
                raise QueueFull(f"{len(lead.queue)} entries wait for the database; more are not taken")
        if self._closed:
            raise JournalClosed("the journal is closed")

    def _start_writer(self) -> None:
        # A daemon: interpreter exit must not wait for a database that hangs. ``close`` drains at exit, and is bounded.
        thread = threading.Thread(target=self._run, name="workflow-runs-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise StoreUnavailable("the process cannot start the thread that writes") from error
        self._thread = thread
        atexit.register(self.close)

    def _side(self, loop: asyncio.AbstractEventLoop) -> LoopSide:
        with self._lead.lock:
            for closed in [known for known in self._sides if known.is_closed()]:
                del self._sides[closed]
            return self._sides.setdefault(loop, LoopSide(self._lead, loop, self.give_up))

    # --- waiting: what receipts ask for -----------------------------------------------------------------------------

    def wait(self, receipt: Queued, timeout_s: float | None) -> None:
        """Return when the receipt is done: lead if that is possible, else be told by the leader."""
        lead = self._lead
        if lead.is_mine():
            raise ConfigurationError("an observer runs on the thread that commits: it must not wait for a commit")
        if receipt.due_at:
            with lead.lock:
                lead.queue.release(receipt.run_id)
                receipt = receipt.merged_into or receipt
        # Who bounds the wait must not get stuck in a database call that has no bound.
        is_bounded = timeout_s is not None or receipt.expires_at is not None
        if not is_bounded and threading.get_ident() != threading.main_thread().ident:
            while receipt.outcome is PENDING and (batch := lead.take(by_writer=False)):
                self._commit_and_end(batch)
        if receipt.outcome is PENDING:
            self._follow(receipt, timeout_s)

    def _follow(self, receipt: Queued, timeout_s: float | None) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        with self._lead.lock:
            if receipt.outcome is not PENDING:
                return
            receipt.waiters = [*(receipt.waiters or ()), waiter]
            self._lead.queue.hurry()
            self._lead.rouse()
        expires_s = None if receipt.expires_at is None else max(0.0, receipt.expires_at - self._now())
        limits = [limit for limit in (timeout_s, expires_s) if limit is not None]
        if waiter.acquire(timeout=min(limits) if limits else -1):
            return
        if expires_s is not None and (timeout_s is None or expires_s <= timeout_s):
            self.give_up([receipt])
        elif receipt.outcome is PENDING:
            raise StoreUnavailable(f"not committed within {timeout_s:g} s; the entry stays queued and is written later")

    def future(self, receipt: Queued) -> asyncio.Future[Outcome] | None:
        """Return a future of the running loop that gets the outcome; None if it is there already."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        with self._lead.lock:
            receipt = receipt.merged_into or receipt
            if receipt.outcome is not PENDING:
                return None
            receipt.waiters = [future] if receipt.waiters is None else [*receipt.waiters, future]
            if receipt.due_at:
                self._lead.queue.release(receipt.run_id)
        side = self._sides.get(loop) or self._side(loop)
        if not side.is_requested:
            side.request()
        if receipt.expires_at is not None:
            side.bound(receipt)
        return future

    def give_up(self, receipts: Sequence[Queued]) -> None:
        """End the wait for entries whose time is over."""
        with self._lead.lock:
            woken = self._give_up(receipts)
        wake(woken)

    def _give_up(self, receipts: Sequence[Queued]) -> list[Queued]:
        """Settle those that are still pending; they are to be woken. The lock is held."""
        flying = set(self._lead.batch)
        given_up = [receipt for receipt in receipts if receipt.outcome is PENDING]
        for receipt in given_up:
            is_in_doubt = receipt.tried or receipt in flying
            known = "whether the entry was written is not known" if is_in_doubt else "nothing was written"
            receipt.outcome = StoreUnavailable(f"the database did not answer in time; {known}")
        self._lead.queue.remove(given_up)
        return given_up

    # --- what the relay asks ----------------------------------------------------------------------------------------

    def take_back(self, told_by: type[partial[None]]) -> tuple[list[Queued], list[Queued]]:
        """Take out of the queue what such a one is told of, settled as ``MOVED``, and return what the store is being given, and that.

        Whoever waits for what was taken out is still to be woken.
        """
        lead = self._lead
        with lead.lock:
            flying, waiting = (
                [
                    item
                    for item in items
                    if item.outcome is PENDING and item.waiters and isinstance(item.waiters[0], told_by)
                ]
                for items in (lead.batch, lead.queue.items())
            )
            lead.queue.remove(waiting)
            for item in waiting:
                item.outcome = MOVED
            lead.changed.notify_all()
        return flying, waiting

    def tries_for_s(self) -> float:
        """Return for how long the oldest entry that is being written has been tried; 0 if none is."""
        since = self._lead.trying_since
        return 0.0 if since is None else max(0.0, self._now() - since)

    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is being written."""
        with self._lead.lock:
            return self._lead.is_idle()

    # --- committing: by the thread that has the lead ----------------------------------------------------------------

    def _commit_and_end(self, batch: Sequence[Queued]) -> None:
        try:
            self._commit(batch)
        finally:
            self._lead.end(batch)

    def _commit(self, batch: Sequence[Queued]) -> None:
        try:
            if self._writer is None:
                self._writer = self._store.open_writer()
            with self._commits_now:
                outcomes = self._writer.apply([item.entry for item in batch])
            assert len(outcomes) == len(batch), "one outcome for each entry"
        except (StoreUnavailable, SchemaMismatch) as error:
            self._postpone(error)
        except BaseException as error:
            self._isolate(batch, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._acknowledge(batch, outcomes)

    def _acknowledge(self, batch: Sequence[Queued], outcomes: Sequence[Outcome]) -> None:
        woken: list[Queued] = []
        with self._lead.lock:
            failed = self._failed_in_a_row
            self._failed_in_a_row = self._strikes = 0
            self._lead.retry_at = 0.0
            self._lead.take_more()
            self._commits += 1
            self._committed += len(batch)
            for item, outcome in zip(batch, outcomes, strict=True):
                if item.outcome is PENDING:  # not given up meanwhile
                    item.outcome = outcome
                    if item.waiters is not None and (
                        outcome is not None or type(item.waiters[0]) is not Quiet or len(item.waiters) > 1
                    ):
                        woken.append(item)
        wake(woken)
        if failed:
            _log.info("the database can be used again, after %d attempts to write that failed", failed)
        if self._observers:
            pairs = zip(batch, outcomes, strict=True)
            self._tell([item.entry for item, outcome in pairs if not isinstance(outcome, BaseException)])

    def _tell(self, committed: Sequence[Entry]) -> None:
        for observer in self._observers if committed else ():
            try:
                observer(committed)
            except Exception as error:  # noqa: BLE001  # the host's code; the commit stands whatever it does
                _log.error("an observer of the journal raised %s", describe(error))

    def _postpone(self, error: RecordingError) -> None:
        """The database cannot be used: pause, then write the same again; less of it, if that has not helped."""
        lead = self._lead
        with lead.lock:
            self._note(error)
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _SAME_AGAIN:
                lead.take_less()
            now = self._now()
            lead.retry_at = now + self._pause_s(self._failed_in_a_row)
            # Those who wait look at their own clocks. Of the entries nobody waits for, somebody else has to.
            waiting = [*lead.batch, *lead.queue.ready]
            overdue = [item for item in waiting if item.expires_at is not None and item.expires_at <= now]
            woken = self._give_up(overdue) if overdue else []
        wake(woken)
        if self._failed_in_a_row == 1:
            _log.warning("the database cannot be used (%s): %d entries are kept", describe(error), len(waiting))

    def _isolate(self, batch: Sequence[Queued], error: BaseException) -> None:
        """The store raised what it never should: find the entry that it cannot take, and spare the others."""
        lead = self._lead
        with lead.lock:
            self._note(error)
            self._strikes = self._strikes + 1 if len(batch) == 1 else 0
            is_refused = self._strikes == _STRIKES_MAX
            if is_refused:
                refusal = EntryRejected(f"the store cannot write this entry: {type(error).__name__}")
                refusal.__cause__ = error
                batch[0].outcome = refusal
                lead.retry_at = 0.0
                self._strikes = 0
            else:
                lead.queue.take_apart(len(batch))
                lead.retry_at = self._now() + self._pause_s(self._strikes) if self._strikes else 0.0
        if is_refused:
            wake(batch)
        then = "the entry is refused" if is_refused else "they are tried again one by one"
        _log.error("writing %d entries raised %s: %s", len(batch), describe(error), then)

    def _note(self, error: BaseException) -> None:
        self._failures += 1
        self._last_error = type(error).__name__

    def _pause_s(self, attempt: int) -> float:
        pause_s = self._settings.retry_pause_s * 2.0 ** min(attempt - 1, 30)
        jitter = 0.5 + random.random() / 2  # noqa: S311  # no secret: many processes must not come back at one instant
        return min(pause_s, self._settings.retry_pause_max_s) * jitter

    def _run(self) -> None:
        """Be the writer thread."""
        awake = True
        while awake:
            try:
                if batch := self._lead.take(by_writer=True):
                    self._commit_and_end(batch)
                else:
                    awake = self._lead.sleep()
            except BaseException as error:  # noqa: BLE001  # nothing ends this thread: receipts would hang for ever
                _log.critical("the writer of the journal goes on after %s", describe(error))
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:  # noqa: BLE001  # everything is written or refused by now
                _log.warning("closing the database connection raised %s", describe(error))

    # --- out --------------------------------------------------------------------------------------------------------

    def add_observer(self, observer: Callable[[Sequence[Entry]], None]) -> None:
        """Call ``observer`` after each commit with the entries that were written, in their order.

        It is called on the thread that committed, so it must be quick and must not wait for a receipt. What it raises is logged.
        """
        with self._lead.lock:
            self._observers = (*self._observers, observer)

    @property
    def healthy(self) -> bool:
        """Whether the journal is open, and the last attempt to write (if any) found the database usable."""
        return self._failed_in_a_row == 0 and not self._closed

    def stats(self) -> JournalStats:
        """Return how the journal does."""
        spooled = self.unwaited.waiting
        with self._lead.lock:
            queued = len(self._lead.queue) + sum(item.outcome is PENDING for item in self._lead.batch)
            since = self._lead.trying_since
            oldest_s = None if since is None else max(0.0, self._now() - since)
            return JournalStats(
                queued,
                self._committed,
                self._commits,
                self._failures,
                self._last_error,
                oldest_s,
                self._dropped,
                spooled,
            )

    def count_dropped(self) -> None:
        """Count an entry that was given up by somebody who does not wait: only here all of them meet."""
        with self._lead.lock:
            self._dropped += 1

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing more, write what is queued for at most ``timeout_s`` seconds (default ``close_timeout_s``), fail the rest.

        Idempotent, and registered for interpreter exit. It blocks: from an event loop call it in a thread.
        """
        seconds = self._settings.close_timeout_s if timeout_s is None else timeout_s
        deadline = self._now() + seconds
        healthy = self.healthy and self.tries_for_s() < self._settings.spool_after_s
        self.unwaited.prepare_to_close(seconds, healthy=healthy)
        lead = self._lead
        with lead.lock:
            self._closed = True
            lead.queue.release_due()
            lead.queue.hurry()
            lead.retry_at = 0.0
            lead.rouse()
            lead.changed.notify_all()
            if not lead.is_mine():
                lead.changed.wait_for(self._is_written_or_kept, max(0.0, deadline - self._now()))
            if not lead.is_idle() and self._is_written_or_kept():
                deadline = self._now()
            rest = self._fail_rest()
            lead.stopped = True
            lead.retry_at = 0.0
            lead.rouse()
        wake(rest)
        self.unwaited.close(max(_JOIN_S, deadline - self._now()))
        if rest:
            _log.error("the journal was closed with %d entries that could not be written", len(rest))
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(_JOIN_S, deadline - self._now()))
        atexit.unregister(self.close)

    def _is_written_or_kept(self) -> bool:
        """Whether nothing waits but what is in the relay's file too. The lock is held."""
        lead = self._lead
        if lead.queue or not self.unwaited.has_copies:
            return lead.is_idle()
        return all(item.waiters and self.unwaited.keeps(item.waiters[0]) for item in lead.batch)

    def _fail_rest(self) -> list[Queued]:
        flying = [item for item in self._lead.batch if item.outcome is PENDING]
        waiting = self._lead.queue.drain()
        for item in flying + waiting:
            is_in_doubt = item.tried or item in flying
            known = "whether the entry was written is not known" if is_in_doubt else "the entry was not written"
            item.outcome = JournalClosed(f"the journal was closed while the database could not be used; {known}")
        return flying + waiting

    def before_fork(self) -> None:
        """Wait until nobody commits, for at most ``_FORK_WAIT_S``.

        SQLite remembers in the memory of a process which of its connections holds the write lock. A child forked within a transaction would
        see it held for ever, by a connection that nobody uses there.
        """
        if not self._lead.is_mine():
            self._is_held_for_fork = self._commits_now.acquire(timeout=_FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._commits_now.release()

    def after_fork(self) -> None:
        """Begin anew in a forked child: its own queue, locks, thread and connection.

        The parent still has the entries, and writes them. Its connection must be neither used nor closed here: closing it would
        tell the PostgreSQL server that the parent is gone.
        """
        for item in (*self._lead.batch, *self._lead.queue.drain()):
            if item.outcome is PENDING:
                item.outcome = JournalClosed("the process was forked: its parent writes this entry")
        if self._writer is not None:
            self._abandoned.append(self._writer)
        self._begin()
        self.unwaited.after_fork()


def _around_fork(reference: weakref.ref[Journal], then: Callable[[Journal], None]) -> None:
    journal = reference()
    if journal is not None:
        then(journal)
