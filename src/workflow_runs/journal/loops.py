"""What an event loop does for the journal: hand over once a turn, and let the writer run.

A loop that is busy without a pause starves every other thread: a thread gets the interpreter lock only after it has waited for a full,
undisturbed switch interval (5 ms), and a loop lets go of the lock for an instant on every turn, which begins that wait anew. A web
application under load is such a loop. So the loop is *polite*: once a batch has been out for a millisecond it stands still for up to two,
in which the writer runs. The switch interval is the application's, and is never touched.
"""

from __future__ import annotations

import asyncio
from typing import Final

from .lead import Lead
from .queue import NEVER

_POLITE_AFTER_S: Final = 0.001
_POLITE_AFTER_MAX_S: Final = 0.016  # a commit that is slow by itself (disk, network) costs a loop at most 2 of 18 ms
_POLITE_FOR_S: Final = 0.002


class LoopSide:
    """One event loop. Used on its thread only."""

    def __init__(self, lead: Lead, loop: asyncio.AbstractEventLoop) -> None:
        self._lead = lead
        self._loop = loop
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
