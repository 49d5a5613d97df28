"""The workflow *flight-disruption*: one run per flight that was cancelled or arrived more than three hours late.

    assess -> rebook -> compensate -> notify

Every step calls somebody outside under its effect key, which is the same over attempts, recovery and resumes; so all steps are
``idempotent``, and one that was cut off is simply executed again. A *rerun* would make new keys, and pay again: the workflow
is ``resume-only``.

``rebook`` has no retry. The outage of the story outlasts any backoff worth waiting for: such runs fail, stand on the desk with the
partner's own words, and are resumed when the partner is back. What they did before is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from workflow_runs import AsyncRun, Workflow, current_step, workflow

from . import rule
from .flights import Flight
from .partners import Partners, Rebooking

NAME = "flight-disruption"


class Disruption(StrEnum):
    """What happened to the flight."""

    CANCELLED = "cancelled"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Assessment:
    """Output of ``assess``."""

    case: str
    disruption: Disruption
    distance_km: Decimal


@dataclass(frozen=True, slots=True)
class Compensation:
    """Output of ``compensate``: what one passenger gets, by which words, and the bank's reference."""

    amount_eur: Decimal
    basis: str
    payment: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Result of a run."""

    case: str
    flight: str
    rebooking: str
    amount_eur: Decimal
    message: str


def flight_disruption(partners: Partners) -> Workflow:
    """Return the workflow, calling these partners."""

    async def assess(flight: Flight) -> Assessment:
        case = partners.register.open(flight, current_step().effect_key)
        return Assessment(case, Disruption.CANCELLED if flight.cancelled else Disruption.LATE, flight.distance_km)

    async def rebook(flight: Flight) -> Rebooking:
        return partners.rebooking.rebook(flight, current_step().effect_key)

    async def compensate(flight: Flight, assessment: Assessment, rebooking: Rebooking) -> Compensation:
        owed = _owed(flight, assessment, rebooking)
        # An order over nothing is still sent: the bank's books shall have one line per flight, whatever it says.
        payment = partners.bank.pay(flight, owed.amount_eur, current_step().effect_key)
        return Compensation(owed.amount_eur, owed.basis, payment)

    async def notify(flight: Flight, rebooking: Rebooking, compensation: Compensation) -> str:
        text = f"{flight.id}: rebooked as {rebooking.reference}. You receive EUR {compensation.amount_eur} ({compensation.basis})."
        return partners.gateway.send(flight, text, current_step().effect_key)

    @workflow(
        NAME, idempotency="resume-only", description="Rebooks and compensates the passengers of a disrupted flight."
    )
    async def settle(run: AsyncRun, flight: Flight) -> Settled:
        assessment = await run.step("assess", assess, flight, effect="idempotent")
        rebooking = await run.step("rebook", rebook, flight, effect="idempotent")
        compensation = await run.step("compensate", compensate, flight, assessment, rebooking, effect="idempotent")
        message = await run.step("notify", notify, flight, rebooking, compensation, effect="idempotent")
        return Settled(assessment.case, flight.id, rebooking.reference, compensation.amount_eur, message)

    return settle


def _owed(flight: Flight, assessment: Assessment, rebooking: Rebooking) -> rule.Entitlement:
    if flight.arrival_delay_min is not None:
        return rule.for_delay(assessment.distance_km, flight.arrival_delay_min)
    return rule.for_cancellation(assessment.distance_km, rebooking.departs_earlier_min, rebooking.arrives_later_min)
