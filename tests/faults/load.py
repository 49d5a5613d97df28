"""Clients that trigger chains and repeat a request until it is answered, and a sampler that watches what becomes of them."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.faults.book import Book
from tests.faults.servers import CHAINS, RUNS, Answer, Server

NO_ANSWER = (OSError, http.client.HTTPException)
AGAIN_S = 0.02
SAMPLE_S = 0.15
BROWSED = (
    *("/healthz", "/readyz", "/v1/admin/workflows", f"{RUNS}?status=failed&limit=5", f"{RUNS}/wfrn_nobody/plan"),
    *("/desk/", "/desk/runs", "/desk/runs/wfrn_nobody", "/desk/workflows", "/desk/workflows/faults.chain"),
)


@dataclass(frozen=True, slots=True)
class Chain:
    """What is triggered."""

    steps: int = 4
    work_ms: float = 5

    def body(self, key: str) -> dict[str, Any]:
        given = {"steps": self.steps, "key": key, "work_ms": self.work_ms}
        return {"input": given, "correlationId": key, "idempotencyKey": key}


class Load:
    """Clients and sampler, from ``with`` to its end; ``servers`` are asked in turn.

    A client waits for its run to end, but no longer than ``patience_s``: several of its runs are in flight while servers die.
    """

    def __init__(
        self,
        book: Book,
        servers: Sequence[Server],
        chain: Chain,
        *,
        prefix: str,
        clients: int = 4,
        patience_s: float = 0.3,
        resumes: bool = False,
    ) -> None:
        self.book = book
        self.chain = chain
        self.answered = threading.Event()  # something was acknowledged since it was cleared
        self._servers = servers
        self._prefix = prefix
        self._patience_s = patience_s
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._client, args=(i,), daemon=True) for i in range(clients)]
        self._threads.append(threading.Thread(target=self._sample, daemon=True))
        if resumes:
            self._threads += [threading.Thread(target=act, daemon=True) for act in (self._resume, self._browse)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def key(self) -> str:
        """Return a key that nothing has."""
        return f"{self._prefix}-{next(self._numbers)}"

    def trigger(self, server: Callable[[], Server], key: str, chain: Chain | None = None) -> str | None:
        """Trigger, again and again until it is answered; None if the load ends before."""
        chosen = chain or self.chain
        while not self._stop.is_set():
            answer = attempt(server(), "POST", CHAINS, chosen.body(key))
            if answer is not None and answer.status == 202:
                run_id: str = answer.body["data"]["runId"]
                self.book.promised(run_id, key, chosen.steps)
                self.answered.set()
                return run_id
            if answer is not None and answer.status < 500:
                self.book.verdict.add("wrong", f"a trigger of {key} was answered {answer.status} {answer.body}")
                return None
            self._stop.wait(AGAIN_S)
        return None

    def _client(self, number: int) -> None:
        servers = self._in_turn(number)
        while not self._stop.is_set():
            run_id = self.trigger(lambda: next(servers), self.key())
            waited = 0.0
            while run_id is not None and run_id not in self.book.ended and waited < self._patience_s:
                self._stop.wait(AGAIN_S)
                waited += AGAIN_S

    def _resume(self) -> None:
        """Trigger runs that fail, and resume each until somebody says that it was."""
        servers = self._in_turn(0)
        while not self._stop.is_set():
            key = self.key()
            self.book.ledger.failing.add((key, "s1"))
            failed = self.trigger(lambda: next(servers), key)
            while failed is not None and not self._stop.is_set() and not has_ended(next(servers), self.book, failed):
                self._stop.wait(AGAIN_S)
            self.book.ledger.failing.discard((key, "s1"))
            while failed is not None and not self._stop.is_set() and not self.resumed(next(servers), failed, key):
                self._stop.wait(AGAIN_S)

    def resumed(self, server: Server, failed: str, key: str) -> bool:
        """Resume a run; True when that is settled: the child is a promise."""
        answer = attempt(server, "POST", f"{RUNS}/{failed}/resume")
        if answer is None or answer.status == 503:
            return False
        child = answer.body["data"]["runId"] if answer.status == 202 else answer.body.get("runId")
        if answer.status not in {202, 409} or child is None:
            self.book.verdict.add("wrong", f"a resume was answered {answer.status} {answer.body}")
        else:
            self.book.promised(child, key, self.chain.steps)
        return True

    def _browse(self) -> None:
        """Look at everything that there is to look at; the answers are judged with all others."""
        servers, paths = self._in_turn(0), itertools.cycle(BROWSED)
        while not self._stop.is_set():
            attempt(next(servers), "GET", next(paths))
            self._stop.wait(AGAIN_S)

    def _in_turn(self, number: int) -> Iterator[Server]:
        return itertools.islice(itertools.cycle(self._servers), number % len(self._servers), None)

    def _sample(self) -> None:
        servers = self._in_turn(0)
        while not self._stop.is_set():
            sample(self.book, next(servers))
            self._stop.wait(SAMPLE_S)


def sample(book: Book, server: Server) -> None:
    """Look at the newest runs, and into one that is under way."""
    asked_at = time.monotonic()
    listed = attempt(server, "GET", f"{RUNS}?view=summary&limit=100")
    if listed is None or listed.status != 200:
        return
    book.saw(listed.body["data"], asked_at)
    running = [run for run in listed.body["data"] if run["status"] == "running"]
    if running:
        oldest = running[-1]
        detail = attempt(server, "GET", f"{RUNS}/{oldest['id']}")
        if detail is not None and detail.status == 200:
            book.saw_steps(oldest["correlationId"], detail.body["data"]["steps"])


def attempt(server: Server, method: str, path: str, body: Any = None) -> Answer | None:
    """Ask once; None when nobody answers."""
    with contextlib.suppress(*NO_ANSWER):
        return server.ask(method, path, body)
    return None


def has_ended(server: Server, book: Book, run_id: str) -> bool:
    """Return whether a run is known to have ended, or says so now."""
    if run_id in book.ended:
        return True
    asked_at = time.monotonic()
    detail = attempt(server, "GET", f"{RUNS}/{run_id}")
    if detail is None or detail.status != 200:
        return False
    book.saw([detail.body["data"]["run"]], asked_at)
    return detail.body["data"]["run"]["status"] != "running"
