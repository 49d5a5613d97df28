"""The one place where modules of the store are imported when they are needed instead of at the top.

SQLite users have no psycopg, and a process that only records needs neither SQLAlchemy nor Alembic: 0.6 s and 28 MiB that its start
and its memory are measured without.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import and return a module of this package: ``reading``, ``migrating``, ``sqlite`` or ``postgresql``."""
    return importlib.import_module(f".{name}", __package__)
