"""Servers that share a database: the death of one, or its way to the database cut, costs no run and repeats no completed step."""

import pytest

from tests.faults.fleets import fleet_kills, partitions


def test_servers_that_die_in_a_fleet_lose_nothing_and_no_step_is_done_by_two(nursery, new_url, tmp_path):
    found = fleet_kills(nursery, new_url(), tmp_path, 8)

    assert found.verdict.faults == {}, found.verdict.examples
    assert 0 < found.renamed < found.kills


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_server_cut_off_beyond_its_lease_is_replaced_and_changes_nothing_when_it_is_back(nursery, new_url, tmp_path):
    found = partitions(nursery, new_url(), tmp_path, 2)

    assert found.verdict.faults == {}, found.verdict.examples
    assert found.taken_over > 0
