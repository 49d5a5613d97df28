"""The flights: rows of the file in ``data/`` as typed values."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from itertools import islice
from pathlib import Path

DATA = Path(__file__).with_name("data") / "flights_2013_disrupted.csv"

KM_PER_MILE = Decimal("1.609344")  # the international mile of 1959; the file has statute miles


@dataclass(frozen=True, slots=True)
class Flight:
    """One disrupted flight: the input of a run. A cancelled flight has no delays."""

    day: date  # local
    scheduled_departure: time  # local
    departure_delay_min: int | None
    arrival_delay_min: int | None
    carrier: str
    number: int
    tail_number: str | None
    origin: str
    destination: str
    distance_miles: int

    @property
    def id(self) -> str:
        """What the flight is called everywhere: ``2013-01-01/MQ3944/JFK``. Unique in the file."""
        return f"{self.day}/{self.carrier}{self.number}/{self.origin}"

    @property
    def cancelled(self) -> bool:
        """Whether it never flew."""
        return self.arrival_delay_min is None

    @property
    def distance_km(self) -> Decimal:
        """The distance in kilometres, as the regulation measures it."""
        return self.distance_miles * KM_PER_MILE


def read_flights(limit: int | None = None, path: Path = DATA) -> Iterator[Flight]:
    """Yield the flights in the order of the file, at most ``limit`` of them."""
    with open(path, encoding="ascii", newline="") as file:
        for row in islice(csv.DictReader(file), limit):
            yield Flight(
                day=date.fromisoformat(row["date"]),
                scheduled_departure=time(int(row["scheduled_departure"][:2]), int(row["scheduled_departure"][2:])),
                departure_delay_min=_minutes(row["departure_delay_min"]),
                arrival_delay_min=_minutes(row["arrival_delay_min"]),
                carrier=row["carrier"],
                number=int(row["flight"]),
                tail_number=row["tail_number"] or None,
                origin=row["origin"],
                destination=row["destination"],
                distance_miles=int(row["distance_miles"]),
            )


def _minutes(text: str) -> int | None:
    return int(text) if text else None
