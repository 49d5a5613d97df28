"""``Relay``: what happens to entries that nobody waits for while the database is away.

Entries of observed runs go to the journal's queue like all others, as long as it gets through them. When it does not (nothing was
written for ``spool_after_s``, or the queue or its memory is full) the relay *opens*, like a circuit breaker:

* what waits in the journal's queue is taken back, what is in the hands of the store is copied, and from now on all of it, in its
  order, goes to a file (``spool``) that survives the process. A thread of the relay writes and syncs; who records waits for nothing;
* the head of the file is handed to the journal, one *flight* at a time. The journal tries until the database takes it, so the flight
  is the probe too: nothing else asks whether the database is back;
* when the file is delivered and little waits, that rest is handed over and the relay closes, all under the lock. An entry can
  therefore never overtake an earlier one of its run.

A kill loses what was recorded in the last ``spool_after_s`` before it, as long as that is not committed; not more. Where there is no
place for a file everything is the same but in memory, and lost with the process.

The file has a bound. From three quarters of it only begins and ends of runs and notes of gaps are taken; the rest is refused with
``QueueFull``, and whoever sent it counts it as lost. What a dead process left is delivered by the next one, in the same way.

Rejected: writing every entry to a file first, always. It costs each step twice the work for something that is not needed while the
database answers, and the database is as durable as the file.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Final
from weakref import WeakSet

from ..errors import JournalClosed, RecordingError
from ..model.entries import Entry, GapNoted
from ..model.entry_lines import from_line, to_line
from ..store.base import Outcome
from .gate import COPIED, Gate, Told, run_of, weight
from .queue import NEVER, Queued, describe as describe_error, wake
from .spool import Spool

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.25  # how often an open relay looks whether it can close
_FLIGHT_ENTRIES: Final = 200
_FLIGHT_BYTES: Final = 4_000_000
_WRITE_ENTRIES: Final = 1_000  # between two syncs
_HAND_OVER_MAX: Final = 500  # entries: about a millisecond under the lock
_RETRY_S: Final = 1.0  # a file that could not be written
_ROOM_S: Final = 0.05  # a journal without room
_SCAN_S: Final = 30.0  # how often what dead processes left is looked for
_RUN_ID: Final = re.compile(rb"wfrn_[0-9a-hjkmnp-tv-z]{26}")


class _Landing(partial[None]):
    """Who is told of an entry in flight."""

    __slots__ = ()


class _Flight:
    """Entries in the journal's hands."""

    def __init__(self, source: Spool | None, entries: Sequence[Entry], *, counted: bool) -> None:
        self.source = source  # None: they were never in a file
        self.counted = counted  # they are this process's own
        self.on_ground = deque(entries)  # the journal had no room for them yet
        self.left = len(entries)
        self.rest: list[Entry] = []  # what the journal closed upon
        self.refused: list[Entry] = []
        self.is_cut = False  # not all of it was delivered


class Relay(Gate):
    """Of one journal: the gate, and the thread behind it."""

    def _begin(self) -> None:
        super()._begin()
        self._flight: _Flight | None = None
        # Of the thread alone:
        self._spool: Spool | None = None
        self._abandoned: Iterator[Spool] = iter(())
        self._files: WeakSet[Spool] = WeakSet()
        self._scan_at = self._write_at = 0.0
        self._is_reported = False

    def after_fork(self) -> None:
        """Begin anew in a forked child: what waits is the parent's, and so are its files."""
        for spool in tuple(self._files):
            spool.abandon()
        super().after_fork()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Be the relay's thread."""
        goes_on = True
        while goes_on:
            try:
                goes_on = self._turn()
            except BaseException as error:  # noqa: BLE001  # nothing ends this thread: what waits would wait for ever
                _log.critical("the relay goes on after %s", describe_error(error))
                self._sleep(_RETRY_S)
        if self._spool is not None:
            self._spool.close()

    def _turn(self) -> bool:
        """Do what can be done now, and sleep if that was nothing. False: the relay is closed."""
        with self._lock:
            self._has_news = False
            ends, must_take_back = self._ending, self.is_open and not self._is_taken_back
        if must_take_back:
            self._take_back()
        if self._calling_back:
            self._take_back(copies=False)  # what was being given to the store is in the file already
            self._call_back()
        is_busy = self._write()
        is_busy = self._land() or is_busy
        if ends:
            return is_busy or not self._give_up()
        is_busy = self._fly() or is_busy
        self._sweep()
        self._collect()
        sleep_s = self._look_after()
        if not is_busy:
            self._sleep(_ROOM_S if self._calling_back else sleep_s)
        return True

    def _sleep(self, seconds: float | None) -> None:
        with self._lock:
            if not self._has_news:
                due_s = self._sweep_at - self.now()
                self._changed.wait(seconds if due_s == NEVER else due_s if seconds is None else min(seconds, due_s))

    def _look_after(self) -> float | None:
        """Open or close as the journal does, and return for how long there is nothing to look at."""
        tries_for_s = self._journal.tries_for_s()
        with self._lock:
            if self.is_open:
                if tries_for_s < self._open_after_s and self._is_taken_back and self._hand_over():
                    _log.info("observed runs go to the database again")
                else:
                    return _ROOM_S if self._flight is not None and self._flight.on_ground else _LOOK_S
            if tries_for_s >= self._open_after_s and self._armed:
                self._open("nothing was written for too long")
                return 0.0
            if self._journal.is_idle() and not self._debtors:
                self._armed = False
                return _SCAN_S if self._watching else None
            return max(_ROOM_S, self._open_after_s - tries_for_s)

    def _sweep(self) -> None:
        """Have begins of steps sent that are not to be held back any longer."""
        if self._sweep_at > self.now():
            return
        with self._lock:
            holders, self._holders = self._holders, {}
            self._sweep_at = NEVER
        rest = [holder for holder in holders if holder.sweep()]
        with self._lock:
            for holder in rest:
                self._holders[holder] = None
            if self._holders:
                self._sweep_at = self.now() + self._sweep_s

    def _collect(self) -> None:
        """Have those pay for whom there is room."""
        while self._debtors and not self._is_full and len(self._pending) < self._entries_max // 2:
            debtor = next(iter(self._debtors))
            debtor.pay()
            if debtor in self._debtors:
                break

    def _hand_over(self) -> bool:
        """Close: give the little that waits to the journal. False: it is not little, or there is no room. The lock is held."""
        if self._flight is not None or len(self._pending) > _HAND_OVER_MAX or self.is_closed:
            return False
        if self._spool is not None and not self._spool.is_read:
            return False
        while self._pending:
            entry = self._pending[0]
            try:
                self._journal.submit(entry, tell=Told(self._handed, entry))
            except RecordingError:
                return False
            self._pending.popleft()
        self.is_open = False
        return True

    def _handed(self, entry: Entry, outcome: Outcome) -> None:
        """Learn what became of an entry that was handed over."""
        if outcome is COPIED:
            return
        with self._lock:
            self._characters -= weight(entry)
            self._count_off(entry)
        if isinstance(outcome, JournalClosed) and self.keep(entry):
            return
        if isinstance(outcome, BaseException):
            self._refuse([entry], outcome)

    def _count_off(self, entry: Entry) -> None:
        run_id = run_of(entry)
        self._waits[run_id] -= 1
        if self._waits[run_id] <= 0:
            del self._waits[run_id]
            self._delivered.notify_all()

    def _refuse(self, entries: Iterable[Entry], why: object) -> None:
        """Count what is lost although it had been taken, and mark its runs."""
        for entry in entries:
            self._journal.count_dropped()
            run_id = run_of(entry)
            _log.warning("an entry of run %s is lost: %s", run_id, type(why).__name__)
            with self._lock:
                self._lost[run_id] += 1
            if not isinstance(entry, GapNoted):
                with suppress(RecordingError):
                    self.send(GapNoted(run_id), _ignore)

    @property
    def has_copies(self) -> bool:
        """Whether there is a file, and what the store is being given is in it or on its way into it."""
        return self.is_open and self._is_taken_back and self._folder is not None and self._is_writable

    def keeps(self, waiter: object) -> bool:
        """Whether what is told of in this way is in the file, if ``has_copies``."""
        return isinstance(waiter, Told | _Landing)

    # --- from the journal into the file -----------------------------------------------------------------------------

    def _take_back(self, *, copies: bool = True) -> None:
        with self._lock:
            self._is_taken_back = True  # who closes the journal is told by its taking back, and looks
            flying, waiting = self._journal.take_back(Told)
            items = [*flying, *waiting] if copies else waiting
            for item in items:
                self._waits[run_of(item.entry)] += 1
                self._characters += weight(item.entry)
            self._pending.extendleft(item.entry for item in reversed(items))
        if copies:
            _tell(flying, COPIED)
        wake(waiting)

    def _write(self) -> bool:
        """Write what is pending to the file; True if something was."""
        if self._folder is None or not self._pending or (self.now() < self._write_at and not self._ending):
            return False
        with self._lock:
            batch = [self._pending[place] for place in range(min(len(self._pending), _WRITE_ENTRIES))]
        lines: list[bytes] = []
        unfit: list[Entry] = []
        try:
            if self._spool is None:
                self._spool = Spool.make(self._folder, self._database, self._bytes_max)
                self._files.add(self._spool)
            size = count = 0
            for entry in batch:
                try:
                    line = to_line(entry)
                except ValueError:
                    unfit.append(entry)
                else:
                    if not self._spool.has_room(size + len(line)):
                        break
                    lines.append(line)
                    size += len(line)
                count += 1
            if lines:
                self._spool.append(b"".join(lines))
        except OSError as error:
            self._is_writable = False
            self._write_at = self.now() + _RETRY_S
            self._report("the spool cannot be written (%s): observed runs are kept in memory", describe_error(error))
            return False
        self._is_writable = count > 0
        with self._lock:
            for _ in range(count):
                self._characters -= weight(self._pending.popleft())
            for entry in unfit:
                self._count_off(entry)
            self._is_full = not self._spool.has_room(self._bytes_max // 4)
        if self._is_full:
            self._report("the spool is full: of observed runs only begins and ends are kept")
        self._refuse(unfit, ValueError())
        return count > 0

    def _report(self, text: str, *values: object) -> None:
        _log.log(logging.DEBUG if self._is_reported else logging.ERROR, text, *values)
        self._is_reported = True

    # --- from the file into the journal -----------------------------------------------------------------------------

    def _fly(self) -> bool:
        """Hand the next entries to the journal; True if some were."""
        flight = self._flight
        if flight is None and not self.is_closed:
            flight = self._next_flight()
        if flight is None or not flight.on_ground:
            return False
        while flight.on_ground:
            entry = flight.on_ground[0]
            try:
                self._journal.submit(entry, tell=_Landing(self._landed, flight, entry))
            except JournalClosed:
                self._calling_back = True
                return True
            except RecordingError:
                return False  # no room, or no thread: later
            flight.on_ground.popleft()
        return True

    def _next_flight(self) -> _Flight | None:
        if self._spool is not None and not self._spool.is_read:
            return self._read(self._spool, counted=True)
        with self._lock:
            if self.is_open and self._pending and not (self._folder and self._is_writable):
                taken = [self._pending.popleft() for _ in range(min(len(self._pending), _FLIGHT_ENTRIES))]
                self._flight = _Flight(None, taken, counted=True)
                return self._flight
            if self.is_open:
                return None
        spool = next(self._abandoned, None) or self._scan()
        if spool is None:
            return None
        self._files.add(spool)
        return self._read(spool, counted=False)

    def _scan(self) -> Spool | None:
        """Look for what dead processes left, now and then."""
        now = self.now()
        if self._folder is None or now < self._scan_at:
            return None
        self._scan_at = now + _SCAN_S
        try:
            self._abandoned = Spool.abandoned(self._folder, self._database)
            return next(self._abandoned, None)
        except OSError as error:
            self._report("the folder of the spool cannot be used: %s", describe_error(error))
            return None

    def _read(self, spool: Spool, *, counted: bool) -> _Flight | None:
        entries: list[Entry] = []
        while not entries and not spool.is_read:
            for line in spool.read(_FLIGHT_ENTRIES, _FLIGHT_BYTES):
                try:
                    entries.append(from_line(line))
                except ValueError:
                    entries += self._damaged(line)
            if not entries:
                spool.forget_read()
        if not entries and not counted:
            spool.forget_read()
            spool.close()
            return None
        self._flight = _Flight(spool, entries, counted=counted) if entries else None
        return self._flight

    def _damaged(self, line: bytes) -> list[Entry]:
        """Count a line that cannot be read, and return the notes of the gaps that it leaves."""
        self._journal.count_dropped()
        found = _RUN_ID.search(line)
        _log.error("a line of the spool is damaged: an entry of %s is lost", found[0].decode() if found else "some run")
        return [GapNoted(found[0].decode())] if found else []

    def _landed(self, flight: _Flight, entry: Entry, outcome: Outcome) -> None:
        """Learn what became of an entry in flight."""
        with self._lock:
            flight.left -= 1
            if isinstance(outcome, JournalClosed):
                flight.rest.append(entry)
            else:
                if isinstance(outcome, BaseException):
                    flight.refused.append(entry)
                if flight.counted:
                    self._count_off(entry)
                if flight.source is None:
                    self._characters -= weight(entry)
            if flight.left == 0:
                self._stir()

    def _land(self) -> bool:
        """Forget what was delivered; True if a flight has ended."""
        flight = self._flight
        if flight is None or flight.left:
            return False
        self._flight = None
        spool = flight.source
        if flight.rest and spool is None:
            with self._lock:
                self._pending.extendleft(reversed(flight.rest))
        elif spool is not None and not flight.rest:
            spool.forget_read()
            if spool is self._spool:
                self._is_full = not spool.has_room(self._bytes_max // 4)
        if spool is not None and spool is not self._spool:
            if spool.is_read or flight.rest:
                spool.close()
            else:
                self._abandoned = chain([spool], self._abandoned)
        self._refuse(flight.refused, flight)
        return True

    def _call_back(self) -> None:
        """Take from the journal what is in the file all the same: it is closed, and need not wait for it."""
        flight = self._flight
        if flight is None:
            return
        _, waiting = self._journal.take_back(_Landing)
        rest = [item.entry for item in waiting] + list(flight.on_ground)
        flight.on_ground.clear()
        for entry in rest:
            self._landed(flight, entry, JournalClosed("the journal is closed"))

    def _give_up(self) -> bool:
        """Count what could neither be written nor delivered: the end. False: there is still something that can be written."""
        with self._lock:
            rest = list(self._pending)
            self._pending.clear()
        for entry in rest:
            self._journal.count_dropped()
            self._lost[run_of(entry)] += 1
        if rest:
            _log.error("the journal was closed with %d entries of observed runs that could not be kept", len(rest))
        return True


def _tell(items: Iterable[Queued], outcome: Outcome) -> None:
    for item in items:
        for waiter in item.waiters or ():
            if isinstance(waiter, Told):
                waiter(outcome)


def _ignore(_entry: Entry, _outcome: Outcome) -> None:
    """A note of a gap: there is nothing to be done about it."""
