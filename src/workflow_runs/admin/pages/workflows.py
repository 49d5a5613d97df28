"""Workflows: what is registered and what is recorded, how each fares, and a form that starts a run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from ...errors import IdempotencyKeyReused, InvalidBody, InvalidRequest, NotFound, Refusal
from ...model.figures import Histogram, WorkflowFigures
from ...model.jsontext import parse_strict, to_json
from ...model.records import Page, Run, RunFilter, RunList, Step
from ...model.states import RunState, StepKind
from ...operations.answers import WorkflowInfo
from ...operations.search import term_text
from ..answer import Answer
from . import bars
from .call import PageCall
from .runs import drawn_bars, read_query, row_of, ticks_of
from .tokens import TokenBasis, TokenState, action_key

WEEK: Final = timedelta(days=7)
SPARK_BARS: Final = 14  # half days: with fifty workflows the page stays below its 40 kB
_RUNS_SHOWN: Final = 10
_STEPS_SHOWN: Final = 50
_WHOLE: Final = ""  # name of the field that is the whole input


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A workflow as the list shows it. ``info`` is None for one that is recorded and not registered here."""

    name: str
    info: WorkflowInfo | None
    now: WorkflowFigures | None
    before: WorkflowFigures | None
    spark: tuple[bars.Drawn, ...]

    @property
    def slower(self) -> float | None:
        """How many times longer the slowest twentieth takes than the week before; None: not known."""
        if self.now is None or self.before is None or not self.now.p95_ms or not self.before.p95_ms:
            return None
        return self.now.p95_ms / self.before.p95_ms


@dataclass(frozen=True, slots=True)
class InputField:
    """One field of the form that starts a run, from the schema of the workflow's input."""

    name: str
    label: str
    help: str
    kind: str  # text, number, checkbox, choice, json
    choices: tuple[str, ...]
    required: bool
    value: str
    problem: str = ""


async def show_workflows(call: PageCall) -> Answer:
    """``GET workflows``."""
    rows = await call.in_thread(partial(_rows, call))
    return call.page("workflows.html", area="Workflows", rows=rows, limits=_links_of(call, rows))


def _rows(call: PageCall) -> list[WorkflowRow]:
    desk = call.desk
    registered = {info.name: info for info in desk.workflows()}
    now = _by_name(desk.workflow_figures(call.now - WEEK, call.now, SPARK_BARS))
    before = _by_name(desk.workflow_figures(call.now - 2 * WEEK, call.now - WEEK))
    names = sorted({*registered, *desk.recorded_workflows()})
    return [
        _row(name, registered.get(name), now.get(name), before.get(name)) for name in names if call.principal.sees(name)
    ]


def _row(
    name: str, info: WorkflowInfo | None, now: WorkflowFigures | None, before: WorkflowFigures | None
) -> WorkflowRow:
    spark = () if now is None else bars.drawn(now.spark, 0, height=bars.SPARK_HEIGHT)
    return WorkflowRow(name, info, now, before, spark)


def _by_name(figures: Sequence[WorkflowFigures]) -> dict[str, WorkflowFigures]:
    return {figure.workflow_name: figure for figure in figures}


def _links_of(call: PageCall, rows: Sequence[WorkflowRow]) -> dict[str, str]:
    return {row.name: call.links.runs(q=term_text("workflow", row.name)) for row in rows}


# --- one workflow ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """All that the page of one workflow was told."""

    row: WorkflowRow
    slices: bars.Range
    histogram: Histogram | None
    recent: RunList
    model: Run | None  # the newest success, whose steps are shown
    steps: tuple[StepShare, ...]
    other_code: tuple[int, bool] | None  # live runs under another version of the code; None: not known


@dataclass(frozen=True, slots=True)
class StepShare:
    """A step of the newest success."""

    step: Step
    took_ms: int
    share: float  # percent of the time of all steps


async def show_workflow(call: PageCall) -> Answer:
    """``GET workflows/{name}``."""
    name = call.values[0]
    page = await call.in_thread(partial(_one, call, name))
    of_this = term_text("workflow", name)
    return call.page(
        "workflow.html",
        area="Workflows",
        page=page,
        row=page.row,
        name=name,
        bars=drawn_bars(call, page.histogram, of_this),
        ticks=ticks_of(call, page.slices),
        recent=[row_of(call, run, None) for run in page.recent.runs],
        all_runs=call.links.runs(q=of_this),
        failed_runs=call.links.runs(q=f"{of_this} status:failed"),
        other_code_runs=call.links.runs(q=f"{of_this} status:running {_other_code(page.row.info)}"),
        schema=call.desk.input_schema(name),
    )


def _one(call: PageCall, name: str) -> WorkflowPage:
    desk = call.desk
    info = desk.workflow(name) if call.principal.sees(name) else None
    recent = RunList((), 0, total_capped=False, next_after=None)
    if call.principal.sees(name):
        where = RunFilter(workflow_names=(name,))
        recent = desk.list_runs(where, Page(limit=_RUNS_SHOWN), payloads=False, total=False)
    if info is None and not recent.runs:
        raise NotFound("Nobody registered a workflow under this name here, and no run is recorded under it.")
    now = _by_name(desk.workflow_figures(call.now - WEEK, call.now, SPARK_BARS, (name,)))
    before = _by_name(desk.workflow_figures(call.now - 2 * WEEK, call.now - WEEK, 0, (name,)))
    slices = bars.range_of(call.now - WEEK, None, call.now)
    histogram = call.soft(
        lambda: desk.histogram(RunFilter(workflow_names=(name,)), slices.since, slices.until, slices.bars)
    )
    model, steps = call.soft(partial(_model, call, name)) or (None, ())
    other_code = None
    if info is not None and info.version is not None:
        live = read_query(call, f"{term_text('workflow', name)} status:running {_other_code(info)}").where
        other_code = call.soft(lambda: desk.count_runs(live))
    row = _row(name, info, now.get(name), before.get(name))
    return WorkflowPage(row, slices, histogram, recent, model, steps, other_code)


def _other_code(info: WorkflowInfo | None) -> str:
    return "" if info is None or info.version is None else term_text("code", info.version, negated=True)


def _model(call: PageCall, name: str) -> tuple[Run | None, tuple[StepShare, ...]]:
    """The newest success of a week and its steps: what the workflow does, as far as the record tells."""
    where = RunFilter(workflow_names=(name,), states=(RunState.SUCCEEDED,), started_since=call.now - WEEK)
    found = call.desk.list_runs(where, Page(limit=1), payloads=False, total=False).runs
    if not found:
        return None, ()
    steps = call.desk.get_run(found[0].id, payloads=False).steps
    taken = [(step, step.last.duration_ms or 0) for step in steps if step.kind is StepKind.STEP][:_STEPS_SHOWN]
    total = sum(took for _, took in taken) or 1
    return found[0], tuple(StepShare(step, took, round(100 * took / total, 2)) for step, took in taken)


# --- starting a run --------------------------------------------------------------------------------------------------


async def show_or_start(call: PageCall) -> Answer:
    """``GET workflows/{name}/run``: a form from the schema of the input. ``POST``: the trigger, and on to the new run."""
    name = call.values[0]
    if call.request.method == "POST":
        return await _start(call, name, await call.form())
    return await call.in_thread(partial(_form, call, name))


def _form(
    call: PageCall,
    name: str,
    *,
    form: Mapping[str, str] | None = None,
    status: int = 200,
    notice: str | None = None,
    problem: tuple[str, str] | None = None,
) -> Answer:
    info = call.desk.workflow(name) if call.principal.sees(name) else None
    if info is None:
        raise NotFound("Nobody registered a workflow under this name here.")
    schema = call.desk.input_schema(name)
    last = None if form is not None else _last_input(call, name)
    fields = _fields(schema, form, last, problem)
    why = call.why_not("workflows:trigger") or (None if info.can_trigger else "Its runner has no trigger handler.")
    return call.page(
        "start.html",
        status,
        area="Workflows",
        info=info,
        fields=fields,
        schema=schema,
        raw=form.get("input", "") if form is not None else (last if last is not None and not fields else ""),
        from_last=last is not None,
        form=form or {},
        why=why,
        notice=notice,
        problem=problem,
        token=call.pages.tokens.issue(_basis(call, name)),
    )


def _basis(call: PageCall, name: str) -> TokenBasis:
    return TokenBasis(call.principal.id, "trigger", name, None, None, "", (), 0)


def _last_input(call: PageCall, name: str) -> str | None:
    """The input of the workflow's newest run: what somebody starting one by hand usually wants but for one value."""
    if not call.shown:
        return None
    found = call.desk.list_runs(RunFilter(workflow_names=(name,)), Page(limit=1), payloads=True, total=False)
    return found.runs[0].input if found.runs else None


async def _start(call: PageCall, name: str, form: Mapping[str, str]) -> Answer:
    if not call.principal.sees(name):  # it may have been, when the form was shown
        raise NotFound("Nobody registered a workflow under this name here.")
    token = form.get("token", "")
    show = partial(_form, call, name, form=form)
    try:
        text = _input_text(call, name, form)
        correlation_id = form.get("key", "").strip() or None
        tags = tuple(tag for tag in (part.strip() for part in form.get("tags", "").split("\n")) if tag)
        asked = repr((text, correlation_id, tags)).encode("utf-8", "replace")
        key, request_hash = action_key(token), hashlib.blake2b(asked, digest_size=16).hexdigest()
        first = await call.in_thread(partial(call.desk.triggered, name, key, request_hash))
        if first is not None:
            return call.redirect(call.links.run(first.run_id))  # the same form, sent again, if only an hour later
        if call.pages.tokens.check(token, _basis(call, name)).state is not TokenState.GOOD:
            notice = "This form is older than five minutes, or was not made for you. It started nothing; send it again if it should."
            return await call.in_thread(partial(show, status=409, notice=notice))
        start = partial(
            call.desk.trigger,
            name,
            text,
            actor=call.principal.id,
            correlation_id=correlation_id,
            tags=tags,
            idempotency_key=key,
            request_hash=request_hash,
            request_id=call.request_id,
        )
        accepted = await call.in_thread(start)
    except InvalidRequest as error:
        problem = (error.field or "input", str(error))
        return await call.in_thread(partial(show, status=400, problem=problem))
    except IdempotencyKeyReused:
        notice = (
            "This form was sent already, with other values. Nothing was started; send it again to start another run."
        )
        return await call.in_thread(partial(show, status=409, notice=notice))
    except Refusal as refusal:
        return await call.in_thread(partial(show, status=409, notice=str(refusal)))
    return call.redirect(call.links.run(accepted.run_id))


def _input_text(call: PageCall, name: str, form: Mapping[str, str]) -> str | None:
    """Return the input as JSON text: written as JSON, or put together from the fields of the form."""
    if "input" in form:
        text = form["input"].strip()
        if text:
            parse_strict(text.encode(), call.pages.limits)  # says which place is wrong
        return text or None
    value: dict[str, Any] = {}
    fields = _fields(call.desk.input_schema(name), None, None, None)
    if fields and fields[0].name == _WHOLE:
        given = form.get("f-")
        return to_json(_value_of(call, fields[0], given)) if given else None
    for field in fields:
        given = form.get(f"f-{field.name}")
        if field.kind == "checkbox":
            value[field.name] = given is not None
        elif given:
            value[field.name] = _value_of(call, field, given)
    return to_json(value) if value else None


def _value_of(call: PageCall, field: InputField, given: str) -> Any:
    if field.kind not in {"number", "json"}:
        return given
    try:
        return parse_strict(given.encode(), call.pages.limits)
    except InvalidBody as error:
        words = "a number" if field.kind == "number" else "JSON"
        raise InvalidRequest(f"{field.label} has to be {words}.", field=f"input.{field.name}".rstrip(".")) from error


def _fields(
    schema: Mapping[str, Any] | None,
    form: Mapping[str, str] | None,
    last: str | None,
    problem: tuple[str, str] | None,
) -> list[InputField]:
    """Return the fields of a form for an object of plain values; none where the schema is another one, which is written as JSON."""
    if schema is None:
        return []
    if schema.get("type") != "object":
        return _only_field(schema, form, last, problem)
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return []
    required = set(schema.get("required") or ())
    values = _object(last)
    fields = []
    for name, described in properties.items():
        kind, choices = _kind(described, schema)
        shown = (
            form.get(f"f-{name}", "") if form is not None else _shown(values.get(name, described.get("default")), kind)
        )
        fields.append(
            InputField(
                name=name,
                label=name.replace("_", " "),
                help=str(described.get("description") or ""),
                kind=kind,
                choices=choices,
                required=name in required and kind != "checkbox",
                value=shown,
                problem=problem[1] if problem and _is_within(problem[0], name) else "",
            )
        )
    return fields


def _only_field(
    schema: Mapping[str, Any], form: Mapping[str, str] | None, last: str | None, problem: tuple[str, str] | None
) -> list[InputField]:
    """The field of an input that is one plain value, typed without quotes; none for what is better written as JSON."""
    kind, choices = _kind(schema, schema)
    if kind not in {"text", "number", "choice"}:
        return []
    shown = form.get("f-", "") if form is not None else _shown(_value(last), kind)
    words = problem[1] if problem and problem[0].startswith("input") else ""
    return [
        InputField(_WHOLE, "input", str(schema.get("description") or ""), kind, choices, True, shown, words)
    ]  # required


def _is_within(place: str, name: str) -> bool:
    """Whether a place such as ``input.guest.name`` or ``input.rooms[0]`` is in a member of the input."""
    return re.match(rf"input\.{re.escape(name)}(?![^.\[])", place) is not None


def _object(text: str | None) -> dict[str, Any]:
    value = _value(text)
    return value if isinstance(value, dict) else {}


def _value(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def _kind(described: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    reference = str(described.get("$ref") or "")
    if reference.startswith("#/$defs/"):
        described = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
    choices = described.get("enum")
    if choices and all(isinstance(choice, str) for choice in choices):
        return "choice", tuple(choices)
    # One of several: a value that may be missing, and decimals, which are a number or a text and are exact as a text.
    options = described.get("anyOf") or (described,)
    types = {str(option.get("type") or "json") for option in options} - {"null"}
    if types in ({"string"}, {"string", "number"}):
        return "text", ()
    if types in ({"integer"}, {"number"}):
        return "number", ()
    return ("checkbox" if types == {"boolean"} and len(options) == 1 else "json"), ()


def _shown(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if kind in {"text", "choice"} and isinstance(value, str):
        return value
    if kind == "checkbox":
        return "yes" if value is True else ""
    return to_json(value)
