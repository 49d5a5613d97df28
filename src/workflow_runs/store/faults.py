"""What a driver's exception means. Each database says which is which; what callers are told is said here."""

from __future__ import annotations

import enum

from ..errors import StoreUnavailable
from .schema import MIGRATE_HINT


class Fault(enum.Enum):
    """Kinds of failure, by what helps."""

    DATABASE = enum.auto()  # away, locked, full, read-only, too slow: the same may work later
    SCHEMA = enum.auto()  # tables or columns are missing: migrating helps
    ENTRY = enum.auto()  # what an entry holds, and everything that is not known to be one of the others: nothing helps


def unavailable(fault: Fault) -> StoreUnavailable:
    """Return what callers are told. Nothing of the driver's text, which may hold paths, hosts and values: it is chained as the cause."""
    if fault is Fault.SCHEMA:
        return StoreUnavailable(f"The database lacks the schema of this version: {MIGRATE_HINT}.")
    return StoreUnavailable("The database cannot be used now; trying again may work.")
