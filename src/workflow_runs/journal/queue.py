"""What waits for a commit, in the order in which it is to be written. Nothing here locks, waits, or reads a clock."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from ..model.entries import Entry, StepEnded, StepStarted
from ..store.base import Outcome

_log = logging.getLogger(__name__)

PENDING: Final[Outcome] = object()
NEVER: Final = float("inf")

# A lock is held until the outcome is there; a function is called with it.
Waiter: TypeAlias = "asyncio.Future[Outcome] | threading.Lock | Callable[[Outcome], None]"


class Queued:
    """An entry on its way, and who waits for it. Written under the journal's lock, read without it."""

    __slots__ = ("due_at", "entry", "expires_at", "merged_into", "outcome", "run_id", "tried", "waiters")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.run_id: str = getattr(entry, "run_id", "")  # a few entries belong to no run
        self.outcome = PENDING
        self.waiters: list[Waiter] | None = None
        self.expires_at: float | None = None  # when its caller stops waiting
        self.due_at = 0.0  # of a lazy entry: when it is held back no longer
        self.merged_into: Queued | None = None  # of a lazy entry: another says it all, and has the outcome
        self.tried = False  # the store was given it once: whether it is written is not known


class Queue:
    """Entries that are ready, and lazy ones that are held back. The journal's lock is held around every call."""

    def __init__(self) -> None:
        self.ready: deque[Queued] = deque()
        self._ready_due_at = NEVER
        self._alone = 0  # so many of the first go each in a batch of its own
        self._held: dict[str, list[Queued]] = {}  # by run; the run held longest first
        self.held_count = 0

    def __len__(self) -> int:
        return len(self.ready) + self.held_count

    def append(self, item: Queued, due_at: float = NEVER) -> None:
        """Queue an entry behind the lazy ones of its run; the end of a step takes its start's place, and leaves other steps'."""
        if self._held:
            if type(item.entry) is StepEnded:
                self._merge(item, item.entry)
            else:
                self.release(item.run_id)
        self.ready.append(item)
        if due_at < self._ready_due_at:  # noqa: PLR1730  # once for every entry, and min() costs as much as all the rest
            self._ready_due_at = due_at

    def hold(self, item: Queued, until: float) -> None:
        """Hold a lazy entry back. ``until`` never decreases from call to call."""
        item.due_at = until
        self._held.setdefault(item.run_id, []).append(item)
        self.held_count += 1

    def _merge(self, item: Queued, end: StepEnded) -> None:
        """Drop the start of the attempt that ``end`` ends, if it is held back and nobody waits for it: the end carries the full row."""
        items = self._held.get(item.run_id, [])
        for place, held in enumerate(items):
            start = held.entry
            if type(start) is StepStarted and start[:4] == end[:4]:
                if held.waiters is None and held.expires_at is None:
                    held.merged_into = item
                    del items[place]
                    self.held_count -= 1
                    if not items:
                        del self._held[item.run_id]
                else:
                    self.release(item.run_id)
                return

    def release(self, run_id: str) -> None:
        """Make a run's lazy entries ready."""
        items = self._held.pop(run_id, None)
        if items:
            self.held_count -= len(items)
            self.ready.extend(items)

    def release_due(self, now: float = NEVER) -> None:
        """Make ready what has been held long enough; by default everything."""
        for run_id in [run_id for run_id, items in self._held.items() if items[0].due_at <= now]:
            self.release(run_id)

    def hurry(self) -> None:
        """Let what is ready be due now."""
        self._ready_due_at = 0.0

    def due_at(self) -> float:
        """Return when the writer thread has to take something that nobody else has taken by then."""
        due_at = self._ready_due_at if self.ready else NEVER
        for items in self._held.values():
            return min(due_at, items[0].due_at)
        return due_at

    def take(self, most: int) -> list[Queued]:
        """Take the next batch from what is ready."""
        if self._alone:
            self._alone -= 1
            most = 1
        if len(self.ready) > most:
            return [self.ready.popleft() for _ in range(most)]
        batch = list(self.ready)
        self.ready.clear()
        self._ready_due_at = NEVER
        self._alone = 0
        return batch

    def put_back(self, batch: Sequence[Queued]) -> None:
        """Return entries whose write failed to the place from which they were taken."""
        for item in batch:
            item.tried = True
        self.ready.extendleft(reversed(batch))

    def take_apart(self, count: int) -> None:
        """Give each of the next ``count`` entries a batch of its own."""
        self._alone += count

    def remove(self, items: Iterable[Queued]) -> None:
        """Take entries out wherever they wait."""
        gone = set(items)
        self.ready = deque(item for item in self.ready if item not in gone)
        for run_id in {item.run_id for item in gone if item.due_at} & self._held.keys():
            rest = [item for item in self._held[run_id] if item not in gone]
            self.held_count -= len(self._held[run_id]) - len(rest)
            if rest:
                self._held[run_id] = rest
            else:
                del self._held[run_id]

    def items(self) -> Iterator[Queued]:
        """Yield what waits; of one run in its order."""
        yield from self.ready
        for items in self._held.values():
            yield from items

    def drain(self) -> list[Queued]:
        """Take everything."""
        self.release_due()
        items = list(self.ready)
        self.ready.clear()
        return items


def wake(items: Iterable[Queued]) -> None:
    """Tell those who wait for entries that have an outcome now: functions, threads, each event loop once.

    Functions first: who is woken may count on what they have taken note of.
    """
    locks: list[threading.Lock] = []
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Outcome], Outcome]]] = {}
    calls: list[tuple[Callable[[Outcome], None], Outcome]] = []
    for item in items:
        for waiter in item.waiters or ():
            if isinstance(waiter, asyncio.Future):
                by_loop.setdefault(waiter.get_loop(), []).append((waiter, item.outcome))
            elif callable(waiter):
                calls.append((waiter, item.outcome))
            else:
                locks.append(waiter)
    for tell, outcome in calls:
        try:
            tell(outcome)
        except Exception as error:  # noqa: BLE001  # whoever wrote it, the others are told all the same
            _log.error("a function that is told of outcomes raised %s", describe(error))
    for lock in locks:
        lock.release()
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set_outcomes, pairs)
        except RuntimeError:
            # The loop was closed meanwhile, so nobody waits there any more. What was written stays written.
            _log.debug("an event loop was closed before it could be told of %d entries", len(pairs))


def _set_outcomes(pairs: Iterable[tuple[asyncio.Future[Outcome], Outcome]]) -> None:
    for future, outcome in pairs:
        if future.done():  # cancelled: the entry is written all the same
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def describe(error: BaseException) -> str:
    """Class and place, in one line for the log. No message: that of a driver may quote what was to be written."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
