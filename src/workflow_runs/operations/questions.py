"""What the desk is asked: runs, workflows, figures, and how recording does. Answers change nothing, and none is kept.

Apart from ``desk``, which acts, so that what may be called freely is seen in one place. Every question may raise ``StoreUnavailable``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ..clock import Clock
from ..engines.base import Engine
from ..errors import NotFound, StoreUnavailable
from ..journal import Journal
from ..model.figures import Histogram, Totals, WorkflowFigures
from ..model.marks import RunMark
from ..model.records import Audit, Page, Run, RunFilter, RunList, Step
from ..model.states import Idempotency, RunState, StepKind
from ..store.base import StoreReader
from .answers import RecorderHealth, RunDetail, WorkflowInfo
from .changes import Changes
from .registry import Runner, WorkflowRunnerRegistry

USUAL_STEPS_MAX: Final = 100


class DeskQuestions:
    """The asking half of ``Desk``; its arguments are explained there."""

    def __init__(
        self,
        store: StoreReader,
        journal: Journal,
        registry: WorkflowRunnerRegistry | None,
        engine: Engine | None,
        clock: Clock | None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._registry = registry
        self._engine = engine
        self._clock = clock or Clock()
        self.changes = Changes(store, self._clock)
        journal.add_observer(self.changes.observe)

    @property
    def clock(self) -> Clock:
        """The clock by which this desk tells time."""
        return self._clock

    # --- runs -------------------------------------------------------------------------------------------------------

    def list_runs(self, where: RunFilter, page: Page, *, payloads: bool = True, total: bool = True) -> RunList:
        """Return one page of runs, newest first; without ``total`` it is not counted, and -1."""
        return self._store.list_runs(where, page, payloads=payloads, total=total)

    def get_run(self, run_id: str, *, payloads: bool = True, outputs: bool | None = None) -> RunDetail:
        """Return a run with its steps, in recorded order; the ``outputs`` of the steps as ``payloads``, unless said.

        Raises:
            NotFound: there is no such run, whatever the id looks like.
        """
        run = self._found(run_id, payloads=payloads)
        return RunDetail(run, self._store.get_steps(run_id, outputs=payloads if outputs is None else outputs))

    def run_head(self, run_id: str, *, payloads: bool = False) -> Run:
        """Return a run without its steps.

        Raises:
            NotFound: there is no such run.
        """
        return self._found(run_id, payloads=payloads)

    def runs_by_id(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Return those of a few runs that exist, in the order asked for, without payloads."""
        found = (self._store.get_run(run_id, payloads=False) for run_id in dict.fromkeys(run_ids))
        return tuple(run for run in found if run is not None)

    def step_of(self, run_id: str, sequence: int) -> Step | None:
        """Return one step of a run, with the outputs of its attempts, by its place in the record; None: there is none."""
        found = self._store.get_steps(run_id, sequence=sequence)
        return next((step for step in found if step.kind is StepKind.STEP), None)

    def usual_steps(self, run: Run) -> tuple[str, ...]:
        """Return the labels of the steps that the newest success of the same workflow took, in order, if it ran the same code.

        What a run that failed has not reached is on no record of its own; this is how the code went last time. Empty where nothing can be
        said: no success within a week before or after, other code, or more steps than are worth naming.
        """
        if run.code_version is None:
            return ()
        near = timedelta(days=7)
        where = RunFilter(
            workflow_names=(run.workflow_name,),
            states=(RunState.SUCCEEDED,),
            started_since=run.started_at - near,
            started_until=run.started_at + near,
        )
        found = self._store.list_runs(where, Page(limit=1), payloads=False, total=False).runs
        if not found or found[0].code_version != run.code_version or found[0].definition != run.definition:
            return ()
        steps = [step for step in self._store.get_steps(found[0].id, outputs=False) if step.kind is StepKind.STEP]
        return tuple(step.step.label() for step in steps) if len(steps) <= USUAL_STEPS_MAX else ()

    def audit(self, run_id: str) -> tuple[Audit, ...]:
        """Return who did what to a run, or by what action it was made, oldest first."""
        return self._store.get_audit(run_id)

    def count_runs(self, where: RunFilter, cap: int = 10_000) -> tuple[int, bool]:
        """Return how many runs match, and whether there are more: nothing is counted above ``cap``."""
        return self._store.count_runs(where, cap)

    def count_each(self, wheres: Sequence[RunFilter], cap: int = 10_000) -> tuple[tuple[int, bool], ...]:
        """Return the same for several filters, in one question."""
        return self._store.count_each(wheres, cap)

    def run_marks(self, run_ids: Collection[str]) -> dict[str, RunMark]:
        """Return how far the runs are, at most a few hundred at once; those that do not exist are missing."""
        return self._store.run_marks(run_ids)

    def _found(self, run_id: str, *, payloads: bool = True) -> Run:
        run = self._store.get_run(run_id, payloads=payloads)
        if run is None:
            raise NotFound("There is no such run.")
        return run

    # --- workflows --------------------------------------------------------------------------------------------------

    def workflows(self) -> tuple[WorkflowInfo, ...]:
        """Return the registered workflows by name; none in a process without a registry."""
        runners = () if self._registry is None else self._registry.list()
        return tuple(self._info(runner) for runner in sorted(runners, key=lambda runner: runner.name))

    def workflow(self, name: str) -> WorkflowInfo | None:
        """Return what this process registered under a workflow name, or None."""
        runner = None if self._registry is None else self._registry.get(name)
        return None if runner is None else self._info(runner)

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """Return the JSON Schema of the input that a registered workflow declares; None where it declares none, or takes none."""
        runner = None if self._registry is None else self._registry.get(name)
        workflow = None if runner is None else runner.workflow
        return None if workflow is None or not workflow.takes_input else workflow.input_codec.schema()

    def recorded_workflows(self, limit: int = 500) -> tuple[str, ...]:
        """Return the names under which there are runs, whoever registered them: the first ``limit`` by name."""
        return self._store.recorded_workflows(limit)

    def _info(self, runner: Runner) -> WorkflowInfo:
        workflow = runner.workflow
        return WorkflowInfo(
            name=runner.name,
            description=runner.description,
            idempotency=runner.policy,
            tags=() if workflow is None else tuple(workflow.tags),
            version=None if workflow is None else workflow.code_version,
            can_trigger=runner.trigger is not None,
            can_rerun=runner.rerun is not None and runner.policy is not Idempotency.RESUME_ONLY,
            can_resume=runner.resume is not None,
            can_cancel=self._engine is not None,
            has_rerun_guard=runner.can_rerun is not None,
            has_resume_guard=runner.can_resume is not None,
        )

    # --- figures ----------------------------------------------------------------------------------------------------

    def histogram(self, where: RunFilter, since: datetime, until: datetime, bars: int) -> Histogram:
        """Return the matching runs that started from ``since`` to before ``until``, in ``bars`` slices as wide as each other."""
        return self._store.histogram(where, since, until, bars)

    def totals(self, since: datetime, until: datetime, workflow_names: tuple[str, ...] = ()) -> Totals:
        """Return what became of the runs of some time: of the named workflows, or of all."""
        return self._store.totals(since, until, workflow_names)

    def workflow_figures(
        self, since: datetime, until: datetime, spark_bars: int = 0, workflow_names: tuple[str, ...] = ()
    ) -> tuple[WorkflowFigures, ...]:
        """Return the same of each workflow that had runs, by name, with its course in ``spark_bars`` slices."""
        return self._store.workflow_figures(since, until, spark_bars, workflow_names)

    def health(self) -> RecorderHealth:
        """Return how recording does in this process, and how long the database takes to answer. Raises nothing."""
        stats = self._journal.stats()
        began = self._clock.monotonic()
        database_ms: float | None
        try:
            self._store.get_run("", payloads=False)
            database_ms = (self._clock.monotonic() - began) * 1000
        except StoreUnavailable:
            database_ms = None
        return RecorderHealth(
            queued=stats.queued + stats.spooled,
            oldest_s=stats.oldest_s,
            failures=stats.failures,
            last_error=stats.last_error,
            dropped=stats.dropped,
            database_ms=database_ms,
        )
