"""A server that is frozen for longer than its lease: another takes over, and what the frozen one does when it wakes changes nothing."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.book import Book, Verdict
from tests.faults.load import Chain, Load, has_ended
from tests.faults.races import fleet
from tests.faults.servers import DEADLINE_S, Server, Starter, wait_until
from workflow_runs.testing.ledger import Call, Ledger

# Longer than a machine with much to do keeps a process waiting: the other server is not to be taken for dead as well.
LEASE_S = 2.0
CHAIN = Chain(steps=6, work_ms=20)
TAKE_OVER_S = LEASE_S + 5.0  # the promise


@dataclass
class Thawing:
    """What freezes, so many, did."""

    verdict: Verdict = field(default_factory=Verdict)
    times: int = 0
    in_commit: int = 0  # freezes that were taken back, since the process held the lock of the file
    taken_over: int = 0  # runs that another server went on with
    took_over_s: list[float] = field(
        default_factory=list
    )  # from the freeze to the first step elsewhere of each such run

    @property
    def late(self) -> int:
        """How many runs were taken over later than promised."""
        return sum(seconds > TAKE_OVER_S for seconds in self.took_over_s)


def freezes(starter: Starter, url: str, folder: Path, times: int, *, seed: int = 0) -> Thawing:
    """Freeze one of two servers under load, in turn, until the other has taken its runs over; then wake it."""
    chance = random.Random(seed)
    with Ledger().running() as ledger, fleet(starter, url, folder, ledger, LEASE_S=str(LEASE_S)) as servers:
        book = Book(ledger)
        found = Thawing(book.verdict)
        for number in range(times):
            frozen, other = servers if number % 2 else reversed(servers)
            with Load(book, [frozen], CHAIN, prefix=f"f{number}", clients=4, patience_s=0.1) as load:
                found.in_commit += _freeze_within_a_step(frozen, ledger, chance, url)
                frozen_at = time.monotonic()
                in_flight = {promise.run_id for promise in book.unfinished()}
                with Load(book, [other], CHAIN, prefix=f"o{number}", clients=1):
                    wait_for_take_over(book, other, in_flight)
                frozen.signal(signal.SIGCONT)
                # Awake again, and at work under a new epoch: new runs of its own come to their end.
                load.answered.clear()
                assert load.answered.wait(DEADLINE_S), f"{frozen.name} does not wake up ({frozen.log})"
            judge_take_over(book, ledger, found, frozen, other, frozen_at)
            found.times += 1
        book.judge(servers[0], late_effects=True)
        book.judge_answers(servers)
        return found


def _freeze_within_a_step(server: Server, ledger: Ledger, chance: random.Random, url: str) -> int:
    """Freeze a server 0 to 15 ms after one of its steps has begun; return how often that had to be tried again.

    A process that is frozen in the midst of a commit to SQLite holds the file's lock, and nobody can take anything over: that is stated,
    and not what is looked at here.
    """
    tries = 0
    while True:
        frozen = threading.Event()

        def freeze(call: Call, pid: int = server.pid, frozen: threading.Event = frozen) -> None:
            if call.pid == pid and call.path == "/begin" and call.step in {"s1", "s2", "s3"} and not frozen.is_set():
                time.sleep(chance.uniform(0.0, 0.015))
                server.signal(signal.SIGSTOP)
                frozen.set()

        ledger.before = freeze
        try:
            assert frozen.wait(DEADLINE_S), f"{server.name} does nothing ({server.log})"
        finally:
            ledger.before = None
        if not _is_locked(url):
            return tries
        server.signal(signal.SIGCONT)
        tries += 1


def _is_locked(url: str) -> bool:
    if not url.startswith("sqlite:///"):
        return False
    path = url.removeprefix("sqlite:///")
    # Longer than a commit of the other server takes, and shorter than the lease.
    with contextlib.closing(sqlite3.connect(path, timeout=0.3, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


def wait_for_take_over(book: Book, other: Server, run_ids: set[str]) -> None:
    """Until every run that was in flight has ended elsewhere."""
    for run_id in run_ids:
        wait_until(lambda run_id=run_id: has_ended(other, book, run_id), f"take-over by {other.name} ({other.log})")


def judge_take_over(book: Book, ledger: Ledger, found: Thawing, gone: Server, other: Server, gone_at: float) -> None:
    """Count what another server went on with, and what the one that was gone started of it after that."""
    with ledger.lock:
        calls = [call for call in ledger.calls if call.path == "/begin" and call.at > gone_at]
    elsewhere: dict[str, Call] = {}
    for call in calls:
        if call.pid == other.pid and not call.key.startswith("o"):
            elsewhere.setdefault(call.key, call)
    if not elsewhere:
        book.verdict.add("wrong", f"nothing of {gone.name} was taken over")
    found.taken_over += len(elsewhere)
    found.took_over_s += [call.at - gone_at for call in elsewhere.values()]
    for call in calls:
        if call.pid == gone.pid and call.key in elsewhere and call.at > elsewhere[call.key].at:
            book.verdict.add("zombies", f"{call.step} of {call.key} by process {call.pid}, which was gone")
