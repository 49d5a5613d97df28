"""For tests of what is built on this package, and of the package itself. Nothing in the package imports it.

Each name is loaded when it is first asked for: the pytest plugin lies in here, and must cost nothing to who does not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clocks import FakeClock as FakeClock
    from .effects import Effect as Effect, EffectLedger as EffectLedger
    from .events import Events as Events
    from .lives import World as World, settled as settled
    from .points import Moment as Moment, Point as Point
    from .processes import ChildFailed as ChildFailed, in_child as in_child, kill_self as kill_self
    from .proofs import (
        CrashReport as CrashReport,
        ResumeReport as ResumeReport,
        prove_resumes_from_each_step as prove_resumes_from_each_step,
        prove_survives_crashes as prove_survives_crashes,
    )
    from .scenarios import Toll as Toll, kill_at_every_event as kill_at_every_event

# Public name -> the module that defines it.
_HOMES = {
    "ChildFailed": "processes",
    "CrashReport": "proofs",
    "Effect": "effects",
    "EffectLedger": "effects",
    "Events": "events",
    "FakeClock": "clocks",
    "Moment": "points",
    "Point": "points",
    "ResumeReport": "proofs",
    "Toll": "scenarios",
    "World": "lives",
    "in_child": "processes",
    "kill_at_every_event": "scenarios",
    "kill_self": "processes",
    "prove_resumes_from_each_step": "proofs",
    "prove_survives_crashes": "proofs",
    "settled": "lives",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  # the table above is the list


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value
