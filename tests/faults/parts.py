"""The parts of the long version: each does one kind of fault so often and yields what it found."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fleets import fleet_kills, partitions
from tests.faults.freezes import TAKE_OVER_S, Thawing, freezes
from tests.faults.kills import Killing, first_starts, kill_loop
from tests.faults.outages import Postgres, Sqlite, outages
from tests.faults.races import AT_ONCE, Racers, race
from tests.faults.report import Row, spread
from tests.faults.servers import Nursery, Program, Starter
from tests.faults.skew import skews
from tests.faults.stops import stops

KILLS_PER_DATABASE = 100  # then a new one, so that the record does not grow without end


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of it, on what."""

    database: str
    new_url: Callable[[], str]
    folder: Path
    kills: int
    rounds: int
    seed: int
    preloaded: bool

    @contextlib.contextmanager
    def starter(self) -> Iterator[Starter]:
        """Give what starts servers."""
        if not self.preloaded:
            yield Program()
            return
        with Nursery() as nursery:
            yield nursery


def kills(scope: Scope) -> Iterator[Row]:
    """Seven eighths of the kills at instants of work, one eighth during first starts."""
    first = scope.kills // 8
    found = Killing()
    with scope.starter() as starter:
        left, seed = scope.kills - first, scope.seed
        while left > 0:
            part = kill_loop(starter, scope.new_url(), scope.folder, min(left, KILLS_PER_DATABASE), seed=seed)
            left -= part.kills.total()
            seed += 1
            found += part
        yield _killed(scope, "kill -9 at work", found)
        within_s = 0.15 if scope.preloaded else 1.2
        started = first_starts(starter, scope.new_url, scope.folder, first, within_s=within_s, seed=scope.seed)
        yield _killed(scope, "kill -9 during the first start", started)


def _killed(scope: Scope, fault: str, found: Killing) -> Row:
    figures = {
        "kinds": " ".join(f"{name}:{count}" for name, count in sorted(found.kills.items())),
        "healthy": spread(found.healthy_s),
        "runs taken up": spread(found.taken_up_s),
        "effects again": str(found.verdict.effects_again),
    }
    return Row(scope.database, fault, found.kills.total(), found.verdict, figures)


def races(scope: Scope) -> Iterator[Row]:
    """Each of the races so many rounds."""
    with scope.starter() as starter:
        verdict, took_s = race(starter, scope.new_url(), scope.folder, scope.rounds)
    times = scope.rounds * len(Racers.RACES)
    yield Row(scope.database, f"{AT_ONCE} requests at one instant", times, verdict, {"answers": spread(took_s)})


def database_faults(scope: Scope) -> Iterator[Row]:
    """Each fault so many rounds, for one to eight seconds."""
    chance = random.Random(scope.seed)
    faults = [fault.__name__ for fault in (Sqlite if scope.database == "sqlite" else Postgres).FAULTS]
    if scope.database == "postgresql":
        faults.append(Postgres.crashed.__name__)
    elif not Sqlite.can_mount(scope.folder):
        faults.remove("full")
    with scope.starter() as starter:
        for name in faults:
            lengths_s = [chance.choice([1.0, 2.0, 4.0, 8.0]) for _ in range(scope.rounds)]
            found = outages(starter, scope.new_url(), scope.folder, name, lengths_s=lengths_s)
            figures = {
                "new run ended after": spread(found.new_s),
                "those in flight": spread(found.old_s),
                "later than 5 s": str(found.late),
                "answers meanwhile": spread(found.took_s),
                "refused with 503": str(found.refused),
                "effects again": str(found.verdict.effects_again),
            }
            yield Row(scope.database, f"database: {name}", found.times, found.verdict, figures)


def frozen(scope: Scope) -> Iterator[Row]:
    """So many freezes beyond the lease."""
    with scope.starter() as starter:
        found = freezes(starter, scope.new_url(), scope.folder, scope.rounds, seed=scope.seed)
    figures = _taken_over(found) | {"frozen in a commit, not counted": str(found.in_commit)}
    yield Row(scope.database, "SIGSTOP beyond the lease", found.times, found.verdict, figures)


def _taken_over(found: Thawing) -> dict[str, str]:
    return {
        "runs taken over": str(found.taken_over),
        "after": spread(found.took_over_s),
        f"later than {TAKE_OVER_S:g} s": str(found.late),
    }


def fleets(scope: Scope) -> Iterator[Row]:
    """Five times as many kills of one of three servers, and so many partitions of one of two."""
    with scope.starter() as starter:
        fell = fleet_kills(starter, scope.new_url(), scope.folder, 5 * scope.rounds, seed=scope.seed)
        figures = {"back under another name": str(fell.renamed), "effects again": str(fell.verdict.effects_again)}
        yield Row(scope.database, "kill -9 of one of three servers", fell.kills, fell.verdict, figures)
        if scope.database == "sqlite":
            return
        found = partitions(starter, scope.new_url(), scope.folder, scope.rounds, seed=scope.seed)
        yield Row(scope.database, "partition beyond the lease", found.times, found.verdict, _taken_over(found))


def stopped(scope: Scope) -> Iterator[Row]:
    """So many stops under load, the last fifth of them with a step that outlasts the limit."""
    with scope.starter() as starter:
        found = stops(starter, scope.new_url(), scope.folder, scope.rounds, seed=scope.seed, long=scope.rounds // 5)
    told = " ".join(f"{status or 'not connected'}:{count}" for status, count in sorted(found.answers.items()))
    figures = {"ended after": spread(found.exit_s), "triggers meanwhile": told}
    yield Row(scope.database, "SIGTERM under load", found.times, found.verdict, figures)


def skewed(scope: Scope) -> Iterator[Row]:
    """So many jumps of one server's clock."""
    if shutil.which("gcc") is None:
        return
    found = skews(scope.new_url(), scope.folder, scope.rounds, seed=scope.seed)
    yield Row(scope.database, "clock jumps", found.times, found.verdict, {"kills": str(found.kills)})


PARTS: dict[str, Callable[[Scope], Iterator[Row]]] = {
    "kills": kills,
    "races": races,
    "outages": database_faults,
    "freezes": frozen,
    "fleets": fleets,
    "stops": stopped,
    "skew": skewed,
}
