"""How a workflow is written: the decorator, the run object, the current step. No engine: steps are taken by a stand-in."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass

import pytest

from workflow_runs.authoring import (
    BRANCH,
    CURRENT_STEP,
    AsyncRun,
    Retry,
    Run,
    RunFacts,
    StepContext,
    Workflow,
    current_step,
    workflow,
)
from workflow_runs.errors import ConfigurationError, InvalidRequest, ParallelStepNeedsKey, WorkflowError
from workflow_runs.model.states import EffectClass, StepKind

FACTS = RunFacts("wfrn_1", "order", {"a": 1}, "c-1", ("t",), "k", "u", 1, "wfrn_0", EffectClass.IDEMPOTENT)


@dataclass
class Order:
    id: str


class PlainSteps:
    """Calls each step's function and keeps the calls."""

    def __init__(self):
        self.calls = []

    def take(self, call):
        self.calls.append(call)
        return call.fn(*call.args) if call.fn else None

    def gather(self, branches):
        return [branch() for branch in branches]


class LoopSteps(PlainSteps):
    def take(self, call):
        self.calls.append(call)
        return self._take(call)

    async def _take(self, call):
        await asyncio.sleep(0)
        return call.fn(*call.args) if call.fn else None


@pytest.fixture
def steps():
    return PlainSteps()


@pytest.fixture
def run(steps):
    run = Run(FACTS, steps)
    mark = BRANCH.set(run)
    yield run
    BRANCH.reset(mark)


# --- the definition ----------------------------------------------------------------------------------------------------


def test_a_definition_is_still_the_function():
    @workflow("double", idempotency="safe", description="Doubles.", tags=["math"])
    def double(run, x: int) -> int:
        """Double it."""
        return 2 * x

    assert (double(None, 4), double.__doc__, double.__name__) == (8, "Double it.", "double")
    assert (double.name, double.idempotency, double.description, double.tags) == (
        "double",
        "safe",
        "Doubles.",
        ("math",),
    )
    assert (double.takes_input, double.is_async) == (True, False)


def test_input_and_result_are_typed_by_annotations_that_may_stand_further_down():
    async def book(run: NotImportedHere, order: Order) -> Order:  # noqa: F821  # as for a type checker alone
        return order

    definition = Workflow(book, "book")
    assert definition.is_async
    assert definition.input_codec.decode('{"id": "7"}') == Order("7")
    assert definition.output_codec.encode(Order("7"), "result") == '{"id":"7"}'


def test_an_input_type_that_nobody_knows_is_refused_when_first_asked_for():
    def book(run, order: Nowhere) -> None:  # noqa: F821
        pass

    with pytest.raises(ConfigurationError, match="Nowhere"):
        _ = Workflow(book, "book").input_codec


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"idempotency": "perhaps"},
        {"tags": "text"},
        {"tags": ["x" * 129]},
        {"tags": ["t"] * 51},
    ],
)
def test_an_unusable_option_is_refused_where_it_is_written(options):
    with pytest.raises(ConfigurationError):
        workflow(**{"name": "order", **options})(lambda run: None)


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda run, a, b: None, lambda run, *rest: None, lambda run, *, a: None, lambda run: (yield)],
    ids=["nothing", "too much", "rest", "keyword", "generator"],
)
def test_a_workflow_takes_a_run_and_at_most_an_input(function):
    with pytest.raises(ConfigurationError):
        Workflow(function, "order")


def test_the_code_version_follows_the_code_and_not_its_decoration():
    def one(run):
        return run.step("a", int)

    # The same again.
    def two(run):
        return run.step("a", int)  # with a comment

    def other(run):
        return run.step("b", int)

    two.__name__ = "one"
    versions = [Workflow(fn, "x").code_version for fn in (one, two, other)]
    assert len(set(versions)) == 3  # the name is part of the source
    assert Workflow(one, "x").code_version == Workflow(one, "y", description="else").code_version
    assert Workflow(one, "x", version="7").code_version == "7"


def test_a_function_without_source_has_a_version_too():
    made = {}
    exec("def made(run): return 1", made)
    assert len(Workflow(made["made"], "x").code_version) == 12


# --- the run object ------------------------------------------------------------------------------------------------------


def test_a_run_knows_its_facts(run):
    assert (run.id, run.workflow, run.input, run.correlation_id) == ("wfrn_1", "order", {"a": 1}, "c-1")
    assert (run.tags, run.idempotency_key, run.triggered_by_user_id, run.attempt) == (("t",), "k", "u", 1)


def test_the_effect_of_a_step_is_the_runs_unless_it_is_given_and_compensate_does_not_change_it(run, steps):
    run.step("a", int)
    run.step("b", int, compensate=print)
    run.step("c", int, effect="unsafe")
    run.step("d", int, effect=EffectClass.READ)
    assert [call.effect for call in steps.calls] == ["idempotent", "idempotent", "unsafe", "read"]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("a", 7), {}),
        (("a", int), {"effect": "harmless"}),
        (("a", int), {"timeout_s": 0}),
        (("", int), {}),
        (("a", int), {"key": ""}),
        (("a", int), {"key": "\x00"}),
    ],
    ids=["no function", "unknown effect", "no time", "no name", "empty key", "control character"],
)
def test_a_step_that_cannot_be_is_refused_and_says_why(run, steps, arguments, options):
    with pytest.raises((WorkflowError, InvalidRequest)):
        run.step(*arguments, **options)
    assert steps.calls == []


def test_now_is_a_kind_of_its_own_and_counts_with_steps_of_its_name(run, steps):
    run.now()
    run.step("now", int)
    run.now()
    assert [(call.kind, call.step.occurrence) for call in steps.calls] == [
        (StepKind.NOW, 1),
        (StepKind.STEP, 2),
        (StepKind.NOW, 3),
    ]


def test_random_is_a_fraction(run):
    drawn = [run.random() for _ in range(100)]
    assert all(0 <= number < 1 for number in drawn)
    assert len(set(drawn)) == 100


def test_a_name_used_again_in_another_thread_needs_a_key(run):
    raised = []

    def elsewhere():
        try:
            run.step("send", int)
        except ParallelStepNeedsKey as error:
            raised.append(str(error))

    run.step("send", int)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert "key=" in raised[0]


def test_a_name_used_again_inside_its_own_step_function_is_refused(run):
    mark = CURRENT_STEP.set(StepContext("wfrn_1", "outer", "", 1, ()))
    with pytest.raises(WorkflowError, match="inside step 'outer'"):
        run.step("inner", int)
    CURRENT_STEP.reset(mark)


def test_log_lines_name_the_run(run, caplog):
    with caplog.at_level(logging.INFO, "workflow_runs.run"):
        run.log.info("off %s", "we go")
    assert caplog.messages == ["[wfrn_1] off we go"]
    assert caplog.records[0].run_id == "wfrn_1"


def test_the_current_step_is_known_only_inside_one():
    with pytest.raises(WorkflowError):
        current_step()


# --- coroutine runs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def async_run():
    def make():
        return AsyncRun(FACTS, LoopSteps())

    return make


async def test_identity_is_settled_by_the_call_and_not_by_the_awaiting(async_run):
    run = async_run()
    first, second = run.step("a", lambda: 1), run.step("b", lambda: 2)
    assert (await second, await first) == (2, 1)
    assert [call.step.name for call in run._steps.calls] == ["a", "b"]


async def test_a_repeated_name_is_counted_once_the_call_before_has_ended(async_run):
    run = async_run()
    await run.step("send", int)
    await run.step("send", int)
    assert [call.step.occurrence for call in run._steps.calls] == [1, 2]


async def test_a_repeated_name_is_refused_while_the_call_before_is_pending(async_run):
    run = async_run()
    pending = run.step("send", int)
    with pytest.raises(ParallelStepNeedsKey):
        run.step("send", int)
    await pending
    await run.gather(run.step("send", int, key="a"), run.step("send", int, key="b"))


async def test_a_repeated_name_in_a_branch_is_refused(async_run):
    run = async_run()

    async def branch():
        return await run.step("send", int)

    with pytest.raises(ParallelStepNeedsKey):
        await run.gather(branch(), branch())


async def test_gather_waits_for_all_before_it_raises_the_first_in_order(async_run):
    run = async_run()
    ended = []

    async def slow():
        await asyncio.sleep(0.01)
        ended.append("slow")
        raise ValueError("first in order")

    async def quick():
        raise KeyError("first in time")

    with pytest.raises(ValueError, match="first in order"):
        await run.gather(slow(), quick())
    assert ended == ["slow"]


async def test_gather_gives_results_in_order(async_run):
    run = async_run()
    assert await run.gather(*(run.step("n", lambda n: n, n, key=str(n)) for n in range(3))) == [0, 1, 2]


def test_retry_is_public_here_too():
    assert Retry().attempts == 3
