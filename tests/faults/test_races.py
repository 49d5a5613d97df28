"""Many requests at one instant on two servers: one run, one child, and no error that is not a refusal."""

from tests.faults.races import race


def test_of_requests_at_one_instant_on_two_servers_one_is_done_and_all_are_told_of_it(nursery, new_url, tmp_path):
    verdict, _ = race(nursery, new_url(), tmp_path, rounds=2)

    assert verdict.faults == {}, verdict.examples
