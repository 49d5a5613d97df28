"""The database fails for a moment and heals: nobody restarts the server, no step is done twice, nobody gets a 500.

Of each kind of database all faults at once, each on a database of its own: what takes time is waiting.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.outages import Postgres, Sqlite, outages
from tests.faults.servers import Server, wait_until
from workflow_runs.testing.proxy import Mode

FOR_S = 0.7
AT_ONCE = 6


def all_faults(nursery, new_url, folder, names):
    def one(name):
        return outages(nursery, urls.pop(), folder, name, lengths_s=[FOR_S], clients=2)

    urls = [new_url() for _ in names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_server_lives_through_all_faults_of_postgresql(nursery, new_url, tmp_path):
    found = all_faults(nursery, new_url, tmp_path, [fault.__name__ for fault in Postgres.FAULTS])

    assert len(found) == 12
    assert {name: healing.verdict.examples for name, healing in found.items() if healing.verdict.faults} == {}
    # A fault that nobody notices is none: these refuse whatever comes in the meantime.
    assert all(found[name].refused for name in ("refused", "no_connections"))


@pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)
def test_a_server_lives_through_all_faults_of_sqlite(nursery, new_url, tmp_path):
    names = ["locked", "unwritable", "away", *(["full"] if Sqlite.can_mount(tmp_path) else [])]
    found = all_faults(nursery, new_url, tmp_path, names)

    assert {name: healing.verdict.examples for name, healing in found.items() if healing.verdict.faults} == {}


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_server_that_starts_before_its_database_waits_for_it(nursery, new_url, tmp_path):
    database = Postgres(new_url())
    with database.running() as reached:
        database.proxy.mode = Mode.BLACK_HOLE
        server = Server(nursery, reached, tmp_path).start()
        wait_until(lambda: database.proxy.connections >= 2, "a second look for the database")
        database.proxy.mode = Mode.PASS
        server.wait_healthy()
        server.close()
