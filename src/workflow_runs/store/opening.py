"""From a URL to a store."""

from __future__ import annotations

from collections.abc import Callable

from ..clock import Clock
from ..errors import ConfigurationError
from .base import Store
from .loading import load

# The scheme of a URL -> the module that knows the database. The drivers named are the ones that the package works with.
_MODULES = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql",
    "postgresql+psycopg": "postgresql",
}


def open_store(url: str, *, clock: Clock) -> Store:
    """Return the store of a database. Nothing is connected before the first question or write.

    Args:
        url: ``sqlite:///FILE`` (four slashes for an absolute path) or ``postgresql+psycopg://USER:PASSWORD@HOST/DATABASE``, with any
            options that libpq takes (``?host=/socket/dir&sslmode=require``).
        clock: By which leases are judged on SQLite.

    Raises:
        ConfigurationError: the URL names no supported database, or the extra for it is not installed.
    """
    scheme, separator, _ = url.partition("://")
    module = _MODULES.get(scheme)
    if not separator or module is None:
        # The URL is not repeated: it may hold a password.
        raise ConfigurationError(
            f"the database URL must begin with one of {', '.join(f'{known}://' for known in _MODULES)}"
            + (f", not with {scheme}://" if separator and scheme.replace("+", "").isalnum() else "")
        )
    try:
        open_database: Callable[[str, Clock], Store] = load(module).open_database
    except ImportError as error:
        raise ConfigurationError("PostgreSQL needs the driver psycopg: install workflow-runs[postgres]") from error
    return open_database(url, clock)
