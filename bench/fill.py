"""Many runs, put straight into the tables: nothing else writes rows past the journal, and nothing but the lists' speed is measured on them.

Names are as uneven as in life (Zipf over 50 workflows), 2 % of the runs failed, 0.4 % were cancelled, 0.1 % are running, and each has a
common tag (of ten), a rare one (of 10,000) and a user (of a hundred). The rollup counts them as it would have.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
from sqlalchemy import Table

from bench.databases import libpq
from bench.worker import PAYLOAD
from workflow_runs.clock import from_millis, run_id_floor, to_millis
from workflow_runs.store.rollup import COUNT_COLUMNS, RollupKey, count, half_hour, took_class
from workflow_runs.store.schema import duration_class
from workflow_runs.store.tables import payloads, rollup, run_tags, runs, steps

NAMES = [f"workflow-{number:02}" for number in range(50)]
WEIGHTS = [1 / (rank + 1) for rank in range(len(NAMES))]
COMMON_TAGS = [f"region:{number}" for number in range(10)]
RARE_TAGS = 10_000
USERS = 100
EVERY_MS = 1_250  # between two runs: a million are a fortnight
STEPS = 5  # of the newest thousand runs; no list reads a step
RUNS_WITH_STEPS = 1_000
LONG_AGO = 500  # the run that many places from the end has LONG steps
LONG = 1_000
CHUNK = 10_000

Row = tuple[object, ...]
END = datetime(2026, 1, 1, tzinfo=UTC)


def fill(url: str, count: int) -> list[str]:
    """Put ``count`` runs into an empty, migrated database and return their ids, oldest first."""
    source = random.Random(count)
    began = END - timedelta(milliseconds=EVERY_MS) * count
    ids = [_run_id(to_millis(began) + number * EVERY_MS, number) for number in range(count)]
    rows = _tables(ids, source)
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        for chunk in rows:
            connection.execute("BEGIN")
            for table, values in chunk.items():
                places = ", ".join("?" * len(table.columns))
                connection.executemany(f"INSERT INTO {table.name} VALUES ({places})", values)  # noqa: S608  # our own tables
            connection.execute("COMMIT")
        connection.execute("ANALYZE")
        connection.close()
    else:
        with psycopg.connect(libpq(url), autocommit=True) as server:
            for chunk in rows:
                for table, values in chunk.items():
                    _copy(server, table, values)
            server.execute("VACUUM ANALYZE")
    return ids


def _copy(server: psycopg.Connection, table: Table, values: Iterable[Row]) -> None:
    with server.cursor().copy(f"COPY {table.name} FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)


def _tables(ids: list[str], source: random.Random) -> Iterator[dict[Table, list[Row]]]:
    """Yield rows, some thousand runs at a time, by table."""
    with_steps = set(ids[-RUNS_WITH_STEPS:])
    ended: dict[RollupKey, list[int]] = {}
    for first in range(0, len(ids), CHUNK):
        chunk: dict[Table, list[Row]] = {runs: [], payloads: [], run_tags: [], steps: []}
        for place, run_id in enumerate(ids[first : first + CHUNK], first):
            started = to_millis(END) - (len(ids) - place) * EVERY_MS
            tags = (source.choice(COMMON_TAGS), f"order:{source.randrange(RARE_TAGS)}")
            run = _run(run_id, started, tags, source)
            _count(ended, run, started)
            chunk[runs].append(_row(runs, run))
            chunk[payloads].append(
                _row(payloads, {"run_id": run_id, "input": f'"{PAYLOAD}"', "result": f'"{PAYLOAD}"'})
            )
            chunk[run_tags] += [_row(run_tags, {"tag": tag, "run_id": run_id}) for tag in tags]
            if run_id in with_steps:
                many = LONG if place == len(ids) - LONG_AGO else STEPS
                chunk[steps] += [_row(steps, _step(run_id, number, started)) for number in range(many)]
        yield chunk
    yield {rollup: [(*key, 0, *counts) for key, counts in ended.items()]}


def _count(ended: dict[RollupKey, list[int]], run: dict[str, object], started: int) -> None:
    duration_ms, state = run["duration_ms"], str(run["state"])
    if isinstance(duration_ms, int):
        key = RollupKey(half_hour(started), str(run["workflow_name"]))
        counts = ended.setdefault(key, [0] * len(COUNT_COLUMNS))
        count(counts, state, took_class(duration_ms) if state == "succeeded" else None)


def _run(run_id: str, started: int, tags: tuple[str, str], source: random.Random) -> dict[str, object]:
    state = source.choices(("succeeded", "failed", "cancelled", "running"), (97.5, 2, 0.4, 0.1))[0]
    ended = None if state == "running" else started + source.randrange(20, 20_000)
    return {
        "id": run_id,
        "workflow_name": (name := source.choices(NAMES, WEIGHTS)[0]),
        "definition": name,
        "trigger": "api",
        "correlation_id": f"order-{source.randrange(1_000_000)}",
        "triggered_by_user_id": f"user-{source.randrange(USERS)}",
        "tags": f'["{tags[0]}","{tags[1]}"]',
        "state": state,
        "mode": "journal",
        "has_gap": False,
        "error_message": "declined" if state == "failed" else None,
        "fingerprint": f"{source.randrange(20):032x}" if state == "failed" else None,
        "execution_started_at": started,
        "completed_at": ended,
        "updated_at": ended or started,
        "duration_ms": None if ended is None else ended - started,
        "duration_class": None if ended is None else duration_class(ended - started),
    }


def _step(run_id: str, place: int, started: int) -> dict[str, object]:
    return {
        "run_id": run_id,
        "name": f"step-{place + 1}",
        "key": "",
        "occurrence": 1,
        "attempt": 1,
        "sequence": place + 1,
        "kind": "step",
        "state": "succeeded",
        "origin": "executed",
        "effect": "idempotent",
        "output": f'"{PAYLOAD}"',
        "started_at": started,
        "ended_at": started,
        "duration_ms": 0,
    }


def _run_id(millis: int, number: int) -> str:
    """An id like those of the clock: its time, and something that makes it one of a kind."""
    return f"{run_id_floor(from_millis(millis))[:-8]}{number:08}"


def _row(table: Table, values: dict[str, object]) -> Row:
    row = tuple(values.pop(column.name, None) for column in table.columns)
    assert not values, f"{table.name} has no column {', '.join(values)}"
    return row
