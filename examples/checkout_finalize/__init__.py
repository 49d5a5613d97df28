"""Confirm a booking, charge a card, issue an invoice, tell the customer: never charge twice. See ``workflow.py``."""

from .providers import BackOffice, Outage, Payment, PaymentProvider
from .story import ORDERS, Told, expected_effects, leave, tell
from .workflow import NAME, Order, Receipt, checkout_finalize

__all__ = [
    "NAME",
    "ORDERS",
    "BackOffice",
    "Order",
    "Outage",
    "Payment",
    "PaymentProvider",
    "Receipt",
    "Told",
    "checkout_finalize",
    "expected_effects",
    "leave",
    "tell",
]
