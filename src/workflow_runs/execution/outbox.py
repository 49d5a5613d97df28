"""How entries of an observed run go to the journal: nobody waits, nothing is raised, and nothing disappears unseen.

While the database is away the journal's relay puts them into a file (``journal.relay``). What finds no room there either, or is refused, is
counted, logged once, and marked on the run as a gap, so that nobody resumes past it. The two entries without which the others mean
nothing, the run's begin and end, are kept, without a payload that is large, and tried again as soon as there is room.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from ..errors import JournalClosed, RecordingError
from ..journal import COPIED, Forks, Journal, Told, weight
from ..model.entries import EndOutcome, Entry, GapNoted, RunEnded, StartRun

_log = logging.getLogger("workflow_runs.recorder")


class Outbox:
    """The entries of one run. Safe to use from any thread; a ``journal`` of None loses everything, and says so."""

    def __init__(self, journal: Journal | None, run_id: str) -> None:
        self._journal = journal
        self._relay = None if journal is None else journal.unwaited
        self._run_id = run_id
        self._kept: list[StartRun | RunEnded] = []
        self._lost = 0
        self._has_gap = False  # to be noted
        self._is_gap_noted = False  # once is enough
        self._is_reported = False
        self.after_fork()
        self.at_fork(self)

    def after_fork(self) -> None:
        """Make what a forked child has to have anew: what is on its way is the parent's."""
        self._lock = threading.Lock()  # held while submitting, which does not wait: entries keep their order
        self._settled = threading.Condition(self._lock)  # something is not on its way any more
        self._on_way = 0  # in the journal's queue

    def at_fork(self, holder: Forks) -> None:
        """Have ``holder.after_fork`` called in a forked child."""
        if self._relay is not None:
            self._relay.forks.add(holder)

    @property
    def lost(self) -> int:
        """How many entries were not, or not yet, taken."""
        refused = 0 if self._relay is None else self._relay.lost_of(self._run_id)
        return self._lost + len(self._kept) + refused

    def send(self, entry: Entry, *, lazy: bool = False) -> bool:
        """Hand an entry over and return whether it was taken. It is not durable yet."""
        with self._lock:
            try:
                if self._kept or self._has_gap:
                    self._send_kept()
                self._submit(entry, lazy=lazy)
            except Exception as error:  # noqa: BLE001  # recording never breaks what is recorded
                self._lose(entry, error)
                return False
            return True

    def lose(self, what: str) -> None:
        """Count something that was not even tried."""
        with self._lock:
            self._count(what)

    def note_gap(self, what: str) -> None:
        """Say that something of the run is missing from the record."""
        with self._lock:
            self._report("%s of run %s is missing from the record", what, self._run_id)
            self._has_gap = not self._is_gap_noted
            self._try_kept()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything taken is durable; False when it is not within the time, or something was lost."""
        with self._lock:
            self._try_kept()
        relay = self._relay
        if relay is None:
            return self.lost == 0
        relay.hurry(self._run_id)
        until = relay.now() + timeout_s
        with self._settled:
            self._settled.wait_for(self._is_settled, timeout_s)
        return relay.wait(self._run_id, until - relay.now()) and self._on_way == 0 and self.lost == 0

    def wait_for_begin(self, timeout_s: float) -> bool:
        """Wait until everything taken is durable, but not for a database that is away; False when it is not durable."""
        relay = self._relay
        if relay is None or relay.is_open:
            return False
        relay.hurry(self._run_id)
        with self._settled:
            return self._settled.wait_for(lambda: self._on_way == 0 or relay.is_open, timeout_s) and not relay.is_open

    def pay(self) -> None:
        """Send what was kept, if there is room now."""
        with self._lock:
            self._try_kept()

    def _is_settled(self) -> bool:
        assert self._relay is not None, "something is waited for"
        return self._on_way == 0 and (self._relay.is_closed or not self._kept)

    def _submit(self, entry: Entry, *, lazy: bool = False) -> None:
        if self._relay is None:
            raise RecordingError("there is nothing to record to")
        if self._relay.send(entry, Told(self._told, entry), lazy=lazy):
            self._on_way += 1

    def _send_kept(self) -> None:
        while self._kept:
            self._submit(self._kept[0])
            del self._kept[0]
        if self._has_gap:
            self._submit(GapNoted(self._run_id))
            self._has_gap, self._is_gap_noted = False, True
        if self._relay is not None:
            self._relay.paid(self)
        self._settled.notify_all()

    def _try_kept(self) -> None:
        try:
            if self._kept or self._has_gap:
                self._send_kept()
        except Exception as error:  # noqa: BLE001  # it stays kept, and is tried again with the next entry
            self._owe()
            _log.debug("still not taken: %s", type(error).__name__)

    def _told(self, entry: Entry, outcome: object) -> None:
        """Learn what became of an entry, on the thread that settled it."""
        assert self._relay is not None, "something was sent"
        if outcome is not COPIED:
            self._relay.settled(entry)
        is_lost = isinstance(outcome, BaseException) and not (
            isinstance(outcome, JournalClosed) and self._relay.keep(entry)
        )
        if isinstance(outcome, EndOutcome) and not outcome.changed:
            _log.warning("run %s had ended as %s already; a later end changed nothing", self._run_id, outcome.state)
        with self._lock:
            if is_lost and isinstance(entry, GapNoted):
                self._is_gap_noted = False
            elif is_lost:
                self._count(type(outcome).__name__)
            elif (self._kept or self._has_gap) and outcome is not COPIED:
                self._try_kept()  # something was written, so there is room again
            if outcome is not COPIED:
                self._on_way -= 1
            if self._on_way == 0 or outcome is COPIED:
                self._settled.notify_all()

    def _lose(self, entry: Entry, error: Exception) -> None:
        if isinstance(entry, StartRun | RunEnded):
            self._kept.append(_without_payload(entry) if weight(entry) else entry)
            if weight(entry) and not self._is_gap_noted:
                self._has_gap = True
            self._owe()
            self._report(
                "an entry of run %s is kept, the journal does not take it: %s", self._run_id, type(error).__name__
            )
        else:
            self._count(type(error).__name__)

    def _count(self, why: str) -> None:
        self._lost += 1
        if not self._is_gap_noted:
            self._has_gap = True
            self._owe()
        if self._journal is not None:
            self._journal.count_dropped()
        self._report("an entry of run %s is lost: %s", self._run_id, why)

    def _owe(self) -> None:
        if self._relay is not None:
            self._relay.owe(self)

    def _report(self, text: str, *values: object) -> None:
        """Log the first loss of a run aloud: of ten thousand the others say nothing new."""
        _log.log(logging.DEBUG if self._is_reported else logging.WARNING, text, *values)
        self._is_reported = True


def _without_payload(entry: StartRun | RunEnded) -> StartRun | RunEnded:
    """Return an entry that may be kept in any number."""
    if isinstance(entry, StartRun):
        return replace(entry, request=replace(entry.request, input=None))
    return replace(entry, result=None)
