"""The rule that the flights example applies, case by case of the regulation, and the file it is applied to."""

from __future__ import annotations

from decimal import Decimal

import pytest

from examples.flight_disruption import read_flights, rule


@pytest.mark.parametrize(
    ("km", "delay_min", "eur"),
    [
        ("1500", 179, 0),
        ("1500", 180, 250),
        ("1500.001", 180, 400),
        ("3500", 1000, 400),
        ("3500.001", 239, 300),
        ("3500.001", 240, 600),
    ],
)
def test_a_late_arrival_is_worth_what_distance_and_delay_say(km, delay_min, eur):
    assert rule.for_delay(Decimal(km), delay_min).amount_eur == eur


@pytest.mark.parametrize(
    ("km", "earlier_min", "later_min", "eur"),
    [
        ("800", 60, 119, 0),
        ("800", 61, 119, 125),
        ("800", 0, 120, 125),
        ("800", 0, 121, 250),
        ("2000", 0, 180, 200),
        ("2000", 0, 181, 400),
        ("5000", 0, 240, 300),
        ("5000", 0, 241, 600),
    ],
)
def test_a_cancelled_flight_is_worth_what_the_offered_one_leaves(km, earlier_min, later_min, eur):
    assert rule.for_cancellation(Decimal(km), earlier_min, later_min).amount_eur == eur


def test_the_file_holds_12098_flights_each_under_its_own_name_and_cancelled_or_very_late():
    flights = list(read_flights())

    assert len({flight.id for flight in flights}) == len(flights) == 12_098
    assert sum(flight.cancelled for flight in flights) == 8_255
    assert all(flight.cancelled or flight.arrival_delay_min > 180 for flight in flights)
