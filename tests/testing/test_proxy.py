"""The proxy fails as it is told to, seen by a client of PostgreSQL's own."""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg
import pytest

from workflow_runs.testing.proxy import Cut, Mode, PostgresProxy

DEADLINE_S = 30.0


@pytest.fixture
def proxy(postgres_url):
    with PostgresProxy(urlsplit(postgres_url).query.removeprefix("host=")).running() as proxy:
        yield proxy


@pytest.fixture
def connect(proxy, postgres_url):
    name = urlsplit(postgres_url).path.removeprefix("/")
    made = []

    def begin():
        made.append(
            psycopg.connect(
                host="127.0.0.1", port=proxy.port, user="postgres", dbname=name, autocommit=True, connect_timeout=10
            )
        )
        return made[-1]

    yield begin
    for connection in made:
        connection.close()


@pytest.fixture
def direct(postgres_url):
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int)")
        yield lambda: [a for (a,) in connection.execute("SELECT a FROM t ORDER BY a")]


def test_what_is_asked_comes_back(connect):
    assert connect().execute("SELECT repeat('x', 200000)").fetchone() == ("x" * 200_000,)


def test_refused_is_refused_and_what_was_connected_is_cut(proxy, connect):
    connection = connect()
    proxy.mode = Mode.REFUSE
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect()
    proxy.mode = Mode.PASS
    assert connect().execute("SELECT 1").fetchone() == (1,)


def test_a_cut_connection_is_cut_and_the_next_one_is_not(proxy, connect):
    connection = connect()
    assert proxy.cut() == 1
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    assert connect().execute("SELECT 1").fetchone() == (1,)


def in_transaction(connection):
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("INSERT INTO t VALUES (%s)", [2])


def alone(connection):
    connection.execute("INSERT INTO t VALUES (%s), (2)", [1])


def prepared(connection):
    connection.execute("INSERT INTO t VALUES (%s), (2)", [1], prepare=True)


@pytest.mark.parametrize("write", [in_transaction, alone, prepared])
@pytest.mark.parametrize(("cut", "written"), [(Cut.BEFORE_COMMIT, []), (Cut.AFTER_COMMIT, [1, 2])])
def test_a_commit_is_cut_on_its_way_there_or_on_its_way_back(proxy, connect, direct, write, cut, written):
    connection = connect()
    connection.execute("SELECT a FROM t").fetchall()  # no commit
    proxy.arm(cut)
    with pytest.raises(psycopg.OperationalError):
        write(connection)
    assert direct() == written
    assert not proxy.is_armed
    connect().execute("DELETE FROM t")  # only the one was cut
    assert direct() == []


def test_a_statement_that_is_refused_is_no_commit(proxy, connect, direct):
    connection = connect()
    proxy.arm(Cut.AFTER_COMMIT)
    with pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("INSERT INTO nothing VALUES (1)")
    assert proxy.is_armed


@pytest.mark.parametrize("cut", [Cut.IN_REPLY, Cut.AFTER_BYTES])
def test_an_answer_is_cut_in_the_middle(proxy, connect, cut):
    connection = connect()
    proxy.arm(cut)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT repeat('x', 5000)")
    assert proxy.cuts == 1


def test_a_black_hole_answers_nothing_and_gives_nothing_back_when_it_is_gone(proxy, connect, direct):
    connection = connect()
    proxy.mode = Mode.BLACK_HOLE
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(connection.execute, "INSERT INTO t VALUES (1)")
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", connect_timeout=2)
        assert not asking.done()
        proxy.mode = Mode.PASS
        assert connect().execute("SELECT 1").fetchone() == (1,)
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            asking.result(DEADLINE_S)
    assert direct() == []


def test_a_delay_is_a_delay_and_nothing_else(proxy, connect):
    connection = connect()
    proxy.delay_s = 0.05
    proxy.mode = Mode.DELAY
    assert connection.execute("SELECT 1").fetchone() == (1,)
