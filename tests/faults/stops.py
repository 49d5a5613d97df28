"""SIGTERM under load: the process ends with 0 within its limit, refuses what is new meanwhile, and repeats nothing."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.book import Book, Verdict
from tests.faults.load import NO_ANSWER, Chain, Load
from tests.faults.servers import CHAINS, DEADLINE_S, Server, Starter, ask
from workflow_runs.testing.ledger import Ledger

CHAIN = Chain(steps=6, work_ms=60)
DRAIN_S = 8.0  # the fault app's
LIMIT_S = DRAIN_S + 2.0 + 2.0  # what was interrupted may record itself, and Uvicorn's connections may end
TRIGGERED = (202, 503)


@dataclass
class Stopping:
    """What stops, so many, did."""

    verdict: Verdict = field(default_factory=Verdict)
    times: int = 0
    exit_s: list[float] = field(default_factory=list)
    answers: Counter[int] = field(
        default_factory=Counter
    )  # to triggers sent between the signal and the end; 0: nobody listened


def stops(starter: Starter, url: str, folder: Path, times: int, *, seed: int = 0, long: int = 0) -> Stopping:
    """Stop a server under load so often, and start it again; the last ``long`` times with a step in it that outlasts the limit."""
    chance = random.Random(seed)
    with Ledger().running() as ledger:
        book = Book(ledger)
        found = Stopping(book.verdict)
        server = Server(starter, url, folder, ledger=ledger.url)
        try:
            for number in range(times):
                server.start().wait_healthy()
                with Load(book, [server], CHAIN, prefix=f"t{number}") as load:
                    assert load.answered.wait(DEADLINE_S), f"{server.name} accepts nothing ({server.log})"
                    if number >= times - long:
                        load.trigger(lambda: server, load.key(), Chain(steps=2, work_ms=15_000))
                    time.sleep(chance.uniform(0.0, 0.3))
                    _stop(server, book, found, f"late-{number}")
                    server.start().wait_healthy()  # for the clients, which repeat until they are answered
                found.times += 1
                if number + 1 < times:
                    _stop(server, book, found, f"idle-{number}")
            book.judge(server, peace_s=60)
        finally:
            server.close()
    return found


def _stop(server: Server, book: Book, found: Stopping, key: str) -> None:
    ended = threading.Event()
    probing = threading.Thread(target=_probe, args=(server.port, book, found, key, ended), daemon=True)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    probing.start()
    status = server.wait()
    took_s = time.monotonic() - begun
    ended.set()
    probing.join()
    found.exit_s.append(took_s)
    if status != 0:
        book.verdict.add("wrong", f"the process ended with {status} ({server.log})")
    if took_s > LIMIT_S:
        book.verdict.add("wrong", f"the process took {took_s:.1f} s to end")


def _probe(port: int, book: Book, found: Stopping, key: str, ended: threading.Event) -> None:
    """Trigger anew all the time; what is accepted is a promise like any other."""
    number = 0
    while not ended.is_set():
        number += 1
        mine = f"{key}-{number}"
        try:
            answer = ask(port, "POST", CHAINS, Chain(1, 0).body(mine), timeout_s=5)
        except NO_ANSWER:
            found.answers[0] += 1
        else:
            found.answers[answer.status] += 1
            if answer.status == 202:
                book.promised(answer.body["data"]["runId"], mine, 1)
            if answer.status not in TRIGGERED or (answer.status == 503 and answer.retry_after is None):
                book.verdict.add("wrong", f"a trigger during the stop was answered {answer.status} {answer.body}")
        ended.wait(0.02)
