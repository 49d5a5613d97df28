"""``Changes``: tells those who look at runs that something has happened to them. It says which run and little more: whoever is
told looks again, by the same questions as before, so nothing is shown from here.

Two sources. *This process*: an observer of the journal, told right after each commit. It does a few dictionary operations for each run
of a batch, never waits, and does nothing at all before the first page was asked for. *Other processes* on the same database: one
thread, which exists only while somebody watches, compares the runs that are watched with what they were a second ago (``store.marks``).
It finds what this process wrote, too. Of a run under a claim of this process that is passed over, since nobody else can write there.
The rest (observed runs, say) is told twice: that costs a conditional request, and passing it over could swallow another's change.

**Nothing is lost between a page and its stream.** A page takes ``position()`` before it reads, and the stream begins from there: what
this process has logged since is told again. Of other processes nothing was logged while nobody watched, so a run that had not been
looked at when the page was made is told once after the first look, without an id, unless it had ended and its record says that it was
not touched since (clocks of machines may differ by ``_SKEW_MS``). A position of another process, of before a fork, or older than the
log gives one *reset*: look at everything again. It is told only after the first look, from which on every change is noticed.

A position is ``epoch-number``. The epoch is random for each process. Numbers grow by one for each notice, and with the microseconds
since the process began, so that a position says when it was taken.

Everything is bounded: the log (one notice a run, the newest), runs of a watch, watches, and the share of time that asking takes. While
the database is away the thread pauses, longer each time, and says so once.

Rejected: LISTEN/NOTIFY (one database of two; every writing transaction would pay for it), a table of changes (doubles the price of a
step). Not noticed of other processes: steps that are recorded after their run has ended,
which an observed run may do that was cancelled; and that a run is new whose id sorts below one that exists (a machine whose clock is
behind).
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, Self

from ..clock import Clock
from ..errors import InvalidQuery
from ..model.entries import Claim, Entry, RunChanged, RunEnded, StartRun, StepEnded, StepStarted, StepUndone
from ..model.marks import RunMark
from ..model.records import StepKey
from ..model.states import RunState
from ..store.base import StoreReader

_log = logging.getLogger(__name__)

RUNS_MAX: Final = 50  # of one watch: a page of the list
WATCHES_MAX: Final = 200
LOG_MAX: Final = 10_000  # runs whose last change is known; at a thousand runs a second they last for ten
POLL_S: Final = 0.75  # what another process writes is noticed in less than a second

_POLL_SHARE: Final = (
    9  # so many times longer than it asked, the thread pauses: it never takes a tenth of the database's time
)
_MARKS_MAX: Final = 500  # runs in one question
_CLAIMS_MAX: Final = 100  # a process has one; a new one after it lost it
_LEFT_MAX: Final = (
    1_000  # runs that nobody watches any more: who comes back after a cut is told what changed, and no more
)
_RETRY_MAX_S: Final = 15.0
_CLOSE_S: Final = 2.0
_SKEW_MS: Final = 300_000

_STEP_ENTRIES: Final = (StepStarted, StepEnded, StepUndone)
_STATE_ENTRIES: Final = (RunChanged, RunEnded, StartRun)


class NoticeKind(StrEnum):
    """What a notice is about."""

    RUN = "run"  # something of this run changed
    NEW = "new"  # there may be runs that the page does not show yet
    RESET = "reset"  # what was missed cannot be said: look at everything again


@dataclass(frozen=True, slots=True)
class Notice:
    """What a watch is told."""

    kind: NoticeKind
    id: str = ""  # the position from which on nothing is missed after this; empty: the one before stays valid
    run_id: str = ""
    state: RunState | None = None  # None: not known here
    step: StepKey | None = None  # the step that was written about last, if it is known

    @property
    def number(self) -> int:
        """The id's number; 0 without an id."""
        return int(self.id.rpartition("-")[2] or 0)


class _Told(NamedTuple):
    """A change: number, what the run is now, which step it was about."""

    number: int
    state: RunState | None
    step: StepKey | None


@dataclass(slots=True)
class _Known:
    """What a run was at the last look. Every change that anybody makes after the first look, whose end is ``since``, is told."""

    since: int
    mark: RunMark | None  # None: there is no such run


class Watch:
    """Somebody who looks at runs. ``take`` may be called from any thread; end it with ``close``, or use it as a context.

    The other attributes are read and written by ``Changes`` alone, under its lock.
    """

    __slots__ = (
        "_changes",
        "firsts",
        "fresh",
        "is_stirred",
        "is_woken",
        "news",
        "pending",
        "reset",
        "run_ids",
        "since",
        "wake",
    )

    def __init__(
        self, changes: Changes, run_ids: tuple[str, ...], since: int | None, wake: Callable[[], None], *, news: bool
    ) -> None:
        self._changes = changes
        self.run_ids = run_ids
        self.since = since  # None: what was missed is not known, and a reset is due
        self.wake = wake
        self.news = news
        self.pending: dict[str, _Told] = {}  # by run, the newest of each
        self.firsts: dict[str, _Told] = {}  # runs that may have changed since the page was made
        self.fresh: set[str] = set()  # runs whose first look is to come
        self.reset = 0  # number of a reset that is to be told
        self.is_stirred = False  # there may be new runs
        self.is_woken = False  # ``wake`` was called since the last ``take``

    @property
    def is_over(self) -> bool:
        """Whether nothing will be told any more."""
        return self._changes.is_closed

    def take(self) -> tuple[Notice, ...]:
        """Return what has happened since the last call: of each run the newest, in the order of their ids."""
        return self._changes.taken(self)

    def position(self) -> str | None:
        """Return a position up to which everything is taken; None while something is not."""
        return self._changes.position_of(self)

    def close(self) -> None:
        """Stop watching; idempotent."""
        self._changes.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Changes:
    """Who watches what, in one process. All methods are safe to call from any thread, and none waits but ``visible`` and ``close``.

    Args:
        store: Where other processes' changes are looked for.
        clock: For pauses and positions.
        poll_s: Seconds between two looks while somebody watches.
        log_max: Runs whose last change is kept for those who come later.
    """

    def __init__(self, store: StoreReader, clock: Clock, *, poll_s: float = POLL_S, log_max: int = LOG_MAX) -> None:
        self._store = store
        self._now = clock.monotonic
        self._wall = clock.now_millis
        self._poll_s = poll_s
        self._log_max = log_max
        self._begin()
        os.register_at_fork(after_in_child=partial(_after_fork, weakref.ref(self)))

    def _begin(self) -> None:
        """Set up what a forked child has to have anew."""
        self._lock = threading.Lock()  # held for moments, never while the store is asked or a watch is woken
        self._changed = threading.Condition(self._lock)
        self._epoch = secrets.token_hex(8)
        self._began_at, self._began_ms = self._now(), self._wall()
        self._number = 0
        self._is_on = False  # nobody has asked yet: what is committed needs no log
        self.is_closed = False
        self._log: OrderedDict[str, _Told] = (
            OrderedDict()
        )  # by run, its last change; the run that changed longest ago first
        self._forgotten = 0  # the greatest number that has left the log
        self._watches: set[Watch] = set()
        self._by_run: dict[str, set[Watch]] = {}
        self._known: dict[str, _Known] = {}  # of runs that are watched, or were until lately
        self._left: OrderedDict[str, None] = OrderedDict()  # of those the latter; left longest ago first
        self._unknown: set[str] = set()  # watched runs that are to be looked at without waiting for the next round
        self._claims: set[Claim] = set()  # under which this process writes
        self._newest: str | None = None
        self._unstirred: set[Watch] = set()  # those who want to hear of new runs, before their first look
        self._thread: threading.Thread | None = None
        self._due_at = self._retry_at = 0.0
        self._failed_in_a_row = 0

    # --- positions --------------------------------------------------------------------------------------------------

    def position(self) -> str:
        """Return the present position. A page takes it before it reads what it shows, and its stream begins from it."""
        with self._lock:
            self._is_on = True
            return self._text(self._advance())

    def _advance(self) -> int:
        self._number = max(self._number + 1, int((self._now() - self._began_at) * 1_000_000))
        return self._number

    def _text(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def _since(self, position: str | None) -> int | None:
        """Return the number of a position from which on everything is known here, or None."""
        epoch, _, text = (position or "").rpartition("-")
        if epoch != self._epoch or not (text.isascii() and text.isdigit() and len(text) < 20):
            return None
        number = int(text)
        return number if self._forgotten <= number <= self._number else None

    # --- this process: called by the thread that has committed ------------------------------------------------------

    def observe(self, entries: Sequence[Entry]) -> None:
        """Take note of what was committed; an observer of the journal."""
        if not self._is_on:
            return
        told = _told_by(entries)
        claims = {claim for entry in entries if (claim := getattr(entry, "claim", None)) is not None}
        has_news = any(isinstance(entry, StartRun | RunEnded) for entry in entries)
        woken: set[Watch] = set()
        with self._lock:
            if not claims <= self._claims:
                self._claims = claims | (self._claims if len(self._claims) < _CLAIMS_MAX else set())
            for run_id, (state, step) in told.items():
                self._note(run_id, state, step, woken)
            if has_news:
                self._stir((watch for watch in self._watches if watch.news), woken)
        _wake(woken)

    def _note(self, run_id: str, state: RunState | None, step: StepKey | None, woken: set[Watch]) -> None:
        before = self._log.pop(run_id, None)
        if state is None and before is not None:
            state = before.state
        elif state is None and (known := self._known.get(run_id)) is not None and known.mark is not None:
            state = known.mark.state
        told = self._log[run_id] = _Told(self._advance(), state, step)
        if len(self._log) > self._log_max:
            self._forgotten = self._log.popitem(last=False)[1].number
        for watch in self._by_run.get(run_id, ()):
            watch.pending[run_id] = told
            watch.firsts.pop(run_id, None)
            _rouse(watch, woken)

    def _stir(self, watches: Iterable[Watch], woken: set[Watch]) -> None:
        for watch in watches:
            watch.is_stirred = True
            _rouse(watch, woken)

    # --- watching ---------------------------------------------------------------------------------------------------

    @property
    def watching(self) -> int:
        """How many watch."""
        return len(self._watches)

    def watch(
        self,
        run_ids: Collection[str],
        *,
        new_runs: bool = False,
        last: str | None = None,
        wake: Callable[[], None] = lambda: None,
        watches_max: int = WATCHES_MAX,
    ) -> Watch | None:
        """Begin to watch; None when as many watch as may, or after ``close``.

        Args:
            run_ids: The runs of the page, at most ``RUNS_MAX``; they need not exist.
            new_runs: Whether runs that begin (or end, and may match a filter then) are to be noticed too.
            last: The page's ``position()``, or the id of the last notice that was taken from an earlier watch.
            wake: Called when there is something to take, once until it is taken; from any thread, and must not wait.
            watches_max: How many may watch.

        Raises:
            InvalidQuery: too many runs.
        """
        ids = tuple(dict.fromkeys(run_ids))
        if len(ids) > RUNS_MAX:
            raise InvalidQuery(f"at most {RUNS_MAX} runs can be watched at once", field="run")
        woken: set[Watch] = set()
        with self._changed:
            if self.is_closed or len(self._watches) >= watches_max or not self._has_thread():
                return None
            self._is_on = True
            watch = Watch(self, ids, self._since(last), wake, news=new_runs)
            self._watches.add(watch)
            for run_id in ids:
                self._by_run.setdefault(run_id, set()).add(watch)
                self._catch_up(watch, run_id, woken)
            if new_runs:
                self._unstirred.add(watch)
            self._settle(watch, woken)
            self._changed.notify_all()
        _wake(woken)
        return watch

    def _catch_up(self, watch: Watch, run_id: str, woken: set[Watch]) -> None:
        """Give a new watch what was logged since its page was made."""
        told, known = self._log.get(run_id), self._known.get(run_id)
        if told is not None and watch.since is not None and told.number > watch.since:
            watch.pending[run_id] = told
            _rouse(watch, woken)
        if known is None or run_id in self._left:
            self._left.pop(run_id, None)
            self._unknown.add(run_id)
        if known is None:
            watch.fresh.add(run_id)
        elif watch.since is not None and watch.since < known.since:
            self._tell_first(watch, run_id, known.mark, woken)

    def _tell_first(self, watch: Watch, run_id: str, mark: RunMark | None, woken: set[Watch]) -> None:
        """Tell of a run that another process may have changed between the page and the first look."""
        assert watch.since is not None, "who is owed a reset is told of everything"
        if mark is None or run_id in watch.pending:
            return
        made_ms = self._began_ms + watch.since // 1000
        if mark.is_live or mark.updated_ms >= made_ms - _SKEW_MS:
            watch.firsts[run_id] = _Told(0, mark.state, mark.newest_step)
            _rouse(watch, woken)

    def _settle(self, watch: Watch, woken: set[Watch]) -> None:
        """Give the reset that is due, once all runs were looked at."""
        if watch.since is None and not watch.fresh:
            watch.since = watch.reset = self._advance()
            watch.pending.clear()
            _rouse(watch, woken)

    def leave(self, watch: Watch) -> None:
        """See ``Watch.close``."""
        with self._changed:
            if watch not in self._watches:
                return
            self._watches.discard(watch)
            self._unstirred.discard(watch)
            for run_id in watch.run_ids:
                self._by_run[run_id].discard(watch)
                if not self._by_run[run_id]:
                    del self._by_run[run_id]
                    self._unknown.discard(run_id)
                    self._left[run_id] = None
            while len(self._left) > _LEFT_MAX:
                self._known.pop(self._left.popitem(last=False)[0], None)
            self._changed.notify_all()

    def taken(self, watch: Watch) -> tuple[Notice, ...]:
        """See ``Watch.take``."""
        with self._lock:
            pending, firsts = watch.pending, watch.firsts
            reset, is_stirred = watch.reset, watch.is_stirred
            watch.pending, watch.firsts, watch.reset = {}, {}, 0
            watch.is_stirred = watch.is_woken = False
        notices = [Notice(NoticeKind.RESET, self._text(reset))] if reset else []
        # Those without an id first: after a cut behind one that has an id, they would not be told again.
        notices += [Notice(NoticeKind.RUN, "", run_id, told.state, told.step) for run_id, told in firsts.items()]
        ordered = sorted(pending.items(), key=lambda item: item[1].number)
        notices += [
            Notice(NoticeKind.RUN, self._text(number), run_id, state, step) for run_id, (number, state, step) in ordered
        ]
        return (*notices, Notice(NoticeKind.NEW)) if is_stirred else tuple(notices)

    def position_of(self, watch: Watch) -> str | None:
        """See ``Watch.position``."""
        with self._lock:
            if watch.since is None or watch.fresh or watch.pending or watch.firsts or watch.reset:
                return None
            return self._text(self._advance())

    def visible(self, run_ids: Collection[str], sees: Callable[[str], bool]) -> tuple[str, ...]:
        """Return those of the runs that exist and whose workflow's name is one that may be seen. Waits for the database.

        Raises:
            StoreUnavailable: it cannot be asked.
        """
        marks = self._marks(tuple(dict.fromkeys(run_ids))[:RUNS_MAX])
        return tuple(run_id for run_id, mark in marks.items() if sees(mark.workflow_name))

    # --- other processes: the thread --------------------------------------------------------------------------------

    def _has_thread(self) -> bool:
        """Start the thread if there is none; whether there is one now. The lock is held."""
        if self._thread is None:
            # A daemon: it has nothing to finish, and interpreter exit must not wait for a database that hangs.
            thread = threading.Thread(target=self._run, name="workflow-runs-changes", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            self._newest = None
            self._due_at = 0.0
        return True

    def _run(self) -> None:
        while (asked := self._next_look()) is not None:
            self._look(*asked)

    def _next_look(self) -> tuple[list[str], bool] | None:
        """Wait for something to look at: all that is watched when it is time, before that what is watched newly. None: nobody watches."""
        with self._changed:
            while self._watches and not self.is_closed:
                now = self._now()
                due_at = max(self._due_at, self._retry_at)
                if now >= due_at:
                    return list(self._by_run), True
                if now >= self._retry_at and (self._unknown or self._unstirred):
                    return list(self._unknown), False
                self._changed.wait(due_at - now)
            self._thread = None
            return None

    def _look(self, run_ids: list[str], is_round: bool) -> None:  # noqa: FBT001  # of a pair that _next_look gives
        began = self._now()
        try:
            marks = self._marks(run_ids)
            newest = self._store.newest_run_id()
        except Exception as error:  # noqa: BLE001  # nothing ends this thread while somebody watches
            self._postpone(error)
            return
        woken: set[Watch] = set()
        with self._lock:
            if self._failed_in_a_row:
                _log.info("changes of other processes can be looked for again")
            self._failed_in_a_row = 0
            if is_round:
                ended = self._now()
                self._due_at = ended + max(self._poll_s, _POLL_SHARE * (ended - began))
            for run_id in run_ids:
                self._compare(run_id, marks.get(run_id), woken)
            self._compare_newest(newest, woken)
        _wake(woken)

    def _marks(self, run_ids: Sequence[str]) -> dict[str, RunMark]:
        marks: dict[str, RunMark] = {}
        for start in range(0, len(run_ids), _MARKS_MAX):
            marks |= self._store.run_marks(run_ids[start : start + _MARKS_MAX])
        return marks

    def _compare(self, run_id: str, mark: RunMark | None, woken: set[Watch]) -> None:
        watches, known = self._by_run.get(run_id), self._known.get(run_id)
        if watches is None:
            return  # they left meanwhile
        self._unknown.discard(run_id)
        if known is not None:
            if mark != known.mark:
                before, known.mark = known.mark, mark
                if not self._is_ours(before, mark):
                    self._note(run_id, None if mark is None else mark.state, _new_step(before, mark), woken)
            return
        # Not the moment of the question: a page made between the two has read what the answer says, or something newer.
        self._known[run_id] = _Known(self._advance(), mark)
        for watch in watches:
            watch.fresh.discard(run_id)
            if watch.since is not None:
                self._tell_first(watch, run_id, mark, woken)
            self._settle(watch, woken)

    def _is_ours(self, before: RunMark | None, after: RunMark | None) -> bool:
        """Return whether only this process can have written what differs, so that it is told by ``observe``."""
        if before is None or after is None or after.claim not in self._claims:
            return False
        return _from_outside(before) == _from_outside(after)

    def _compare_newest(self, newest: str | None, woken: set[Watch]) -> None:
        is_newer = newest is not None and (self._newest is None or newest > self._newest)
        self._stir([watch for watch in self._watches if watch.news] if is_newer else self._unstirred, woken)
        self._newest = newest
        self._unstirred.clear()

    def _postpone(self, error: Exception) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            pause_s = min(_RETRY_MAX_S, self._poll_s * 2.0 ** min(self._failed_in_a_row - 1, 10))
            jitter = 0.5 + random.random() / 2  # noqa: S311  # no secret: many processes must not come back at one instant
            self._retry_at = self._now() + pause_s * jitter
        if self._failed_in_a_row == 1:
            _log.warning("changes of other processes cannot be looked for now: %s: %s", type(error).__name__, error)

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Tell nothing more: every watch is over, and the thread ends. Idempotent."""
        with self._changed:
            self.is_closed = True
            watches, thread = tuple(self._watches), self._thread
            self._changed.notify_all()
        _wake(watches)
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_S)

    def after_fork(self) -> None:
        """Begin anew in a forked child: nobody watches there, and the thread stayed with the parent."""
        self._begin()


def _told_by(entries: Iterable[Entry]) -> dict[str, tuple[RunState | None, StepKey | None]]:
    """Return what entries say about each run: the last state and the last step."""
    told: dict[str, tuple[RunState | None, StepKey | None]] = {}
    for entry in entries:
        run_id: str = getattr(entry, "run_id", "")
        if not run_id:
            continue  # a process's own affairs
        state, step = told.get(run_id, (None, None))
        if isinstance(entry, _STEP_ENTRIES):
            step = entry.step
        elif isinstance(entry, _STATE_ENTRIES):
            state = entry.state
            if isinstance(entry, StartRun) and entry.request.parent_run_id is not None:
                told.setdefault(entry.request.parent_run_id, (None, None))  # its page names the runs made from it
        told[run_id] = state, step
    return told


def _from_outside(mark: RunMark) -> tuple[object, ...]:
    """Return what others may write of a run that somebody has a claim on."""
    return mark.claim, mark.cancel_requested_ms, mark.resumed_by_run_id


def _new_step(before: RunMark | None, after: RunMark | None) -> StepKey | None:
    """Return the step that was written about between two looks, as far as they tell."""
    has_news = after is not None and (before is None or after.progress > before.progress)
    return after.newest_step if after is not None and has_news else None


def _rouse(watch: Watch, woken: set[Watch]) -> None:
    if not watch.is_woken:
        watch.is_woken = True
        woken.add(watch)


def _wake(watches: Iterable[Watch]) -> None:
    for watch in watches:
        watch.wake()


def _after_fork(reference: weakref.ref[Changes]) -> None:
    changes = reference()
    if changes is not None:
        changes.after_fork()
