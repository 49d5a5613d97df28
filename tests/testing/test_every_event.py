"""An engine that is killed at every event of its database in turn; at some of them on PostgreSQL, where an event is an exchange.

WORKFLOW_RUNS_KILL_EVERY=1 kills at all of them there, too. --log-cli-level=INFO shows the counts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from workflow_runs import Retry, Run, current_step, workflow
from workflow_runs.clock import Clock
from workflow_runs.errors import CancelNotAllowed
from workflow_runs.store import tables
from workflow_runs.store.opening import open_store
from workflow_runs.store.schema import VERSION_TABLE
from workflow_runs.testing import EffectLedger, Events, World, in_child, kill_at_every_event, kill_self, settled
from workflow_runs.testing.events import watch_database

LOG = logging.getLogger(__name__)
EVERY = {"sqlite": 1, "postgresql": int(os.environ.get("WORKFLOW_RUNS_KILL_EVERY", "7"))}


def triggered(app, told, name, key):
    run_id = app.trigger(name, correlation_id=key, idempotency_key=key)
    told(run_id)
    return run_id


@workflow("chain", idempotency="safe")
def chain(run: Run) -> list:
    return [run.step(f"s{number}", lambda number: number, number) for number in range(5)]


def play_chain(app, key, told):
    settled(app, triggered(app, told, "chain", key))


@workflow("mended", idempotency="unsafe")
def mended(run: Run) -> int:
    one = run.step("one", lambda: 1, effect="idempotent")
    two = run.step("two", lambda: fails_in_the_first_run(run.id), effect="pure")  # not an argument: ids differ
    return one + two


def fails_in_the_first_run(run_id):
    if current_step().identity[0] == run_id:  # the first run of the chain
        raise RuntimeError("no luck")
    return 2


def play_failure_and_resume(app, key, told):
    failed = triggered(app, told, "mended", key)
    assert settled(app, failed).state == "failed"
    resumed = app.desk.resume(failed, idempotency_key=key).run_id
    told(resumed)
    assert settled(app, resumed).state == "succeeded"


@workflow("stubborn", idempotency="safe")
def stubborn(run: Run) -> str:
    return run.step("knock", knock, retry=Retry(attempts=3, first_delay_s=0.001))


def knock():
    if current_step().attempt < 3:
        raise ConnectionError("nobody there")
    return "come in"


def play_retry(app, key, told):
    settled(app, triggered(app, told, "stubborn", key))


@workflow("undone", idempotency="safe")
def undone(run: Run) -> None:
    run.step("book", lambda: "seat", compensate=lambda seat: None)
    run.step("pay", lambda: "money", compensate=lambda money: None)
    run.step("fail", lambda: 1 / 0)


def play_compensation(app, key, told):
    assert settled(app, triggered(app, told, "undone", key)).state == "compensated"


@workflow("cancelled", idempotency="safe")
def cancelled(run: Run) -> None:
    run.step("one", lambda: 1)
    run.step("meet", nobody_there, retry=Retry(attempts=100, first_delay_s=600, factor=1, delay_s_max=600))
    run.step("never", lambda: 1)


def nobody_there():
    raise ConnectionError("try again later")


def play_cancel(app, key, told):
    """An operator cancels in the pause between two attempts."""
    changed = threading.Event()
    app.journal.add_observer(lambda _: changed.set())
    run_id = triggered(app, told, "cancelled", key)
    while not any(
        step.step.name == "meet" and step.attempts[0].state == "failed" for step in app.store.get_steps(run_id)
    ):
        changed.wait(0.1)
        changed.clear()
    with contextlib.suppress(CancelNotAllowed):  # it has ended: the process was killed after that
        app.desk.cancel(run_id, actor="ada", reason="enough")
    assert settled(app, run_id).state == "cancelled"


PLAYS = {
    "chain of five": (chain, play_chain, 50),
    "failure and resume": (mended, play_failure_and_resume, 50),
    "retry": (stubborn, play_retry, 30),
    "compensation": (undone, play_compensation, 40),
    "cancel": (cancelled, play_cancel, 30),
}


# Until then a process registers and looks for runs; one series that begins at 1 is enough for that.
FIRST = {"chain of five": 1}
REGISTERED = 12


@pytest.mark.parametrize("name", PLAYS)
def test_a_kill_at_any_event_loses_nothing_and_repeats_nothing_that_is_on_record(name, database_url, tmp_path):
    definition, play, least = PLAYS[name]
    world = World(database_url, (definition,), EffectLedger(tmp_path / "effects"))
    world.prepare()
    every = EVERY[database_url.partition(":")[0].partition("+")[0]]
    first = FIRST.get(name, REGISTERED) if every == 1 else every
    toll = kill_at_every_event(world, play, first=first, every=every)
    LOG.info("%s on %s: %s", name, database_url.partition(":")[0], toll)
    toll.check()
    assert toll.repeated_at_once <= 1
    if database_url.startswith("sqlite"):
        assert toll.kills >= least
        assert min(toll.acknowledged, toll.recorded, len(toll.repeated)) > 0
        with contextlib.closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_migration_that_is_killed_at_any_event_is_completed_by_the_next(database_url):
    every = 1 if database_url.startswith("sqlite") else EVERY["postgresql"]
    at, killed = every, True
    while killed:
        ended = in_child(lambda _, at=at: migrate(database_url, Events(at, kill_self)))
        killed = ended.killed
        at += every
    LOG.info("migrations on %s: %d kills", database_url.partition(":")[0], at // every - 2)
    store = open_store(database_url, clock=Clock())
    store.check_ready()
    store.close()
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()
    assert at > 10 * every


def migrate(url, events):
    watch_database(url, events)
    store = open_store(url, clock=Clock())
    store.migrate()
