"""Power cuts: under SQLite as images of the disk at many moments of writing, under PostgreSQL as the death of all its processes.

``run(rounds)`` does it and returns what was counted; ``python -m tests.faults.power`` prints it as a table.
"""

from __future__ import annotations

from collections import Counter

from tests.faults.power import postgresql_kills, recording, sqlite_images

FAULTS = ("lost", "damaged", "repeated", "stuck")


def run(rounds: int, *, seed: int = 0) -> dict[str, Counter[str]]:
    """Cut the power under SQLite at ``rounds`` moments, in four ways each, and kill PostgreSQL a tenth as often.

    Returns counts by database: ``promises`` looked for, and ``lost``, ``damaged``, ``repeated``, ``stuck``, which are to be 0. Without a C
    compiler SQLite is left out: what a process writes is recorded by a library that is compiled for it.
    """
    counts = {}
    if recording.compiler() is not None:
        counts["sqlite"] = sqlite_images.cut(rounds, seed=seed)
    counts["postgresql"] = postgresql_kills.kill(max(1, rounds // 10), seed=seed)
    return counts
