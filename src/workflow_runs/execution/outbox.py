"""How entries of an observed run go to the journal: nobody waits, nothing is raised, and nothing disappears unseen.

What the journal does not take (its queue is full, it was closed) or the database refuses is counted, logged once, and marked on the
run as a gap, so that nobody resumes past it. The two entries without which the others mean nothing, the run's begin and end, are kept
and tried again as soon as there is room.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from functools import partial

from ..errors import RecordingError, WorkflowRunsError
from ..journal import Journal, Receipt
from ..model.entries import EndOutcome, Entry, GapNoted, RunEnded, StartRun

_log = logging.getLogger("workflow_runs.recorder")


class Outbox:
    """The entries of one run. Safe to use from any thread; a ``journal`` of None loses everything, and says so."""

    def __init__(self, journal: Journal | None, run_id: str) -> None:
        self._journal = journal
        self._run_id = run_id
        self._lock = threading.Lock()  # held while submitting, which does not wait: entries keep their order
        self._settled = threading.Condition(self._lock)  # no entry is on its way any more
        self._on_way = 0
        self._kept: list[StartRun | RunEnded] = []
        self._lost = 0
        self._has_gap = False  # to be noted
        self._is_reported = False
        self._last: Receipt | None = None

    @property
    def lost(self) -> int:
        """How many entries were not, or not yet, taken."""
        return self._lost + len(self._kept)

    def send(self, entry: Entry, *, lazy: bool = False) -> bool:
        """Hand an entry over and return whether it was taken. It is not durable yet."""
        with self._lock:
            try:
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
            self._has_gap = True
            self._try_kept()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything taken is durable; False when it is not within the time, or something was lost."""
        with self._lock:
            self._try_kept()
            last = self._last
        if last is not None and not last.done:
            with suppress(WorkflowRunsError):
                last.result(0.0)  # has the journal write now what it holds back
        with self._settled:
            return self._settled.wait_for(lambda: self._on_way == 0, timeout_s) and self.lost == 0

    def _submit(self, entry: Entry, *, lazy: bool = False) -> None:
        if self._journal is None:
            raise RecordingError("there is nothing to record to")
        self._last = self._journal.submit(entry, lazy=lazy, tell=partial(self._told, entry))
        self._on_way += 1

    def _send_kept(self) -> None:
        while self._kept:
            self._submit(self._kept[0])
            del self._kept[0]
        if self._has_gap:
            self._submit(GapNoted(self._run_id))
            self._has_gap = False

    def _try_kept(self) -> None:
        try:
            self._send_kept()
        except Exception as error:  # noqa: BLE001  # it stays kept, and is tried again with the next entry
            _log.debug("still not taken: %s", type(error).__name__)

    def _told(self, entry: Entry, outcome: object) -> None:
        """Learn what became of an entry, on the thread that settled it."""
        if isinstance(outcome, EndOutcome) and not outcome.changed:
            _log.warning("run %s had ended as %s already; a later end changed nothing", self._run_id, outcome.state)
        with self._lock:
            if isinstance(outcome, BaseException):
                if not isinstance(entry, GapNoted):
                    self._count(type(outcome).__name__)
            elif self._kept or self._has_gap:
                self._try_kept()  # something was written, so there is room again
            self._on_way -= 1
            if self._on_way == 0:
                self._settled.notify_all()

    def _lose(self, entry: Entry, error: Exception) -> None:
        if isinstance(entry, StartRun | RunEnded):
            self._kept.append(entry)
            self._report(
                "an entry of run %s is kept, the journal does not take it: %s", self._run_id, type(error).__name__
            )
        else:
            self._count(type(error).__name__)

    def _count(self, why: str) -> None:
        self._lost += 1
        self._has_gap = True
        if self._journal is not None:
            self._journal.count_dropped()
        self._report("an entry of run %s is lost: %s", self._run_id, why)

    def _report(self, text: str, *values: object) -> None:
        """Log the first loss of a run aloud: of ten thousand the others say nothing new."""
        _log.log(logging.DEBUG if self._is_reported else logging.WARNING, text, *values)
        self._is_reported = True
