"""The main job, end to end: what ``make demo`` tells, on both databases, checked against the books of the outside world."""

from __future__ import annotations

import pytest

from examples import checkout_finalize, flight_disruption
from examples.ledger import EffectLedger
from workflow_runs import WorkflowRuns


@pytest.fixture
def books(tmp_path):
    with EffectLedger(tmp_path / "effects.jsonl", synced=False) as ledger:
        yield ledger


def disrupt(url: str, books: EffectLedger, flights) -> flight_disruption.Told:
    outage = flight_disruption.planned_outage(len(flights))
    workflow = flight_disruption.flight_disruption(flight_disruption.partners(books, outage))
    with WorkflowRuns(url, [workflow], migrate=True) as runs:
        return flight_disruption.tell(runs, flights, actor="operator")


@pytest.mark.parametrize(
    ("kind", "flights", "refused"),
    [("sqlite_url", 2_000, 400), ("postgres_url", 1_000, 200)],
    ids=["sqlite", "postgresql"],
)
def test_flights_that_an_outage_failed_are_resumed_and_each_effect_happens_once(request, books, kind, flights, refused):
    disrupted = list(flight_disruption.read_flights(flights))

    told = disrupt(request.getfixturevalue(kind), books, disrupted)

    assert len(told.failed) == refused
    assert told.unfinished == ()
    assert books.effects() == flight_disruption.expected_effects(disrupted)
    assert books.repeated == 0


def test_a_resumed_flight_keeps_its_assessment_and_executes_the_rest(database_url, books):
    disrupted = list(flight_disruption.read_flights(10))
    outage = flight_disruption.Outage(after=0, refuses=1)
    workflow = flight_disruption.flight_disruption(flight_disruption.partners(books, outage))
    with WorkflowRuns(database_url, [workflow], migrate=True) as runs:
        told = flight_disruption.tell(runs, disrupted, actor="operator")
        failed, resumed = runs.desk.get_run(told.failed[0]), runs.desk.get_run(told.resumed[0])

    assert [(step.step.name, step.state) for step in failed.steps] == [("assess", "succeeded"), ("rebook", "failed")]
    assert failed.run.error.message == "the rebooking partner answers 503 Service Unavailable"
    assert [(step.step.name, step.state) for step in resumed.steps] == [
        ("assess", "skipped"),
        ("rebook", "succeeded"),
        ("compensate", "succeeded"),
        ("notify", "succeeded"),
    ]
    assert resumed.steps[0].last.output == failed.steps[0].last.output
    assert resumed.run.triggered_by_user_id == "operator"


def test_orders_are_charged_once_through_every_outage(database_url, books):
    provider = checkout_finalize.PaymentProvider(books)
    office = checkout_finalize.BackOffice(books)
    workflow = checkout_finalize.checkout_finalize(provider, office)
    with WorkflowRuns(database_url, [workflow], migrate=True) as runs:
        told = checkout_finalize.tell(runs, provider, office, actor="operator")
        states = {
            run_id: runs.desk.get_run(run_id).run.state
            for run_id in (told.smooth, told.verified, told.refused, told.uninvoiced)
        }
        resumed = [runs.desk.get_run(run_id) for run_id in (told.refused_resumed, told.uninvoiced_resumed)]

    assert list(states.values()) == ["succeeded", "succeeded", "failed", "failed"]
    assert [run.run.state for run in resumed] == ["succeeded", "succeeded"]
    assert [step.state for step in resumed[0].steps] == ["skipped", "succeeded", "succeeded", "succeeded"]
    assert [step.state for step in resumed[1].steps] == ["skipped", "skipped", "succeeded", "succeeded"]
    assert books.effects() == checkout_finalize.expected_effects()
    assert books.repeated == 0
