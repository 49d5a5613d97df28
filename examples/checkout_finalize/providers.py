"""The outside world of the example: a payment provider with an outage switch, and the shop's own booking, invoicing and mail systems."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from ..ledger import EffectLedger


class ProviderUnavailable(Exception):
    """A system refused the call before doing anything."""

    code = "provider_unavailable"


class Outage(StrEnum):
    """How a system fails."""

    NONE = "none"
    REFUSING = "refusing"  # answers 503 and does nothing
    SILENT = "silent"  # does it, and the answer never arrives: the failure that charges people twice


@dataclass(frozen=True, slots=True)
class Payment:
    """A charge, as the provider confirms it."""

    id: str
    amount: Decimal


class PaymentProvider:
    """Charges cards. Honours idempotency keys, and finds a charge by its key."""

    def __init__(self, ledger: EffectLedger) -> None:
        self._ledger = ledger
        self.outage = Outage.NONE

    async def charge(self, order_id: str, amount: Decimal, key: str) -> Payment:
        """Charge the card of an order; under ``Outage.SILENT`` this never returns.

        Raises:
            ProviderUnavailable: under ``Outage.REFUSING``.
        """
        if self.outage is Outage.REFUSING:
            raise ProviderUnavailable("the payment provider answers 503 Service Unavailable")
        answer = self._ledger.call("charge", order_id, key, lambda: {"id": f"ch_{key[:12]}", "amount": str(amount)})
        if self.outage is Outage.SILENT:
            await asyncio.Event().wait()
        return _payment(answer)

    async def find(self, key: str) -> Payment | None:
        """Return the charge that was made under a key, or None."""
        answer = self._ledger.find(key)
        return _payment(answer) if answer else None


def _payment(answer: dict[str, str]) -> Payment:
    return Payment(answer["id"], Decimal(answer["amount"]))


class BackOffice:
    """Bookings, invoices and mail."""

    def __init__(self, ledger: EffectLedger) -> None:
        self._ledger = ledger
        self.invoicing = Outage.NONE

    async def confirm(self, order_id: str, booking_id: str, key: str) -> str:
        """Confirm a booking and return the confirmation's code."""
        answer = self._ledger.call(
            "confirm-booking", order_id, key, lambda: {"code": f"{booking_id}-{key[:4].upper()}"}
        )
        return str(answer["code"])

    async def invoice(self, order_id: str, amount: Decimal, key: str) -> str:
        """Issue an invoice and return its number.

        Raises:
            ProviderUnavailable: under ``Outage.REFUSING``.
        """
        if self.invoicing is not Outage.NONE:
            raise ProviderUnavailable("the invoicing system is down for maintenance")
        answer = self._ledger.call(
            "issue-invoice", order_id, key, lambda: {"number": f"INV-{order_id}", "total": str(amount)}
        )
        return str(answer["number"])

    async def mail(self, order_id: str, to: str, text: str, key: str) -> str:
        """Send a mail and return its id."""
        answer = self._ledger.call(
            "send-confirmation", order_id, key, lambda: {"id": f"mail_{key[:12]}", "to": to, "text": text}
        )
        return str(answer["id"])
