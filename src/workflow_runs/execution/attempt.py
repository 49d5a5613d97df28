"""One attempt of a step while it lasts, and the two entries it makes: shared by engines and by observed runs."""

from __future__ import annotations

from typing import NamedTuple

from ..clock import Clock
from ..model.entries import Claim, StepEnded, StepStarted
from ..model.records import ErrorRecord, StepKey
from ..model.states import EffectClass, Origin, StepKind, StepState


class StepAttempt(NamedTuple):
    """One attempt of a step. ``began`` is monotonic seconds: durations are not measured with the wall clock."""

    step: StepKey
    number: int
    sequence: int
    kind: StepKind
    effect: EffectClass
    input_digest: str | None
    started_ms: int
    began: float

    def start(self, run_id: str, claim: Claim | None) -> StepStarted:
        """Return the entry of its begin."""
        return StepStarted(run_id, claim, *self[:7])

    def end(
        self,
        run_id: str,
        claim: Claim | None,
        clock: Clock,
        state: StepState,
        output: str | None,
        error: ErrorRecord | None,
        origin: Origin = Origin.EXECUTED,
    ) -> StepEnded:
        """Return the entry of its end, which is now; it is complete and needs no begin before it.

        The end is the begin plus the duration, so that a clock set back meanwhile does not end a step before its start (fault A13).
        """
        duration_ms = max(0, round((clock.monotonic() - self.began) * 1000))
        ended_ms = self.started_ms + duration_ms
        return StepEnded(run_id, claim, *self[:7], state, origin, output, error, ended_ms, duration_ms)
