"""Calls code of the host: handlers and guards, plain or coroutine. Turns what they answer and raise into values and errors of ours."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from ..engines.base import Engine
from ..errors import ConfigurationError, GuardFailed, HandlerFailed, InvalidRequest, RecordingError, Refusal
from ..model.failures import describe
from ..model.records import Run
from .bounds import is_line
from .plan import Plan
from .policy import guard_refusal
from .registry import ActionContext, Runner

_log = logging.getLogger(__name__)

ActionKind: TypeAlias = Literal["trigger", "rerun", "resume"]

_RUN_ID_LENGTH_MAX: Final = 255


def ask_guard(runner: Runner, run: Run, plan: Plan, actor: str | None, engine: Engine | None) -> None:
    """Ask the runner's guard about a planned action; without a guard it is allowed.

    Raises:
        RerunBlocked: or ``ResumeBlocked``, with the guard's reason.
        GuardFailed: the guard raised, or gave something that is no answer. Its message is logged: it may hold anything.
    """
    guard = runner.can_rerun if plan.kind == "rerun" else runner.can_resume
    if guard is None:
        return
    try:
        refusal = guard_refusal(plan.kind, _awaited(guard(run, plan, actor), engine))
    except Exception as error:
        _log.exception("the %s guard of runner %r raised for run %s", plan.kind, runner.name, run.id)
        raise GuardFailed("The guard of this workflow raised an exception; nothing was done.") from error
    if refusal is not None:
        raise refusal


def call_handler(
    kind: ActionKind,
    handler: Callable[[Any, Any], object],
    input: Any,
    context: ActionContext,
    engine: Engine | None,
) -> str:
    """Call a runner's handler and return the id of the run it made.

    Raises:
        HandlerFailed: it raised (the message is its own, cleaned and bounded), or gave no run id.
        Refusal: from the transaction that would have made the run, which knows better than the checks before it.
        RecordingError: the database could not be written.
        InvalidRequest: the handler's own word about the input.
    """
    try:
        answer = _awaited(handler(input, context), engine)
    except (Refusal, RecordingError, InvalidRequest):
        raise
    except Exception as error:
        _log.exception("the %s handler of workflow %r raised", kind, context.workflow_name)
        raise HandlerFailed(describe(error).message, code=f"{kind}_failed") from error
    run_id = _run_id_of(answer)
    if run_id is None:
        raise HandlerFailed(
            f"The {kind} handler gave no run id: expected a text, a mapping with runId, or an object with run_id, "
            f"not {type(answer).__name__}.",
            code=f"{kind}_failed",
        )
    return run_id


def _awaited(answer: Any, engine: Engine | None) -> Any:
    if not inspect.isawaitable(answer):
        return answer
    if engine is None:
        if inspect.iscoroutine(answer):
            answer.close()
        raise ConfigurationError("a handler or guard that is a coroutine needs an engine to run it")
    return engine.wait_for(answer)


def _run_id_of(answer: object) -> str | None:
    if isinstance(answer, Mapping):
        found = answer.get("runId", answer.get("run_id"))
    elif isinstance(answer, str):
        found = answer
    else:
        found = getattr(answer, "run_id", None)
    return found if isinstance(found, str) and is_line(found, _RUN_ID_LENGTH_MAX) else None
