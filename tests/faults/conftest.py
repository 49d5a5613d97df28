"""A nursery for each test process, and as many databases as a test asks for."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.faults.servers import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Starts fault apps quickly."""
    if not sys.platform.startswith("linux"):
        pytest.skip("processes are watched by /proc, and limited by prlimit")
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Gives the URL of an empty database at each call, of one kind."""
    if request.param == "sqlite":
        numbers = itertools.count()
        yield lambda: f"sqlite:///{tmp_path / f'runs-{next(numbers)}.db'}"
        return
    folder, server = request.getfixturevalue("_postgres")
    new_name = request.getfixturevalue("_new_name")
    made: list[str] = []

    def create() -> str:
        made.append(new_name())
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(made[-1])))
        return f"postgresql+psycopg://postgres@/{made[-1]}?host={folder}"

    yield create
    for name in made:
        drop(server, name)


def drop(server: psycopg.Connection, name: str) -> None:
    server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
