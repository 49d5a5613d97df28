"""What an action would do, before it does it: plans with the guard's answer, and the verdict on them. Changes nothing.

Everything is read here, once; what follows from it is decided in ``plan`` and ``verdict``, which read nothing. The guard is code of
others and may take its time: a page judges without it, asks it in a thread of its own, and says ``GuardAnswer.SILENT`` when it stops
waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..clock import Clock
from ..engines.base import Engine
from ..errors import GuardFailed, InvalidBody, InvalidQuery, Refusal
from ..journal import Journal
from ..model.records import Page, Run, RunFilter, Step
from ..model.states import RunStatus
from ..settings import Limits
from ..store.base import StoreReader
from .host import ask_guard
from .plan import GuardAnswer, Plan, PlanKind, Refused, make_plan
from .policy import Standing
from .questions import DeskQuestions
from .registry import Runner, WorkflowRunnerRegistry
from .verdict import Relative, Verdict, judge

RELATIVES_MAX: Final = (
    20  # whose steps are read for a verdict: resumes of one failure are few, and each may have thousands of steps
)

_LIVE_OR_DONE: Final = (RunStatus.RUNNING, RunStatus.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Judged:
    """A run, what a rerun or resume of it would do, and the verdict on that. All of it was read at about the same time."""

    run: Run
    steps: tuple[Step, ...]  # with outputs where the run failed and the plan is a resume's
    plan: Plan
    verdict: Verdict
    relatives: tuple[Relative, ...] | None  # without outputs; None: there are more than ``RELATIVES_MAX``
    from_step_chosen: bool


class DeskJudging(DeskQuestions):
    """The judging third of ``Desk``; its arguments are explained there."""

    def __init__(
        self,
        store: StoreReader,
        journal: Journal,
        registry: WorkflowRunnerRegistry | None,
        engine: Engine | None,
        clock: Clock | None,
        limits: Limits | None,
    ) -> None:
        super().__init__(store, journal, registry, engine, clock)
        self.limits = limits or Limits()  # front doors apply them to what they read

    def plan(
        self,
        run_id: str,
        kind: PlanKind,
        from_step: str | None = None,
        actor: str | None = None,
        *,
        guard: bool = True,
        accept_gap: bool = False,
    ) -> Plan:
        """Return what a rerun or resume would do now, and why it would be refused. Changes nothing.

        Args:
            run_id: The run that would be acted on.
            kind: ``rerun`` or ``resume``.
            from_step: The step to resume from, by its label; default: the one whose error ended the run.
            actor: Who asks; guards are told.
            guard: Whether the host's guard is asked too.
            accept_gap: A resume of a run whose record has a gap is planned all the same.

        Raises:
            NotFound: there is no such run.
            InvalidQuery: ``from_step`` names no recorded step of it, or several, or ``kind`` is rerun.
        """
        run, _, plan = self._planned(run_id, kind, from_step, accept_gap=accept_gap)
        return self._guarded(run, plan, actor) if guard else plan

    def judge(
        self, run_id: str, kind: PlanKind, from_step: str | None = None, actor: str | None = None, *, guard: bool = True
    ) -> Judged:
        """Return the plan together with the run and the verdict. Arguments and errors are those of ``plan``."""
        run, steps, plan = self._planned(run_id, kind, from_step)
        # Of a plan that is refused the verdict is no, whatever the others did.
        relatives = self._relatives(run) if plan.refused is None else ()
        judged = _judged(run, steps, plan, relatives, from_step_chosen=from_step is not None)
        return self.ask_guard_of(judged, actor) if guard else judged

    def ask_guard_of(self, judged: Judged, actor: str | None) -> Judged:
        """Return the same with the guard's answer, if there is a guard that has not answered, and nothing else refuses.

        Takes as long as the guard does, and raises nothing of what it raises.
        """
        if judged.plan.guard not in {GuardAnswer.NOT_ASKED, GuardAnswer.SILENT}:
            return judged
        return with_plan(judged, self._guarded(judged.run, judged.plan, actor))

    def _planned(
        self, run_id: str, kind: PlanKind, from_step: str | None, *, accept_gap: bool = False
    ) -> tuple[Run, tuple[Step, ...], Plan]:
        if from_step is not None and kind == "rerun":
            raise InvalidQuery("fromStep belongs to a resume; a rerun begins at the start", field="fromStep")
        run = self._found(run_id)
        steps = self._steps_for(kind, run)
        try:
            return run, steps, self._plan(kind, run, from_step, steps, accept_gap=accept_gap)
        except InvalidBody as error:
            raise InvalidQuery(str(error), field=error.field) from None

    def _guarded(self, run: Run, plan: Plan, actor: str | None) -> Plan:
        """Return the plan with what the guard answers; one that is refused already as it is."""
        if plan.refused is not None or plan.guard is GuardAnswer.NONE:
            return plan
        try:
            self._ask_guard(run, plan, actor)
        except Refusal as error:
            return replace(plan, refused=Refused(error), guard=GuardAnswer.REFUSED)
        except GuardFailed as error:
            return replace(plan, refused=Refused(error), guard=GuardAnswer.FAILED)
        return replace(plan, guard=GuardAnswer.ALLOWED)

    # --- what plans are made from, for the acting half too ----------------------------------------------------------

    def _plan(
        self,
        kind: PlanKind,
        run: Run,
        from_step: str | None,
        steps: Sequence[Step] | None = None,
        *,
        accept_gap: bool = False,
    ) -> Plan:
        failed = kind == "resume" and run.status is RunStatus.FAILED
        return make_plan(
            kind,
            run,
            self._steps_for(kind, run) if steps is None else steps,
            self._standing(kind, run),
            existing_resume_run_id=self._other_resume(run) if failed else None,
            undone=self._store.undone_of_chain(run.chain_run_id) if failed else None,
            from_step=from_step,
            accept_gap=accept_gap,
            guarded=self._is_guarded(kind, run),
        )

    def _steps_for(self, kind: PlanKind, run: Run) -> tuple[Step, ...]:
        # Only what a resume keeps is handed on.
        return self._store.get_steps(run.id, outputs=kind == "resume" and run.status is RunStatus.FAILED)

    def _is_guarded(self, kind: PlanKind, run: Run) -> bool:
        runner = None if self._registry is None else self._registry.get(run.workflow_name)
        return runner is not None and (runner.can_rerun if kind == "rerun" else runner.can_resume) is not None

    def _runner(self, run: Run) -> Runner:
        runner = None if self._registry is None else self._registry.get(run.workflow_name)
        assert runner is not None, "a plan without a runner is refused"  # runners are never taken out
        return runner

    def _standing(self, kind: PlanKind, run: Run) -> Standing:
        if self._registry is None:
            return Standing(configured=False)
        runner = self._registry.get(run.workflow_name)
        if runner is None:
            return Standing()
        handler = runner.rerun if kind == "rerun" else runner.resume
        workflow = runner.workflow
        # Under one name a runner may start several workflows; versions of two different ones say nothing about a change.
        known = workflow is not None and workflow.name == run.definition
        version = workflow.code_version if workflow is not None and known else None
        return Standing(idempotency=runner.policy, supported=handler is not None, code_version=version)

    def _other_resume(self, run: Run) -> str | None:
        """Return a live or succeeded run of the run's resume chain other than itself.

        The whole chain, not only the run's own children: once a resume of a resume has charged the card, resuming the first failure again
        would charge it a second time.
        """
        if run.resumed_by_run_id is not None:
            child = self._store.get_run(run.resumed_by_run_id, payloads=False)
            # A resume that is recorded elsewhere cannot be seen to have failed: it counts as going on.
            if child is None or child.status in _LIVE_OR_DONE:
                return run.resumed_by_run_id
        after: str | None = None
        while True:
            where = RunFilter(root_run_id=run.root_run_id, statuses=_LIVE_OR_DONE)
            page = self._store.list_runs(
                where, Page(limit=self.limits.page_max, after=after), payloads=False, total=False
            )
            for other in page.runs:
                if other.chain_run_id == run.chain_run_id and other.id != run.id:
                    return other.id
            after = page.next_after
            if after is None:
                return None

    def _relatives(self, run: Run) -> tuple[Relative, ...] | None:
        """Return the other runs of the lineage with their steps, or None where there are too many to look at."""
        family = self._store.list_runs(
            RunFilter(root_run_id=run.root_run_id), Page(limit=RELATIVES_MAX + 2), payloads=False, total=False
        )
        others = [other for other in family.runs if other.id != run.id]
        if len(others) > RELATIVES_MAX:
            return None
        return tuple(Relative(other, self._store.get_steps(other.id, outputs=False)) for other in others)

    def _ask_guard(self, run: Run, plan: Plan, actor: str | None) -> None:
        ask_guard(self._runner(run), run, plan, actor, self._engine)


def with_guard(judged: Judged, answer: GuardAnswer) -> Judged:
    """Return the same under another answer of the guard: ``SILENT`` when whoever asked it does not wait any longer."""
    return with_plan(judged, replace(judged.plan, guard=answer))


def with_plan(judged: Judged, plan: Plan) -> Judged:
    """Return the same with another plan, and the verdict on that one."""
    if plan == judged.plan:
        return judged
    return _judged(judged.run, judged.steps, plan, judged.relatives, from_step_chosen=judged.from_step_chosen)


def _judged(
    run: Run,
    steps: tuple[Step, ...],
    plan: Plan,
    relatives: tuple[Relative, ...] | None,
    *,
    from_step_chosen: bool,
) -> Judged:
    verdict = judge(plan.kind, run, steps, plan, from_step_chosen=from_step_chosen, relatives=relatives)
    return Judged(run, steps, plan, verdict, relatives, from_step_chosen)
