"""How entries of an observed run go to the journal: nobody waits, nothing is raised, and nothing disappears unseen.

While the database is away the journal's relay puts them into a file (``journal.relay``). What finds no room there either, or is refused, is
counted, logged once, and marked on the run as a gap, so that nobody resumes past it. The two entries without which the others mean
nothing, the run's begin and end, are kept, without a payload that is large, and tried again as soon as there is room.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Final

from ..errors import JournalClosed, RecordingError, WorkflowRunsError
from ..journal import COPIED, Journal, Settles, weight
from ..model.entries import EndOutcome, Entry, GapNoted, RunEnded, StartRun, StepEnded
from .attempt import StepAttempt

_log = logging.getLogger("workflow_runs.recorder")

_LOOK_S: Final = 0.05  # how often who waits for a begin looks whether the database is known to be away


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
        if self._relay is not None:
            self._relay.forks.add(self)

    def after_fork(self) -> None:
        """Make what a forked child has to have anew: what is on its way, or held back, is the parent's."""
        self.lock = threading.Lock()  # held while submitting, which does not wait: entries keep their order
        self._paid = threading.Condition(self.lock)  # nothing is kept any more
        self._last: Settles | None = None  # what the journal was given last: it writes in the order of giving
        # Begins of steps, by sequence; those of the second have been held back for a while.
        self._starts: dict[int, StepAttempt] = {}
        self._late_starts: dict[int, StepAttempt] = {}
        self._is_swept = False

    @property
    def lost(self) -> int:
        """How many entries were not, or not yet, taken."""
        refused = 0 if self._relay is None else self._relay.lost_of(self._run_id)
        return self._lost + len(self._kept) + refused

    def hold(self, attempt: StepAttempt) -> None:
        """Hold the begin of a step back for a moment: most steps end before anybody could have seen it, and their end says it all."""
        with self.lock:
            if self._is_swept or (self._relay is not None and self._relay.hold_for(self)):
                self._is_swept = True
                self._starts[attempt.sequence] = attempt
            else:
                self._send(attempt.start(self._run_id, None))

    def sweep(self, *, all_of_them: bool = False) -> bool:
        """Send the begins that have been held back for a while, and return whether others are."""
        with self.lock:
            self._send_starts(self._late_starts)
            self._late_starts, self._starts = self._starts, {}
            if all_of_them:
                self._send_starts(self._late_starts)
            self._is_swept = bool(self._late_starts)
            return self._is_swept

    def _send_starts(self, attempts: dict[int, StepAttempt]) -> None:
        for attempt in attempts.values():
            self._send(attempt.start(self._run_id, None))
        attempts.clear()

    def end(self, entry: StepEnded) -> bool:
        """Hand the end of a step over, in place of its begin if that is held back; see ``send``."""
        with self.lock:
            if self._starts.pop(entry.sequence, None) is None:
                self._late_starts.pop(entry.sequence, None)
            return self._send(entry)

    def send(self, entry: Entry) -> bool:
        """Hand an entry over and return whether it was taken. It is not durable yet."""
        with self.lock:
            return self._send(entry)

    def _send(self, entry: Entry) -> bool:
        try:
            if self._kept or self._has_gap:
                self._send_kept()
            self._submit(entry)
        except Exception as error:  # noqa: BLE001  # recording never breaks what is recorded
            self._lose(entry, error)
            return False
        return True

    def lose(self, what: str) -> None:
        """Count something that was not even tried."""
        with self.lock:
            self._count(what)

    def note_gap(self, what: str) -> None:
        """Say that something of the run is missing from the record."""
        with self.lock:
            self._report("%s of run %s is missing from the record", what, self._run_id)
            self._has_gap = not self._is_gap_noted
            self._try_kept()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything taken is durable; False when it is not within the time, or something was lost."""
        relay = self._relay
        if relay is None:
            return self.lost == 0
        until = relay.now() + timeout_s
        with self.lock:
            self._send_starts(self._late_starts)
            self._send_starts(self._starts)
            self._try_kept()
            self._paid.wait_for(lambda: relay.is_closed or not self._kept, timeout_s)
            last = self._last
        is_settled = last is None or _is_done(last, until - relay.now())
        return relay.wait(self._run_id, until - relay.now()) and is_settled and self.lost == 0

    def wait_for_begin(self, timeout_s: float) -> bool:
        """Wait until everything taken is durable, but not for a database that is away; False when it is not durable."""
        relay, last = self._relay, self._last
        if relay is None or last is None:
            return False
        until = relay.now() + timeout_s
        while not last.done and not relay.is_open and (left := until - relay.now()) > 0:
            _is_done(last, min(left, _LOOK_S))
        return last.done and not relay.is_open

    def pay(self) -> None:
        """Send what was kept, if there is room now."""
        with self.lock:
            self._try_kept()

    def _submit(self, entry: Entry) -> None:
        if self._relay is None:
            raise RecordingError("there is nothing to record to")
        receipt = self._relay.send(entry, self._told)
        if receipt is not None:
            self._last = receipt

    def _send_kept(self) -> None:
        while self._kept:
            self._submit(self._kept[0])
            del self._kept[0]
        if self._has_gap:
            self._submit(GapNoted(self._run_id))
            self._has_gap, self._is_gap_noted = False, True
        if self._relay is not None:
            self._relay.paid(self)
        self._paid.notify_all()

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
        if isinstance(outcome, EndOutcome) and not outcome.changed:
            _log.warning("run %s had ended as %s already; a later end changed nothing", self._run_id, outcome.state)
        if not isinstance(outcome, BaseException) or (isinstance(outcome, JournalClosed) and self._relay.keep(entry)):
            return
        with self.lock:
            if isinstance(entry, GapNoted):
                self._is_gap_noted = False
            else:
                self._count(type(outcome).__name__)
                self._try_kept()

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


def _is_done(receipt: Settles, timeout_s: float) -> bool:
    """Wait for a receipt, and return whether it was settled in time; as what does not matter."""
    with suppress(WorkflowRunsError):
        receipt.result(max(0.0, timeout_s))
    return receipt.done
