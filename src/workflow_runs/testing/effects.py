"""What steps did to the world, kept where a crash of the process cannot take it: a file to which whole lines are appended."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..authoring import current_step
from ..model.records import StepKey


class Effect(NamedTuple):
    """One deed. ``what`` says of which kind: "did" where nothing else is said."""

    run_id: str
    step: str  # its label: ``charge``, ``charge#2``, ``charge[order-7]``
    attempt: int
    pid: int
    effect_key: str
    what: str = "did"


class EffectLedger:
    """Counts effects over the lives of several processes. Safe from any thread and process; survives ``kill -9``, not a power cut.

    Args:
        path: The file; it is made with the first effect.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def record(self, step: str | None = None, what: str = "did") -> None:
        """Note that the step which executes here does its deed now. To be called from a step function, in place of the deed or beside it.

        Args:
            step: The label to note. Default: the step's own (the call's occurrence, which a step does not know, aside).
            what: The kind of deed.

        Raises:
            WorkflowError: no step is executing here.
        """
        context = current_step()
        label = StepKey(context.name, context.key).label() if step is None else step
        self.append(Effect(context.run_id, label, context.attempt, os.getpid(), context.effect_key, what))

    def append(self, effect: Effect) -> None:
        """Note an effect; it is in the file when this returns."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, json.dumps(effect).encode() + b"\n")  # one write: lines of several processes do not mix
        finally:
            os.close(file)

    def all(self, run_id: str | None = None) -> list[Effect]:
        """Return the effects (of one run) in the order in which they happened."""
        if not self.path.exists():
            return []
        effects = [Effect(*json.loads(line)) for line in self.path.read_text().splitlines()]
        return [effect for effect in effects if run_id in {None, effect.run_id}]

    def times(self, run_id: str | None = None, what: str = "did") -> Counter[str]:
        """Return how often each step did it."""
        return Counter(effect.step for effect in self.all(run_id) if effect.what == what)

    def repeated(self, what: str = "did") -> dict[tuple[str, str], int]:
        """Return (step, effect key) of each effect that happened more than once, and how often.

        An effect key is one over attempts, recovery and resumes of a run; an outside system that is handed it does nothing the second time.
        """
        times = Counter((effect.step, effect.effect_key) for effect in self.all() if effect.what == what)
        return {which: count for which, count in times.items() if count > 1}
