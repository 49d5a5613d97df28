"""A polite stop under load: exit status 0, 503 for what is new, and nothing that is done twice."""

from tests.faults.stops import stops


def test_a_stop_repeats_nothing_and_refuses_what_is_new(nursery, new_url, tmp_path):
    found = stops(nursery, new_url(), tmp_path, 2)

    assert found.verdict.faults == {}, found.verdict.examples
    assert found.verdict.begun_again == 0  # steps in flight came to their end
    assert found.answers[503] > 0
