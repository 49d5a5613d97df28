"""The limit: rows of steps inserted in batches, one commit for each, by the shortest way that the driver has. A batch is as large as there
are clients. On PostgreSQL: one INSERT of several rows up to ten, COPY above.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import psycopg

from bench.databases import libpq
from bench.worker import PAYLOAD, Order, Round, Stopwatch, answer, next_order
from workflow_runs.clock import Clock
from workflow_runs.store.opening import open_store
from workflow_runs.store.tables import steps

COLUMNS = [column.name for column in steps.columns]
COPY_FROM_ROWS = 10

Row = tuple[object, ...]


def serve(url: str) -> None:
    """Answer rounds, whose runs are batches."""
    clock = Clock()
    store = open_store(url, clock=clock)
    store.migrate()
    insert = _into_sqlite(url) if url.startswith("sqlite") else _into_postgresql(url)
    insert(_rows(clock, 1))
    print("ready", flush=True)
    while order := next_order():
        answer(_round(order, clock, insert))
    store.close()


def _round(order: Order, clock: Clock, insert: Callable[[list[Row]], None]) -> Round:
    batches = [_rows(clock, order.clients) for _ in range(20)]
    watch = Stopwatch(order.seconds)
    turn = 0
    while watch.goes_on():
        # The rows are made beforehand; only their ids are made anew.
        rows = [(clock.new_run_id(), *row[1:]) for row in batches[turn % len(batches)]]
        began = watch.now()
        insert(rows)
        watch.ended(began)
        turn += 1
    return watch.round()


def _rows(clock: Clock, count: int) -> list[Row]:
    now = clock.now_millis()
    values = {
        "name": "answer",
        "key": "",
        "occurrence": 1,
        "attempt": 1,
        "sequence": 1,
        "kind": "step",
        "state": "succeeded",
        "origin": "executed",
        "effect": "idempotent",
        "output": f'"{PAYLOAD}"',
        "started_at": now,
        "ended_at": now,
        "duration_ms": 0,
    }
    return [
        tuple(clock.new_run_id() if name == "run_id" else values.get(name) for name in COLUMNS) for _ in range(count)
    ]


def _into_sqlite(url: str) -> Callable[[list[Row]], None]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    statement = f"INSERT INTO {steps.name} ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608  # names of our own columns

    def insert(rows: list[Row]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, rows)
        connection.execute("COMMIT")

    return insert


def _into_postgresql(url: str) -> Callable[[list[Row]], None]:
    connection = psycopg.connect(libpq(url), autocommit=True)
    into = f"{steps.name} ({', '.join(COLUMNS)})"
    one = f"({', '.join(['%s'] * len(COLUMNS))})"

    def insert(rows: list[Row]) -> None:
        if len(rows) < COPY_FROM_ROWS:
            values = [value for row in rows for value in row]
            connection.execute(f"INSERT INTO {into} VALUES {', '.join([one] * len(rows))}", values)  # noqa: S608  # as above
            return
        with connection.transaction(), connection.cursor().copy(f"COPY {into} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    return insert
