"""One run per flight that was cancelled or very late: assess, rebook, compensate, notify. See ``workflow.py``."""

from .flights import Flight, read_flights
from .partners import Outage, Partners, partners
from .story import Told, expected_effects, planned_outage, tell
from .workflow import NAME, flight_disruption

__all__ = [
    "NAME",
    "Flight",
    "Outage",
    "Partners",
    "Told",
    "expected_effects",
    "flight_disruption",
    "partners",
    "planned_outage",
    "read_flights",
    "tell",
]
