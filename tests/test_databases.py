"""The databases that the other tests are given."""

import contextlib

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool


def run(url, *statements):
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        return [connection.execute(text(statement)) for statement in statements][-1].scalar_one()


def test_a_database_answers(database_url):
    assert run(database_url, "SELECT 1") == 1


@pytest.mark.parametrize("turn", ["first", "second"])
def test_no_test_sees_what_another_has_written(database_url, turn):
    created = "CREATE TABLE mark (turn TEXT)"  # would fail if the table were there
    assert run(database_url, created, f"INSERT INTO mark VALUES ('{turn}') RETURNING turn") == turn


def test_both_kinds_are_given(sqlite_url, postgres_url):
    assert make_url(sqlite_url).get_backend_name() == "sqlite"
    assert make_url(postgres_url).get_backend_name() == "postgresql"
    assert make_url(postgres_url).get_driver_name() == "psycopg"


@pytest.fixture
def late():
    """A stack of things to close after the fixtures that the test asks for behind this one."""
    with contextlib.ExitStack() as stack:
        yield stack


def test_a_database_is_dropped_even_while_somebody_is_connected(late, postgres_url):
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string()
    late.enter_context(contextlib.closing(psycopg.connect(url)))
