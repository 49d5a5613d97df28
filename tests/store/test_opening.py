"""From a URL to a store: what is refused, what is loaded, what is told."""

import os
import subprocess
import sys

import pytest

from workflow_runs.clock import Clock
from workflow_runs.errors import ConfigurationError, SchemaMismatch
from workflow_runs.store.opening import open_store


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:runs.db?mode=memory",
        "sqlite:///runs.db?timeout=3",
        "sqlite://runs.db",
        "mysql://secret@host/runs",
        "postgresql+asyncpg://secret@host/runs",
        "postgresql://%zz",
        "secret",
        "",
    ],
)
def test_url_of_something_else_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigurationError) as refusal:
        open_store(url, clock=Clock())
    assert "secret" not in str(refusal.value)


def test_memory_is_refused_with_the_reason():
    with pytest.raises(ConfigurationError, match=r"each see a database of their own.*sqlite:///runs\.db"):
        open_store("sqlite://", clock=Clock())


def test_store_tells_its_url_without_the_password():
    store = open_store("postgresql+psycopg://ada:secret@db.example:5433/runs?sslpassword=secret", clock=Clock())
    assert store.url == "postgresql+psycopg://db.example/runs"


def test_nothing_is_opened_before_it_is_needed(sqlite_url):
    open_store(sqlite_url, clock=Clock()).open_writer()
    assert not os.path.exists(sqlite_url.removeprefix("sqlite:///"))


def test_file_without_schema_is_told_what_to_do(sqlite_url):
    store = open_store(sqlite_url, clock=Clock())
    with pytest.raises(SchemaMismatch, match="workflow-runs migrate"):
        store.check_ready()
    assert not os.path.exists(sqlite_url.removeprefix("sqlite:///"))


def test_relative_file_stays_where_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///runs.db", clock=Clock())
    monkeypatch.chdir("/")
    store.migrate()
    store.close()
    assert (tmp_path / "runs.db").exists()


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "a#b.db", "ünï.db"])
def test_file_may_be_called_anything(tmp_path, name):
    store = open_store(f"sqlite:///{tmp_path / name}", clock=Clock())
    store.migrate()
    store.check_ready()
    store.close()
    assert (tmp_path / name).exists()


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=120
    )


def test_postgres_without_its_driver_is_a_mistake_of_the_installation():
    code = """
import sys
sys.modules["psycopg"] = None
from workflow_runs.clock import Clock
from workflow_runs.store.opening import open_store
open_store("postgresql://localhost/runs", clock=Clock())
"""
    assert (
        "ConfigurationError: PostgreSQL needs the driver psycopg: install workflow-runs[postgres]" in run(code).stderr
    )


def test_recording_on_sqlite_loads_no_driver_of_others_and_nothing_to_read_with(sqlite_url):
    open_store(sqlite_url, clock=Clock()).migrate()
    code = """
import sys
from workflow_runs.clock import Clock
from workflow_runs.model.entries import StartRun
from workflow_runs.model.requests import RunRequest
from workflow_runs.store.opening import open_store
clock = Clock()
writer = open_store(sys.argv[1], clock=clock).open_writer()
(outcome,) = writer.apply([StartRun(clock.new_run_id(), RunRequest("checkout", "checkout"))])
assert outcome.created
print(sorted({"sqlalchemy", "alembic", "psycopg"} & set(sys.modules)))
"""
    finished = run(code, sqlite_url)
    assert finished.stdout == "[]\n", finished.stderr
