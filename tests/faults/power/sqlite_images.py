"""Power cuts under SQLite: images of the disk at many moments of a real process's writing, each opened and judged."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.power.judging import Promised, judge
from tests.faults.power.recording import IMAGES, Disk, Op, build, read
from workflow_runs import WorkflowRuns

ROOT = Path(__file__).parents[3]
RUNS = 120
MEMORY = "/dev/shm"  # images are many and short-lived
_MEMORY_MIN = 256 * 2**20


def cut(points: int, *, runs: int = RUNS, synchronous: str = "", seed: int = 0) -> Counter[str]:
    """Cut the power at ``points`` moments, in four ways each.

    Args:
        points: Half of them right after a promise was given, the others anywhere.
        runs: How many are triggered.
        synchronous: ``NORMAL`` or ``OFF``: take the syncs away, to see whether it is noticed.
        seed: Of the choice of moments and of what survives.

    Returns counts: ``images``, ``promises`` looked for, and what was ``lost``, ``damaged``, ``repeated``, ``stuck``.
    """
    has_memory = os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free > _MEMORY_MIN
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir=MEMORY if has_memory else None) as images,
    ):
        ops, before = _recorded(Path(name).resolve(), runs, synchronous)
        return _judged(Path(images), ops, before, points, random.Random(seed))


def _recorded(folder: Path, runs: int, synchronous: str) -> tuple[list[Op], Path]:
    """Let a process work, and return what it did to its folder, and the folder as it was before."""
    work, before, log = folder / "work", folder / "before", folder / "log"
    work.mkdir()
    url = f"sqlite:///{work / 'runs.db'}"
    with WorkflowRuns(url, execute=False):
        pass
    shutil.copytree(work, before)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(build(folder)),
        "POWER_LOG": str(log),
        "POWER_FOLDER": f"{work}",
        "POWER_SYNCHRONOUS": synchronous,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    script = Path(__file__).with_name("work.py")
    subprocess.run([sys.executable, script, url, work / "promises", str(runs)], env=environment, check=True, cwd=ROOT)
    renamed = f"{work}", f"{before}"
    return [op._replace(path=op.path.replace(*renamed, 1)) for op in read(log)], before


def _judged(folder: Path, ops: list[Op], before: Path, points: int, chance: random.Random) -> Counter[str]:
    given = [number + 1 for number, op in enumerate(ops) if op.kind == "a"]
    moments = sorted(chance.sample(given, points // 2) + chance.sample(range(len(ops) + 1), points - points // 2))
    counts: Counter[str] = Counter(
        operations=len(ops), syncs=sum(op.kind == "s" for op in ops), promises_given=len(given)
    )
    disk, promised, played = Disk(before), Promised(), 0
    for moment in moments:
        for op in ops[played:moment]:
            if op.kind == "a":
                promised.hear(op.data)
            else:
                disk.play(op)
        played = moment
        for image in IMAGES:
            counts += _look(folder, disk, promised, image, chance)
    return counts


def _look(folder: Path, disk: Disk, promised: Promised, image: str, chance: random.Random) -> Counter[str]:
    left = folder / "image"
    left.mkdir()
    disk.cut(left, image, chance)
    verdict = judge(f"sqlite:///{left / 'runs.db'}", promised)
    shutil.rmtree(left)
    counts = Counter(images=1, promises=verdict.promises, recovered=verdict.recovered, bad_images=not verdict.is_good)
    for what in ("lost", "damaged", "repeated", "stuck"):
        found = getattr(verdict, what)
        counts[what] += len(found)
        if found:
            print(f"{image}: {what}: {found[:3]}", file=sys.stderr)  # noqa: T201
    return counts
