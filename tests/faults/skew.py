"""Wall clocks that differ between servers, and jump while they work. Nothing that is decided may depend on them.

The clock is made wrong from outside (``clockshim.c``, with gcc): also SQLite's, and that of everything that never heard of ``Clock``.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.faults.book import Book, Verdict
from tests.faults.load import Chain, Load
from tests.faults.servers import CHAINS, DEADLINE_S, ROOT, RUNS, Program, Server
from workflow_runs.testing.ledger import Ledger

HOUR_S = 3600.0
JUMPS_S = (HOUR_S, -HOUR_S, 24 * HOUR_S, 0.0)
LEASE_S = 1.0
CHAIN = Chain(steps=6, work_ms=30)


@dataclass
class Skewing:
    """What jumps, so many, did."""

    verdict: Verdict = field(default_factory=Verdict)
    times: int = 0
    kills: int = 0


class WallClock:
    """The wall clock of the processes that are started with its environment."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("gcc")
        assert compiler is not None, "gcc is needed to make clocks wrong"
        library = folder / "clockshim.so"
        source = ROOT / "tests" / "faults" / "clockshim.c"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        self._file = folder / "offset"
        self.ahead_s = 0.0
        self.jump(0.0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCKSHIM_FILE": str(self._file)}

    def jump(self, ahead_s: float) -> None:
        """Be so far ahead of the machine's clock from now on."""
        self.ahead_s = ahead_s
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", round(ahead_s * 1e9)))


def _started_at(server: Server) -> datetime:
    """Return when a new run started, by the server's clock."""
    made = server.ask("POST", CHAINS, Chain(0, 0).body(f"clock-{server.name}")).body["data"]["runId"]
    return datetime.fromisoformat(server.ask("GET", f"{RUNS}/{made}").body["data"]["run"]["startedAt"])


def skews(url: str, folder: Path, times: int, *, seed: int = 0) -> Skewing:
    """Let the clock of one of two servers jump so often, under load; kill one of the two after each second jump."""
    chance = random.Random(seed)
    clock = WallClock(folder)
    clock.jump(HOUR_S)
    with Ledger().running() as ledger:
        book = Book(ledger)
        found = Skewing(book.verdict)
        wrong = Server(Program(clock.environment), url, folder, ledger=ledger.url, name="wrong", LEASE_S=str(LEASE_S))
        right = Server(Program(), url, folder, ledger=ledger.url, name="right", LEASE_S=str(LEASE_S))
        try:
            for server in (wrong, right):
                server.start()
            for server in (wrong, right):
                server.wait_healthy()
            ahead = _started_at(wrong) - _started_at(right)
            assert ahead > timedelta(minutes=50), f"the clock of {wrong.name} is only {ahead} ahead"
            with Load(book, [wrong, right], CHAIN, prefix="skew") as load:
                for number in range(times):
                    load.answered.clear()
                    assert load.answered.wait(DEADLINE_S)
                    clock.jump(JUMPS_S[number % len(JUMPS_S)])
                    time.sleep(chance.uniform(0.5, 2.0) * LEASE_S)
                    if number % 2:
                        victim = chance.choice((wrong, right))
                        victim.kill()
                        victim.start().wait_healthy()
                        found.kills += 1
                    found.times += 1
            book.judge(right)
            book.judge_answers([wrong])
        finally:
            wrong.close()
            right.close()
    return found
