"""What an event loop does for the journal: hand over once a turn, and let the writer run.

A loop that is busy without a pause starves every other thread: a thread gets the interpreter lock only after it has waited for a full,
undisturbed switch interval (5 ms), and a loop lets go of the lock for an instant on every turn, which begins that wait anew. A web
application under load is such a loop. So the loop is *polite*: once a batch has been out for a millisecond it stands still for up to two,
in which the writer runs. The switch interval is the application's, and is never touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from .lead import Lead
from .queue import NEVER, PENDING, Queued

_POLITE_AFTER_S: Final = 0.001
_POLITE_AFTER_MAX_S: Final = 0.016  # a commit that is slow by itself (disk, network) costs a loop at most 2 of 18 ms
_POLITE_FOR_S: Final = 0.002
_SWEEP_FROM: Final = 64


class LoopSide:
    """One event loop. Used on its thread only."""

    def __init__(
        self, lead: Lead, loop: asyncio.AbstractEventLoop, give_up: Callable[[Sequence[Queued]], None]
    ) -> None:
        self._lead = lead
        self._loop = loop
        self._give_up = give_up
        self._bounded: list[Queued] = []  # whose callers wait here, and not for ever
        self._sweep_at = _SWEEP_FROM
        self._bound_timer: asyncio.TimerHandle | None = None
        self.is_requested = False
        self._timer: asyncio.TimerHandle | None = None
        self._polite_after_s = _POLITE_AFTER_S

    def request(self) -> None:
        """Hand over to the writer thread at the end of this turn; not to be called while ``is_requested``."""
        self.is_requested = True
        self._loop.call_soon(self._hand_over)

    def expect(self, seconds: float) -> None:
        """Be polite when the writer thread comes for lazy entries, so many seconds from now."""
        if self._timer is None:
            self._watch(seconds + _POLITE_AFTER_S)

    def bound(self, item: Queued) -> None:
        """Have an entry given up when its time is over. One timer for all: nearly all are done long before."""
        assert item.expires_at is not None
        if len(self._bounded) >= self._sweep_at:
            self._bounded = [known for known in self._bounded if known.outcome is PENDING]
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._bounded))
        self._bounded.append(item)
        seconds = self._lead.seconds_until(item.expires_at)
        if self._bound_timer is None or self._loop.time() + seconds < self._bound_timer.when():
            self._await_bound(seconds)

    def _await_bound(self, seconds: float) -> None:
        if self._bound_timer is not None:
            self._bound_timer.cancel()
        self._bound_timer = self._loop.call_later(seconds, self._give_up_overdue)

    def _give_up_overdue(self) -> None:
        self._bound_timer = None
        pending = [item for item in self._bounded if item.outcome is PENDING and item.expires_at is not None]
        overdue = [item for item in pending if self._lead.seconds_until(item.expires_at or 0.0) <= 0]
        if overdue:
            self._give_up(overdue)
        self._bounded = [item for item in pending if item.outcome is PENDING]
        if self._bounded:
            self._await_bound(max(0.0, min(self._lead.seconds_until(item.expires_at or 0.0) for item in self._bounded)))

    def _hand_over(self) -> None:
        self.is_requested = False
        self._lead.hand_over()
        self._watch(_POLITE_AFTER_S)

    def _watch(self, seconds: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= self._loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._be_polite)

    def _be_polite(self) -> None:
        self._timer = None
        if self._lead.needs_time():
            ended = self._lead.stand_still(_POLITE_FOR_S)
            # When time did not help, the database is what is slow: stand still less and less often.
            self._polite_after_s = _POLITE_AFTER_S if ended else min(self._polite_after_s * 2, _POLITE_AFTER_MAX_S)
            self._watch(self._polite_after_s)
            return
        self._polite_after_s = _POLITE_AFTER_S
        seconds = self._lead.wakes_in()
        if seconds < NEVER:
            self._watch(max(0.0, seconds) + _POLITE_AFTER_S)
