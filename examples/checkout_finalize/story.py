"""The story: four orders on a bad day, and two that are left to you. Told by ``demo.py`` and checked by a test."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from workflow_runs import WorkflowRuns

from .providers import BackOffice, Outage, PaymentProvider
from .workflow import NAME, Order

ORDERS = (
    Order("order-1", "BK1001", Decimal("129.90"), "ada@example.com"),
    Order("order-2", "BK1002", Decimal("349.00"), "grace@example.com"),
    Order("order-3", "BK1003", Decimal("78.50"), "edsger@example.com"),
    Order("order-4", "BK1004", Decimal("510.00"), "barbara@example.com"),
)
# Two more, which fail and are left to whoever sits at the desk: one before it was charged, one after.
LEFT = (
    Order("order-5", "BK1005", Decimal("212.40"), "annie@example.com"),
    Order("order-6", "BK1006", Decimal("1840.50"), "katherine@example.com"),
)
EFFECTS = ("confirm-booking", "charge", "issue-invoice", "send-confirmation")
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """Ids of the runs."""

    smooth: str  # order-1: nothing went wrong
    verified: str  # order-2: the answer to the charge got lost; ``find_charge`` found it
    refused: str  # order-3: the provider refused before charging
    refused_resumed: str
    uninvoiced: str  # order-4: charged, then the invoicing system was down
    uninvoiced_resumed: str


def tell(runs: WorkflowRuns, provider: PaymentProvider, office: BackOffice, *, actor: str) -> Told:
    """Finalize four orders, three of them through an outage, and resume the two that failed."""
    smooth = _checkout(runs, ORDERS[0])

    provider.outage = Outage.SILENT
    verified = _checkout(runs, ORDERS[1])

    provider.outage = Outage.REFUSING
    refused = _checkout(runs, ORDERS[2])
    provider.outage = Outage.NONE

    office.invoicing = Outage.REFUSING
    uninvoiced = _checkout(runs, ORDERS[3])
    office.invoicing = Outage.NONE

    return Told(smooth, verified, refused, _resume(runs, refused, actor), uninvoiced, _resume(runs, uninvoiced, actor))


def leave(runs: WorkflowRuns, provider: PaymentProvider, office: BackOffice) -> tuple[str, str]:
    """Let two orders fail, mend what failed them, and leave them as they are: the desk has something to do."""
    provider.outage = Outage.REFUSING
    uncharged = _checkout(runs, LEFT[0])
    provider.outage = Outage.NONE
    office.invoicing = Outage.REFUSING
    uninvoiced = _checkout(runs, LEFT[1])
    office.invoicing = Outage.NONE
    return uncharged, uninvoiced


def _checkout(runs: WorkflowRuns, order: Order) -> str:
    # The key makes a double click on "buy" one run: a second trigger with it is answered with the first one's id.
    run_id = runs.trigger(NAME, order, correlation_id=order.id, idempotency_key=order.id)
    runs.wait(run_id, WAIT_S)
    return run_id


def _resume(runs: WorkflowRuns, run_id: str, actor: str) -> str:
    resumed = runs.desk.resume(run_id, actor=actor, reason="the outage is over").run_id
    runs.wait(resumed, WAIT_S)
    return resumed


def expected_effects() -> Counter[tuple[str, str]]:
    """Return what the ledger has to hold after the story: each effect once per order, and nothing else."""
    return Counter((effect, order.id) for order in ORDERS for effect in EFFECTS)
