"""What a course asks of its driver, and why it may stop: the words that ``course``, ``drive`` and ``drive_async`` share."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from ..journal import Receipt


class Invoke(NamedTuple):
    """Wanted: call a function (or coroutine function) for at most so long, and give what it returns or raises."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    timeout_s: float | None
    label: str


class Pause(NamedTuple):
    """Wanted: let time pass. Unless ``firm``, less of it when the run is to stop or its function has ended."""

    seconds: float
    firm: bool = False


Want = Receipt | Invoke | Pause


class Stop(Enum):
    """Why a run stops before its end."""

    HANDED_BACK = "handed back"  # this process stops politely: any other may go on
    CANCELLED = "cancelled"  # by an operator
    OUTCOME_UNKNOWN = "outcome unknown"  # waits for a person
    REPLAYED = "replayed"  # is undoing, and everything on record has been gone through
    CLAIM_LOST = "claim lost"  # another process owns it: not a word more is written
