"""What comes to the relay, and when it opens: see ``relay``."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeAlias
from weakref import WeakSet

from ..errors import JournalClosed, QueueFull
from ..model.entries import (
    ClaimRuns,
    Entry,
    GapNoted,
    Heartbeat,
    RegisterExecutor,
    RunEnded,
    StartRun,
    StepEnded,
    StepStarted,
)
from ..settings import JournalSettings
from ..store.base import Outcome
from .queue import NEVER, Queued
from .spool import default_folder

_log = logging.getLogger(__name__)

MOVED: Final[Outcome] = object()  # told of an entry that the relay has taken back from the journal
COPIED: Final[Outcome] = object()  # told of an entry that is in a file too: the journal still tries it

_DEBTORS_MAX: Final = 10_000  # what more of them owe is counted and logged, and that is all
_HEAVY: Final = 4_000  # characters: payloads below are bounded by the number of entries

_STEPS: Final = {StepStarted, StepEnded}

Tell: TypeAlias = Callable[[Outcome], None]


class Told(partial[None]):
    """Who is told of an entry that the relay may take back: called with its outcome, with ``MOVED`` or with ``COPIED``."""

    __slots__ = ()


class Quiet(Told):
    """The same, of whom the plain outcome of a step (None) is kept: there is nothing to be done about it."""

    __slots__ = ()


class Forks(Protocol):
    """What holds a lock that a fork may leave locked for ever in the child."""

    def after_fork(self) -> None:
        """Begin anew in the child."""
        ...


class Holder(Protocol):
    """Who holds back the begins of steps."""

    def sweep(self, *, all_of_them: bool = False) -> bool:
        """Send those that have been held back long enough, and return whether others are."""
        ...


class Debtor(Protocol):
    """Who has kept entries for which there was no room."""

    def pay(self) -> None:
        """Send them, if there is room."""
        ...


class Settles(Protocol):
    """A receipt of the journal."""

    @property
    def done(self) -> bool:
        """Whether the outcome is there."""
        ...

    def result(self, timeout_s: float | None = None) -> Outcome:
        """Wait for the outcome."""
        ...


class Writes(Protocol):
    """What the relay needs of the journal."""

    def submit(self, entry: Entry, *, tell: Tell | None = None) -> Settles:
        """Queue an entry."""
        ...

    def take_back(self, told_by: type[partial[None]]) -> tuple[list[Queued], list[Queued]]:
        """Take out what waits and settle it as ``MOVED``; of what such a one is told of. Return what is in the store's hands, and that."""
        ...

    def count_dropped(self) -> None:
        """Count an entry that is lost."""
        ...

    def tries_for_s(self) -> float:
        """Return for how long the oldest entry that is being written has been tried; 0 if none is."""
        ...

    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is being written."""
        ...


def weight(entry: Entry) -> int:
    """Return the characters of an entry's payload if they are many, else 0."""
    kind = type(entry)
    if kind is StepEnded:
        text = entry.output  # type: ignore[union-attr]  # isinstance would cost more than all the rest
    elif kind is StartRun:
        text = entry.request.input  # type: ignore[union-attr]
    elif kind is RunEnded:
        text = entry.result  # type: ignore[union-attr]
    else:
        return 0
    return 0 if text is None or len(text) < _HEAVY else len(text)


def run_of(entry: Entry) -> str:
    """Return the run that an observed run's entry is about."""
    assert not isinstance(entry, RegisterExecutor | Heartbeat | ClaimRuns), "no run observes these"
    return entry.run_id


class Gate(ABC):
    """The side of the relay that others call. Safe to use from any thread; none waits but ``wait``, ``prepare_to_close`` and ``close``."""

    def __init__(self, journal: Writes, settings: JournalSettings, database: str, now: Callable[[], float]) -> None:
        self._journal = journal
        self._entries_max = settings.queue_entries_max
        self._characters_max = settings.unwaited_characters_max
        self._bytes_max = settings.spool_bytes_max
        self._open_after_s = settings.spool_after_s
        self._sweep_s = settings.start_visible_after_s / 2  # what is held back for one sweep and not for two
        self._database = database
        self._folder = (settings.spool_folder or default_folder(database)) if settings.spool_bytes_max else None
        self.now = now
        self.forks: WeakSet[Forks] = WeakSet()  # told of a fork
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # for the relay's thread
        self._delivered = threading.Condition(self._lock)  # for those who wait
        self._has_news = False  # the thread must not sleep
        self._thread: threading.Thread | None = None
        self._armed = False  # the thread looks after the journal by itself
        self._watching = False  # and, for ever, for what dead processes left
        self.is_closed = self._ending = self._calling_back = False
        self.is_open = False
        self._is_taken_back = False  # what the journal had when the relay opened
        self._is_full = False  # the file has no room for what a run can do without
        self._is_writable = True  # the file could be written the last time
        self._pending: deque[Entry] = deque()  # not in the file yet
        self._characters = 0  # of heavy payloads in memory
        self._waits: Counter[str] = Counter()  # entries of each run that are pending, in the file or in flight
        self._lost: Counter[str] = Counter()  # entries of each run that were refused after they had been taken
        self._debtors: dict[Debtor, None] = {}  # the longest in debt first
        self._holders: dict[Holder, None] = {}
        self._sweep_at = NEVER

    @abstractmethod
    def _run(self) -> None:
        """Be the relay's thread."""

    # --- in ---------------------------------------------------------------------------------------------------------

    def send(self, entry: Entry, tell: Callable[[Entry, Outcome], None]) -> Settles | None:
        """Take an entry, and return its receipt if it is in the journal's queue; None: it is here, see ``wait``.

        ``tell`` is called with what becomes of it there, on the thread that settles it; of a step that was written it is not.

        Raises:
            QueueFull: there is no room for it, neither there nor in memory.
            JournalClosed: the journal was closed.
            StoreUnavailable: the process cannot start the writer thread.
        """
        heavy = weight(entry)
        with self._lock:
            if not self._armed:
                self._arm()
            if not self.is_open:
                if self._characters + heavy <= self._characters_max // 2:  # the file is to have some room in memory too
                    kind = Quiet if not heavy and type(entry) in _STEPS else Told
                    try:
                        receipt = self._journal.submit(entry, tell=kind(tell, entry))
                    except QueueFull:
                        if self._thread is None:
                            raise
                    else:
                        self._characters += heavy
                        return receipt
                self._open("it has no room")
            self._take(entry, heavy)
            return None

    def hold_for(self, holder: Holder) -> bool:
        """Sweep the holder until it holds nothing. False: there is no thread to do it."""
        with self._lock:
            if not self._armed:
                self._arm()
            if self._thread is None or self.is_closed:
                return False
            self._holders[holder] = None
            if self._sweep_at == NEVER:
                self._sweep_at = self.now() + self._sweep_s
                self._stir()
            return True

    def _take(self, entry: Entry, heavy: int) -> None:
        if self.is_closed:
            raise JournalClosed("the journal is closed")
        is_vital = isinstance(entry, StartRun | RunEnded | GapNoted)
        entries_max = self._entries_max + self._entries_max // 4 if is_vital else self._entries_max
        is_without_room = len(self._pending) >= entries_max or self._characters + heavy > self._characters_max
        if is_without_room or (self._is_full and not is_vital):
            raise QueueFull("the database is away, and there is no room to keep more")
        self._characters += heavy
        self._add(entry)

    def _add(self, entry: Entry) -> None:
        self._pending.append(entry)
        self._waits[run_of(entry)] += 1
        self._stir()

    def _arm(self) -> None:
        """See to it that the thread looks after the journal."""
        if self._thread is None and not self.is_closed:
            thread = threading.Thread(target=self._run, name="workflow-runs-relay", daemon=True)
            with suppress(RuntimeError):  # no thread is to be had: everything goes to the journal, or is refused by it
                thread.start()
                self._thread = thread
        self._armed = self._thread is not None
        self._stir()

    def _stir(self) -> None:
        self._has_news = True
        self._changed.notify()

    def _open(self, why: str) -> None:
        self.is_open, self._is_taken_back = True, False
        self._stir()
        _log.warning(
            "the journal does not get through what is recorded (%s): observed runs go to %s", why, self._place()
        )

    def _place(self) -> str:
        return "memory, and are lost with the process" if self._folder is None else "a file until it does"

    def settled(self, entry: Entry) -> None:
        """Take note that the journal is done with an entry that it was sent."""
        heavy = weight(entry)
        if heavy:
            with self._lock:
                self._characters -= heavy

    def keep(self, entry: Entry) -> bool:
        """Keep an entry that the journal was closed upon; False where there is no file to keep it in."""
        with self._lock:
            if self._folder is None or self._thread is None or self._ending:
                return False
            self._characters += weight(entry)
            self._add(entry)
            return True

    def owe(self, debtor: Debtor) -> None:
        """Have it pay when there is room; it is not forgotten before, even if nobody else remembers it."""
        with self._lock:
            if len(self._debtors) < _DEBTORS_MAX:
                self._debtors[debtor] = None
                if not self._armed:
                    self._arm()

    def paid(self, debtor: Debtor) -> None:
        """Take note that nothing is owed any more."""
        with self._lock:
            self._debtors.pop(debtor, None)

    # --- questions --------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many entries wait here."""
        with self._lock:
            return sum(self._waits.values())

    def lost_of(self, run_id: str) -> int:
        """Return how many entries of a run were refused after they had been taken."""
        return self._lost[run_id] if self._lost else 0

    def wait(self, run_id: str, timeout_s: float) -> bool:
        """Wait until no entry of the run is here; False when one still is after the time."""
        with self._delivered:
            return self._delivered.wait_for(lambda: run_id not in self._waits, timeout_s)

    # --- life -------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Deliver what dead processes left, now and from now on."""
        with self._lock:
            if self._folder is not None and not self._watching:
                self._watching = True
                self._arm()

    def prepare_to_close(self, timeout_s: float, *, healthy: bool) -> None:
        """Deliver what waits if the database takes it, for at most so long; then take nothing more.

        A database that is away is not waited for: what waits for it goes to the file at once.
        """
        for holder in tuple(self._holders):
            holder.sweep(all_of_them=True)
        for debtor in tuple(self._debtors):
            debtor.pay()
        with self._delivered:
            if self.is_closed:
                return
            if healthy and self.is_open:
                self._delivered.wait_for(lambda: not self._waits, timeout_s)
            self.is_closed = True
            if not healthy and self._thread is not None and self._folder is not None:
                self._calling_back = True
                if not self.is_open:
                    self._open("it is closed")
            self._stir()

    def close(self, timeout_s: float) -> None:
        """Write what is pending to the file, and end the thread."""
        with self._lock:
            self.is_closed = self._ending = True
            self._stir()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def after_fork(self) -> None:
        """Begin anew in a forked child: what waits is the parent's, and so are its files."""
        self._begin()
        for holder in tuple(self.forks):
            holder.after_fork()
