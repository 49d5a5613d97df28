"""An event loop that is never idle: what the journal still gets done on it, with the loop's politeness and without.

Without it, the writer waits for the interpreter lock for seconds (see ``workflow_runs.journal.loops``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

from bench.contenders.journal import one_run, open_journal
from bench.report import number, table
from bench.worker import STEPS
from workflow_runs.journal.loops import LoopSide

CLIENTS = 50
RUNS = 500
SLICES_S = (0.0, 0.0005, 0.002)  # of Python, one after the other; 0: the loop does nothing else


@dataclass(slots=True)
class _Result:
    steps_per_s: float
    longest_ms: float  # of a run: seven records, one after the other


def measure(kind: str, new: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a report on one kind of database."""
    yield f"### {CLIENTS} runs at once on a loop that is always busy, {kind}: steps per second; longest run, ms\n"
    yield from table(["busy for", "polite", "not polite"], _rows(kind, new))


def _rows(kind: str, new: Callable[[str], str]) -> Iterator[list[str]]:
    for slice_s in SLICES_S:
        polite = asyncio.run(_round(new(kind), slice_s))
        with mock.patch.object(LoopSide, "_watch"):
            rude = asyncio.run(_round(new(kind), slice_s))
        cells = [f"{number(result.steps_per_s)}; {number(result.longest_ms)}" for result in (polite, rude)]
        yield [f"{slice_s * 1000:g} ms" if slice_s else "nothing", *cells]


async def _round(url: str, slice_s: float) -> _Result:
    journal = open_journal(url)
    write, left, ended = one_run(journal), RUNS, asyncio.Event()
    await write()
    longest_s = 0.0

    async def client() -> None:
        nonlocal left, longest_s
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await write()
            longest_s = max(longest_s, time.perf_counter() - began)

    async def never_idle() -> None:
        while slice_s and not ended.is_set():
            until = time.perf_counter() + slice_s
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    busy = asyncio.ensure_future(never_idle())
    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    seconds = time.perf_counter() - began
    ended.set()
    await busy
    await asyncio.to_thread(journal.close)
    return _Result(RUNS * STEPS / seconds, longest_s * 1000)
