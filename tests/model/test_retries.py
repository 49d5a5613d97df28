"""The retry policy of a step."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from workflow_runs.errors import CannotEncode, ConfigurationError, Fatal
from workflow_runs.model.retries import Retry


def test_pauses_double_up_to_their_bound():
    retry = Retry(attempts=9, first_delay_s=1, factor=2, delay_s_max=10)
    assert [retry.pause_s(failures) for failures in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(st.integers(1, 1_000), st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_a_pause_stays_within_its_bound_and_jitter_however_many_failures(failures, draw, jitter):
    pause = Retry(first_delay_s=1, factor=3, delay_s_max=60, jitter=jitter).pause_s(failures, draw)
    assert 0 <= pause <= 60 * (1 + jitter)


def test_the_most_specific_word_is_never():
    retry = Retry(retry_on=(LookupError,), never_on=(KeyError,))
    assert [retry.allows(error) for error in (IndexError(), KeyError(), ValueError())] == [True, False, False]


@pytest.mark.parametrize("error", [Fatal("x"), CannotEncode("output", "$", "set", "no")])
def test_some_errors_are_never_tried_again_whatever_is_listed(error):
    assert not Retry(retry_on=(Exception,), never_on=()).allows(error)


def test_interrupts_are_not_tried_again_by_default():
    assert not Retry().allows(KeyboardInterrupt())


def test_a_name_on_record_is_looked_up_among_the_subclasses():
    class GatewayDown(ConnectionError):
        pass

    assert GatewayDown.__name__ == "GatewayDown"
    assert Retry(retry_on=(OSError,)).allows_recorded("test.<locals>.GatewayDown")
    assert not Retry(retry_on=(ValueError,)).allows_recorded("GatewayDown")
    assert not Retry(never_on=(OSError,)).allows_recorded("GatewayDown")


@pytest.mark.parametrize(
    "numbers",
    [{"attempts": 0}, {"attempts": 1001}, {"first_delay_s": -1}, {"factor": 0.5}, {"jitter": 1.5}, {"delay_s_max": -1}],
)
def test_numbers_out_of_range_are_refused_where_they_are_written(numbers):
    with pytest.raises(ConfigurationError):
        Retry(**numbers)
