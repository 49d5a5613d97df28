"""A ground to drive single runs on: a real database and journal, no engine.

One body serves both kinds of workflow. It is a generator that yields what ``run.step`` gives: a value already in a plain workflow,
something to await in a coroutine workflow.

    def body(run):
        booking = yield run.step("book", book)
        yield run.step("charge", charge, booking)
        return booking
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from workflow_runs.authoring import RunFacts, Workflow
from workflow_runs.clock import Clock
from workflow_runs.execution.course import Course
from workflow_runs.execution.drive import Drive
from workflow_runs.execution.drive_async import AsyncDrive
from workflow_runs.execution.recorder import RunRecorder
from workflow_runs.execution.replay import History
from workflow_runs.execution.threads import Threads
from workflow_runs.journal import Journal
from workflow_runs.model.digests import digest
from workflow_runs.model.entries import StartRun, StepEnded, StepStarted
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind
from workflow_runs.store.opening import open_store


class Calls(list):
    """A step function's calls, and step functions that note them."""

    def give(self, value):
        def fn(*args):
            self.append(args)
            return value

        return fn

    def fail(self, error, times=1_000, then=None):
        def fn(*args):
            self.append(args)
            if len(self) <= times:
                raise error
            return then

        return fn


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def failing():
    """Return a function that makes a step function which raises an error."""
    return lambda error: Calls().fail(error)


class Ground:
    def __init__(self, url, is_async):
        self.is_async = is_async
        self.clock = Clock()
        self.store = open_store(url, clock=self.clock)
        self.store.migrate()
        self.journal = Journal(self.store)
        self.threads = Threads(8, "test-step")
        self.loop = asyncio.new_event_loop()
        self.loop_thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.loop_thread.start()
        self.course = None  # of the drive that goes on

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.loop_thread.join(10)
        self.loop.close()
        self.journal.close()
        self.store.close()

    def workflow(self, body, name="order", **options):
        def plain(run, input=None):
            steps = body(run) if input is None else body(run, input)
            value = None
            while True:
                try:
                    value = steps.send(value)
                except StopIteration as end:
                    return end.value

        async def coroutine(run, input=None):
            steps = body(run) if input is None else body(run, input)
            value, error = None, None
            while True:
                try:
                    awaited = steps.send(value) if error is None else steps.throw(error)
                except StopIteration as end:
                    return end.value
                try:
                    value, error = await awaited, None
                except BaseException as raised:  # noqa: BLE001  # thrown into the body, whatever it is
                    value, error = None, raised

        return Workflow(coroutine if self.is_async else plain, name, **options)

    def begin(self, workflow, input=None, **request):
        request = RunRequest(workflow.name, workflow.name, input, **request)
        return self.write(StartRun(self.clock.new_run_id(), request)).run_id

    def write(self, entry):
        return self.journal.submit(entry).result()

    def started(self, run_id, name, *, args=(), effect=EffectClass.UNSAFE):
        """Put on record what a process that died in the midst of a step leaves behind."""
        head = (run_id, None, StepKey(name), 1, 1, StepKind.STEP, effect, digest(args))
        self.write(StepStarted(*head, self.clock.now_millis()))

    def ended(self, run_id, name, state, *, output=None, error=None, args=(), sequence=1):
        now = self.clock.now_millis()
        head = (run_id, None, StepKey(name), 1, sequence, StepKind.STEP, EffectClass.UNSAFE, digest(args), now)
        self.write(StepEnded(*head, state, Origin.EXECUTED, output, error, now, 0))

    def drive(self, workflow, run_id, holds=lambda: True):
        """Execute a run, or take it up, from what is on record."""
        run = self.run(run_id)
        recorder = RunRecorder(self.journal, self.clock, run_id, None)
        state = run.state
        if state not in {RunState.RUNNING, RunState.COMPENSATING}:
            recorder.run_changed(RunState.RUNNING).result()
            state = RunState.RUNNING
        facts = RunFacts(
            id=run_id,
            workflow=workflow.name,
            input=workflow.input_codec.decode(run.input or "null"),
            chain_run_id=run.chain_run_id,
            effect=workflow.default_effect,
        )
        history = History.of(self.store.get_steps(run_id))
        self.course = Course(recorder, workflow, facts, history, holds, self.clock, state)
        if self.is_async:
            asyncio.run(self._drive_async(self.course))
        else:
            self.plain_drive = Drive(self.course, self.threads, self.loop)
            self.plain_drive.run()
        return self.run(run_id)

    async def _drive_async(self, course):
        self.async_drive = AsyncDrive(course, self.threads)
        await self.async_drive.run()

    def do(self, workflow, input=None, **request):
        """Start a run and execute it."""
        return self.drive(workflow, self.begin(workflow, input, **request))

    def run(self, run_id):
        return self.store.get_run(run_id)

    def steps(self, run):
        return {step.step.label(): step for step in self.store.get_steps(run.id)}

    def states(self, run):
        return {label: [str(attempt.state) for attempt in step.attempts] for label, step in self.steps(run).items()}


@pytest.fixture(params=["plain", "coroutine"])
def ground(request, database_url):
    ground = Ground(database_url, request.param == "coroutine")
    yield ground
    ground.close()


@pytest.fixture
def sqlite_ground(request, sqlite_url):
    """A ground for what cannot differ between databases; plain unless parametrised."""
    ground = Ground(sqlite_url, getattr(request, "param", "plain") == "coroutine")
    yield ground
    ground.close()
