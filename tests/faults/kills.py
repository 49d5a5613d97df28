"""``kill -9`` at eight kinds of instants, under the load of four clients, and a restart each time.

The first six kinds wait for something that the server does and kill it then; what follows is between the server and its database.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.faults.book import Book, Verdict, check_file
from tests.faults.load import Chain, Load, attempt
from tests.faults.servers import CHAINS, DEADLINE_S, RUNS, Server, Starter, wait_until
from workflow_runs.testing.ledger import Call, Ledger

CHAIN = Chain(steps=5, work_ms=4)
FIRST_STEP_S = 10.0  # waited for a run to be taken up again, at most; more is counted as what it took


@dataclass
class Killing:
    """What a loop of kills found."""

    verdict: Verdict = field(default_factory=Verdict)
    kills: Counter[str] = field(default_factory=Counter)
    healthy_s: list[float] = field(default_factory=list)  # from start to ready
    taken_up_s: list[float] = field(default_factory=list)  # from start to the first step of a run that was there before

    def __iadd__(self, other: Killing) -> Self:
        self.verdict += other.verdict
        self.kills += other.kills
        self.healthy_s += other.healthy_s
        self.taken_up_s += other.taken_up_s
        return self


class Killer:
    """One server on one database, and the ways to kill it."""

    def __init__(self, server: Server, ledger: Ledger, book: Book, load: Load, chance: random.Random) -> None:
        self.server = server
        self.ledger = ledger
        self.book = book
        self.load = load
        self.chance = chance
        self.found = Killing(book.verdict)

    # --- the instants -----------------------------------------------------------------------------------------------

    def sent(self) -> None:
        """0 to 20 ms after a request was sent."""
        with _unanswered(self.server, "POST", CHAINS, self.load.chain.body(self.load.key())):
            self._after(0.020)

    def answered(self) -> None:
        """At the moment of the answer."""
        key = self.load.key()
        with _unanswered(self.server, "POST", CHAINS, self.load.chain.body(key)) as asking:
            asking.recv(1)
            self._kill()
            answer = attempt_reading(asking)
        if answer is not None:
            self.book.promised(answer, key, self.load.chain.steps)

    def before_effect(self) -> None:
        """Within a step, before its effect."""
        self._within("/should_fail")

    def effect_unanswered(self) -> None:
        """With the effect done and not answered."""
        self._within("/effect")

    def effect_answered(self) -> None:
        """0 to 15 ms after the effect's answer."""
        answered = threading.Event()
        self.ledger.after = lambda call: answered.set() if call.path == "/effect" else None
        try:
            answered.wait(DEADLINE_S)
            self._after(0.015)
        finally:
            self.ledger.after = None

    def resuming(self) -> None:
        """0 to 20 ms after a resume was sent. The failed run is resumed until somebody says that it was."""
        key = self.load.key()
        self.ledger.failing.add((key, "s2"))
        failed = self.load.trigger(lambda: self.server, key)
        assert failed is not None
        wait_until(lambda: self._status(failed) == "failed", f"the failure of {failed}")
        self.ledger.failing.discard((key, "s2"))
        with _unanswered(self.server, "POST", f"{RUNS}/{failed}/resume"):
            self._after(0.020)
        self.restart()
        wait_until(lambda: self.load.resumed(self.server, failed, key), f"the resume of {failed}")

    def recovering(self) -> None:
        """As before, and again while the next server takes up what the last one left."""
        self._within("/effect")
        self.server.start()
        begun = threading.Event()
        pid = self.server.pid
        self.ledger.before = lambda call: begun.set() if call.pid == pid else None
        try:
            begun.wait(self.chance.uniform(0.0, 0.3))  # whichever is first
            self._kill()
            self.found.kills["recovering"] += 1  # the other of the two is counted by the round
        finally:
            self.ledger.before = None

    INSTANTS = (sent, answered, before_effect, effect_unanswered, effect_answered, resuming, recovering)

    def round(self, number: int) -> None:
        """Kill at the instant whose turn it is, and start again."""
        self.load.answered.clear()
        self.load.answered.wait(DEADLINE_S)  # somebody is at work
        act = self.INSTANTS[number % len(self.INSTANTS)]
        act(self)
        self.found.kills[act.__name__] += 1
        if not self.server.is_running:
            self.restart()

    def restart(self) -> None:
        """Start again, and see how long it takes to be healthy and to take up a run that was there before."""
        check_file(self.server.environment["DB_URL"], self.book.verdict)
        before = {promise.key for promise in self.book.unfinished()}
        taken_up = threading.Event()
        at: list[float] = []
        self.server.start()
        pid = self.server.pid

        def look(call: Call) -> None:
            if call.pid == pid and call.key in before and not at:
                at.append(call.at - self.server.started_at)
                taken_up.set()

        self.ledger.before = look
        try:
            self.found.healthy_s.append(self.server.wait_healthy())
            # Those that were seen last as running may have ended since: then there is nothing to take up.
            wait_until(lambda: taken_up.is_set() or not self._waits(before), "taking up runs", FIRST_STEP_S)
            self.found.taken_up_s += at
        finally:
            self.ledger.before = None

    # --- how --------------------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        self.server.kill()

    def _after(self, most_s: float) -> None:
        time.sleep(self.chance.uniform(0.0, most_s))
        self._kill()

    def _within(self, path: str) -> None:
        killed = threading.Event()
        lock = threading.Lock()
        pid = self.server.pid

        def kill(call: Call) -> None:
            if call.path == path and call.pid in {pid, 0}:
                with lock:
                    if not killed.is_set():
                        self._kill()
                        killed.set()

        self.ledger.before = kill
        try:
            assert killed.wait(DEADLINE_S), f"nobody came to {path}"
        finally:
            self.ledger.before = None

    def _status(self, run_id: str) -> str | None:
        answer = attempt(self.server, "GET", f"{RUNS}/{run_id}")
        return answer.body["data"]["run"]["status"] if answer is not None and answer.status == 200 else None

    def _waits(self, keys: set[str]) -> bool:
        listed = attempt(self.server, "GET", f"{RUNS}?view=summary&limit=200&status=running")
        if listed is None or listed.status != 200:
            return True
        return any(run["correlationId"] in keys for run in listed.body["data"])


@contextmanager
def _unanswered(server: Server, method: str, path: str, body: Any = None) -> Iterator[socket.socket]:
    """Send a request and give the socket on which the answer would come."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {} if body is None else {"Content-Type": "application/json"})
        assert connection.sock is not None
        yield connection.sock
    finally:
        connection.close()


def attempt_reading(asking: socket.socket) -> str | None:
    """Return the run id of an answer whose first byte was read, if the rest is there too."""
    data = b"H"
    try:
        while chunk := asking.recv(65536):
            data += chunk
    except OSError:
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 202 " not in head.partition(b"\r\n")[0]:
        return None
    try:
        return json.loads(body)["data"]["runId"]
    except ValueError:
        return None


def kill_loop(starter: Starter, url: str, folder: Path, kills: int, *, seed: int = 0, clients: int = 4) -> Killing:
    """Kill a server so often, and judge what is left."""
    with Ledger().running() as ledger:
        book = Book(ledger)
        server = Server(starter, url, folder, ledger=ledger.url).start()
        try:
            server.wait_healthy()
            with Load(book, [server], CHAIN, prefix=f"k{seed}", clients=clients, resumes=True) as load:
                killer = Killer(server, ledger, book, load, random.Random(seed))
                rounds = itertools.count(seed)
                while killer.found.kills.total() < kills:
                    killer.round(next(rounds))
            book.judge(server)
            server.kill()
            check_file(url, book.verdict, whole=True)
        finally:
            server.close()
    return killer.found


def first_starts(
    starter: Starter, new_url: Callable[[], str], folder: Path, kills: int, *, within_s: float, seed: int = 0
) -> Killing:
    """Kill servers while they start for the first time and make the schema; then start one, which has to work."""
    found = Killing()
    chance = random.Random(seed)
    done = 0
    while done < kills:
        url = new_url()
        with Ledger().running() as ledger:
            book = Book(ledger)
            server = Server(starter, url, folder, ledger=ledger.url, name=f"first-{seed}-{done}")
            try:
                for _ in range(min(2, kills - done)):
                    server.start()
                    time.sleep(chance.uniform(0.0, within_s))
                    server.kill()
                    done += 1
                found.healthy_s.append(server.start().wait_healthy())
                answer = server.ask("POST", CHAINS, CHAIN.body("first"))
                book.promised(answer.body["data"]["runId"], "first", CHAIN.steps)
                found.verdict += book.judge(server)
                check_file(url, found.verdict, whole=True)
            finally:
                server.close()
    found.kills["starting"] += done
    return found
