"""A server is frozen beyond its lease while it works: the other goes on with its runs, once, and the waking one starts nothing of them."""

from tests.faults.freezes import freezes


def test_a_frozen_server_is_replaced_and_changes_nothing_when_it_wakes(nursery, new_url, tmp_path):
    found = freezes(nursery, new_url(), tmp_path, 2)

    assert found.verdict.faults == {}, found.verdict.examples
    assert found.taken_over > 0
