"""The outside world of the example: a rebooking partner with an outage, a bank, a message gateway. All fake, all keeping books."""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from decimal import Decimal

from ..ledger import EffectLedger
from .flights import Flight


class PartnerUnavailable(Exception):
    """The partner refused the call before doing anything."""

    code = "partner_unavailable"


@dataclass(frozen=True, slots=True)
class Outage:
    """Part of a day on which the partner is down: after ``after`` calls it refuses the next ``refuses``.

    Counted in calls, not in seconds, so that the story has the same numbers on every machine.
    """

    after: int
    refuses: int


@dataclass(frozen=True, slots=True)
class Rebooking:
    """What the partner arranged: another flight, or, where the flight did go, a seat for whatever connection was missed."""

    reference: str
    departs_earlier_min: int
    arrives_later_min: int


class RebookingPartner:
    """Finds other seats. Its timetable is made up, from the flight alone, so that the same flight gets the same answer always."""

    def __init__(self, ledger: EffectLedger, outage: Outage) -> None:
        self._ledger = ledger
        self._outage = outage
        self._calls = 0
        self._lock = threading.Lock()

    def rebook(self, flight: Flight, key: str) -> Rebooking:
        """Book seats for the passengers of a flight.

        Raises:
            PartnerUnavailable: during the outage.
        """
        with self._lock:
            self._calls += 1
            down = self._outage.after < self._calls <= self._outage.after + self._outage.refuses
        if down:
            raise PartnerUnavailable("the rebooking partner answers 503 Service Unavailable")
        draw = zlib.crc32(flight.id.encode())
        answer = self._ledger.call(
            "rebook",
            flight.id,
            key,
            lambda: {
                "reference": f"RB{draw:08X}",
                # From one and a half hours earlier to ten hours later, in steps of a quarter of an hour.
                "departs_earlier_min": max(0, 90 - 15 * (draw % 40)) if flight.cancelled else 0,
                "arrives_later_min": 15 * (draw // 40 % 40) if flight.cancelled else flight.arrival_delay_min,
            },
        )
        return Rebooking(**answer)


class Bank:
    """Pays out."""

    def __init__(self, ledger: EffectLedger) -> None:
        self._ledger = ledger

    def pay(self, flight: Flight, amount_eur: Decimal, key: str) -> str:
        """Order the payments to the passengers of a flight and return the order's reference."""
        answer = self._ledger.call(
            "compensate", flight.id, key, lambda: {"reference": f"PAY-{key[:12]}", "amount_eur": str(amount_eur)}
        )
        return str(answer["reference"])


class MessageGateway:
    """Tells passengers."""

    def __init__(self, ledger: EffectLedger) -> None:
        self._ledger = ledger

    def send(self, flight: Flight, text: str, key: str) -> str:
        """Send a text to the passengers of a flight and return the message's id."""
        answer = self._ledger.call("notify", flight.id, key, lambda: {"message": f"MSG-{key[:12]}", "text": text})
        return str(answer["message"])


class CaseRegister:
    """The airline's own list of cases."""

    def __init__(self, ledger: EffectLedger) -> None:
        self._ledger = ledger

    def open(self, flight: Flight, key: str) -> str:
        """Open a case for a flight and return its number."""
        answer = self._ledger.call("assess", flight.id, key, lambda: {"case": f"CASE-{key[:12]}"})
        return str(answer["case"])


@dataclass(frozen=True, slots=True)
class Partners:
    """Everybody the workflow calls."""

    ledger: EffectLedger
    register: CaseRegister
    rebooking: RebookingPartner
    bank: Bank
    gateway: MessageGateway


def partners(ledger: EffectLedger, outage: Outage) -> Partners:
    """Return the outside world, writing into ``ledger``."""
    return Partners(
        ledger, CaseRegister(ledger), RebookingPartner(ledger, outage), Bank(ledger), MessageGateway(ledger)
    )
