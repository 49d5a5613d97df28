"""Who commits now, and when the writer thread sleeps. The journal's lock lives here.

One rule keeps wake-ups from being lost: the writer thread decides to sleep under the lock, and whoever makes something due tells
it under the same lock, except while somebody leads: then the end of that batch does.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from .queue import NEVER, PENDING, Queue, Queued

_AWAKE: Final = float("-inf")


class Lead:
    """The queue, its lock, and the right to commit, which one thread has at a time.

    Args:
        now: A monotonic clock in seconds.
        batch_entries_max: How much one batch may hold.
    """

    def __init__(self, now: Callable[[], float], batch_entries_max: int) -> None:
        self._now = now
        self._batch_entries_max = batch_entries_max
        self._most = batch_entries_max  # less while the database does not get through what it is given
        self.lock = threading.Lock()  # held for moments, never while the store is called
        self.changed = threading.Condition(self.lock)  # there is room, or nothing left
        self.queue = Queue()
        self.batch: Sequence[Queued] = ()  # what is being committed
        self.holder: int | None = None  # the thread that commits it
        self.trying_since: float | None = None  # when the oldest of what is being written was first taken to be written
        self.retry_at = 0.0  # nothing is tried before, and then by the writer thread; 0 while the database works
        self.stopped = False  # the writer thread is to end
        self._signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wakes_at = _AWAKE  # when the sleeping writer thread wakes by itself
        self._batch_ended = threading.Event()

    # --- with the lock held -----------------------------------------------------------------------------------------

    def rouse(self, due_at: float = 0.0) -> None:
        """Wake the writer thread if it would sleep beyond ``due_at``."""
        if self.holder is None and max(due_at, self.retry_at) < self._wakes_at:
            self._wakes_at = _AWAKE
            self._signal.put(None)

    def take_less(self) -> None:
        """Halve what a batch may hold: it may be the size of this one that the database cannot take in its time."""
        self._most = max(1, len(self.batch) // 2)

    def take_more(self) -> None:
        """Double what a batch may hold, up to what is set."""
        self._most = min(2 * self._most, self._batch_entries_max)

    def is_idle(self) -> bool:
        """Whether nothing waits and nobody commits."""
        return not self.queue and self.holder is None

    def is_mine(self) -> bool:
        """Whether the calling thread is the one that commits; right without the lock too."""
        return self.holder == threading.get_ident()

    # --- taking the lead --------------------------------------------------------------------------------------------

    def take(self, *, by_writer: bool) -> Sequence[Queued]:
        """Take the lead and a batch. Empty: somebody else leads, or there is nothing to be done (yet)."""
        with self.lock:
            if self.holder is not None or (self.retry_at and not by_writer):
                return ()
            if by_writer:
                now = self._now()
                if max(self.queue.due_at(), self.retry_at) > now:
                    return ()
                self.queue.release_due(now)
            batch = self.queue.take(self._most)
            if batch:
                self.batch = batch
                if self.trying_since is None:
                    self.trying_since = self._now()
                self.holder = threading.get_ident()
                self.changed.notify_all()
            return batch

    def end(self, batch: Sequence[Queued]) -> None:
        """Give up the lead. What has no outcome goes back to the head of the queue, whatever was raised meanwhile."""
        with self.lock:
            rest = [item for item in batch if item.outcome is PENDING]
            if rest:
                self.queue.put_back(rest)
            else:
                self.trying_since = None
            self.batch = ()
            self.holder = None
            self.queue.hurry()
            self.rouse(0.0 if self.stopped else self.queue.due_at())
            self.changed.notify_all()
        self._batch_ended.set()

    # --- the writer thread ------------------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """Have the writer thread take what is ready, now."""
        with self.lock:
            self.queue.hurry()
            self.rouse(self.queue.due_at())

    def sleep(self) -> bool:
        """Sleep until something is due, or roused. False: the journal was stopped, and nobody leads any more."""
        with self.lock:
            if self.stopped and self.holder is None:
                return False
            due_at = max(self.queue.due_at(), self.retry_at)
            now = self._now()
            if due_at <= now:
                if self.holder is None:
                    return True
                due_at = NEVER  # the leader rouses this thread at its end
            self._wakes_at = due_at
        with contextlib.suppress(queue.Empty):
            # A rousing that comes together with the timeout leaves its token behind: one turn for nothing, later.
            self._signal.get(timeout=None if due_at == NEVER else due_at - now)
        with self.lock:
            self._wakes_at = _AWAKE
        return True

    # --- politeness: see ``loops`` ----------------------------------------------------------------------------------

    def seconds_until(self, moment: float) -> float:
        """Return the seconds from now to a moment of the journal's clock."""
        return moment - self._now()

    def wakes_in(self) -> float:
        """Return the seconds until the writer thread wakes by itself; infinity if nothing waits, not above 0 if it should run."""
        return self._wakes_at - self._now()

    def needs_time(self) -> bool:
        """Whether somebody commits, or the writer thread should be running."""
        return self.holder is not None or self.wakes_in() <= 0

    def stand_still(self, seconds: float) -> bool:
        """Wait, with the interpreter lock let go, until a batch has ended; False if none has within ``seconds``."""
        self._batch_ended.clear()
        return not self.needs_time() or self._batch_ended.wait(seconds)
