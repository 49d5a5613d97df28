"""The right to execute, and taking up what nobody executes.

A process that executes runs is registered under a name and an epoch and renews its lease by heartbeats. Whoever is silent for
longer than the lease is *fenced*: its epoch is raised, and from that instant the database refuses every word it writes.

``Tenure`` is this process's own right. It knows by a local clock, which goes on while the process is frozen, when it can last be sure of
it: when the lease, counted from the moment *before* its last successful heartbeat was sent, is over, no step is started until a
heartbeat succeeds. A fenced process gives up what it executes and comes back under another name: coming back under the same one would
fence its successor, if two processes were given one name by mistake, and the two would fence each other for ever.

``Claimer`` takes up runs that are queued without an owner, and those of owners that are dead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

from ..clock import Clock, this_process
from ..errors import ClaimLost, JournalClosed, RecordingError, StoreUnavailable
from ..journal import Journal, Receipt
from ..model.entries import Beat, Claim, ClaimedRun, ClaimRuns, Heartbeat, RegisterExecutor
from ..settings import EngineSettings

_log = logging.getLogger(__name__)

_CLAIM_MOST: Final = 50  # runs taken at once: leaves some for the neighbours
_WAIT_S: Final = 0.5  # how often a thread that waits for the database looks whether it is to stop
_JOIN_S: Final = 2.0


def executor_name() -> str:
    """Return a name that no other process has: host, process, and a random part for processes of containers that share both."""
    return f"{socket.gethostname()[:100]}-{os.getpid()}-{secrets.token_hex(4)}"


class Tenure:
    """This process's right to execute. Threads and coroutines may ask; one thread of its own renews.

    Args:
        journal: Where heartbeats go.
        clock: Its lease time decides.
        name: Of this executor.
        settings: Lease and heartbeat.
        on_lost: Called, before anything else happens, when another process has taken over.
        on_cancel: Called with a run of this process that somebody wants cancelled, and the reason; at each heartbeat until it has ended.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        name: str,
        settings: EngineSettings,
        *,
        on_lost: Callable[[], None],
        on_cancel: Callable[[str, str | None], None],
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._name = name
        self._settings = settings
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._claim: Claim | None = None
        self._renewed_at = float("-inf")  # lease time in seconds
        self._registered = threading.Event()
        self._due = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="workflow-runs-heartbeat", daemon=True)

    @property
    def claim(self) -> Claim | None:
        """Under what this process executes now; None while it is not registered."""
        return self._claim

    def holds(self, claim: Claim) -> bool:
        """Return whether the claim is this process's and its lease cannot have run out."""
        return self._claim is claim and self._clock.lease_time().seconds - self._renewed_at < self._settings.lease_s

    def start(self) -> None:
        """Register, and renew from now on."""
        self._thread.start()

    def wait_registered(self, timeout_s: float) -> bool:
        """Wait until this process is registered; False if it took longer."""
        return self._registered.wait(timeout_s)

    def renew_now(self) -> None:
        """Send a heartbeat at once, for what it brings back."""
        self._due.set()

    def stop(self) -> None:
        """Stop renewing. The lease runs out by itself; what this process still executes can be taken up then."""
        self._stopping = True
        self._due.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    async def keep(self) -> None:
        """Renew from an event loop when the thread is late.

        A loop that is busy without a pause can keep a thread from the interpreter for longer than a lease; but then the loop itself
        comes along often.
        """
        every_s = self._settings.heartbeat_every_s
        while not self._stopping:
            await asyncio.sleep(every_s)
            claim, sent_at = self._claim, self._clock.lease_time().seconds
            if claim is None or sent_at - self._renewed_at < 1.5 * every_s:
                continue
            try:
                beat = await self._journal.submit(Heartbeat(claim))
            except RecordingError:
                continue  # the thread learns it too, and is the one to act on it
            self._renewed(claim, sent_at, beat)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._renew()
            except JournalClosed:
                return
            except ClaimLost:
                self._lost()
                continue
            except Exception:  # noqa: BLE001  # nothing ends this thread: without it the process may execute nothing
                _log.exception("renewing the right to execute failed; it is tried again")
            self._due.wait(self._settings.heartbeat_every_s)
            self._due.clear()

    def _renew(self) -> None:
        sent_at = self._clock.lease_time().seconds
        claim = self._claim
        if claim is None:
            me = this_process()
            entry = RegisterExecutor(self._name, self._settings.lease_s, me.scope, me.pid, me.started)
            registered = self._committed(self._journal.submit(entry))
            if isinstance(registered, Claim):
                self._renewed_at = sent_at
                self._claim = registered
                self._registered.set()
                _log.info("registered as executor %s, epoch %d", *registered)
        else:
            self._renewed(claim, sent_at, self._committed(self._journal.submit(Heartbeat(claim))))

    def _renewed(self, claim: Claim, sent_at: float, beat: object) -> None:
        if claim is self._claim and isinstance(beat, Beat):
            self._renewed_at = max(self._renewed_at, sent_at)
            for run_id, reason in beat.cancel_requested:
                self._on_cancel(run_id, reason)

    def _committed(self, receipt: Receipt) -> object:
        """Wait for an entry; None when this process stops meanwhile."""
        while not self._stopping:
            try:
                return receipt.result(_WAIT_S)
            except StoreUnavailable:
                if receipt.done:
                    raise
        return None

    def _lost(self) -> None:
        _log.warning(
            "executor %s was taken for dead, and its runs may be elsewhere: they are given up here", self._name
        )
        self._claim = None
        self._on_lost()
        self._name = f"{self._name.partition('~')[0]}~{secrets.token_hex(4)}"


class Claimer:
    """Takes up runs: every ``poll_s``, and when there is reason to.

    Args:
        journal: Where claims go.
        tenure: Whose claim it is taken under.
        definitions: Workflows that this process can execute.
        poll_s: Seconds between two looks.
        reserve: Called before: sets slots aside, at most the given number, and says how many.
        adopt: Called after, with what was taken; gives the slots back.
    """

    def __init__(
        self,
        journal: Journal,
        tenure: Tenure,
        definitions: Sequence[str],
        poll_s: float,
        *,
        reserve: Callable[[int], int],
        adopt: Callable[[Sequence[ClaimedRun], Claim, int], None],
    ) -> None:
        self._journal = journal
        self._tenure = tenure
        self._definitions = tuple(definitions)
        self._poll_s = poll_s
        self._reserve = reserve
        self._adopt = adopt
        self._due = threading.Event()
        self._more = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="workflow-runs-claimer", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def look_now(self) -> None:
        """Look at once: a run was stored without an owner."""
        self._more = True
        self._due.set()

    def slot_freed(self) -> None:
        """Look at once if the last look left something behind; not each time, since a look is a transaction."""
        if self._more:
            self._due.set()

    def stop(self) -> None:
        """Take nothing more. What is being taken at this moment is still adopted."""
        self._stopping = True
        self._due.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._take()
            except JournalClosed:
                return
            except ClaimLost:
                self._tenure.renew_now()  # finds out, and acts on it
            except RecordingError as error:
                _log.warning("taking up runs failed, and is tried again: %s", type(error).__name__)
            except Exception:  # noqa: BLE001  # nothing ends this thread: runs would lie about for ever
                _log.exception("taking up runs failed, and is tried again")
            self._due.wait(self._poll_s)
            self._due.clear()

    def _take(self) -> None:
        claim = self._tenure.claim
        if claim is None or not self._tenure.holds(claim) or not self._definitions:
            return
        reserved = self._reserve(_CLAIM_MOST)
        if not reserved:
            return
        taken: Sequence[ClaimedRun] = ()
        try:
            scope = this_process().scope
            outcome = self._journal.submit(ClaimRuns(claim, self._definitions, reserved, scope)).result()
            assert isinstance(outcome, tuple)
            taken = outcome
            self._more = len(taken) >= reserved
        finally:
            self._adopt(taken, claim, reserved)
        if self._more:
            self._due.set()
