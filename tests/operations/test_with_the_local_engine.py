"""The desk with an engine that executes: what the plan says is what happens, and what was done is not done again."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from workflow_runs import StepFailed, WorkflowRuns, workflow
from workflow_runs.errors import AlreadyResumed, RerunBlocked
from workflow_runs.model.records import StepKey
from workflow_runs.model.states import Origin, RunState


class World:
    """The outside world: counts effects, and refuses those of steps that are out of order."""

    def __init__(self):
        self.effects = Counter()
        self.broken = set()
        self.entered = threading.Event()

    def touch(self, what):
        self.effects[what] += 1
        if what in self.broken:
            raise ConnectionError(f"{what} is out of order")
        return {"done": what}


@pytest.fixture
def world():
    return World()


@pytest.fixture
def serve(database_url):
    """Return a maker of started desks for the workflows given."""
    started = []

    def serve(*workflows, **options):
        runs = WorkflowRuns(database_url, workflows, migrate=True, **options)
        runs.start()
        started.append(runs)
        return runs

    yield serve
    for runs in started:
        runs.close()


def sell(world):
    @workflow("sell", idempotency="unsafe")
    def sell(run):
        reserved = run.step("reserve", world.touch, "reserve")
        try:
            run.step("look up", world.touch, "look up", effect="read")
        except StepFailed:
            run.log.info("goes on without")
        paid = [run.step("charge", world.touch, f"charge {part}") for part in (1, 2, 3)]
        return {"reserved": reserved, "paid": paid, "at": run.now().isoformat(), "id": str(run.uuid())}

    return sell


def sell_async(world):
    @workflow("sell", idempotency="unsafe")
    async def sell(run):
        reserved = await run.step("reserve", world.touch, "reserve")
        try:
            await run.step("look up", world.touch, "look up", effect="read")
        except StepFailed:
            run.log.info("goes on without")
        paid = [await run.step("charge", world.touch, f"charge {part}") for part in (1, 2, 3)]
        return {"reserved": reserved, "paid": paid, "at": (await run.now()).isoformat(), "id": str(run.uuid())}

    return sell


@pytest.mark.parametrize("define", [sell, sell_async])
def test_a_resume_executes_what_was_planned_and_nothing_else(serve, world, define):
    world.broken = {"look up", "charge 3"}
    runs = serve(define(world))
    failed = runs.wait(runs.trigger("sell"))
    assert (failed.state, failed.error.step_name) == (RunState.FAILED, "charge")
    plan = runs.desk.plan(failed.id, "resume")
    assert [key.label() for key in plan.kept] == ["reserve", "charge", "charge#2"]
    assert [key.label() for key in plan.executed] == ["look up", "charge#3"]

    world.broken = set()
    resumed = runs.wait(runs.desk.resume(failed.id, plan_hash=plan.hash).run_id)
    assert resumed.state is RunState.SUCCEEDED
    assert world.effects == {"reserve": 1, "charge 1": 1, "charge 2": 1, "charge 3": 2, "look up": 2}
    steps = runs.desk.get_run(resumed.id).steps
    executed = [step.step for step in steps if step.last.origin is Origin.EXECUTED and step.kind == "step"]
    assert tuple(executed) == plan.executed


def test_a_resume_of_a_resume_goes_on_from_there(serve, world):
    world.broken = {"charge 1"}
    runs = serve(sell(world))
    first = runs.wait(runs.trigger("sell")).id
    world.broken = {"charge 3"}
    second = runs.wait(runs.desk.resume(first).run_id)
    assert (second.state, second.resume_from) == (RunState.FAILED, StepKey("charge"))
    world.broken = set()
    third = runs.wait(runs.desk.resume(second.id).run_id)
    assert (third.state, third.resume_from) == (RunState.SUCCEEDED, StepKey("charge", "", 3))
    assert world.effects == {"reserve": 1, "look up": 1, "charge 1": 2, "charge 2": 1, "charge 3": 2}


def test_a_chosen_step_and_what_follows_is_executed_again(serve, world):
    world.broken = {"charge 3"}
    runs = serve(sell(world))
    failed = runs.wait(runs.trigger("sell")).id
    world.broken = set()
    assert runs.wait(runs.desk.resume(failed, from_step="charge#2").run_id).state is RunState.SUCCEEDED
    assert world.effects == {"reserve": 1, "look up": 1, "charge 1": 1, "charge 2": 2, "charge 3": 2}


def test_a_rerun_executes_every_step_again(serve, world):
    runs = serve(sell(world))
    first = runs.wait(runs.trigger("sell"))
    again = runs.wait(runs.desk.rerun(first.id, confirm=True).run_id)
    assert again.state is RunState.SUCCEEDED
    assert set(world.effects.values()) == {2}
    assert runs.desk.plan(first.id, "rerun").rest_known


def test_of_parallel_steps_only_the_failed_one_is_executed_again(serve, world):
    @workflow("notify all")
    async def notify_all(run):
        names = ("ann", "bob", "cyd")
        return await run.gather(*(run.step("notify", world.touch, name, key=name) for name in names))

    world.broken = {"bob"}
    runs = serve(notify_all)
    failed = runs.wait(runs.trigger("notify all"))
    plan = runs.desk.plan(failed.id, "resume")
    world.broken = set()
    assert plan.target == StepKey("notify", "bob")
    assert runs.wait(runs.desk.resume(failed.id).run_id).state is RunState.SUCCEEDED
    assert world.effects == {"ann": 1, "bob": 2, "cyd": 1}


def test_fifty_resumes_at_once_repeat_one_effect_once(serve, world):
    world.broken = {"charge 3"}
    runs = serve(sell(world))
    failed = runs.wait(runs.trigger("sell")).id
    world.broken = set()
    barrier = threading.Barrier(50)

    def click(_number):
        barrier.wait(30)
        try:
            return runs.desk.resume(failed).run_id
        except AlreadyResumed as refusal:
            return refusal.details["runId"]

    with ThreadPoolExecutor(50) as pool:
        [resumed] = set(pool.map(click, range(50)))
    assert runs.wait(resumed).state is RunState.SUCCEEDED
    assert world.effects["charge 3"] == 2


def test_a_run_that_executes_is_cancelled(serve, world):
    @workflow("hold")
    async def hold(run):
        async def wait():
            world.entered.set()
            await asyncio.Event().wait()

        await run.step("wait", wait)
        await run.step("never", world.touch, "never")

    runs = serve(hold)
    run_id = runs.trigger("hold")
    assert world.entered.wait(30)
    assert runs.desk.cancel(run_id, reason="ordered twice").status == "running"
    ended = runs.wait(run_id)
    assert (ended.state, ended.error.message) == (RunState.CANCELLED, "ordered twice")
    assert world.effects == {}


def test_coroutine_guards_run_on_the_engines_loop(serve, world):
    threads = []

    async def guard(_run, _plan, _actor):
        threads.append(threading.current_thread())
        return "the month is closed"

    runs = serve(sell(world))
    runs.registry.register(replace(runs.registry.get("sell"), name="guarded", can_rerun=guard))
    finished = runs.wait(runs.trigger("guarded")).id
    with pytest.raises(RerunBlocked, match="the month is closed"):
        runs.desk.rerun(finished, confirm=True)
    assert threads != [threading.current_thread()]
