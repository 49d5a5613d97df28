"""Several servers on one database: one of them dies, or loses its way to the database, and the others go on with its runs."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.book import Book, Verdict, check_file
from tests.faults.freezes import LEASE_S, Thawing, judge_take_over, wait_for_take_over
from tests.faults.load import Chain, Load
from tests.faults.outages import Postgres
from tests.faults.races import fleet
from tests.faults.servers import DEADLINE_S, Server, Starter
from workflow_runs.testing.ledger import Ledger
from workflow_runs.testing.proxy import Mode

CHAIN = Chain(steps=5, work_ms=10)


@dataclass
class Falling:
    """What kills in a fleet, so many, did."""

    verdict: Verdict = field(default_factory=Verdict)
    kills: int = 0
    renamed: int = 0  # restarts under another name


def fleet_kills(starter: Starter, url: str, folder: Path, kills: int, *, seed: int = 0, servers: int = 3) -> Falling:
    """Kill a server of the fleet, whichever, so often; it comes back under its own name or another."""
    chance = random.Random(seed)
    with Ledger().running() as ledger, fleet(starter, url, folder, ledger, servers, LEASE_S=str(LEASE_S)) as members:
        book = Book(ledger)
        found = Falling(book.verdict)
        with Load(book, members, CHAIN, prefix=f"fleet{seed}", resumes=True) as load:
            while found.kills < kills:
                load.answered.clear()
                assert load.answered.wait(DEADLINE_S), f"{[member.name for member in members]} accept nothing"
                time.sleep(chance.uniform(0.0, 0.05))
                victim = chance.choice(members)
                victim.kill()
                found.kills += 1
                if chance.random() < 0.5:
                    victim.environment["EXECUTOR"] = f"{victim.name}-{found.kills}"
                    found.renamed += 1
                victim.start().wait_healthy()
        book.judge(members[0])
        book.judge_answers(members)
        for member in members:
            member.kill()
        check_file(url, book.verdict, whole=True)
    return found


def partitions(starter: Starter, url: str, folder: Path, times: int, *, seed: int = 0) -> Thawing:
    """Cut one of two servers off from its PostgreSQL for longer than its lease, and let it come back."""
    chance = random.Random(seed)
    database = Postgres(url)
    with Ledger().running() as ledger, database.running() as reached:
        book = Book(ledger)
        found = Thawing(book.verdict)
        pair = [
            Server(starter, reached, folder, ledger=ledger.url, name="far", LEASE_S=str(LEASE_S)),
            Server(starter, url, folder, ledger=ledger.url, name="near", LEASE_S=str(LEASE_S)),
        ]
        try:
            for server in pair:
                server.start().wait_healthy()
            for number in range(times):
                _part(book, ledger, found, database, pair, number, chance)
            book.judge(pair[1], late_effects=True)
            book.judge_answers(pair)
        finally:
            for server in pair:
                server.close()
    return found


def _part(
    book: Book,
    ledger: Ledger,
    found: Thawing,
    database: Postgres,
    pair: Sequence[Server],
    number: int,
    chance: random.Random,
) -> None:
    far, near = pair
    with Load(book, [far], CHAIN, prefix=f"p{number}", clients=4, patience_s=0.1) as load:
        assert load.answered.wait(DEADLINE_S), f"{far.name} accepts nothing ({far.log})"
        time.sleep(chance.uniform(0.0, 0.1))
        database.proxy.mode = Mode.BLACK_HOLE if number % 2 else Mode.REFUSE
        parted_at = time.monotonic()
        in_flight = {promise.run_id for promise in book.unfinished()}
        with Load(book, [near], CHAIN, prefix=f"o{number}", clients=1):
            wait_for_take_over(book, near, in_flight)
        database.proxy.mode = Mode.PASS
        load.answered.clear()
        assert load.answered.wait(DEADLINE_S), f"{far.name} does not come back ({far.log})"
    judge_take_over(book, ledger, found, far, near, parted_at)
    found.times += 1
