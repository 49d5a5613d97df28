"""One run: what failed and why, whether it is safe to go on, its steps, its data, its relatives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias

from ...errors import NotFound
from ...model.jsontext import dump
from ...model.records import Audit, ErrorRecord, Page, Run, RunFilter, Step
from ...model.states import RunState, RunStatus, StepKind, is_finished
from ...operations.answers import WorkflowInfo
from ...operations.judging import Judged, with_guard as with_answer, with_plan
from ...operations.plan import GuardAnswer, PlanKind
from ...wire import detail_json
from ..answer import Answer
from ..unnamed import NOT_YOURS, unnamed_plan
from . import frames, jsonview, waterfall
from .call import PageCall
from .installed import installed_modules
from .runs import kind_of, read_query, row_of
from .statuses import Look, run_look

LINEAGE_MAX: Final = 50
NEIGHBOURS_MAX: Final = 200  # runs of the list that are looked through for the one before
SIGNAL_MAX: Final = 100  # later successes are counted up to here
_USUAL: Final = timedelta(days=7)
_CAUSES_MAX: Final = 8
_AS_FILE: Final = (("content-disposition", "attachment"),)

Told: TypeAlias = tuple[str, str, frames.Stack]  # type, message, stack of one error


@dataclass(frozen=True, slots=True)
class Relative:
    """A run of the lineage, as the tree shows it."""

    run: Run
    look: Look
    name: str
    depth: int
    is_this: bool


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The runs beside this one in the list that it was opened from."""

    newer: str | None
    older: str | None
    place: int | None  # from 1; None: further down than is counted
    total: tuple[int, bool]


@dataclass(frozen=True, slots=True)
class Signals:
    """What other runs say about this one."""

    usual_ms: int | None  # median of the workflow's successes over a week
    alike: tuple[int, bool] | None  # failures of the same fingerprint, this one included
    later_successes: int | None  # runs of the workflow that started after this one and succeeded, up to SIGNAL_MAX


@dataclass(frozen=True, slots=True)
class StepDetail:
    """What opens below a step's row."""

    step: Step
    stacks: tuple[Told, ...]  # the error, then its causes
    output: jsonview.JsonView | None  # None: not read, or not to be seen
    has_output: bool


@dataclass(frozen=True, slots=True)
class RunPage:
    """All that a run's page was told."""

    run: Run
    steps: tuple[Step, ...]
    judged: Judged | None  # of the resume, for runs that failed
    info: WorkflowInfo | None
    lineage: tuple[Relative, ...] | None
    audit: tuple[Audit, ...] | None
    signals: Signals | None
    neighbours: Neighbours | None
    opened: StepDetail | None
    usual: tuple[str, ...]  # the steps of the last success, for runs that stopped early


async def show_run(call: PageCall) -> Answer:
    """``GET runs/{id}``, and ``runs/{id}.json`` with the whole record."""
    run_id = call.values[0]
    if run_id.endswith(".json"):
        return await call.in_thread(partial(_export, call, run_id.removesuffix(".json")))
    position = call.desk.changes.position()
    page = await call.in_thread(partial(_ask, call, run_id))
    if page.judged is not None:
        page = replace(page, judged=await guarded(call, page.judged))
    return await call.in_thread(partial(_render, call, page, position))


def _ask(call: PageCall, run_id: str) -> RunPage:
    desk = call.desk
    head = call.seen(desk.run_head(run_id))
    judged = None
    if head.status is RunStatus.FAILED:
        judged = desk.judge(run_id, "resume", actor=call.principal.id, guard=False)
        run, steps = judged.run, judged.steps
    else:
        detail = desk.get_run(run_id, payloads=call.shown, outputs=False)
        run, steps = detail.run, detail.steps
    chosen = _chosen_step(call, steps, judged)
    return RunPage(
        run=run,
        steps=steps,
        judged=judged,
        info=desk.workflow(run.workflow_name),
        lineage=call.soft(partial(_lineage, call, run)),
        audit=call.soft(partial(_audit, call, run_id)),
        signals=call.soft(partial(_signals, call, run)),
        neighbours=call.soft(partial(_neighbours, call, run)),
        opened=None if chosen is None else _detail(call, chosen),
        usual=() if run.state is RunState.SUCCEEDED else call.soft(partial(desk.usual_steps, run)) or (),
    )


def _render(call: PageCall, page: RunPage, position: str) -> Answer:
    run, steps = page.run, page.steps
    shown_steps = [step for step in steps if step.kind is StepKind.STEP]
    plan = page.judged.plan if page.judged else None
    chart = waterfall.chart(
        run,
        steps,
        call.now,
        squeeze=call.query.get("scale") == "squeezed",
        target=plan.target if plan else None,
        around=call.number("step"),
        first=call.number("first"),
        planned=page.usual,
    )
    end = run.completed_at or call.now
    row = row_of(call, run, None)
    return call.page(
        "run.html",
        area="Runs",
        page=page,
        run=run,
        row=row,
        look=run_look(run.state),
        kind=kind_of(run),
        live=not is_finished(run.state),
        chart=chart,
        opened=page.opened,
        tab=call.query.get("tab", ""),
        q=call.query.get("q"),
        took_ms=run.duration_ms if run.duration_ms is not None else (end - run.started_at) / timedelta(milliseconds=1),
        done=sum(step.state.value in {"succeeded", "skipped"} for step in shown_steps),
        step_count=max(len(shown_steps), len(page.usual)),
        failed_step=_failed_step(page),
        unknown=[step for step in shown_steps if step.state.value == "unknown"],
        input=jsonview.view(run.input) if call.shown else None,
        result=jsonview.view(run.result) if call.shown else None,
        stacks=_chain(run.error) if call.shown else (),
        filter=call.query.get("filter", ""),
        events=call.links.events([("run", run.id), ("last", position)]),
    )


async def guarded(call: PageCall, judged: Judged) -> Judged:
    """Return what was judged with the guard's answer.

    A guard that does not answer in time, or hangs too often already to be asked, is said to be silent, and the page is shown.
    """
    if judged.plan.guard is GuardAnswer.NOT_ASKED:
        ask = partial(call.desk.ask_guard_of, judged, call.principal.id)
        asked = await call.pages.door.ask_guard(ask, call.settings.guard_timeout_s)
        judged = asked or with_answer(judged, GuardAnswer.SILENT)
    return judged if call.principal.workflows is None else await call.in_thread(partial(_unnamed, call, judged))


def _unnamed(call: PageCall, judged: Judged) -> Judged:
    """Return the same without ids of runs that do not exist for the principal. That there is something in the way stays said."""
    judged = with_plan(judged, unnamed_plan(judged.plan, call.desk, call.principal))
    hidden = [other.run.id for other in judged.relatives or () if not call.principal.sees(other.run.workflow_name)]
    if not hidden:
        return judged
    named = re.compile("|".join(map(re.escape, hidden)))
    findings = (replace(finding, text=named.sub(NOT_YOURS, finding.text)) for finding in judged.verdict.findings)
    return replace(judged, verdict=replace(judged.verdict, findings=tuple(findings)))


async def judged_for(call: PageCall, run_id: str, kind: PlanKind, from_step: str | None) -> Judged:
    """Return plan and verdict for whoever asks, the guard included.

    Raises:
        NotFound: there is no such run, or none that the principal may see.
        InvalidQuery: ``from_step`` names no recorded step.
    """
    judge = partial(call.desk.judge, run_id, kind, from_step, call.principal.id, guard=False)

    def ask() -> Judged:
        call.seen(call.desk.run_head(run_id))
        return judge()

    return await guarded(call, await call.in_thread(ask))


# --- parts of the page -----------------------------------------------------------------------------------------------


def _failed_step(page: RunPage) -> Step | None:
    plan = page.judged.plan if page.judged else None
    if plan is not None and plan.target is not None:
        return next((step for step in page.steps if step.step == plan.target), None)
    named = page.run.error.step_name if page.run.error else None
    return next((step for step in reversed(page.steps) if named in {step.step.name, step.step.label()}), None)


def _chosen_step(call: PageCall, steps: Sequence[Step], judged: Judged | None) -> Step | None:
    wanted = call.number("step")
    if wanted is not None:
        return next((step for step in steps if step.sequence == wanted and step.kind is StepKind.STEP), None)
    target = judged.plan.target if judged else None
    return next((step for step in steps if step.step == target), None) if target else None


def _detail(call: PageCall, step: Step) -> StepDetail:
    """Return what is shown of a step; its output is read now if it was not."""
    if not call.shown:
        return StepDetail(step, (), None, has_output=False)
    whole = call.desk.step_of(step.run_id, step.sequence) or step
    output = whole.last.output
    return StepDetail(whole, _chain(whole.last.error), jsonview.view(output), has_output=output is not None)


def _chain(error: ErrorRecord | None) -> tuple[Told, ...]:
    """An error and its causes, as the page tells them."""
    told: list[Told] = []
    while error is not None and len(told) < _CAUSES_MAX:
        stack = frames.fold(error.stack, libraries=installed_modules())
        told.append((error.type_name or "", error.message, stack))
        error = error.cause
    return tuple(told)


def _audit(call: PageCall, run_id: str) -> tuple[Audit, ...]:
    return tuple(entry for entry in call.desk.audit(run_id) if call.principal.sees(entry.workflow_name))


def _lineage(call: PageCall, run: Run) -> tuple[Relative, ...]:
    where = RunFilter(root_run_id=run.root_run_id)
    found = call.desk.list_runs(where, Page(limit=LINEAGE_MAX), payloads=False, total=False).runs
    depths: dict[str, int] = {}
    relatives = []
    for other in sorted(found, key=lambda other: other.id):
        if not call.principal.sees(other.workflow_name):  # a handler may record a rerun under another name
            continue
        parent = other.parent_run_id
        depths[other.id] = min(6, depths.get(parent, 0) + 1) if parent is not None else 0
        kind = kind_of(other)
        step = f" from {other.resume_from.label()}" if other.resume_from is not None else ""
        name = {"resume": f"Resume{step}", "rerun": "Rerun"}.get(kind, "First run")
        relatives.append(Relative(other, run_look(other.state), name, depths[other.id], other.id == run.id))
    return tuple(relatives)


def _signals(call: PageCall, run: Run) -> Signals:
    desk, name = call.desk, run.workflow_name
    usual = desk.totals(call.now - _USUAL, call.now, (name,)).p50_ms
    if run.status is not RunStatus.FAILED:
        return Signals(usual, None, None)
    later = RunFilter(workflow_names=(name,), states=(RunState.SUCCEEDED,), newer_than=run.id)
    alike = None
    if run.fingerprint is not None:
        same = call.narrowed(RunFilter(fingerprint=run.fingerprint))
        alike = None if same is None else desk.count_runs(same)
    return Signals(usual, alike, desk.count_runs(later, SIGNAL_MAX)[0])


def _neighbours(call: PageCall, run: Run) -> Neighbours | None:
    """Return the runs beside this one in the list whose query the address carries."""
    q = call.query.get("q")
    if q is None:
        return None
    search = read_query(call, q)
    where = call.narrowed(search.where)
    if where is None or search.problem is not None:
        return None
    desk = call.desk
    older = desk.list_runs(where, Page(limit=1, after=run.id), payloads=False, total=False).runs
    newer = desk.list_runs(
        replace(where, newer_than=run.id), Page(limit=NEIGHBOURS_MAX + 1), payloads=False, total=False
    ).runs
    near = len(newer) <= NEIGHBOURS_MAX
    return Neighbours(
        newer=newer[-1].id if newer and near else None,
        older=older[0].id if older else None,
        place=len(newer) + 1 if near else None,
        total=desk.count_runs(where),
    )


# --- one step, one payload, everything -------------------------------------------------------------------------------


async def show_step(call: PageCall) -> Answer:
    """``GET runs/{id}/steps/{sequence}``: what opens below a step's row; without our script, the run's page with that step open."""
    run_id, sequence = call.values
    if not call.part:
        return call.redirect(call.links.run(run_id, step=sequence))
    run, detail = await call.in_thread(partial(_step, call, run_id, sequence))
    return call.page("step.html", run=run, detail=detail, tab=call.query.get("tab", ""))


def _step(call: PageCall, run_id: str, sequence: str) -> tuple[Run, StepDetail]:
    run = call.seen(call.desk.run_head(run_id))
    number = int(sequence) if sequence.isascii() and sequence.isdigit() and len(sequence) < 10 else -1
    step = call.desk.step_of(run_id, number)
    if step is None:
        raise NotFound("The run has no such step.")
    return run, _detail(call, step)


async def send_payload(call: PageCall) -> Answer:
    """``GET runs/{id}/payload/{part}``: a payload as it was recorded, as a file. ``part``: input, result, output (with ``step``)."""
    run_id, part = call.values
    text = await call.in_thread(partial(_payload, call, run_id, part))
    if text is None:
        raise NotFound("Nothing is recorded there.")
    shown_id = "".join(character for character in run_id if character.isascii() and character.isalnum())[:40]
    name = f'attachment; filename="{shown_id}-{part}.json"'
    return Answer(200, text.encode("utf-8", "replace"), [("content-disposition", name)])


def _payload(call: PageCall, run_id: str, part: str) -> str | None:
    run = call.seen(call.desk.run_head(run_id))
    if part == "output":
        number = call.number("step")
        step = None if number is None else call.desk.step_of(run_id, number)
        return None if step is None else step.last.output
    if part not in {"input", "result"}:
        raise NotFound("A run has an input, a result, and outputs of steps.")
    whole = call.desk.run_head(run.id, payloads=True)
    return whole.input if part == "input" else whole.result


def _export(call: PageCall, run_id: str) -> Answer:
    detail = call.desk.get_run(run_id, payloads=call.shown)
    call.seen(detail.run)
    body = dump(detail_json(detail.run, detail.steps, shown=call.shown, stack=call.shown))
    return Answer(200, body.encode("utf-8", "replace"), _AS_FILE)
