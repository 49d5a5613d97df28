"""Two runs side by side: what differs in what went in, what came out, and what each step gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ...errors import InvalidQuery
from ...model.differences import Differences, differences
from ...model.records import Page, Run, RunFilter, Step
from ...model.states import RunState, StepKind
from ..answer import Answer
from .call import PageCall
from .statuses import run_look

_STEPS_COMPARED_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Compared:
    """One part of two runs. ``is_missing``: one of the two has no such part."""

    title: str
    found: Differences
    is_missing: str = ""


async def show_comparison(call: PageCall) -> Answer:
    """``GET runs/{id}/compare?with=``: a run id, ``parent``, or ``success`` for the workflow's last success."""
    wanted = call.query.get("with", "success").strip()
    return await call.in_thread(partial(_compare, call, call.values[0], wanted))


async def compare_two(call: PageCall) -> Answer:
    """``GET compare?run=A&run=B``: the selection of the list."""
    ids = [value for name, value in call.query_pairs if name == "run"]
    if len(ids) != 2:
        raise InvalidQuery("Two runs can be compared; select two.", field="run")
    return call.redirect(call.links.compare(ids[1], **{"with": ids[0]}))


def _compare(call: PageCall, run_id: str, wanted: str) -> Answer:
    one = call.desk.get_run(run_id)
    call.seen(one.run)
    other_id = _other(call, one.run, wanted)
    if other_id is None:
        return call.page("compare.html", area="Runs", run=one.run, other=None, wanted=wanted, parts=(), look=run_look)
    other = call.desk.get_run(other_id)
    call.seen(other.run)
    parts = [
        _part("Input", other.run.input, one.run.input),
        _part("Result", other.run.result, one.run.result),
        *_compared_steps(other.steps, one.steps),
    ]
    facts = _compared_facts(other.run, one.run)
    return call.page(
        "compare.html",
        area="Runs",
        run=one.run,
        other=other.run,
        wanted=wanted,
        parts=parts,
        facts=facts,
        look=run_look,
        same=not facts and all(not part.found.items and not part.is_missing for part in parts),
    )


def _other(call: PageCall, run: Run, wanted: str) -> str | None:
    if wanted == "parent":
        return run.parent_run_id
    if wanted != "success":
        return wanted
    where = RunFilter(workflow_names=(run.workflow_name,), states=(RunState.SUCCEEDED,))
    found = call.desk.list_runs(where, Page(limit=2), payloads=False, total=False).runs
    return next((other.id for other in found if other.id != run.id), None)


def _part(title: str, before: str | None, after: str | None) -> Compared:
    if (before is None) != (after is None):
        return Compared(
            title, differences(None, None), "only this run has one" if before is None else "only the other has one"
        )
    return Compared(title, differences(before, after))


def _compared_steps(before: Sequence[Step], after: Sequence[Step]) -> list[Compared]:
    ones = _by_key(before)
    others = _by_key(after)
    parts = []
    for key in dict.fromkeys((*ones, *others)):
        one, other = ones.get(key), others.get(key)
        title = f"Step {key}"
        if one is None or other is None:
            parts.append(
                Compared(
                    title, differences(None, None), "only this run has it" if one is None else "only the other has it"
                )
            )
        elif one.state is not other.state:
            words = f"{one.state.value.replace('_', ' ')} there, {other.state.value.replace('_', ' ')} here"
            parts.append(Compared(title, differences(None, None), words))
        else:
            part = _part(title, one.last.output, other.last.output)
            if part.found.items or part.is_missing:
                parts.append(part)
        if len(parts) >= _STEPS_COMPARED_MAX:
            break
    return parts


def _by_key(steps: Sequence[Step]) -> Mapping[str, Step]:
    return {step.step.label(): step for step in steps if step.kind is StepKind.STEP}


def _compared_facts(before: Run, after: Run) -> list[tuple[str, Any, Any]]:
    rows = [
        ("Workflow", before.workflow_name, after.workflow_name),
        ("Code", before.code_version, after.code_version),
        ("Trigger", before.trigger, after.trigger),
        ("Tags", ", ".join(before.tags), ", ".join(after.tags)),
        ("Key", before.correlation_id, after.correlation_id),
    ]
    return [row for row in rows if row[1] != row[2]]
