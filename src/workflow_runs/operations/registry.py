"""``WorkflowRunnerRegistry``, ``Runner`` and what a runner's handlers are handed.

A runner is what an application says about a workflow name: its policy, how a run of it is triggered, rerun and resumed, and the
guards that may refuse. ``workflow_runner`` gives the runner of a workflow that one of our engines executes; a free-form runner has
handlers of its own, which return the id of the run they made, wherever it executes.

Everything a handler may want stands in its context, explicitly: no context variable, so a handler may hand it to a thread, a queue or
another loop. ``context.request(workflow)`` makes the ``RunRequest`` that carries lineage, seeds, actor, audit entry, idempotency key
and the claim on the failed run to ``engine.start``, which writes all of it in the transaction that makes the run. A handler that raises
before that leaves nothing behind.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from ..authoring import Workflow
from ..engines.base import Engine
from ..errors import ConfigurationError, InvalidRequest
from ..model.identity import check_name
from ..model.payloads import codec_for
from ..model.records import Run, StepKey
from ..model.requests import Action, RunRequest, Seed
from ..model.states import Idempotency, StepKind
from .plan import Plan

_AS_RECORDED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """What every handler is told.

    ``action`` is what ``engine.start`` and ``begin_workflow_run`` need to write the audit entry, the idempotency key and the claim;
    ``input_json`` is the input as recorded text, where the handler's first argument is the decoded value.
    """

    TRIGGER: ClassVar[str] = "manual"  # what the new run records as its trigger
    MARK: ClassVar[str | None] = None  # a tag that the new run gets on top

    workflow_name: str
    action: Action
    input_json: str | None = None
    triggered_by_user_id: str | None = None
    correlation_id: str | None = None
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None  # of a trigger; a rerun is no second use of its parent's key

    def lineage(self) -> Lineage:
        """Return where the new run stands among its relatives."""
        return Lineage()

    def request(
        self,
        workflow: Workflow | str,
        *,
        input: Any = _AS_RECORDED,
        workflow_name: str | None = None,
        trigger: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> RunRequest:
        """Return the request by which an engine starts the run.

        Args:
            workflow: The workflow that executes, or its name where only another process holds it.
            input: A value of the workflow's input type instead of the input that was handed in or recorded.
            workflow_name: What the run is recorded under; default: as the run that is acted on, or the runner's name.
            trigger: What the run records as its trigger; default ``api``, ``manual.rerun`` or ``manual.resume``.
            tags: All tags of the run; default: the workflow's own, those of this context and ``rerun:true`` or ``resume:true``.

        Raises:
            CannotEncode: the input would not come back equal.
        """
        definition = workflow.name if isinstance(workflow, Workflow) else workflow
        lineage = self.lineage()
        return RunRequest(
            workflow_name=workflow_name or self.workflow_name,
            definition=definition,
            input=self.input_json if input is _AS_RECORDED else _encode(workflow, input),
            trigger=trigger or self.TRIGGER,
            correlation_id=self.correlation_id,
            tags=self._tags(workflow) if tags is None else tuple(tags),
            triggered_by_user_id=self.triggered_by_user_id,
            idempotency_key=self.idempotency_key,
            parent_run_id=lineage.parent_run_id,
            root_run_id=lineage.root_run_id,
            chain_run_id=lineage.chain_run_id,
            resume_from=lineage.resume_from,
            seeds=lineage.seeds,
            code_version=workflow.code_version if isinstance(workflow, Workflow) else None,
            action=self.action,
        )

    def _tags(self, workflow: Workflow | str) -> tuple[str, ...]:
        if self.MARK is not None:
            # The parent's tags hold the workflow's own already, as they were then. Marks add up: they tell how often it was tried.
            return (*self.tags, self.MARK)
        own = workflow.tags if isinstance(workflow, Workflow) else ()
        return (*(tag for tag in own if tag not in self.tags), *self.tags)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A new run's relatives: see ``RunRequest``. None everywhere: it is the first of its family."""

    parent_run_id: str | None = None
    root_run_id: str | None = None
    chain_run_id: str | None = None
    resume_from: StepKey | None = None
    seeds: tuple[Seed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerContext(ActionContext):
    """What a trigger handler is told."""

    TRIGGER: ClassVar[str] = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunContext(ActionContext):
    """What a rerun handler is told. The new run keeps the root of its parent and begins a resume chain of its own."""

    TRIGGER: ClassVar[str] = "manual.rerun"
    MARK: ClassVar[str | None] = "rerun:true"

    parent_run_id: str
    root_run_id: str

    def lineage(self) -> Lineage:
        """Return parent and root."""
        return Lineage(self.parent_run_id, self.root_run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeContext(ActionContext):
    """What a resume handler is told. The new run keeps root and chain of its parent, and the outputs in ``seeds``."""

    TRIGGER: ClassVar[str] = "manual.resume"
    MARK: ClassVar[str | None] = "resume:true"

    parent_run_id: str
    root_run_id: str
    chain_run_id: str
    resume_from: StepKey
    seeds: tuple[Seed, ...] = ()

    @property
    def resume_from_step(self) -> str:
        """The target as people write it: ``charge``, ``charge#2``, ``notify[order-7]``."""
        return self.resume_from.label()

    @property
    def seed_results(self) -> dict[str, Any]:
        """The decoded outputs of the kept steps by label, in recorded order, for handlers that run code elsewhere.

        Decoded at each access: a run of 10,000 steps should not pay for it when the handler hands ``seeds`` to an engine.
        """
        return {
            seed.step.label(): None if seed.output is None else json.loads(seed.output)
            for seed in self.seeds
            if seed.kind is StepKind.STEP
        }

    def lineage(self) -> Lineage:
        """Return parent, root, chain, target and seeds."""
        return Lineage(self.parent_run_id, self.root_run_id, self.chain_run_id, self.resume_from, self.seeds)


# A handler returns the new run's id: a text, a mapping with ``runId`` or ``run_id``, an object with ``run_id``, or an awaitable of one.
TriggerHandler: TypeAlias = Callable[[Any, TriggerContext], object]
RerunHandler: TypeAlias = Callable[[Any, RerunContext], object]
ResumeHandler: TypeAlias = Callable[[Any, ResumeContext], object]
# A guard returns None or True to allow, False or a reason to refuse, or an awaitable of one. The actor may be nobody.
Guard: TypeAlias = Callable[[Run, Plan, str | None], object]


@dataclass(frozen=True, slots=True)
class Runner:
    """What an application says about a workflow name.

    Args:
        name: The workflow name that runs are recorded under.
        idempotency: ``safe``, ``unsafe`` (a rerun has to be confirmed) or ``resume-only`` (never rerun).
        trigger: Starts a run; without it the workflow cannot be triggered.
        rerun: Starts a run with the recorded input.
        resume: Starts a run that keeps the outputs of completed steps.
        can_rerun: Asked before a rerun, with the run, the plan and the actor.
        can_resume: Asked before a resume.
        validate_input: Raises ``InvalidInput`` for a JSON text that the workflow does not take; default: the type that ``workflow``
            declares, if any.
        workflow: The workflow behind the runner, if this process holds it: tells the code version, tags and input type.

    Raises:
        ConfigurationError: name or policy are not usable.
    """

    name: str
    idempotency: Idempotency | str
    description: str = ""
    trigger: TriggerHandler | None = None
    rerun: RerunHandler | None = None
    resume: ResumeHandler | None = None
    can_rerun: Guard | None = None
    can_resume: Guard | None = None
    validate_input: Callable[[str], object] | None = None
    workflow: Workflow | None = None

    def __post_init__(self) -> None:
        """Check what would otherwise show when an operator clicks."""
        try:
            check_name(self.name, "the name of a runner")
        except InvalidRequest as error:
            raise ConfigurationError(str(error)) from None
        try:
            object.__setattr__(self, "idempotency", Idempotency(self.idempotency))
        except ValueError:
            allowed = ", ".join(policy.value for policy in Idempotency)
            raise ConfigurationError(
                f"runner {self.name!r}: idempotency is one of {allowed}, not {self.idempotency!r}"
            ) from None

    @property
    def policy(self) -> Idempotency:
        """The idempotency class, as the enum it was made."""
        return Idempotency(self.idempotency)

    def check_input(self, input_json: str) -> None:
        """Check an input before a run is made of it.

        Raises:
            InvalidInput: the workflow declares a type that it does not fit, or ``validate_input`` says so.
        """
        if self.validate_input is not None:
            self.validate_input(input_json)
        elif self.workflow is not None and self.workflow.takes_input:
            self.workflow.input_codec.validate_input(input_json)


class WorkflowRunnerRegistry:
    """The runners of this process, by name. Safe to use from any thread."""

    def __init__(self, runners: Iterable[Runner] = ()) -> None:
        self._lock = threading.Lock()
        self._runners: dict[str, Runner] = {}
        for runner in runners:
            self.register(runner)

    def register(self, runner: Runner) -> None:
        """Add a runner.

        Raises:
            ConfigurationError: the name is taken. Which of two would act must not depend on the order of imports.
        """
        with self._lock:
            if runner.name in self._runners:
                raise ConfigurationError(f"a runner named {runner.name!r} is registered already")
            self._runners[runner.name] = runner

    def get(self, name: str) -> Runner | None:
        """Return the runner of a workflow name, or None."""
        return self._runners.get(name)

    def has(self, name: str) -> bool:
        """Return whether a workflow name has a runner."""
        return name in self._runners

    def list(self) -> tuple[Runner, ...]:
        """Return the runners in the order they were registered."""
        with self._lock:
            return tuple(self._runners.values())


@dataclass(frozen=True, slots=True)
class StartHere:
    """The default handler: starts what was asked for on an engine of ours, which writes the audit entry with the run."""

    engine: Engine
    workflow: Workflow

    def __call__(self, _input: Any, context: ActionContext) -> str:
        """Start the run and return its id."""
        return self.engine.start(context.request(self.workflow)).run_id

    async def start_async(self, context: ActionContext) -> str:
        """As the call, without blocking the event loop."""
        return (await self.engine.start_async(context.request(self.workflow))).run_id


def workflow_runner(
    workflow: Workflow,
    engine: Engine,
    *,
    can_rerun: Guard | None = None,
    can_resume: Guard | None = None,
) -> Runner:
    """Return the runner of a workflow that ``engine`` executes, with the default handlers.

    A trigger is recorded as ``api``; a rerun as ``manual.rerun`` with its parent's tags and ``rerun:true``; a resume as
    ``manual.resume`` with its parent's tags and ``resume:true``. A handler of one's own: ``dataclasses.replace(runner, rerun=...)``.
    """
    start = StartHere(engine, workflow)
    resumable = engine.capabilities.resume
    return Runner(
        name=workflow.name,
        idempotency=workflow.idempotency,
        description=workflow.description,
        trigger=start,
        rerun=None if workflow.idempotency is Idempotency.RESUME_ONLY else start,
        resume=start if resumable else None,
        can_rerun=can_rerun,
        can_resume=can_resume,
        workflow=workflow,
    )


def _encode(workflow: Workflow | str, input: Any) -> str:
    codec = workflow.input_codec if isinstance(workflow, Workflow) else codec_for(Any)
    return codec.encode(input, "workflow input")
