"""The table of pages, and how a path is read: as ``admin.routes`` does for the API.

Every place names the scope that it needs, for looking (GET) and, where it acts, for acting (POST). A place without one fails here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote_to_bytes

from ..access import CANCEL, READ, READ_PAYLOAD, RETRY, TRIGGER
from ..routes import Reading, readings


@dataclass(frozen=True, slots=True)
class Place:
    """A page. ``pattern`` is its path below the prefix; ``{...}`` stands for an id, a name or a number."""

    name: str
    pattern: str
    scope: str = READ
    acts: str | None = None  # the scope that a POST needs
    action: Literal["", "trigger", "rerun", "resume", "cancel"] = ""

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments."""
        return tuple(self.pattern.split("/"))

    @property
    def allow(self) -> str:
        """What ``Allow`` says."""
        return "GET, HEAD, OPTIONS, POST" if self.acts else "GET, HEAD, OPTIONS"


PLACES: Final = (
    Place("overview", ""),
    Place("runs", "runs"),
    Place("rows", "rows"),
    Place("jump", "jump"),
    Place("events", "events"),
    Place("compare_two", "compare", READ_PAYLOAD),
    Place("run", "runs/{id}"),
    Place("step", "runs/{id}/steps/{sequence}"),
    Place("payload", "runs/{id}/payload/{part}", READ_PAYLOAD),
    Place("compare", "runs/{id}/compare", READ_PAYLOAD),
    Place("resume", "runs/{id}/resume", acts=RETRY, action="resume"),
    Place("rerun", "runs/{id}/rerun", acts=RETRY, action="rerun"),
    Place("cancel", "runs/{id}/cancel", acts=CANCEL, action="cancel"),
    Place("workflows", "workflows"),
    Place("start", "workflows/{name}/run", acts=TRIGGER, action="trigger"),
    Place("workflow", "workflows/{name}"),
    Place("static", "static/{version}/{file}", scope=""),  # the only open one: files of the package, no data
)
assert all(place.scope or place.name == "static" for place in PLACES)


@dataclass(frozen=True, slots=True)
class Found:
    """A place that a path names: ``base`` is where the pages are, ``values`` what stands for the parameters."""

    place: Place
    base: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The pages' own address without its last slash, relative to which no link would be right."""

    base: str


def find(scope: Mapping[str, Any], prefix: str) -> Found | Elsewhere | None:
    """Return the place that a request's path names, or None."""
    for reading in readings(scope, prefix):
        if not reading.tail:
            return Elsewhere(reading.base)
        found = _match(reading)
        if found is not None:
            return found
    return None


def _match(reading: Reading) -> Found | None:
    segments = reading.tail.split("/")[1:]
    # A path that fits as it is comes first: /runs/ID/resume is no run whose id holds a slash.
    for may_join in (False,) if reading.is_encoded else (False, True):
        for place in PLACES:
            values = _values(place.segments, segments, reading, may_join=may_join)
            if values is not None:
                return Found(place, reading.base, values)
    return None


def _values(
    pattern: tuple[str, ...], segments: list[str], reading: Reading, *, may_join: bool
) -> tuple[str, ...] | None:
    """Return what the parameters of a pattern stand for, or None where it does not fit."""
    spare = len(segments) - len(pattern)
    if spare < 0 or (spare and not may_join):
        return None
    if spare:
        # A slash inside a name that was decoded on its way (by WSGI, by many proxies): the first parameter takes what is too much.
        place = next((index for index, wanted in enumerate(pattern) if wanted.startswith("{")), None)
        if place is None:
            return None
        segments = [*segments[:place], "/".join(segments[place : place + spare + 1]), *segments[place + spare + 1 :]]
    values = []
    for wanted, given in zip(pattern, segments, strict=True):
        if not wanted.startswith("{"):
            if wanted != given:
                return None
        elif not given:
            return None
        else:
            values.append(unquote_to_bytes(given).decode("utf-8", "replace") if reading.is_encoded else given)
    return tuple(values)
