"""A database that fails: nothing is half written, the caller is told in our words, and the next call works when it can."""

import socket
import sqlite3

import psycopg
import pytest

from workflow_runs.clock import Clock
from workflow_runs.errors import StoreUnavailable
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.states import RunState
from workflow_runs.settings import JournalSettings
from workflow_runs.store import postgresql, sqlite
from workflow_runs.store.opening import open_store
from workflow_runs.testing.proxy import Mode, PostgresProxy

WORDS_OF_DRIVERS = (
    "sqlite",
    "psycopg",
    "insert",
    "select",
    "locked",
    "disk",
    "/tmp",
    "connection",
    "terminat",
    "server",
)


def assert_is_in_our_words(error):
    assert error.__cause__ is not None
    assert not [word for word in WORDS_OF_DRIVERS if word in str(error).lower()]


class TestOnSqlite:
    @pytest.fixture
    def database_url(self, sqlite_url):
        return sqlite_url

    @pytest.fixture
    def path(self, sqlite_url):
        return sqlite_url.removeprefix("sqlite:///")

    def test_file_that_another_process_writes_is_waited_for_and_then_reported(self, record, path, monkeypatch):
        monkeypatch.setattr(sqlite, "WRITER_WAIT_S", 0.01)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        entry = record.start()
        with pytest.raises(StoreUnavailable) as failure:
            record.apply(entry)
        assert_is_in_our_words(failure.value)
        assert record.ids() == []
        other.execute("ROLLBACK")
        other.close()
        assert record.write(entry).created

    def test_question_that_takes_too_long_is_given_up(self, record, monkeypatch):
        monkeypatch.setattr(sqlite, "_STEPS_BETWEEN_LOOKS", 100)
        reader = open_store(record.url, clock=record.clock)
        record.apply(*(record.start(correlation_id="c") for _ in range(50)))
        assert len(reader.list_runs(RunFilter(), Page(), payloads=False).runs) == 50
        monkeypatch.setattr(sqlite, "STATEMENT_S", 0.0)
        with pytest.raises(StoreUnavailable) as failure:
            reader.list_runs(RunFilter(), Page(), payloads=False)
        assert_is_in_our_words(failure.value)
        monkeypatch.setattr(sqlite, "STATEMENT_S", 5.0)
        assert len(reader.list_runs(RunFilter(), Page(), payloads=False).runs) == 50
        reader.close()

    def test_readers_read_while_somebody_writes(self, record, path):
        run_id = record.started()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert record.ids() == [run_id]
        other.close()

    def test_full_disk_writes_nothing_and_heals(self, record):
        run_id = record.started()
        connection = record.writer._connected().connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        entries = [record.step_ended(run_id, f"step-{number}", output=f'"{"x" * 9000}"') for number in range(9)]
        with pytest.raises(StoreUnavailable) as failure:
            record.apply(*entries)
        assert_is_in_our_words(failure.value)
        assert record.store.get_steps(run_id) == ()
        # The connection is made anew, and with it the limit is gone.
        assert record.apply(*entries) == [None] * 9

    def test_file_that_is_no_database_is_reported(self, tmp_path):
        path = tmp_path / "runs.db"
        path.write_bytes(b"no database at all" * 1000)
        store = open_store(f"sqlite:///{path}", clock=sqlite.Clock())
        for attempt in (store.migrate, store.check_ready, lambda: store.get_run("x")):
            with pytest.raises(StoreUnavailable) as failure:
                attempt()
            assert_is_in_our_words(failure.value)

    def test_file_in_a_folder_that_is_not_there_is_reported(self, tmp_path):
        store = open_store(f"sqlite:///{tmp_path}/nowhere/runs.db", clock=sqlite.Clock())
        with pytest.raises(StoreUnavailable):
            store.migrate()

    def test_writer_does_not_make_a_file(self, tmp_path, record):
        path = tmp_path / "other.db"
        writer = open_store(f"sqlite:///{path}", clock=record.clock).open_writer()
        with pytest.raises(StoreUnavailable):
            writer.apply([record.start()])
        assert not path.exists()

    def test_readers_cannot_write(self, record):
        with record.store._reading().engine.connect() as connection, pytest.raises(Exception, match="readonly"):
            connection.exec_driver_sql("DELETE FROM workflow_runs")

    def test_what_is_committed_is_on_the_disk(self, record):
        record.started()
        connection = record.writer._connected().connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


class TestOnPostgres:
    @pytest.fixture
    def database_url(self, postgres_url):
        return postgres_url

    @pytest.fixture
    def kill_all(self, postgres_url):
        """Ends every session of the database but its own."""

        def kill():
            with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

        return kill

    def test_session_that_was_ended_is_reported_once(self, record, kill_all):
        entry = record.start()
        record.started()
        kill_all()
        with pytest.raises(StoreUnavailable) as failure:
            record.apply(entry)
        assert_is_in_our_words(failure.value)
        assert record.write(entry).created

    def test_reader_whose_session_was_ended_asks_again(self, record, kill_all):
        run_id = record.started()
        assert record.ids() == [run_id]
        kill_all()
        assert record.ids() == [run_id]

    def test_server_that_is_not_there_is_reported(self, record):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"postgresql://127.0.0.1:{free.getsockname()[1]}/runs"
        store = open_store(url, clock=record.clock)
        for attempt in (
            store.migrate,
            store.check_ready,
            lambda: store.get_run("x"),
            lambda: store.open_writer().apply([record.start()]),
        ):
            with pytest.raises(StoreUnavailable) as failure:
                attempt()
            assert_is_in_our_words(failure.value)

    def test_server_that_swallows_everything_is_given_up(self, new_record, postgres_url, monkeypatch):
        record = new_record()
        monkeypatch.setattr(postgresql, "ANSWER_S", 0.2)
        database, _, folder = postgres_url.rpartition("?host=")
        with PostgresProxy(folder).running() as proxy:
            store = open_store(database.replace("@/", f"@127.0.0.1:{proxy.port}/"), clock=record.clock)
            writer = store.open_writer()
            entry = record.start(state=RunState.RUNNING)
            assert writer.apply([entry])[0].created
            assert store.get_run(entry.run_id) is not None
            proxy.mode = Mode.BLACK_HOLE
            with pytest.raises(StoreUnavailable):
                writer.apply([record.end(entry.run_id)])
            connections = proxy.connections
            with pytest.raises(StoreUnavailable):
                store.list_runs(RunFilter(), Page(), payloads=False)
            assert proxy.connections == connections  # whoever waited in vain is told so, and not made to wait again
            proxy.mode = Mode.PASS
            assert len(store.list_runs(RunFilter(), Page(), payloads=False).runs) == 1
            assert writer.apply([record.end(entry.run_id)])[0].state == "succeeded"
            writer.close()
            store.close()

    def test_no_wait_for_what_was_lost_outlasts_the_five_seconds_in_which_work_is_to_go_on(self):
        # A second and more is left for what comes after the wait, on a machine that has much to do.
        assert postgresql.STATEMENT_S < postgresql.ANSWER_S < 4
        assert postgresql.CONNECT_S + JournalSettings().retry_pause_max_s < 4

    def test_a_migration_whose_server_is_gone_does_not_wait_for_hours(self, postgres_url):
        connection = open_store(postgres_url, clock=Clock())._kind.connect_to_migrate()
        used = connection.info.get_parameters()
        connection.close()
        assert int(used["keepalives_idle"]) + int(used["keepalives_interval"]) * int(used["keepalives_count"]) == 16

    def test_serialization_failures_are_failures_of_the_database(self):
        for error in (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected, psycopg.errors.DiskFull):
            assert postgresql.fault(error()) is postgresql.Fault.DATABASE

    def test_server_told_to_acknowledge_early_is_told_otherwise(self, record, postgres_url):
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
            (name,) = connection.execute("SELECT current_database()").fetchone()
            connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        record.writer.close()
        record.started()
        connection = record.writer._connected().connection
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)

    def test_readers_cannot_write_and_cannot_ask_for_ever(self, record):
        record.ids()
        with record.store._reading().engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "3s"
            with pytest.raises(Exception, match="read-only"):
                connection.exec_driver_sql("DELETE FROM workflow_runs")
