"""How a workflow is written: ``@workflow``, the run object a workflow function is given, retries, and what a step may ask.

    @workflow("checkout", idempotency="unsafe")
    async def checkout(run: AsyncRun, order: Order) -> Receipt:
        booking = await run.step("confirm", confirm, order.id)
        ...

The same for every engine: how a step is identified, and what is derived instead of recorded (``uuid``, ``random``). Executing,
recording and replaying is the engine's, behind ``Steps`` and ``AsyncSteps``.
The code between steps runs again from the top on recovery and resume, so it has to decide the same way again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import logging
import textwrap
import threading
import uuid
from abc import ABC, abstractmethod
from asyncio import Task, current_task, gather as gather_awaitables
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, Protocol, TypedDict, TypeVar, TypeVarTuple, Unpack, get_type_hints, overload

from .errors import ConfigurationError, InvalidRequest, RunSuspended, WorkflowError
from .model.identity import Identities, check_name, derived
from .model.payloads import Codec, input_codec, return_codec
from .model.records import StepKey
from .model.retries import Retry
from .model.states import EffectClass, Idempotency, StepKind, default_effect
from .settings import Limits

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
NO_RETRY: Final = Retry(attempts=1)
_LIMITS: Final = Limits()
_LOGGER: Final = logging.getLogger("workflow_runs.run")


class _NotDone:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOT_DONE"


# What a ``verify`` hook returns to say: it did not happen. Typed Any, so that a hook keeps the return type of its step.
NOT_DONE: Any = _NotDone()


# --- what a step function may ask -----------------------------------------------------------------------------------


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """A standard logger whose lines begin with the run (and step) and carry both as ``extra`` fields."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the prefix and the fields; the caller's own ``extra`` wins."""
        known = dict(self.extra or {})
        kwargs["extra"] = {**known, **(kwargs.get("extra") or {})}
        return f"[{' '.join(str(value) for value in known.values())}] {msg}", kwargs


class StepContext(NamedTuple):
    """Which step is executing. ``identity`` is what the effect key is made from."""

    run_id: str
    name: str
    key: str
    attempt: int
    identity: tuple[str, ...]

    @property
    def effect_key(self) -> str:
        """The idempotency key to hand to an outside system: the same over attempts, recovery and resumes, another one for a rerun."""
        return derived(self.identity).hex()  # made when asked for: most steps never do

    @property
    def log(self) -> RunLog:
        """A logger that names the run and the step."""
        return RunLog(_LOGGER, {"run_id": self.run_id, "step": self.name})


# Set by engines: the step that executes; and the branch that the code belongs to, which is the ``Run`` for the workflow's own branch,
# another object for a branch of a gather, and None for a foreign thread.
CURRENT_STEP: ContextVar[StepContext | None] = ContextVar("workflow_runs_step", default=None)
BRANCH: ContextVar[object] = ContextVar("workflow_runs_branch", default=None)


def current_step() -> StepContext:
    """Return the step whose function is executing; also in functions it calls, and in threads and tasks that copy its context.

    Raises:
        WorkflowError: no step is executing here.
    """
    context = CURRENT_STEP.get()
    if context is None:
        raise WorkflowError("current_step() is for step functions: no step is executing here")
    return context


# --- what an engine is asked ----------------------------------------------------------------------------------------


class StepCall(NamedTuple):
    """Everything about one call of ``run.step`` (kind STEP) or ``run.now`` (kind NOW, nothing to call)."""

    step: StepKey
    fn: Callable[..., Any] | None
    args: tuple[Any, ...]
    effect: EffectClass
    verify: Callable[..., Any] | None = None
    compensate: Callable[..., Any] | None = None
    retry: Retry = NO_RETRY
    timeout_s: float | None = None
    kind: StepKind = StepKind.STEP


class Steps(Protocol):
    """What executes the steps of a sync run."""

    def take(self, call: StepCall) -> Any:
        """Bring the step about, from the record or by executing it, and return its value."""
        ...

    def gather(self, branches: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run the branches side by side; return results, or the exception of a branch in its place, in order, when all have ended."""
        ...


class AsyncSteps(Protocol):
    """What executes the steps of an async run."""

    def take(self, call: StepCall) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that brings the step about; all that depends on the order of calls is settled when it returns."""
        ...


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run knows of itself."""

    id: str
    workflow: str
    input: Any = None
    correlation_id: str | None = None
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None
    triggered_by_user_id: str | None = None
    attempt: int = 1  # 2 when the run was taken up again: after a crash, a polite stop, a wait
    chain_run_id: str = ""
    effect: EffectClass = EffectClass.UNSAFE  # of a step that declares none
    limits: Limits = field(default_factory=Limits)


class StepOptions(TypedDict, total=False):
    """The keywords of ``run.step``, for type checkers; explained there."""

    key: str | None
    effect: EffectClass | str | None
    verify: Callable[..., Any] | None
    compensate: Callable[..., Any] | None
    retry: Retry | None
    timeout_s: float | None


# --- the run object -------------------------------------------------------------------------------------------------


class _RunBase(ABC):
    """What ``Run`` and ``AsyncRun`` share.

    Attributes:
        id: The run's id.
        workflow: The name under which the run is recorded.
        input: The input, decoded as the workflow declares it; plain JSON values if it declares none.
        correlation_id: The caller's id for what this run is about, or None.
        tags: The run's tags.
        idempotency_key: The key with which the run was triggered, or None.
        triggered_by_user_id: Who triggered, reran or resumed, or None.
        attempt: 1 while the run executes for the first time, 2 when it was taken up again (further times are not counted).
    """

    def __init__(self, facts: RunFacts) -> None:
        self.id = facts.id
        self.workflow = facts.workflow
        self.input = facts.input
        self.correlation_id = facts.correlation_id
        self.tags = facts.tags
        self.idempotency_key = facts.idempotency_key
        self.triggered_by_user_id = facts.triggered_by_user_id
        self.attempt = facts.attempt
        self._facts = facts
        self._identities = Identities(facts.limits.steps_per_run_max)
        self._draws = Identities(facts.limits.steps_per_run_max)
        self._counting = threading.Lock()  # the branches of a gather count in threads

    @property
    def log(self) -> RunLog:
        """A standard logger (``workflow_runs.run``) whose lines name the run. Code between steps logs again on recovery."""
        return RunLog(_LOGGER, {"run_id": self._facts.id})

    def uuid(self, *, key: str = "") -> uuid.UUID:
        """Return a UUID that is the same again after a crash and in a resume, and another in each other run. It is no secret.

        Raises:
            ParallelStepNeedsKey: called from several branches without a key.
        """
        return uuid.UUID(bytes=self._draw("uuid", key)[:16], version=4)

    def random(self, *, key: str = "") -> float:
        """Return a number from [0, 1) that is the same again after a crash and in a resume; see ``uuid``."""
        return (int.from_bytes(self._draw("random", key)[:8]) >> 11) / (1 << 53)

    def _draw(self, kind: str, key: str) -> bytes:
        with self._counting:
            step = self._draws.take(kind, key, own=self._is_own(), pending=False)
        return derived((self._facts.chain_run_id, kind, key, str(step.occurrence)))

    def _identify(self, name: str, key: str, *, pending: bool) -> StepKey:
        with self._counting:
            return self._identities.take(name, key, own=self._is_own(), pending=pending)

    @abstractmethod
    def _is_own(self) -> bool: ...

    def _checked(self, name: str, key: str | None) -> str:
        """Check name and key, and that no step of this run is executing here; return the key."""
        check_name(name, "the name of a step", self._facts.limits)
        current = CURRENT_STEP.get()
        if current is not None and current.run_id == self._facts.id:
            raise WorkflowError(
                f"step {name!r} is called inside step {current.name!r}: an attempt of the outer step would repeat it under "
                "another identity. Call the function itself, or make both steps of the workflow"
            )
        return "" if key is None else check_name(key, "the key of a step", self._facts.limits)


def _step_call(
    facts: RunFacts,
    step: StepKey,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    effect: EffectClass | str | None,
    verify: Callable[..., Any] | None,
    compensate: Callable[..., Any] | None,
    retry: Retry | None,
    timeout_s: float | None,
) -> StepCall:
    if not callable(fn):
        raise WorkflowError(f"step {step.name!r} needs a function: run.step(name, function, *arguments)")
    if timeout_s is not None and not timeout_s > 0:
        raise WorkflowError(f"timeout_s of step {step.name!r} must be positive seconds")
    return StepCall(
        step,
        fn,
        args,
        _effect(effect, facts.effect),
        verify,
        compensate,
        NO_RETRY if retry is None else retry,
        timeout_s,
    )


def _effect(effect: EffectClass | str | None, default: EffectClass) -> EffectClass:
    if effect is None:
        return default
    if effect not in EffectClass.__members__.values():
        raise WorkflowError(f"effect must be one of {', '.join(EffectClass)}, not {effect!r}")
    return EffectClass(effect)


class Run(_RunBase):
    """What a plain ``def`` workflow is given. It executes in a thread; so do its steps, unless they are coroutine functions."""

    def __init__(self, facts: RunFacts, steps: Steps) -> None:
        super().__init__(facts)
        self._steps = steps
        self._pending: set[tuple[str, str]] = set()

    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        **options: Unpack[StepOptions],
    ) -> T: ...
    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        **options: Unpack[StepOptions],
    ) -> T: ...
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], Any],
        *args: *Ts,
        key: str | None = None,
        effect: EffectClass | str | None = None,
        verify: Callable[..., Any] | None = None,
        compensate: Callable[..., Any] | None = None,
        retry: Retry | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Do a step: ``fn(*args)`` once, its output committed before it is returned; on record already, the recorded output.

        The output is what ``fn``'s return annotation says after a journey through JSON. What does not come back equal from there fails
        the step, and is not retried: the effect has happened.

        Args:
            name: What people see; at most 200 characters, no control characters.
            fn: A function or a coroutine function.
            args: Its arguments. A digest of them is recorded: other arguments on replay are a ``StepDrift``.
            key: Tells calls of one name apart where their order is chance: in parallel, or in a loop over something unordered.
            effect: What executing does to the world (``EffectClass``). Default by the workflow's policy: ``idempotent`` in a safe
                workflow, else ``unsafe``. Giving ``compensate`` does not change it.
            verify: For ``compensatable`` and ``unsafe`` steps: called with ``args`` when nobody knows how an attempt ended. Returns the
                output if it happened, ``NOT_DONE`` if it did not; raises if it cannot tell, and then the run waits for a person.
            compensate: Called with the output, newest step first, when the run *fails* (not when it is cancelled, not for ``StepDrift``).
                It may be called again after a crash in the midst of it.
            retry: Default: one attempt.
            timeout_s: Seconds for one attempt. A coroutine is cancelled; a sync function cannot be stopped, goes on in a thread
                nobody waits for, and its result is ignored: give its own calls a shorter timeout.

        Raises:
            StepFailed: its attempts are used up.
            ParallelStepNeedsKey: the call cannot be told from another one.
            StepDrift: the record has other arguments.
            InvalidRequest: name or key is not usable.
        """
        named = self._checked(name, key)
        pair = (name, named)
        step = self._identify(name, named, pending=pair in self._pending)
        call = _step_call(self._facts, step, fn, args, effect, verify, compensate, retry, timeout_s)
        self._pending.add(pair)
        try:
            return self._steps.take(call)
        finally:
            self._pending.discard(pair)

    def now(self, *, key: str | None = None) -> datetime:
        """Return the time (aware, UTC, milliseconds), recorded before it is returned: a replay reads the same."""
        named = self._checked("now", key)
        step = self._identify("now", named, pending=False)
        moment: datetime = self._steps.take(StepCall(step, None, (), EffectClass.PURE, kind=StepKind.NOW))
        return moment

    def gather(self, *branches: Callable[[], Any]) -> list[Any]:
        """Call functions side by side, in threads, and return their results in order.

        All have ended when it returns or raises; it raises the error of the first branch, in the order of the arguments, that has one.
        Steps of one name in several branches need keys.
        """
        return _first_error_raised(self._steps.gather(branches))

    def _is_own(self) -> bool:
        return BRANCH.get() is self


class AsyncRun(_RunBase):
    """What an ``async def`` workflow is given. It executes on an event loop; sync step functions go to threads."""

    def __init__(self, facts: RunFacts, steps: AsyncSteps) -> None:
        super().__init__(facts)
        self._steps = steps
        self._task: Task[Any] | None = _task()
        self._pending: dict[tuple[str, str], Coroutine[Any, Any, Any]] = {}

    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        **options: Unpack[StepOptions],
    ) -> Coroutine[Any, Any, T]: ...
    def step(
        self,
        name: str,
        fn: Callable[[*Ts], Any],
        *args: *Ts,
        key: str | None = None,
        effect: EffectClass | str | None = None,
        verify: Callable[..., Any] | None = None,
        compensate: Callable[..., Any] | None = None,
        retry: Retry | None = None,
        timeout_s: float | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Do a step; see ``Run.step``. Await the coroutine it returns, at once or with ``gather``.

        The step's identity is settled by this call, not by the awaiting, so the order of calls decides and not the scheduler.
        """
        named = self._checked(name, key)
        pair = (name, named)
        pending = (
            getattr(self._pending.get(pair), "cr_frame", None) is not None
        )  # a coroutine that has ended has no frame
        step = self._identify(name, named, pending=pending)
        coroutine = self._steps.take(
            _step_call(self._facts, step, fn, args, effect, verify, compensate, retry, timeout_s)
        )
        self._pending[pair] = coroutine
        return coroutine

    def now(self, *, key: str | None = None) -> Coroutine[Any, Any, datetime]:
        """Return the time (aware, UTC, milliseconds), recorded before it is returned: a replay reads the same."""
        named = self._checked("now", key)
        step = self._identify("now", named, pending=False)
        return self._steps.take(StepCall(step, None, (), EffectClass.PURE, kind=StepKind.NOW))

    async def gather(self, *awaitables: Awaitable[Any]) -> list[Any]:
        """Await several side by side and return their results in order.

        All have ended when it returns or raises, cancelled or not; it raises the error of the first, in the order of the arguments, that
        has one. (``asyncio.gather`` would raise at once and leave the siblings running unseen.)
        """
        return _first_error_raised(await gather_awaitables(*awaitables, return_exceptions=True))

    def _is_own(self) -> bool:
        return self._task is not None and _task() is self._task


def _task() -> Task[Any] | None:
    try:
        return current_task()
    except RuntimeError:  # no loop in this thread
        return None


def _first_error_raised(outcomes: list[Any]) -> list[Any]:
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for error in errors:
        if isinstance(error, RunSuspended):  # stops the run: no sibling's error may be handled before it
            raise error
    if errors:
        raise errors[0]
    return outcomes


# --- the definition ---------------------------------------------------------------------------------------------------


class Workflow:
    """A workflow's definition. Still callable: ``definition(run, input)`` is the function itself, for tests.

    Attributes:
        name: Unique in the process, and what runs are recorded under.
        idempotency: May the whole of it run again (``safe``), only when confirmed (``unsafe``), never (``resume-only``).
        code_version: What a run records of its code: ``version`` if given, else a hash of the function's source (comments, formatting
            and decorators aside), else of its bytecode.
        takes_input: Whether the function has a second parameter.
        is_async: Whether it is a coroutine function.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        *,
        idempotency: Idempotency | str = Idempotency.UNSAFE,
        description: str = "",
        tags: Sequence[str] = (),
        version: str | None = None,
    ) -> None:
        functools.update_wrapper(self, fn)
        try:
            self.name = check_name(name, "the name of a workflow")
        except InvalidRequest as error:
            raise ConfigurationError(str(error)) from None
        try:
            self.idempotency = Idempotency(idempotency)
        except ValueError:
            raise ConfigurationError(
                f"idempotency must be one of {', '.join(Idempotency)}, not {idempotency!r}"
            ) from None
        self.fn = fn
        self.description = description
        self.tags = _checked_tags(name, tags)
        self.version = version
        self.is_async = inspect.iscoroutinefunction(fn)
        self.takes_input, self.has_default_input = _signature(name, fn)
        self.code_version = version if version is not None else _code_hash(fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself; nothing is recorded."""
        return self.fn(*args, **kwargs)

    @property
    def default_effect(self) -> EffectClass:
        """Effect class of the steps that declare none."""
        return default_effect(self.idempotency)

    # Resolved when first asked for, not when decorating: an annotation may name a class that stands further down.

    @functools.cached_property
    def input_codec(self) -> Codec:
        """How the input travels.

        Raises:
            ConfigurationError: the annotation cannot be resolved or is no type that travels as JSON.
        """
        return input_codec(_input_annotation(self.fn) if self.takes_input else Any)

    @functools.cached_property
    def output_codec(self) -> Codec:
        """How the result travels; see ``input_codec``."""
        return return_codec(self.fn)


def workflow(
    name: str,
    *,
    idempotency: Idempotency | str = Idempotency.UNSAFE,
    description: str = "",
    tags: Sequence[str] = (),
    version: str | None = None,
) -> Callable[[Callable[..., Any]], Workflow]:
    """Define a workflow: decorates ``def f(run)`` or ``def f(run, input)``, plain or ``async``.

    Args:
        name: Unique in the process; at most 200 characters.
        idempotency: ``safe``, ``unsafe`` (default: nobody has said that repeating it is harmless) or ``resume-only``. It also
            decides the effect class of steps that declare none.
        description: For operators, a sentence.
        tags: Added to each run.
        version: What runs record as the version of their code. Default: a hash of the function.

    Raises:
        ConfigurationError: name, policy, tags or signature are not usable.
    """

    def define(fn: Callable[..., Any]) -> Workflow:
        return Workflow(fn, name, idempotency=idempotency, description=description, tags=tags, version=version)

    return define


def _checked_tags(name: str, tags: Sequence[str]) -> tuple[str, ...]:
    most, longest = _LIMITS.tags_max, _LIMITS.tag_length_max
    if isinstance(tags, str) or len(tags) > most or not all(0 < len(tag) <= longest for tag in tags):
        raise ConfigurationError(
            f"workflow {name!r}: tags are a list of at most {most}, of 1 to {longest} characters each"
        )
    return tuple(tags)


def _input_annotation(fn: Callable[..., Any]) -> Any:
    """The annotation of the second parameter, resolved alone: the others may name what is imported for type checkers only."""
    parameter = list(inspect.signature(fn).parameters.values())[1]
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    holder = SimpleNamespace(__annotations__={"input": parameter.annotation})
    try:
        return get_type_hints(holder, globalns=inspect.unwrap(fn).__globals__, include_extras=True)["input"]
    except Exception:  # noqa: BLE001  # an annotation is other people's code; the codec refuses what stays a text, and says so
        return parameter.annotation


def _signature(name: str, fn: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether the function takes an input, and whether it can do without."""
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(f"workflow {name!r} must be a function or a coroutine function, not a generator")
    parameters = list(inspect.signature(fn).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) != len(parameters) or not 1 <= len(positional) <= 2:
        raise ConfigurationError(f"workflow {name!r} must take (run) or (run, input), not {inspect.signature(fn)}")
    return len(positional) == 2, positional[-1].default is not inspect.Parameter.empty


def _code_hash(fn: Callable[..., Any]) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(fn)))
    except (OSError, TypeError, SyntaxError):  # no source: a shell, an archive, a lambda in the middle of a line
        code = inspect.unwrap(fn).__code__
        text = repr((code.co_code, code.co_names, [c for c in code.co_consts if not inspect.iscode(c)]))
    else:
        for node in (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            node.decorator_list = []
        text = ast.unparse(tree)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
