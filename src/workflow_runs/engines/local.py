"""Executes runs in this process: coroutine workflows on an event loop, plain ones in threads.

    start -> stored durably, under this process's claim if it has a slot free -> executed -> its end recorded
    Claimer -> a run without a living owner -> the same

A run is in ``_jobs`` from the moment this process means to own it to the moment it has let go of it, so it is never executed
twice side by side here, not even when its claim was lost and won back while a thread was still at work on it.

Sync workflows block a thread for their whole length, also in the pause before a retry; ``threads_max`` is their bound.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from ..authoring import RunFacts, Workflow
from ..clock import Clock
from ..errors import (
    ClaimLost,
    ConfigurationError,
    EntryRejected,
    JournalClosed,
    RecordingError,
    RunSuspended,
    StoreUnavailable,
    WorkflowRunsError,
)
from ..execution.course import Course, unawaited
from ..execution.drive import Drive
from ..execution.drive_async import AsyncDrive
from ..execution.recorder import RunRecorder
from ..execution.replay import NOTHING, History
from ..execution.threads import Threads, call_in_own_thread
from ..execution.wants import Stop
from ..journal import Journal, Receipt
from ..model.entries import Claim, ClaimedRun, Heartbeat, RunStarted, StartRun
from ..model.records import ErrorRecord, Run
from ..model.requests import RunRequest
from ..model.states import RunState, is_finished
from ..settings import EngineSettings, Limits
from ..store.base import Outcome, Store
from .base import Capabilities
from .jobs import (
    INTERRUPT_WAIT_S,
    Job,
    Offer,
    as_coroutine,
    input_of,
    interrupt,
    run_loop,
    running_loop,
    workflows_by_name,
)
from .recovery import Claimer, Tenure, executor_name

T = TypeVar("T")

_log = logging.getLogger(__name__)

_START_GIVE_UP_S: Final = 3.0  # a trigger is refused rather than kept waiting for the database
_REGISTER_WAIT_S: Final = 2.0  # launch returns then, registered or not
_REREAD_S: Final = 0.2
_DOUBTFUL_MOST: Final = 10_000


class LocalEngine:
    """An engine inside the process that uses it.

    Args:
        workflows: What can execute here; names are unique.
        store: Read when runs are taken up.
        journal: Everything is written through it. Close the engine first, then the journal.
        name: Of this executor; a restart under the same name takes up its own runs at once. Default: made up.
        settings: Bounds and times.
        clock: Leases, durations, ids.

    Raises:
        ConfigurationError: two workflows have one name, or types that cannot be recorded.
    """

    capabilities = Capabilities()

    def __init__(
        self,
        workflows: Iterable[Workflow],
        store: Store,
        journal: Journal,
        *,
        name: str | None = None,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._workflows = workflows_by_name(workflows)
        self._store = store
        self._journal = journal
        self._settings = settings or EngineSettings()
        self._clock = clock or Clock()
        self._limits = limits or Limits()
        self._run_threads = Threads(self._settings.threads_max, "workflow-runs-run")
        self._step_threads = Threads(self._settings.threads_max, "workflow-runs-step")
        self._tenure = Tenure(
            journal,
            self._clock,
            name or executor_name(),
            self._settings,
            on_lost=self._give_up_all,
            on_cancel=self._cancel,
        )
        self._claimer = Claimer(
            journal,
            self._tenure,
            tuple(self._workflows),
            self._settings.poll_s,
            reserve=self._reserve,
            adopt=self._adopt,
        )
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._jobs: dict[str, Job] = {}
        self._doubtful: dict[str, Claim] = {}  # runs that were refused without knowing whether they were stored
        self._reserved = 0
        self._launched_in: int | None = None
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self._keeper: asyncio.Task[None] | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    def launch(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Begin to execute: register, renew the lease, take up what nobody executes.

        Args:
            loop: A running event loop for coroutine workflows. Default: one of the engine's own, in a thread.

        Returns when this process is registered, or after 2 s without the database, and then goes on trying.
        """
        if self._launched_in is not None:
            raise ConfigurationError("this engine is launched already")
        if loop is None:
            loop = asyncio.new_event_loop()
            self._loop_thread = threading.Thread(target=run_loop, args=(loop,), name="workflow-runs-loop", daemon=True)
            self._loop_thread.start()
        self._loop = loop
        self._launched_in = os.getpid()
        self._tenure.start()
        loop.call_soon_threadsafe(self._keep_tenure, loop)
        if not self._tenure.wait_registered(_REGISTER_WAIT_S):
            _log.warning("the database does not answer: runs are executed as soon as it does")
        self._claimer.start()

    def _keep_tenure(self, loop: asyncio.AbstractEventLoop) -> None:
        self._keeper = loop.create_task(self._tenure.keep())

    def close(self, drain_s: float | None = None) -> None:
        """Stop politely, and hand back what has not ended, so that another process goes on at once.

        Takes up nothing more and starts no further step. Steps in flight may end for ``drain_s`` seconds (default: the settings'); then
        coroutines are cancelled. A thread cannot be: its run stays this process's, and is taken up when the process has ended or
        its lease is over. Idempotent.

        Raises:
            ConfigurationError: called on the event loop that has to finish the runs; use ``asyncio.to_thread``.
        """
        if self._launched_in != os.getpid():
            self._closing = True
            return
        assert self._loop is not None
        if running_loop() is self._loop:
            raise ConfigurationError(
                "close() waits for runs of this event loop: call it by asyncio.to_thread(engine.close)"
            )
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._claimer.stop()
        self._stop_all(Stop.HANDED_BACK)
        if not self._wait_quiet(self._settings.drain_s if drain_s is None else drain_s):
            self._interrupt_all()
            if not self._wait_quiet(INTERRUPT_WAIT_S):
                _log.warning("runs still in the midst of a step: %s", ", ".join(list(self._jobs)[:20]))
        self._tenure.stop()
        self._stop_loop(self._loop)

    def _stop_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            if self._keeper is not None:
                loop.call_soon_threadsafe(self._keeper.cancel)
            if self._loop_thread is not None:
                loop.call_soon_threadsafe(loop.stop)
                self._loop_thread.join(INTERRUPT_WAIT_S)
        except RuntimeError:  # the host has closed its loop already
            return

    def _wait_quiet(self, timeout_s: float) -> bool:
        with self._quiet:
            return self._quiet.wait_for(lambda: not self._jobs, max(0.0, timeout_s))

    # --- the Engine protocol ------------------------------------------------------------------------------------------

    def start(self, request: RunRequest) -> RunStarted:
        """See ``engines.base.Engine``. Blocks for one commit.

        Raises:
            Refusal: from the transaction that would have made the run.
            StoreUnavailable: the run is not accepted. (It is possible that it is stored; then it is executed.)
            QueueFull: the run is not accepted: too much waits to be written.
            JournalClosed: this engine was closed.
        """
        offer = self._offer(request)
        try:
            try:
                outcome = self._submit(offer).result()
            except ClaimLost:
                offer = self._without_claim(offer)
                outcome = self._submit(offer).result()
        except BaseException as error:
            self._refused(offer, error)
            raise
        return self._accepted(offer, outcome)

    async def start_async(self, request: RunRequest) -> RunStarted:
        """As ``start``, for coroutines: the event loop goes on meanwhile. ``QueueFull`` is raised at once: a loop cannot wait for room."""
        offer = self._offer(request)
        try:
            try:
                outcome = await self._submit(offer)
            except ClaimLost:
                offer = self._without_claim(offer)
                outcome = await self._submit(offer)
        except BaseException as error:
            self._refused(offer, error)
            raise
        return self._accepted(offer, outcome)

    def _offer(self, request: RunRequest) -> Offer:
        workflow = self._workflows.get(request.definition)
        if workflow is not None and request.code_version is None:
            request = replace(request, code_version=workflow.code_version)
        run_id = self._clock.new_run_id()
        audit_id = self._clock.new_audit_id() if request.action is not None else None
        job = self._job_for(run_id, workflow, request)
        if job is None:
            return Offer(StartRun(run_id, request, audit_id=audit_id), None)
        # What begins at once is stored as running: one write less.
        job.is_begun = not request.seeds and (job.workflow.is_async or self._run_threads.has_room)
        state = RunState.RUNNING if job.is_begun else RunState.QUEUED
        return Offer(StartRun(run_id, request, state, claim=job.claim, audit_id=audit_id), job)

    def _without_claim(self, offer: Offer) -> Offer:
        """Taken for dead at this very moment: nothing was written, and whoever lives may execute it."""
        if offer.job is not None:
            self._let_go(offer.job)
        return Offer(replace(offer.entry, state=RunState.QUEUED, claim=None), None)

    def _job_for(self, run_id: str, workflow: Workflow | None, request: RunRequest) -> Job | None:
        """Take a slot for a new run, if there is one and this process may execute."""
        claim = self._tenure.claim
        with self._lock:
            if self._closing:
                raise JournalClosed("this process is stopping and takes no more runs")
            if workflow is None or claim is None or self._launched_in != os.getpid() or self._loop_is_closed():
                return None
            if len(self._jobs) + self._reserved >= self._settings.runs_max or not self._tenure.holds(claim):
                return None
            job = self._jobs[run_id] = Job(run_id, workflow, claim, request)
            return job

    def _submit(self, offer: Offer) -> Receipt:
        return self._journal.submit(offer.entry, give_up_after_s=_START_GIVE_UP_S)

    def _accepted(self, offer: Offer, started: Outcome) -> RunStarted:
        assert isinstance(started, RunStarted)
        if offer.job is None:
            if started.created:
                self._claimer.look_now()
        elif started.created:
            self._begin(offer.job)
        else:
            self._let_go(offer.job)
        return started

    def _refused(self, offer: Offer, error: BaseException) -> None:
        job = offer.job
        if job is None:
            return
        self._let_go(job)
        # After letting go: who resolves the doubt must not find this job. An interrupt (Ctrl-C) leaves the same doubt.
        is_doubtful = isinstance(error, StoreUnavailable) or not isinstance(error, Exception)
        if is_doubtful and len(self._doubtful) < _DOUBTFUL_MOST:
            self._doubtful[job.run_id] = job.claim

    def wait_for(self, awaitable: Awaitable[T]) -> T:
        """See ``engines.base.Engine``. Before ``launch`` the coroutine gets an event loop of its own.

        Raises:
            ConfigurationError: called on that very event loop, which would wait for itself.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            return call_in_own_thread(asyncio.run, as_coroutine(awaitable)).result()  # type: ignore[no-any-return]
        if running_loop() is loop:
            raise ConfigurationError(
                "an async handler cannot be waited for on the engine's own event loop; use a thread"
            )
        return asyncio.run_coroutine_threadsafe(as_coroutine(awaitable), loop).result()

    def request_cancel(self, run_id: str) -> None:
        """See ``engines.base.Engine``: a heartbeat at once brings the wish and its reason."""
        if run_id in self._jobs:
            self._tenure.renew_now()

    # --- slots and jobs -----------------------------------------------------------------------------------------------

    def _reserve(self, most: int) -> int:
        """Set slots aside for runs that are about to be taken up."""
        self._resolve_doubts()
        with self._lock:
            if self._closing or self._loop is None or self._loop_is_closed():
                return 0
            self._reserved = max(0, min(most, self._settings.runs_max - len(self._jobs)))
            return self._reserved

    def _adopt(self, taken: Sequence[ClaimedRun], claim: Claim, reserved: int) -> None:
        jobs: list[Job] = []
        with self._lock:
            self._reserved -= reserved
            for run in taken:
                job = Job(run.run_id, self._workflows[run.definition], claim, None, run.recovered)
                living = self._jobs.get(run.run_id)
                if living is not None:
                    living.successor = job
                else:
                    self._jobs[run.run_id] = job
                    jobs.append(job)
        for job in jobs:
            self._begin(job)

    def _resolve_doubts(self) -> None:
        """Take up runs whose start was refused because the database failed, but which turn out to be stored under our claim."""
        doubts = list(self._doubtful.items())
        mine = self._tenure.claim
        if not doubts or mine is None:
            return
        # Entries are committed in order: when this one is, no start that was given up before it can be in flight any more.
        self._journal.submit(Heartbeat(mine)).result()
        for run_id, claim in doubts:
            # Under a claim that was lost, nothing can have been stored that others do not take up.
            run = self._store.get_run(run_id, payloads=False) if claim is mine else None
            del self._doubtful[run_id]
            workflow = None if run is None else self._workflows.get(run.definition)
            if run is None or workflow is None or is_finished(run.state):
                continue
            job = Job(run_id, workflow, claim, None)
            with self._lock:
                is_new = self._jobs.setdefault(run_id, job) is job
            if is_new:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        if self._loop_is_closed():
            self._hand_back(job)
            self._let_go(job)
        elif job.workflow.is_async and job.request is not None and not job.request.seeds:
            self._prepare_async(job)
        else:
            try:
                if job.workflow.is_async:
                    self._step_threads.submit(self._prepare_async, job)  # reads the record, which blocks
                else:
                    self._run_threads.submit(self._run_sync, job)
            except RuntimeError:
                _log.exception("run %s is handed back: the process can start no thread", job.run_id)
                self._hand_back(job)
                self._let_go(job)

    def _loop_is_closed(self) -> bool:
        return self._loop is not None and self._loop.is_closed()

    def _let_go(self, job: Job) -> None:
        """The job is over, whatever became of it."""
        with self._quiet:
            if self._jobs.get(job.run_id) is job:
                del self._jobs[job.run_id]
            successor = job.successor
            if successor is not None:
                self._jobs[job.run_id] = successor
            self._quiet.notify_all()
        if successor is not None:
            self._begin(successor)
        self._claimer.slot_freed()

    # --- executing ----------------------------------------------------------------------------------------------------

    def _run_sync(self, job: Job) -> None:
        try:
            course = self._prepare(job)
            if course is not None:
                assert self._loop is not None
                drive = Drive(course, self._step_threads, self._loop)
                self._enter(job, course, drive.interrupt)
                drive.run()
        except BaseException as error:  # noqa: BLE001  # a run that nobody ends would show as running for ever
            self._after_error(job, error)
        finally:
            self._let_go(job)

    def _prepare_async(self, job: Job) -> None:
        assert self._loop is not None
        try:
            course = self._prepare(job)
            if course is not None:
                if running_loop() is self._loop:
                    self._spawn(job, course)
                else:
                    self._loop.call_soon_threadsafe(self._spawn, job, course)
                return
        except BaseException as error:  # noqa: BLE001  # as above
            self._after_error(job, error)
        self._let_go(job)

    def _spawn(self, job: Job, course: Course) -> None:
        assert self._loop is not None
        job.task = self._loop.create_task(self._run_async(job, course))

    async def _run_async(self, job: Job, course: Course) -> None:
        try:
            drive = AsyncDrive(course, self._step_threads)
            self._enter(job, course, drive.interrupt)
            await drive.run()
        except BaseException as error:  # noqa: BLE001  # as above
            self._after_error(job, error)
        finally:
            self._let_go(job)

    def _enter(self, job: Job, course: Course, interrupt: Callable[[], None]) -> None:
        """Make the course reachable for those who stop it, and pass on what was wished before it was there."""
        with self._lock:
            job.course, job.interrupt = course, interrupt
            closing, cancel = self._closing, job.cancel
        if self._tenure.claim is not job.claim:
            course.stop(Stop.CLAIM_LOST)
        elif cancel is not None:
            self._cancel(job.run_id, cancel[0])
        elif closing:
            course.stop(Stop.HANDED_BACK)

    def _prepare(self, job: Job) -> Course | None:
        """Record that the run executes and return its course; None when there is nothing to execute."""
        recorder = self._recorder(job)
        if job.request is not None and not job.request.seeds:
            if not job.is_begun:
                # Not awaited: the run is stored and ours already, and its first step's entry comes after this one in the queue.
                unawaited(recorder.run_changed(RunState.RUNNING))
            return self._course(job, recorder, job.request, NOTHING, RunState.RUNNING)
        run, history = self._read(job)
        if run is None or is_finished(run.state) or run.claim_owner != job.claim.owner:
            return None
        if run.cancel_requested_at is not None and job.cancel is None:
            job.cancel = (self._cancel_reason(job.run_id),)  # its last owner stopped before it heard of it
        state = run.state
        if state not in {RunState.RUNNING, RunState.COMPENSATING}:
            if not recorder.run_changed(RunState.RUNNING).result():
                return None
            state = RunState.RUNNING
        return self._course(job, recorder, run, history, state)

    def _cancel_reason(self, run_id: str) -> str | None:
        wishes = [entry.reason for entry in self._store.get_audit(run_id) if entry.action == "cancel"]
        return wishes[0] if wishes else None

    def _read(self, job: Job) -> tuple[Run | None, History]:
        """Read what is on record, once; a database that does not answer is asked again while the claim is held."""
        while True:
            try:
                run = self._store.get_run(job.run_id)
                # What nobody has begun has no steps, but for seeds, which only a child has.
                fresh = run is not None and run.execution_started_at is None and run.parent_run_id is None
                return run, NOTHING if fresh and not job.recovered else History.of(self._store.get_steps(job.run_id))
            except StoreUnavailable:
                if self._closing or self._tenure.claim is not job.claim:
                    raise
                threading.Event().wait(_REREAD_S)

    def _course(
        self, job: Job, recorder: RunRecorder, source: Run | RunRequest, history: History, state: RunState
    ) -> Course:
        workflow = job.workflow
        value, error = input_of(workflow, source)
        # A run of our own that is running and has not begun is one whose start was in doubt.
        was_handed_back = (
            isinstance(source, Run) and source.state is RunState.QUEUED and source.execution_started_at is not None
        )
        taken_up = job.recovered or was_handed_back
        facts = RunFacts(
            id=job.run_id,
            workflow=source.workflow_name,
            input=value,
            correlation_id=source.correlation_id,
            tags=tuple(source.tags),
            idempotency_key=source.idempotency_key,
            triggered_by_user_id=source.triggered_by_user_id,
            attempt=2 if taken_up else 1,
            chain_run_id=source.chain_run_id or job.run_id,
            effect=workflow.default_effect,
            limits=self._limits,
        )
        holds = partial(self._tenure.holds, job.claim)
        return Course(recorder, workflow, facts, history, holds, self._clock, state, error)

    def _after_error(self, job: Job, error: BaseException) -> None:
        """Leave the run as truthfully as can be after something that should not happen. Never waits: it may be on the event loop."""
        if isinstance(error, (RunSuspended, RecordingError)) and not isinstance(error, EntryRejected):
            # The claim is gone, or the database, or the journal: nothing more can be said here, and who takes the run up goes on.
            _log.warning("run %s is left: %s", job.run_id, type(error).__name__)
            return
        # Without the event loop everything fails, whatever the run is like: who has one goes on.
        if isinstance(error, asyncio.CancelledError) or self._loop_is_closed():
            self._hand_back(job)
            return
        _log.error("run %s failed inside the engine", job.run_id, exc_info=error)
        record = ErrorRecord("The engine failed; its log says more.", WorkflowRunsError.code, type(error).__name__)
        undoing = job.course is not None and job.course.is_undoing
        state = RunState.COMPENSATION_FAILED if undoing else RunState.FAILED
        try:
            unawaited(self._recorder(job).run_ended(state, error=record))
        except RecordingError as refused:
            _log.warning("run %s is left: %s", job.run_id, type(refused).__name__)

    def _hand_back(self, job: Job) -> None:
        """Give the run back, so that another process goes on at once. Never waits."""
        try:
            unawaited(self._recorder(job).run_changed(RunState.QUEUED, release=True))
        except RecordingError as refused:
            _log.warning("run %s is left: %s", job.run_id, type(refused).__name__)

    def _recorder(self, job: Job) -> RunRecorder:
        return RunRecorder(self._journal, self._clock, job.run_id, job.claim)

    # --- stopping -----------------------------------------------------------------------------------------------------

    def _cancel(self, run_id: str, reason: str | None) -> None:
        with self._lock:
            job = self._jobs.get(run_id)
            if job is None:
                return
            if job.course is None:
                job.cancel = (reason,)
                return
        if job.course.stop(Stop.CANCELLED, reason):
            interrupt(job)

    def _give_up_all(self) -> None:
        """Another process has the claims: write nothing, start nothing, cancel what can be."""
        self._stop_all(Stop.CLAIM_LOST)
        self._interrupt_all()

    def _stop_all(self, why: Stop) -> None:
        with self._lock:
            courses = [job.course for job in self._jobs.values() if job.course is not None]
        for course in courses:
            course.stop(why)

    def _interrupt_all(self) -> None:
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            interrupt(job)
