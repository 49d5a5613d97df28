"""The workflow *checkout-finalize*.

    confirm-booking -> charge -> issue-invoice -> send-confirmation

``charge`` is declared ``unsafe``: its start is on record before the provider is called, and when nobody knows how an attempt ended,
a timeout or a killed process, it is not simply repeated. ``find_charge`` asks the provider by the same key; only if it says that
nothing was charged is the card charged.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from workflow_runs import NOT_DONE, AsyncRun, Retry, Workflow, current_step, workflow

from .providers import BackOffice, Payment, PaymentProvider

NAME = "checkout-finalize"

CHARGE_TIMEOUT_S = 1.0  # the fake provider answers at once or never


@dataclass(frozen=True, slots=True)
class Order:
    """What was bought: the input of a run."""

    id: str
    booking_id: str
    amount: Decimal
    email: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Result of a run."""

    confirmation: str
    payment: Payment
    invoice: str


def checkout_finalize(provider: PaymentProvider, office: BackOffice) -> Workflow:
    """Return the workflow, calling these systems."""

    async def confirm_booking(order: Order) -> str:
        return await office.confirm(order.id, order.booking_id, current_step().effect_key)

    async def charge(order: Order) -> Payment:
        return await provider.charge(order.id, order.amount, current_step().effect_key)

    async def find_charge(_order: Order) -> Payment:
        found = await provider.find(current_step().effect_key)
        return NOT_DONE if found is None else found

    async def issue_invoice(order: Order, payment: Payment) -> str:
        return await office.invoice(order.id, payment.amount, current_step().effect_key)

    async def send_confirmation(order: Order, confirmation: str, invoice: str) -> str:
        text = f"Booking {confirmation} is confirmed. Your invoice: {invoice}."
        return await office.mail(order.id, order.email, text, current_step().effect_key)

    patient = Retry(attempts=3, first_delay_s=0.05)

    @workflow(NAME, idempotency="unsafe", description="Confirms the booking and issues the final invoice.")
    async def finalize(run: AsyncRun, order: Order) -> Receipt:
        confirmation = await run.step("confirm-booking", confirm_booking, order, effect="idempotent", retry=patient)
        payment = await run.step(
            "charge", charge, order, effect="unsafe", verify=find_charge, timeout_s=CHARGE_TIMEOUT_S
        )
        invoice = await run.step("issue-invoice", issue_invoice, order, payment, effect="idempotent", retry=patient)
        await run.step("send-confirmation", send_confirmation, order, confirmation, invoice, effect="idempotent")
        return Receipt(confirmation, payment, invoice)

    return finalize
