"""The words, icons and classes of states: the one place that says how a state looks, for runs and for steps.

Shape, word and colour each tell it alone (no page tells a state by colour only). The icons are symbols of the sprite, the classes rules
of the style sheet: the tests hold both to what exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ...model.states import EffectClass, Origin, RunState, StepState


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is shown: ``<span class="st {css}"><svg><use href="#{icon}"/></svg>{word}</span>``."""

    word: str
    css: str
    icon: str


RUN_LOOKS: Final[Mapping[RunState, Look]] = {
    RunState.QUEUED: Look("Queued", "off", "none"),
    RunState.RUNNING: Look("Running", "run", "run"),
    RunState.RETRYING: Look("Retrying", "run", "loop"),
    RunState.WAITING: Look("Waiting", "wait", "wait"),
    RunState.PAUSED: Look("Paused", "wait", "wait"),
    RunState.UNKNOWN: Look("Outcome unknown", "wait", "warn"),
    RunState.COMPENSATING: Look("Compensating", "comp", "undo"),
    RunState.SUCCEEDED: Look("Succeeded", "ok", "ok"),
    RunState.FAILED: Look("Failed", "bad", "bad"),
    RunState.COMPENSATED: Look("Compensated", "comp", "undo"),
    RunState.COMPENSATION_FAILED: Look("Compensation failed", "bad", "bad"),
    RunState.LOST: Look("Lost", "bad", "warn"),
    RunState.CANCELLED: Look("Cancelled", "off", "cancel"),
}

STEP_LOOKS: Final[Mapping[StepState, Look]] = {
    StepState.RUNNING: Look("Running", "run", "run"),
    StepState.SUCCEEDED: Look("Succeeded", "ok", "ok"),
    StepState.FAILED: Look("Failed", "bad", "bad"),
    StepState.CANCELLED: Look("Cancelled", "off", "cancel"),
    StepState.UNKNOWN: Look("Outcome unknown", "wait", "warn"),
    StepState.SKIPPED: Look("Kept", "off", "seed"),
    StepState.COMPENSATED: Look("Compensated", "comp", "undo"),
    StepState.COMPENSATION_FAILED: Look("Compensation failed", "bad", "bad"),
}

NOT_REACHED: Final = Look("Not reached", "off", "none")
_SKIPPED: Final = Look("Skipped", "off", "seed")  # by an observed workflow's own decision: nothing was kept

ORIGIN_TEXTS: Final[Mapping[Origin, str]] = {
    Origin.EXECUTED: "",
    Origin.SEEDED: "kept from another run",
    Origin.SETTLED: "settled by a person",
    Origin.SKIPPED: "skipped by the workflow",
}

# Only what an operator must think of before executing it again has a badge.
EFFECT_BADGES: Final[Mapping[EffectClass, str]] = {
    EffectClass.PURE: "",
    EffectClass.READ: "",
    EffectClass.IDEMPOTENT: "",
    EffectClass.COMPENSATABLE: "can be undone",
    EffectClass.UNSAFE: "unsafe",
}


def run_look(state: RunState) -> Look:
    """Return how a run's state is shown."""
    return RUN_LOOKS[state]


def step_look(state: StepState, origin: Origin = Origin.EXECUTED) -> Look:
    """Return how a step's state is shown."""
    return _SKIPPED if state is StepState.SKIPPED and origin is Origin.SKIPPED else STEP_LOOKS[state]
