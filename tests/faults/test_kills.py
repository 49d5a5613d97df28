"""A server is killed again and again while clients use it: what was promised is there, and nothing was done twice.

Two loops for each database, so that two processors have something to do. The long version: ``python -m tests.faults --only kills``.
"""

import pytest

from tests.faults.kills import first_starts, kill_loop


@pytest.mark.parametrize("seed", [0, 7])
def test_a_server_killed_at_any_instant_loses_nothing_and_repeats_no_completed_step(nursery, new_url, tmp_path, seed):
    found = kill_loop(nursery, new_url(), tmp_path, 20, seed=seed)

    assert found.verdict.faults == {}, found.verdict.examples
    assert found.kills.total() >= 20
    assert len(found.kills) == 7
    assert found.verdict.acknowledged > found.kills.total()


def test_a_server_killed_while_it_makes_its_schema_leaves_a_database_that_the_next_one_can_use(
    nursery, new_url, tmp_path
):
    found = first_starts(nursery, new_url, tmp_path, 8, within_s=0.1)

    assert found.verdict.faults == {}, found.verdict.examples
    assert found.kills == {"starting": 8}
