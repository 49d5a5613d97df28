"""One function per operation: read what the request asks for, call the desk, render. They decide nothing.

By the time one of these runs, the method, the principal, the surface and the scope are checked (``router``). The desk is synchronous and
waits for the database, so it is called in a thread: the host's event loop never waits with it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from starlette.requests import Request

from ..errors import InvalidBody, InvalidRequest, NotFound, Refusal
from ..model.records import RunList
from ..operations.desk import Desk
from ..operations.plan import PlanKind, Refused
from ..operations.policy import not_registered
from ..settings import Limits
from ..wire import (
    ActionBody,
    action_body,
    detail_json,
    idempotency_key,
    list_json,
    plan_json,
    trigger_body,
    workflow_json,
)
from .access import READ_PAYLOAD, RETRY, AdminSurface, Principal, why_barred
from .answer import Answer, render
from .body import read_json
from .query import ListQuery, choice, list_query, one, parse
from .unnamed import unnamed, unnamed_plan

T = TypeVar("T")

PLAN_PARAMETERS: Final = ("kind", "fromStep", "acceptGap")
DETAIL_PARAMETERS: Final = ("include",)
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"', re.DOTALL)


class InThread(Protocol):
    """Runs a blocking call in a thread."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]:
        """Return what the call returns."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has passed the checks."""

    request: Request
    request_id: str
    principal: Principal
    parameter: str  # the run id or workflow name of the path
    desk: Desk
    limits: Limits
    surface: AdminSurface
    in_thread: InThread

    @property
    def query(self) -> bytes:
        """The raw query string."""
        return bytes(self.request.scope.get("query_string") or b"")

    @property
    def shown(self) -> bool:
        """Whether the principal may see payloads."""
        return self.principal.may(READ_PAYLOAD)


Handler = Callable[[Call], Awaitable[Answer]]


# --- reading ---------------------------------------------------------------------------------------------------------


async def list_workflow_runs(call: Call) -> Answer:
    """``GET workflow-runs``."""
    asked = list_query(call.query, call.limits)
    return await call.in_thread(partial(_list, call, asked))


def _list(call: Call, asked: ListQuery) -> Answer:
    where, page, limited = asked.where, asked.page, call.principal.workflows
    if limited is not None:
        names = tuple(name for name in where.workflow_names or sorted(limited) if name in limited)
        where = replace(where, workflow_names=names)
    if limited is not None and not where.workflow_names:
        found = RunList(
            (), total=0, total_capped=False, next_after=None
        )  # for the desk, no names would mean: all of them
    else:
        found = call.desk.list_runs(where, page, payloads=call.shown and not asked.summary)
    return render(200, list_json(found, limit=page.limit, offset=page.offset, shown=call.shown, summary=asked.summary))


async def get_workflow_run(call: Call) -> Answer:
    """``GET workflow-runs/{id}``."""
    values = parse(call.query, DETAIL_PARAMETERS)
    stack = choice(values, "include", ("stack",)) == "stack"
    return await call.in_thread(partial(_detail, call, stack=stack))


def _detail(call: Call, *, stack: bool) -> Answer:
    detail = call.desk.get_run(call.parameter, payloads=call.shown)
    if not call.principal.sees(detail.run.workflow_name):
        raise _no_such_run()
    return render(200, detail_json(detail.run, detail.steps, shown=call.shown, stack=stack))


async def plan_workflow_run(call: Call) -> Answer:
    """``GET workflow-runs/{id}/plan``: a resume unless ``kind=rerun``."""
    values = parse(call.query, PLAN_PARAMETERS)
    kind: PlanKind = "rerun" if choice(values, "kind", ("resume", "rerun")) == "rerun" else "resume"
    accept_gap = choice(values, "acceptGap", ("true", "false")) == "true"
    return await call.in_thread(partial(_plan, call, kind, one(values, "fromStep"), accept_gap=accept_gap))


def _plan(call: Call, kind: PlanKind, from_step: str | None, *, accept_gap: bool) -> Answer:
    _must_see(call)
    plan = call.desk.plan(call.parameter, kind, from_step, call.principal.id, accept_gap=accept_gap)
    plan = unnamed_plan(plan, call.desk, call.principal)
    barred = why_barred(call.principal, RETRY, call.surface)
    return render(200, plan_json(plan if barred is None else replace(plan, refused=Refused(barred))))


async def list_workflows(call: Call) -> Answer:
    """``GET workflows``."""
    parse(call.query, ())
    known = await call.in_thread(call.desk.workflows)
    seen = [workflow_json(workflow) for workflow in known if call.principal.sees(workflow.name)]
    return render(200, {"data": seen, "total": len(seen)})


# --- acting ----------------------------------------------------------------------------------------------------------


async def trigger_workflow(call: Call) -> Answer:
    """``POST workflows/{name}/runs``."""
    parse(call.query, ())
    header_key = _header_key(call)
    try:
        value = await read_json(call.request, call.limits, empty=None)
    except InvalidBody as error:  # the trigger's own code for it, as in the original
        raise InvalidRequest(str(error), field=error.field) from error
    if value is None:
        raise InvalidRequest("A trigger needs a body: a JSON object, {} at the least.", field="body")
    body = trigger_body(value, call.limits)
    if header_key is not None and body.idempotency_key is not None and header_key != body.idempotency_key:
        raise InvalidRequest("The header and the body give different keys.", field="idempotencyKey")
    if not call.principal.sees(call.parameter):
        raise not_registered(call.parameter, "trigger")  # word for word what is said of a name that nobody registered
    started = await call.in_thread(
        partial(
            call.desk.trigger,
            call.parameter,
            body.input,
            actor=call.principal.id,
            correlation_id=body.correlation_id,
            tags=body.tags,
            idempotency_key=body.idempotency_key or header_key,
            request_hash=body.request_hash,
            request_id=call.request_id,
        )
    )
    return render(202, {"data": {"runId": started.run_id, "workflowName": call.parameter, "status": "queued"}})


async def rerun_workflow_run(call: Call) -> Answer:
    """``POST workflow-runs/{id}/rerun``."""
    key, body = await _action(call, "rerun")
    started = await call.in_thread(
        partial(
            _told,
            call,
            call.desk.rerun,
            call.parameter,
            actor=call.principal.id,
            confirm=body.confirm,
            reason=body.reason,
            idempotency_key=key,
            request_hash=body.request_hash,
            plan_hash=body.plan_hash,
            request_id=call.request_id,
        )
    )
    return render(202, {"data": {"runId": started.run_id, "parentRunId": call.parameter}})


async def resume_workflow_run(call: Call) -> Answer:
    """``POST workflow-runs/{id}/resume``."""
    key, body = await _action(call, "resume")
    started = await call.in_thread(
        partial(
            _told,
            call,
            call.desk.resume,
            call.parameter,
            actor=call.principal.id,
            confirm=body.confirm,
            reason=body.reason,
            idempotency_key=key,
            request_hash=body.request_hash,
            plan_hash=body.plan_hash,
            request_id=call.request_id,
            from_step=body.from_step,
            accept_gap=body.accept_gap,
        )
    )
    data = {"runId": started.run_id, "parentRunId": call.parameter, "resumeFromStep": started.resume_from_step}
    return render(202, {"data": data})


async def cancel_workflow_run(call: Call) -> Answer:
    """``POST workflow-runs/{id}/cancel``."""
    _, body = await _action(call, "cancel")
    ended = await call.in_thread(
        partial(
            call.desk.cancel,
            call.parameter,
            actor=call.principal.id,
            reason=body.reason,
            request_id=call.request_id,
        )
    )
    return render(202, {"data": {"runId": call.parameter, "status": ended.status.value}})


HANDLERS: Final[Mapping[str, Handler]] = {
    handler.__name__: handler
    for handler in (
        list_workflow_runs,
        get_workflow_run,
        plan_workflow_run,
        list_workflows,
        trigger_workflow,
        rerun_workflow_run,
        resume_workflow_run,
        cancel_workflow_run,
    )
}


# --- parts of the above ----------------------------------------------------------------------------------------------


async def _action(call: Call, action: str) -> tuple[str | None, ActionBody]:
    """The idempotency key and the body of an action on a run that the principal can see."""
    parse(call.query, ())
    key = None if action == "cancel" else _header_key(call)
    body = action_body(await read_json(call.request, call.limits, empty={}), action)
    if call.principal.workflows is not None:
        await call.in_thread(partial(_must_see, call))
    return key, body


def _told(call: Call, act: Callable[..., T], run_id: str, **options: Any) -> T:
    """Act on a run; of what stands in the way nothing is told that does not exist for the principal."""
    try:
        return act(run_id, **options)
    except Refusal as refusal:
        raise unnamed(refusal, call.desk, call.principal) from refusal


def _must_see(call: Call) -> None:
    """Answer "not found" for a run of a workflow that does not exist for this principal; judged by the record, not the request."""
    if call.principal.workflows is None:
        return
    detail = call.desk.get_run(call.parameter, payloads=False)
    if not call.principal.sees(detail.run.workflow_name):
        raise _no_such_run()


def _no_such_run() -> NotFound:
    return NotFound("There is no such run.")


def _header_key(call: Call) -> str | None:
    """The ``Idempotency-Key`` header: a text, or the quoted string that the draft standard asks for."""
    given = call.request.headers.getlist(IDEMPOTENCY_HEADER)
    if not given:
        return None
    if len(given) > 1:
        raise InvalidRequest(f"{IDEMPOTENCY_HEADER} may stand only once.", field=IDEMPOTENCY_HEADER)
    try:
        text = given[0].encode("latin-1").decode()  # the same key as in a body, whose text is UTF-8
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{IDEMPOTENCY_HEADER} has to be UTF-8.", field=IDEMPOTENCY_HEADER) from error
    quoted = _QUOTED.fullmatch(text.strip())
    if quoted:
        text = re.sub(r"\\(.)", r"\1", quoted[1])
    return idempotency_key(text, IDEMPOTENCY_HEADER, call.limits)
