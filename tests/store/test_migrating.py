"""Migrations: the schema of the tables, reached once by many, and again after being killed."""

import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from workflow_runs.clock import Clock
from workflow_runs.errors import SchemaMismatch, StoreUnavailable
from workflow_runs.store import statements, tables
from workflow_runs.store.migrating import configuration
from workflow_runs.store.opening import open_store
from workflow_runs.store.schema import SCHEMA_REVISION, VERSION_TABLE

DEADLINE_S = 120.0


@pytest.fixture
def store(database_url):
    store = open_store(database_url, clock=Clock())
    yield store
    store.close()


@pytest.fixture
def engine(database_url):
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


def definitions(connection):
    """What the database itself says that its tables and indexes are."""
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE name LIKE '%workflow_run%'").all()
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, collation_name, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public'"
    )
    constraints = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE CAST(CAST(conrelid AS regclass) AS text) LIKE 'workflow%'"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    return [row for query in (columns, constraints, indexes) for row in connection.execute(sa.text(query))]


def test_migrated_schema_is_that_of_the_tables(store, engine):
    store.migrate()
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
        migrated = {tuple(row) for row in definitions(connection) if VERSION_TABLE not in str(row)}
        tables.metadata.drop_all(connection)
        tables.metadata.create_all(connection)
        created = {tuple(row) for row in definitions(connection) if VERSION_TABLE not in str(row)}
    assert migrated == created


def test_statements_name_the_columns_of_the_tables():
    assert tuple(tables.steps.columns.keys()) == statements.STEP_COLUMNS
    assert tuple(tables.audit.columns.keys()) == statements.AUDIT_COLUMNS
    assert set(statements.RUN_COLUMNS) | set(statements.END_COLUMNS) <= set(tables.runs.columns.keys())


def test_newest_revision_is_the_one_that_is_asked_for(engine):
    with engine.connect() as connection:
        assert ScriptDirectory.from_config(configuration(connection)).get_heads() == [SCHEMA_REVISION]


def test_migrating_again_changes_nothing(store, engine):
    store.migrate()
    with engine.connect() as connection:
        before = definitions(connection)
    store.migrate()
    store.check_ready()
    with engine.connect() as connection:
        assert definitions(connection) == before


def test_stores_that_migrate_at_once_all_succeed(database_url):
    gate, failures = threading.Barrier(6), []

    def work():
        store = open_store(database_url, clock=Clock())
        gate.wait(DEADLINE_S)
        try:
            store.migrate()
            store.check_ready()
        except (SchemaMismatch, StoreUnavailable) as error:
            failures.append(error)
        store.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert failures == []


KILLED = """
import os, sys
import sqlalchemy as sa
from workflow_runs.clock import Clock
from workflow_runs.store.opening import open_store
left = int(sys.argv[2])
@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def count(*_):
    global left
    left -= 1
    if left == 0:
        os._exit(9)
open_store(sys.argv[1], clock=Clock()).migrate()
"""


def test_migration_that_was_killed_anywhere_is_run_again(store, database_url, engine):
    # As many statements as the whole takes, and a few places within; every one would take minutes.
    for statements_done in (1, 2, 4, 9, 16, 25):
        command = [sys.executable, "-c", KILLED, database_url, str(statements_done)]
        assert subprocess.run(command, check=False, timeout=DEADLINE_S).returncode == 9
    store.migrate()
    store.check_ready()
    with engine.begin() as connection:
        assert (
            compare_metadata(
                MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}), tables.metadata
            )
            == []
        )


def test_database_without_schema_is_told_what_to_do(store):
    with pytest.raises(SchemaMismatch, match="workflow-runs migrate"):
        store.check_ready()


def test_newer_schema_is_refused_and_left_alone(store, engine):
    store.migrate()
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="upgrade the package"):
        store.check_ready()
    with pytest.raises(SchemaMismatch, match="upgrade the package"):
        store.migrate()


def test_reading_and_writing_without_schema_is_unavailable_and_says_why(store, database_url):
    if database_url.startswith("sqlite"):
        with sa.create_engine(database_url).connect():
            pass
    writer = store.open_writer()
    with pytest.raises(StoreUnavailable):
        store.get_run("wfrn_x")
    with pytest.raises(StoreUnavailable):
        writer.apply([_start()])
    store.migrate()
    assert store.get_run("wfrn_x") is None
    assert writer.apply([_start()])[0].created
    writer.close()


def _start():
    from workflow_runs.model.entries import StartRun
    from workflow_runs.model.requests import RunRequest

    return StartRun(Clock().new_run_id(), RunRequest("checkout", "checkout"))
