"""Twenty-four requests at one instant, half of them to each of two servers on one database.

Each request is sent but for its last byte; the last bytes leave together.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from tests.faults.book import Book, Verdict
from tests.faults.load import Chain
from tests.faults.servers import CHAINS, DEADLINE_S, RUNS, Answer, Server, Starter, wait_until
from workflow_runs.testing.ledger import Ledger

AT_ONCE = 24
CHAIN = Chain(steps=3, work_ms=0)


@dataclass(frozen=True, slots=True)
class Asked:
    server: Server
    path: str
    body: Any = None


def at_one_instant(requests: Sequence[Asked]) -> list[Answer]:
    """POST all of them at one instant; return the answers in their order."""
    together = threading.Barrier(len(requests))

    def one(asked: Asked) -> Answer:
        data = b"" if asked.body is None else json.dumps(asked.body).encode()
        head = [f"POST {asked.path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Length: {len(data)}"]
        if data:
            head.append("Content-Type: application/json")
        whole = "\r\n".join([*head, "", ""]).encode() + data
        with contextlib.closing(socket.create_connection(("127.0.0.1", asked.server.port), DEADLINE_S)) as connection:
            connection.sendall(whole[:-1])
            together.wait(DEADLINE_S)
            begun = time.monotonic()
            connection.sendall(whole[-1:])
            response = HTTPResponse(connection, method="POST")
            response.begin()
            told = json.loads(response.read())
            answer = Answer(response.status, told, response.headers.get("Retry-After"), time.monotonic() - begun)
        asked.server.answers.note("POST", asked.path, answer)
        return answer

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(one, requests))


class Racers:
    """Two servers on one database, and what is asked of both at once."""

    def __init__(self, servers: Sequence[Server], ledger: Ledger, book: Book) -> None:
        self.servers = servers
        self.ledger = ledger
        self.book = book

    def same_key(self, key: str) -> None:
        """The same trigger: one run, and everybody is told which."""
        answers = self._all(CHAINS, [CHAIN.body(key)])
        self._expect(key, answers, {202: AT_ONCE})
        self._one_run(key, answers)
        other = CHAIN.body(key) | {"input": {"steps": 1, "key": "other"}}
        self._expect(key, self._all(CHAINS, [other]), {422: AT_ONCE})

    def two_inputs(self, key: str) -> None:
        """One key, two inputs: one of them is accepted, the other refused, whichever of them was first."""
        bodies = [CHAIN.body(key), CHAIN.body(key) | {"tags": ["other"]}]
        answers = self._all(CHAINS, bodies)
        self._one_run(key, [answer for answer in answers if answer.status == 202])
        by_body = [Counter(answer.status for answer in answers[i::4] + answers[i + 1 :: 4]) for i in (0, 2)]
        if sorted(by_body, key=min) != [{202: AT_ONCE // 2}, {422: AT_ONCE // 2}]:
            self.book.verdict.add("wrong", f"{key} with two inputs was answered {by_body}")

    def resumes(self, key: str) -> None:
        """Resumes of one failed run: one child, and the others are told its id."""
        self.ledger.failing.add((key, "s1"))
        answer = self.servers[0].ask("POST", CHAINS, CHAIN.body(key))
        failed = answer.body["data"]["runId"]
        self.book.promised(failed, key, CHAIN.steps)
        wait_until(lambda: self._run(failed)["status"] == "failed", f"the failure of {failed}")
        self.ledger.failing.discard((key, "s1"))
        answers = self._all(f"{RUNS}/{failed}/resume", [None])
        self._expect(key, answers, {202: 1, 409: AT_ONCE - 1})
        told = {
            answer.body["data"]["runId"] if answer.status == 202 else answer.body.get("runId") for answer in answers
        }
        children = self.servers[1].ask("GET", f"{RUNS}?parentRunId={failed}").body["data"]
        if told != {child["id"] for child in children} or len(told) != 1:
            self.book.verdict.add(
                "doubled", f"{failed} has the children {[c['id'] for c in children]}; told was {told}"
            )
        for child in children:
            self.book.promised(child["id"], key, CHAIN.steps)
            wait_until(lambda run_id=child["id"]: self._run(run_id)["status"] != "running", "the end of a resume")
        effects = {step: len(made) for step, made in self.ledger.nonces.items() if step[0] == key}
        if effects != {(key, f"s{i}"): 1 for i in range(CHAIN.steps)}:
            self.book.verdict.add("repeated", f"effects of {key}: {effects}")

    RACES = (same_key, two_inputs, resumes)

    def _all(self, path: str, bodies: Sequence[Any]) -> list[Answer]:
        # Two in a row have one body, and go to one server each.
        return at_one_instant([Asked(self.servers[i % 2], path, bodies[i // 2 % len(bodies)]) for i in range(AT_ONCE)])

    def _expect(self, key: str, answers: Sequence[Answer], expected: dict[int, int]) -> None:
        told = Counter(answer.status for answer in answers)
        if told != expected:
            self.book.verdict.add("wrong", f"{key} was answered {dict(told)}, not {expected}")

    def _one_run(self, key: str, answers: Sequence[Answer]) -> None:
        ids = {answer.body["data"]["runId"] for answer in answers if answer.status == 202}
        listed = self.servers[1].ask("GET", f"{RUNS}?correlationId={key}").body["data"]
        if ids != {run["id"] for run in listed} or len(ids) != 1:
            self.book.verdict.add("doubled", f"{key} has {len(listed)} runs; {len(ids)} were told of")
        for run_id in ids:
            self.book.promised(run_id, key, CHAIN.steps)

    def _run(self, run_id: str) -> dict[str, Any]:
        return self.servers[1].ask("GET", f"{RUNS}/{run_id}").body["data"]["run"]


@contextlib.contextmanager
def fleet(
    starter: Starter, url: str, folder: Path, ledger: Ledger, count: int = 2, **more: str
) -> Iterator[list[Server]]:
    """Start servers on one database; they are gone at the end."""
    names = ("one", "two", "three", "four")[:count]
    servers = [Server(starter, url, folder, ledger=ledger.url, name=name, **more) for name in names]
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_healthy()
        yield servers
    finally:
        for server in servers:
            server.close()


def race(starter: Starter, url: str, folder: Path, rounds: int) -> tuple[Verdict, list[float]]:
    """Do each race so often; return the verdict, and how long the requests took."""
    with Ledger().running() as ledger, fleet(starter, url, folder, ledger) as servers:
        book = Book(ledger)
        racers = Racers(servers, ledger, book)
        for number in range(rounds):
            for act in Racers.RACES:
                act(racers, f"{act.__name__}-{number}")
        took_s = [seconds for server in servers for seconds in server.answers.took_s]
        book.judge(servers[0])
        book.judge_answers(servers)
        return book.verdict, took_s
