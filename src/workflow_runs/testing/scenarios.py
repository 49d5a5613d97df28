"""Killing an engine at every event of its database in turn, and judging what recovery makes of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ..model.states import KEPT_STEP_STATES, REPEATABLE_EFFECTS
from .effects import Effect, EffectLedger
from .lives import Play, World
from .processes import Ended

_EVENTS_MOST: Final = 2_000
_SHOWN: Final = 20
_SHOWN_CHARACTERS: Final = 1_000
_REFERENCE: Final = "undisturbed"


@dataclass(slots=True)
class Toll:
    """What a series of kills came to."""

    kills: int = 0
    acknowledged: int = 0  # runs that a caller had been told of when the process died
    recorded: int = 0  # steps that were on record as done when it died
    repeated: list[str] = field(default_factory=list)  # steps that were cut off between deed and record, and done again
    repeated_at_once: int = (
        0  # the most of them after one kill: 1 where steps come one after the other, each on record before the next
    )
    violations: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise an AssertionError that lists what was violated, if anything was."""
        shown = [text[:_SHOWN_CHARACTERS] for text in self.violations[:_SHOWN]]
        assert not self.violations, "\n".join([f"{len(self.violations)} violations in {self.kills} kills:", *shown])

    def __str__(self) -> str:
        """The numbers."""
        return (
            f"{self.kills} kills, {self.acknowledged} runs acknowledged before, {self.recorded} steps on record before, "
            f"{len(self.repeated)} steps repeated, {len(self.violations)} violations"
        )


def kill_at_every_event(world: World, play: Play, *, first: int = 1, every: int = 1) -> Toll:
    """Play with a kill at each ``every``-th event, beginning with the ``first``, each time with new runs; recover, and judge.

    The series ends with the life that no kill reaches, so nothing has to be known of the number of events beforehand.
    """
    reference = world.live(play, _REFERENCE)
    toll = Toll()
    for event in itertools.islice(itertools.count(first, every), _EVENTS_MOST):
        key = f"event-{event}"
        ended = world.live(play, key, at_event=event)
        toll.kills += ended.killed
        told = list(ended.said)
        if not ended.killed:
            judge(toll, key, reference, ended, told, world.ledger)
            return toll
        judge(toll, f"killed at event {event}", reference, world.live(play, key, again=True), told, world.ledger)
    raise AssertionError(f"after {_EVENTS_MOST} kills the life still did not come to its end")


def judge(toll: Toll, where: str, reference: Ended, recovered: Ended, told: list[str], ledger: EffectLedger) -> None:
    """Add to the toll what one kill came to."""
    before, after = _by_id(recovered.value)
    effects = [effect for effect in ledger.all() if effect.run_id in after]
    toll.acknowledged += len(told)
    found = repeated(effects, after.values())
    toll.repeated += found
    toll.repeated_at_once = max(toll.repeated_at_once, len(found))
    record = _of_record(reference, before, after, told)
    toll.violations += [f"{where}: {text}" for text in (*record, *judge_effects(toll, recovered.value, effects))]


def _by_id(life: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {run["id"]: run for run in life["before"]}, {run["id"]: run for run in life["after"]}


def _of_record(reference: Ended, before: dict[str, Any], after: dict[str, Any], told: list[str]) -> Iterator[str]:
    for run_id in told:
        if run_id not in after:
            yield f"run {run_id} was acknowledged, and is lost"
    for run_id, run in before.items():
        if run["journal"]["state"] in {"succeeded", "failed", "cancelled", "compensated", "compensation_failed"}:
            now = dict(after[run_id])
            # A failure that is resumed later says so in its row.
            if now["journal"] != run["journal"]:
                yield f"run {run_id} had ended, and was changed: {run['journal']} became {now['journal']}"
    for run in after.values():
        if run["owner"] is not None:
            yield f"run {run['id']} still belongs to {run['owner']}"
    expected = [run["journal"] for run in reference.value["after"]]
    found = [run["journal"] for run in after.values()]
    if found != expected:
        yield f"the record differs: {_difference(expected, found)}"


def _difference(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    if len(expected) != len(found):
        return f"{len(found)} runs instead of {len(expected)}"
    for one, other in zip(expected, found, strict=True):
        for field_name in one:
            if one[field_name] != other[field_name]:
                return f"{field_name} is {other[field_name]!r}, undisturbed {one[field_name]!r}"
    return ""


def judge_effects(toll: Toll, recovered: dict[str, Any], effects: list[Effect]) -> Iterator[str]:
    """Yield what a recovery (the value of a life that played ``again``) has done and must not have."""
    before, after = _by_id(recovered)
    pid = recovered["pid"]
    did = {effect[:4] for effect in effects if effect.what == "did"}
    by_recovery = {(effect.run_id, effect.step) for effect in effects if effect.pid == pid and effect.what == "did"}
    undone = {(effect.run_id, effect.step) for effect in effects if effect.pid == pid and effect.what == "undid"}
    for run_id, run in before.items():
        for label, _, *attempts in run["steps"]:
            state = attempts[-1][1]
            for number, ended in attempts:
                if ended != "running" and (run_id, label, number, pid) in did:
                    yield f"attempt {number} of step {label!r} was on record as {ended}, and was executed again"
            toll.recorded += state in KEPT_STEP_STATES
            if state in KEPT_STEP_STATES | {"compensated"} and (run_id, label) in by_recovery:
                yield f"step {label!r} was on record as {state}, and was executed again"
            if state == "compensated" and (run_id, label) in undone:
                yield f"step {label!r} was on record as compensated, and was undone again"
    yield from _of_unsafe_steps(after, effects)


def _of_unsafe_steps(after: dict[str, Any], effects: list[Effect]) -> Iterator[str]:
    """What must not be repeated is done at most once, but for attempts that are on record as failed."""
    for run_id, run in after.items():
        for label, effect_class, *attempts in run["steps"]:
            if effect_class in REPEATABLE_EFFECTS:
                continue
            failed = {number for number, state in attempts if state == "failed"}
            did = [
                e for e in effects if (e.run_id, e.step, e.what) == (run_id, label, "did") and e.attempt not in failed
            ]
            if len(did) > 1:
                yield f"step {label!r} must not be repeated, and was executed {len(did)} times"


def repeated(effects: list[Effect], runs: Iterable[dict[str, Any]]) -> list[str]:
    """Return the labels of deeds that happened more often than the record has attempts for them that failed or succeeded."""
    times = Counter((effect.run_id, effect.step, effect.what) for effect in effects)
    found = []
    for run in runs:
        for label, _, *attempts in run["steps"]:
            states = [state for _, state in attempts]
            if times[run["id"], label, "did"] > states.count("failed") + (states[-1] != "failed"):
                found.append(label)
            if times[run["id"], label, "undid"] > 1:
                found.append(f"undoing {label}")
    return found
