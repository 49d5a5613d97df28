"""``Desk``: what every front door calls. It decides; routes, pages, the command line and tools only parse, authorise and render.

The order of checks, here and nowhere else (contract: "Order of checks", "Runs"):

    trigger  request well-formed -> registry -> runner -> handler -> [same key] -> typed input -> handler called
    rerun    request well-formed -> registry -> run found -> [same key] -> live -> runner -> resume-only -> handler -> input readable
             -> confirmed -> guard -> plan unchanged -> handler called
    resume   request well-formed -> registry -> run found -> [same key] -> failed, whole or its gap accepted -> input readable -> runner
             -> handler -> target -> steps before it -> no other resume -> guard -> plan unchanged -> handler called
    cancel   request well-formed -> run found -> not ended -> recorded -> engine told

``[same key]``: an idempotency key that was used with the same request gives the first answer again, whatever has become of the run
since; with another request it is refused. Keys belong to (workflow or run, action).

The last word on a claim or a key has the transaction that makes the run: of fifty simultaneous resumes the checks here may let
several pass, and one run is made. A check that fails while another request with the same key succeeded is answered as that one was.

Where the process may die. Before ``engine.start`` committed: nothing is recorded, and the same request may be sent again. After it: run,
audit entry, key and claim are all there. A handler that makes its run elsewhere, without handing ``context.request`` or ``context.action``
on, is the exception: its audit entry is written when it returns, and a death between the two leaves the run without one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from ..clock import Clock
from ..engines.base import Engine
from ..errors import (
    CannotEncode,
    IdempotencyKeyReused,
    InvalidBody,
    InvalidInput,
    InvalidRequest,
    PlanChanged,
    Refusal,
    StoreUnavailable,
    WorkflowRunsError,
)
from ..journal import Journal
from ..model.entries import ActionTaken, CancelRun, EndOutcome
from ..model.payloads import codec_for
from ..model.records import Audit, Run
from ..model.requests import Action, IdempotencyKey
from ..model.states import RUN_STATUS
from ..settings import Limits
from ..store.base import StoreReader
from .answers import Accepted, CancelAccepted
from .bounds import check_line, check_tags, check_text
from .host import ActionKind, call_handler
from .judging import DeskJudging
from .plan import Plan
from .policy import (
    confirmation_refusal,
    may_cancel,
    not_configured,
    not_registered,
    not_supported,
)
from .registry import (
    ActionContext,
    RerunContext,
    ResumeContext,
    Runner,
    StartHere,
    TriggerContext,
    WorkflowRunnerRegistry,
)

_log = logging.getLogger(__name__)

# A front door would rather say "not now" than hang: what a caller waits for is refused after so long without the database.
WRITE_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Trigger:
    """A trigger that was found to be in order, but for its input."""

    runner: Runner
    handler: Callable[[Any, TriggerContext], object]
    context: TriggerContext
    text: str


class Desk(DeskJudging):
    """The operations on runs. Synchronous and without state of its own; safe to use from any thread.

    From an event loop call it in a thread: it waits for commits, and for host code that is a coroutine.

    Args:
        store: Where questions are answered.
        journal: Where audit entries and cancellations are written.
        registry: The runners; None: the acting operations answer that they are not configured.
        engine: Runs coroutine handlers and guards, and is told of cancellations.
    """

    def __init__(
        self,
        store: StoreReader,
        journal: Journal,
        registry: WorkflowRunnerRegistry | None,
        engine: Engine | None,
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(store, journal, registry, engine, clock, limits)

    # --- trigger ----------------------------------------------------------------------------------------------------

    def trigger(
        self,
        name: str,
        input_json: str | None = None,
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        tags: Sequence[str] = (),
        idempotency_key: str | None = None,
        request_hash: str | None = None,
        request_id: str | None = None,
    ) -> Accepted:
        """Start a run of a workflow.

        Args:
            name: The runner's name.
            input_json: The input as JSON text, kept as it stands; None: the caller gave none, which counts as ``{}``.
            actor: Who acts, if anybody is known; recorded as the run's user and in the audit entry.
            correlation_id: The caller's own id for what the run is about.
            tags: At most ``Limits.tags_max``; the workflow's own come on top.
            idempotency_key: Belongs to the workflow.
            request_hash: Digest of all that the caller asks for; default: made of input, correlation id and tags.
            request_id: Of the HTTP request, for the audit entry.

        Raises:
            InvalidRequest: a value is not usable; ``InvalidInput``: the workflow's declared input type says no.
            NotConfigured: no registry, or the runner has no trigger handler.
            RunnerNotRegistered: nobody registered a runner under this name.
            IdempotencyKeyReused: the key was used with another request.
            HandlerFailed: the runner's handler raised.
            StoreUnavailable: it is not known to be accepted; the same idempotency key makes repeating it harmless.
        """
        asked = self._asked(
            name,
            "{}" if input_json is None else input_json,
            actor=actor,
            correlation_id=correlation_id,
            tags=tags,
            idempotency_key=idempotency_key,
            request_hash=request_hash,
            request_id=request_id,
        )
        first = self._first_answer(asked.context.action.idempotency, name, None)
        if first is not None:
            return first
        asked.runner.check_input(asked.text)
        return Accepted(self._dispatch("trigger", asked.handler, asked.context), name)

    def trigger_value(self, name: str, input: Any = None, **request: Any) -> Accepted:
        """Start a run with a Python value as input: of the type that the workflow declares, or of plain JSON values.

        None is no input for a workflow that takes none, and ``null`` for one that does. The other arguments are those of ``trigger``.

        Raises:
            CannotEncode: the value would not come back equal.
            WorkflowRunsError: as ``trigger``.
        """
        runner, _ = self._triggerable(name)
        return self.trigger(name, _input_text(runner, input), **request)

    async def trigger_value_async(self, name: str, input: Any = None, **request: Any) -> Accepted:
        """As ``trigger_value``, for coroutines: a workflow of ours is started without a thread, and the event loop goes on meanwhile."""
        runner, handler = self._triggerable(name)
        text = _input_text(runner, input)
        if request.get("idempotency_key") is not None or not isinstance(handler, StartHere):
            return await asyncio.to_thread(self.trigger, name, text, **request)
        asked = self._asked(name, "{}" if text is None else text, **request)
        runner.check_input(asked.text)
        started = await handler.start_async(asked.context)
        return Accepted(started, name)

    def _asked(
        self,
        name: str,
        text: str,
        *,
        actor: str | None = None,
        correlation_id: str | None = None,
        tags: Sequence[str] = (),
        idempotency_key: str | None = None,
        request_hash: str | None = None,
        request_id: str | None = None,
    ) -> _Trigger:
        """Check what a trigger asks for and return it ready for the handler."""
        if correlation_id is not None:
            check_line(correlation_id, "correlationId", self.limits.identifier_length_max)
        check_tags(tags, self.limits)
        runner, handler = self._triggerable(name)
        key = None
        if idempotency_key is not None:
            request_hash = request_hash or _digest([text, correlation_id, list(tags)])
            key = self._key(f"trigger:{name}", idempotency_key, request_hash, InvalidRequest)
        context = TriggerContext(
            workflow_name=name,
            action=Action("trigger", actor=actor, request_id=request_id, idempotency=key),
            input_json=text,
            triggered_by_user_id=actor,
            correlation_id=correlation_id,
            tags=tuple(tags),
            idempotency_key=idempotency_key,
        )
        return _Trigger(runner, handler, context, text)

    def _triggerable(self, name: str) -> tuple[Runner, Callable[[Any, TriggerContext], object]]:
        if self._registry is None:
            raise not_configured("trigger")
        runner = self._registry.get(name)
        if runner is None:
            raise not_registered(name, "trigger")
        if runner.trigger is None:
            raise not_supported("trigger")
        return runner, runner.trigger

    # --- rerun and resume -------------------------------------------------------------------------------------------

    def rerun(
        self,
        run_id: str,
        *,
        actor: str | None = None,
        confirm: bool = False,
        reason: str | None = None,
        idempotency_key: str | None = None,
        request_hash: str | None = None,
        plan_hash: str | None = None,
        request_id: str | None = None,
    ) -> Accepted:
        """Run a finished run's workflow again from the start, with the recorded input.

        Args:
            run_id: The run to repeat.
            actor: Who acts.
            confirm: Only True confirms the rerun of an unsafe workflow.
            reason: Why, for the audit entry.
            idempotency_key: Belongs to the run and this action.
            request_hash: Digest of all that the caller asks for.
            plan_hash: Of the plan that the decision was based on; the rerun is refused when it is no longer the same.
            request_id: Of the HTTP request, for the audit entry.

        Raises:
            Refusal: see the order of checks above; ``GuardFailed``, ``HandlerFailed``, ``StoreUnavailable`` likewise.
        """
        check_text(reason, "reason", self.limits.error_text_max, InvalidBody)
        if self._registry is None:
            raise not_configured("rerun")
        run = self._found(run_id)
        key = self._key(f"rerun:{run_id}", idempotency_key, request_hash or _digest(["rerun"]), InvalidBody)

        def act() -> Accepted:
            plan = self._allowed(self._plan("rerun", run, None))
            refusal = confirmation_refusal("rerun", plan.idempotency, confirm=confirm)
            if refusal is not None:
                raise refusal
            self._ask_guard(run, plan, actor)
            _check_plan(plan, plan_hash)
            action = Action("rerun", actor, reason, plan.hash, request_id, target_run_id=run.id, idempotency=key)
            context = RerunContext(
                workflow_name=run.workflow_name,
                action=action,
                input_json=run.input,
                triggered_by_user_id=actor,
                correlation_id=run.correlation_id,
                tags=run.tags,
                parent_run_id=run.id,
                root_run_id=run.root_run_id,
            )
            made = self._dispatch("rerun", self._runner(run).rerun, context)
            return Accepted(made, run.workflow_name, parent_run_id=run.id)

        return self._once(key, run, act)

    def resume(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        actor: str | None = None,
        confirm: bool = False,
        reason: str | None = None,
        idempotency_key: str | None = None,
        request_hash: str | None = None,
        plan_hash: str | None = None,
        request_id: str | None = None,
        accept_gap: bool = False,
    ) -> Accepted:
        """Go on with a failed run: a new run that keeps the outputs of completed steps and executes the rest.

        Args:
            run_id: The failed run.
            from_step: The step to resume from, by its label; it and everything after it is executed again. Default: the step whose
                error ended the run, and then every completed step is kept.
            actor: Who acts.
            confirm: Taken because the two actions have one body; a resume needs none.
            reason: Why, for the audit entry.
            idempotency_key: Belongs to the run and this action.
            request_hash: Digest of all that the caller asks for.
            plan_hash: Of the plan that the decision was based on; the resume is refused when it is no longer the same.
            request_id: Of the HTTP request, for the audit entry.
            accept_gap: Resume a run although something of its record is missing (``RecordHasGap``): what is missing is executed again.

        Raises:
            InvalidBody: ``from_step`` names no recorded step, or several.
            Refusal: see the order of checks above; ``GuardFailed``, ``HandlerFailed``, ``StoreUnavailable`` likewise.
        """
        del confirm  # the policy alone never makes a resume ask (contract, Bodies)
        check_text(reason, "reason", self.limits.error_text_max, InvalidBody)
        if self._registry is None:
            raise not_configured("resume")
        run = self._found(run_id)
        key = self._key(
            f"resume:{run_id}", idempotency_key, request_hash or _digest(["resume", from_step, accept_gap]), InvalidBody
        )

        def act() -> Accepted:
            plan = self._allowed(self._plan("resume", run, from_step, accept_gap=accept_gap))
            self._ask_guard(run, plan, actor)
            _check_plan(plan, plan_hash)
            assert plan.target is not None, "a plan that is not refused has a target"
            action = Action(
                "resume", actor, reason, plan.hash, request_id, run.id, claims_failure=True, idempotency=key
            )
            context = ResumeContext(
                workflow_name=run.workflow_name,
                action=action,
                input_json=run.input,
                triggered_by_user_id=actor,
                correlation_id=run.correlation_id,
                tags=run.tags,
                parent_run_id=run.id,
                root_run_id=run.root_run_id,
                chain_run_id=run.chain_run_id,
                resume_from=plan.target,
                seeds=plan.seeds,
            )
            made = self._dispatch("resume", self._runner(run).resume, context)
            return Accepted(made, run.workflow_name, parent_run_id=run.id, resume_from_step=plan.target.label())

        return self._once(key, run, act)

    # --- cancel -----------------------------------------------------------------------------------------------------

    def cancel(
        self, run_id: str, *, actor: str | None = None, reason: str | None = None, request_id: str | None = None
    ) -> CancelAccepted:
        """Cancel a run: one that nobody executes ends at once, one that is executing is marked and ended by its owner.

        Raises:
            NotFound: there is no such run.
            CancelNotAllowed: it has ended.
            StoreUnavailable: it is not known to be accepted; the same idempotency key makes repeating it harmless.
        """
        check_text(reason, "reason", self.limits.error_text_max, InvalidBody)
        run = self._found(run_id, payloads=False)
        refusal = may_cancel(run)
        if refusal is not None:
            raise refusal
        action = Action("cancel", actor, reason, request_id=request_id)
        entry = CancelRun(run_id, action, self._clock.new_audit_id(), self._clock.now_millis())
        outcome = cast(EndOutcome, self._journal.submit(entry, give_up_after_s=WRITE_PATIENCE_S).result())
        if not outcome.changed:
            ended = may_cancel(replace(run, state=outcome.state, status=RUN_STATUS[outcome.state]))
            assert ended is not None, "what a cancellation does not change has ended"  # between the look and the entry
            raise ended
        if self._engine is not None:
            try:
                self._engine.request_cancel(run_id)
            except Exception:  # noqa: BLE001  # a hint, in whatever engine; the cancellation is accepted already
                # The record says it already, and the owner reads the record with its next heartbeat.
                _log.exception("the engine could not be told that run %s is to be cancelled", run_id)
        return CancelAccepted(run_id, RUN_STATUS[outcome.state])

    # --- what the operations share ----------------------------------------------------------------------------------

    def _allowed(self, plan: Plan) -> Plan:
        if plan.refused is not None:
            raise plan.refused.error
        return plan

    # --- idempotency ------------------------------------------------------------------------------------------------

    def _key(
        self, scope: str, key: str | None, request_hash: str, complaint: type[InvalidRequest]
    ) -> IdempotencyKey | None:
        if key is None:
            return None
        check_line(key, "idempotencyKey", self.limits.identifier_length_max, complaint)
        return IdempotencyKey(scope, key, request_hash)

    def answered(self, kind: ActionKind, acted_on: Run, key: str, request_hash: str) -> Accepted | None:
        """Return the answer that a rerun or resume of a run was given before under an idempotency key, or None.

        Raises:
            IdempotencyKeyReused: the key was used with another request.
        """
        used = self._key(f"{kind}:{acted_on.id}", key, request_hash, InvalidBody)
        return self._first_answer(used, acted_on.workflow_name, acted_on)

    def triggered(self, name: str, key: str, request_hash: str) -> Accepted | None:
        """Return the answer that a trigger of a workflow was given before under an idempotency key, or None. Raises as ``answered``."""
        return self._first_answer(self._key(f"trigger:{name}", key, request_hash, InvalidRequest), name, None)

    def _first_answer(self, key: IdempotencyKey | None, workflow_name: str, acted_on: Run | None) -> Accepted | None:
        """Return the answer that the key was given before, or None.

        Raises:
            IdempotencyKeyReused: it was used with another request.
        """
        used = None if key is None else self._store.find_action(key.scope, key.key)
        if key is None or used is None:
            return None
        if used.request_hash != key.request_hash:
            raise IdempotencyKeyReused("The idempotency key was used with another request before.")
        if acted_on is None:
            return Accepted(used.run_id, workflow_name)
        run = self._store.get_run(used.run_id, payloads=False)  # None: it was made elsewhere, or pruned
        target = None if run is None or run.resume_from is None else run.resume_from.label()
        return Accepted(used.run_id, workflow_name, parent_run_id=acted_on.id, resume_from_step=target)

    def _once(self, key: IdempotencyKey | None, run: Run, act: Callable[[], Accepted]) -> Accepted:
        first = self._first_answer(key, run.workflow_name, run)
        if first is not None:
            return first
        try:
            return act()
        except Refusal:
            # The same request may have been answered while this one was on its way: a double click is no refusal.
            first = self._first_answer(key, run.workflow_name, run)
            if first is None:
                raise
            return first

    # --- handlers ---------------------------------------------------------------------------------------------------

    def _dispatch(self, kind: ActionKind, handler: Callable[[Any, Any], object] | None, context: ActionContext) -> str:
        assert handler is not None, "a runner without the handler is refused"
        if isinstance(handler, StartHere):
            # It reads no input and writes the audit entry itself; asking whether it did would be most of what a trigger costs.
            return call_handler(kind, handler, None, context, self._engine)
        value = None if context.input_json is None else codec_for(Any).decode(context.input_json)
        run_id = call_handler(kind, handler, value, context, self._engine)
        self._see_to_audit(run_id, context)
        return run_id

    def _see_to_audit(self, run_id: str, context: ActionContext) -> None:
        """Write the audit entry of an action whose handler made the run without ``context.request`` or ``context.action``."""
        try:
            written = any(_is_entry_of(context.action, run_id, entry) for entry in self._store.get_audit(run_id))
        except StoreUnavailable:
            written = False  # an entry that stands twice is better than none
        if written:
            return
        entry = ActionTaken(
            run_id, context.workflow_name, context.action, self._clock.new_audit_id(), self._clock.now_millis()
        )
        try:
            self._journal.submit(entry, give_up_after_s=WRITE_PATIENCE_S).result()
        except WorkflowRunsError:
            _log.error("a handler of %r made run %s, which could not be recorded", context.workflow_name, run_id)
            raise


def _is_entry_of(action: Action, run_id: str, entry: Audit) -> bool:
    if (entry.action, entry.run_id, entry.target_run_id) != (action.kind, run_id, action.target_run_id):
        return False
    # Under a key the run may have been made by an earlier request for the same, whose entry stands for both. Without one, a handler
    # that gives an older run as its answer has still acted, and that is another entry.
    same = (entry.actor, entry.reason, entry.plan_hash, entry.request_id)
    return action.idempotency is not None or same == (
        action.actor,
        action.reason,
        action.plan_hash,
        action.request_id,
    )


def _check_plan(plan: Plan, plan_hash: str | None) -> None:
    if plan_hash is not None and plan_hash != plan.hash:
        raise PlanChanged(
            "The run is no longer what the plan was made from; look at the plan again.", planHash=plan.hash
        )


def _input_text(runner: Runner, input: Any) -> str | None:
    workflow = runner.workflow
    if input is None and workflow is not None and not workflow.takes_input:
        return None
    where = f"input of {runner.name}"
    if workflow is None:
        return codec_for(Any).encode(input, where)
    try:
        return workflow.input_codec.encode(input, where)
    except CannotEncode:
        # Not a value of the declared type: then plain JSON of the right shape, which check_input judges.
        plain = codec_for(Any).encode(input, where)
        try:
            runner.check_input(plain)
        except InvalidInput:
            pass
        else:
            return plain
        raise


def _digest(value: Sequence[Any]) -> str:
    return hashlib.blake2b(json.dumps(value).encode("ascii"), digest_size=16).hexdigest()
