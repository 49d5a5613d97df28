"""``WorkflowRuns``: puts the parts together. Holds no logic: what an operation means stands in the desk, the journal, the engine.

url -> store -> journal -> engine (executes ``workflows``) -> registry (their runners, and free-form ones) -> desk
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from .authoring import Workflow
from .clock import Clock
from .engines.local import LocalEngine
from .errors import ConfigurationError, NotFound, StoreUnavailable
from .execution.recorder import WorkflowRunRecorder, begin_workflow_run
from .journal import Journal
from .model.entries import Entry, RunEnded
from .model.records import Run
from .model.states import is_finished
from .operations.desk import Desk
from .operations.registry import Runner, WorkflowRunnerRegistry, workflow_runner
from .settings import EngineSettings, JournalSettings, Limits
from .store.base import Store
from .store.opening import open_store

_LAST_WRITES_S = 1.0  # after the drain time; a database that works needs a few milliseconds
_RECHECK_S = 0.5  # a waiter looks at the record this often: the run may end in another process, which tells nobody


class WorkflowRuns:
    """The desk of one application: a database, the workflows that may execute here, and the operations on their runs.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql+psycopg://...``. Nothing is opened before ``start``.
        workflows: What this process can execute. Each gets a runner with the default handlers.
        runners: Free-form runners, beside those of the workflows or, under the same name, instead of them.
        executor: Name of this process as an owner of runs. A restart under the same name takes up its own runs at once; two
            processes must not share one. Default: made up from host and process, with which a neighbour on the same machine
            sees a death at once, and another machine after ``engine_settings.lease_s``.
        execute: False: this process reads, and stores what is triggered here, but neither claims nor executes runs.
        registry: False: no registry at all; the acting operations answer that they are not configured.
        migrate: Create or upgrade the schema at ``start``. Default: yes on SQLite, no on PostgreSQL, where deployment does it.
        store: Instead of the database of ``url``: a store of one's own, or one that a test has wrapped (``store.base``). Closed with this.

    Raises:
        ConfigurationError: the URL names no supported database, or two runners have one name.
    """

    def __init__(
        self,
        url: str = "sqlite:///workflow-runs.db",
        workflows: Iterable[Workflow] = (),
        *,
        runners: Iterable[Runner] = (),
        executor: str | None = None,
        execute: bool = True,
        registry: bool = True,
        migrate: bool | None = None,
        engine_settings: EngineSettings | None = None,
        journal_settings: JournalSettings | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        store: Store | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.limits = limits or Limits()
        self.workflows: tuple[Workflow, ...] = tuple(workflows)
        self.store: Store = open_store(url, clock=self.clock) if store is None else store
        journal_settings = journal_settings or JournalSettings()
        engine_settings = engine_settings or EngineSettings()
        self._close_timeout_s, self._drain_s = journal_settings.close_timeout_s, engine_settings.drain_s
        self.journal = Journal(self.store, journal_settings, self.clock)
        self.engine = LocalEngine(
            self.workflows,
            self.store,
            self.journal,
            name=executor,
            settings=engine_settings,
            clock=self.clock,
        )
        self.registry = self._registry(tuple(runners)) if registry else None
        self.desk = Desk(self.store, self.journal, self.registry, self.engine, clock=self.clock, limits=self.limits)
        self._execute = execute
        self._migrate = self.store.url.startswith("sqlite") if migrate is None else migrate
        self._waiting: dict[str, set[Callable[[], object]]] = {}  # run id -> what wakes those who wait for its end
        self._lock = threading.Lock()
        self._started = False

    def _registry(self, runners: Sequence[Runner]) -> WorkflowRunnerRegistry:
        registry = WorkflowRunnerRegistry()
        taken = {runner.name for runner in runners}
        for definition in self.workflows:
            if definition.name not in taken:
                registry.register(workflow_runner(definition, self.engine))
        for runner in runners:
            registry.register(runner)
        return registry

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the database, migrate if asked to, and begin to execute. Coroutine workflows run on a thread of the engine's own.

        Raises:
            StoreUnavailable: the database does not answer.
            SchemaMismatch: its schema is not the one this version needs and ``migrate`` is off.
        """
        self._open()
        if self._execute:
            self.engine.launch()

    def _open(self) -> None:
        if self._started:
            raise ConfigurationError("this WorkflowRuns is started already")
        if self._migrate:
            self.store.migrate()
        self.store.check_ready()
        self.journal.add_observer(self._after_commit)
        self.journal.unwaited.watch()
        self._started = True

    def close(self, drain_s: float | None = None) -> None:
        """Stop politely: steps in flight may end for ``drain_s`` seconds, other runs are handed back. Idempotent.

        Default: ``engine_settings.drain_s``. A database that cannot be used meanwhile keeps nobody longer: what is not written 1 s after
        that time is given up, and those runs go on elsewhere from what is on record.
        """
        ends_at = self.clock.monotonic() + (self._drain_s if drain_s is None else drain_s)
        self.desk.changes.close()
        self.engine.close(drain_s)
        # One bound for both: an orchestrator kills what takes longer than it was told.
        left_s = max(_LAST_WRITES_S, ends_at - self.clock.monotonic())
        self.journal.close(min(left_s, self._close_timeout_s))
        self.store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        """Start; coroutine workflows run on the event loop that enters, beside the application's own connections."""
        await asyncio.to_thread(self._open)
        if self._execute:
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(self.engine.launch, loop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # --- for code, what the desk is for people ----------------------------------------------------------------------

    def trigger(
        self,
        workflow: Workflow | str,
        input: Any = None,
        *,
        correlation_id: str | None = None,
        tags: Sequence[str] = (),
        idempotency_key: str | None = None,
        triggered_by_user_id: str | None = None,
    ) -> str:
        """Store a run and return its id; it executes in the background, here or in a process that shares the database.

        ``input`` is a value of the workflow's declared type, or plain JSON values. It waits for a commit: from a coroutine use
        ``trigger_async``.

        Raises:
            CannotEncode: the input would not come back equal.
            Refusal: as ``Desk.trigger``.
            StoreUnavailable: the run is not accepted.
        """
        return self.desk.trigger_value(
            workflow if isinstance(workflow, str) else workflow.name,
            input,
            correlation_id=correlation_id,
            tags=tuple(tags),
            idempotency_key=idempotency_key,
            actor=triggered_by_user_id,
        ).run_id

    async def trigger_async(
        self,
        workflow: Workflow | str,
        input: Any = None,
        *,
        correlation_id: str | None = None,
        tags: Sequence[str] = (),
        idempotency_key: str | None = None,
        triggered_by_user_id: str | None = None,
    ) -> str:
        """As ``trigger``, for coroutines. With an idempotency key, or a handler of the application's own, a thread is used."""
        accepted = await self.desk.trigger_value_async(
            workflow if isinstance(workflow, str) else workflow.name,
            input,
            correlation_id=correlation_id,
            tags=tuple(tags),
            idempotency_key=idempotency_key,
            actor=triggered_by_user_id,
        )
        return accepted.run_id

    def begin(self, workflow_name: str, **fields: Any) -> WorkflowRunRecorder:
        """Begin to record a run that executes outside our engines; see ``begin_workflow_run``."""
        return begin_workflow_run(self, workflow_name=workflow_name, **fields)

    def wait(self, run_id: str, timeout_s: float = 60.0) -> Run:
        """Wait until a run has ended and return it.

        Raises:
            NotFound: there is no such run.
            TimeoutError: it has not ended in time; it goes on.
        """
        deadline = self.clock.monotonic() + timeout_s
        ended = threading.Event()
        with self._woken(run_id, ended.set):
            while True:
                run = self._look_at(run_id)
                if run is not None and is_finished(run.state):
                    return run
                ended.wait(min(self._left(run_id, deadline, timeout_s), _RECHECK_S))
                ended.clear()

    async def wait_async(self, run_id: str, timeout_s: float = 60.0) -> Run:
        """As ``wait``, for coroutines."""
        deadline = self.clock.monotonic() + timeout_s
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        with self._woken(run_id, partial(_set_soon, loop, ended)):
            while True:
                run = await asyncio.to_thread(self._look_at, run_id)
                if run is not None and is_finished(run.state):
                    return run
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(self._left(run_id, deadline, timeout_s), _RECHECK_S)):
                        await ended.wait()
                ended.clear()

    @contextlib.contextmanager
    def _woken(self, run_id: str, wake: Callable[[], object]) -> Iterator[None]:
        """Have ``wake`` called when the run ends in this process."""
        with self._lock:
            self._waiting.setdefault(run_id, set()).add(wake)
        try:
            yield
        finally:
            with self._lock:
                waiting = self._waiting[run_id]
                waiting.discard(wake)
                if not waiting:
                    del self._waiting[run_id]

    def _left(self, run_id: str, deadline: float, timeout_s: float) -> float:
        left = deadline - self.clock.monotonic()
        if left <= 0:
            raise TimeoutError(f"run {run_id} has not ended within {timeout_s:g} s")
        return left

    def _look_at(self, run_id: str) -> Run | None:
        """Return the run, or None while the database cannot be asked."""
        try:
            run = self.store.get_run(run_id)
        except StoreUnavailable:
            return None
        if run is None:
            raise NotFound("There is no such run.")
        return run

    def _after_commit(self, entries: Sequence[Entry]) -> None:
        if not self._waiting:
            return
        for entry in entries:
            if isinstance(entry, RunEnded):
                with self._lock:
                    for wake in self._waiting.get(entry.run_id, ()):
                        wake()


def _set_soon(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits there any more
        loop.call_soon_threadsafe(event.set)
