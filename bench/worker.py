"""A contender in a process of its own: ``python -m bench.worker NAME URL``. A line of JSON asks for a round, a line of JSON answers.

A round is closed loop: so many clients, each starting its next run when its last one has ended, until the time is over.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

STEPS = 5  # of a run
PAYLOAD = "x" * 198  # 200 bytes as JSON: a run's input and result, and the output of each step


@dataclass(frozen=True, slots=True)
class Order:
    """A round to be run."""

    clients: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Round:
    """What a round gave. For the raw insert a "run" is a batch."""

    runs: int
    seconds: float
    cpu_s: float  # of the whole process, clients included
    p50_ms: float  # of one run
    p95_ms: float


class Stopwatch:
    """Times the runs of one round."""

    def __init__(self, seconds: float) -> None:
        self._began = time.perf_counter()
        self._cpu = time.process_time()
        self._until = self._began + seconds
        self._runs: list[float] = []

    @staticmethod
    def now() -> float:
        """Read the clock that ``ended`` goes by."""
        return time.perf_counter()

    def goes_on(self) -> bool:
        """Whether another run may begin."""
        return self.now() < self._until

    def ended(self, began: float) -> None:
        """Note the end of a run that began at ``began``."""
        self._runs.append(self.now() - began)

    def round(self) -> Round:
        """Return the result."""
        seconds, cpu_s = time.perf_counter() - self._began, time.process_time() - self._cpu
        runs = sorted(self._runs)
        p95 = runs[math.ceil(len(runs) * 0.95) - 1]
        return Round(len(runs), seconds, cpu_s, statistics.median(runs) * 1000, p95 * 1000)


async def round_of_coroutines(order: Order, one_run: Callable[[], Awaitable[object]]) -> Round:
    """Run a round whose clients are coroutines."""
    watch = Stopwatch(order.seconds)

    async def client() -> None:
        while True:
            began = watch.now()
            await one_run()
            watch.ended(began)
            if not watch.goes_on():
                return

    await asyncio.gather(*(client() for _ in range(order.clients)))
    return watch.round()


def round_of_threads(order: Order, one_run: Callable[[], object]) -> Round:
    """Run a round whose clients are threads."""
    watch = Stopwatch(order.seconds)

    def client() -> None:
        while True:
            began = watch.now()
            one_run()
            watch.ended(began)
            if not watch.goes_on():
                return

    threads = [threading.Thread(target=client) for _ in range(order.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return watch.round()


def next_order() -> Order | None:
    """Read the next order; None at the end."""
    line = sys.stdin.readline()
    return Order(**json.loads(line)) if line else None


def answer(result: Round) -> None:
    """Send the result of a round."""
    print(json.dumps(asdict(result)), flush=True)


def serve_coroutines(one_run: Callable[[], Awaitable[object]]) -> Awaitable[None]:
    """Answer rounds of coroutines until there are no more orders."""

    async def serve() -> None:
        await one_run()  # connections, caches, imports
        print("ready", flush=True)
        while order := await asyncio.to_thread(next_order):
            answer(await round_of_coroutines(order, one_run))

    return serve()


def serve_threads(one_run: Callable[[], object]) -> None:
    """Answer rounds of threads until there are no more orders."""
    one_run()
    print("ready", flush=True)
    while order := next_order():
        answer(round_of_threads(order, one_run))


class Contender:
    """The other end: starts the process, asks for rounds."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._process = subprocess.Popen(  # noqa: S603  # ourselves, with names that the bench makes
            [sys.executable, "-m", "bench.worker", name, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line()

    def round(self, order: Order) -> Round:
        """Run one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        return Round(**json.loads(self._line()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"contender {self.name} ended with {self._process.wait()}")
        return line


if __name__ == "__main__":
    importlib.import_module(f"bench.contenders.{sys.argv[1]}").serve(sys.argv[2])
