"""What is compared of a run to see whether it has changed, and shown of one that has not ended: how far it is."""

from __future__ import annotations

from dataclasses import dataclass

from .entries import Claim
from .records import StepKey
from .states import RunState


@dataclass(frozen=True, slots=True)
class RunMark:
    """A run at one moment. Two marks differ if a page about the run would, but for late steps of a run that has ended.

    What stands below ``has_gap`` is not read of a run that has ended.
    """

    workflow_name: str
    state: RunState | None  # None: the record holds a word that is no state
    is_live: bool
    updated_ms: int
    cancel_requested_ms: int | None
    resumed_by_run_id: str | None
    claim: Claim | None  # whose it is, or was when it ended
    has_gap: bool
    progress: int = 0  # grows with whatever is written of a step
    steps: int = 0  # that have begun
    running: int = 0  # attempts that have begun and not ended
    newest_step: StepKey | None = None  # the one that began last

    @property
    def step(self) -> str | None:
        """Label of the step that began last."""
        return None if self.newest_step is None else self.newest_step.label()

    @property
    def is_running(self) -> bool:
        """Whether a step is executing."""
        return self.running > 0
