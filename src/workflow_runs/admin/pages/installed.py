"""Which modules are installed libraries, by first name: what ``frames.fold`` is told. Reads the disk, once per process."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def installed_modules() -> frozenset[str]:
    """Return the first names of the modules that distributions of this environment contain; empty where that cannot be read."""
    try:
        return frozenset(metadata.packages_distributions())
    except Exception:  # noqa: BLE001  # the metadata is other people's files, and folding frames is a nicety
        return frozenset()
