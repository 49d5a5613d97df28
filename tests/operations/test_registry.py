"""The registry, runners, and what a handler's context puts into a request."""

from dataclasses import dataclass, replace

import pytest

from workflow_runs.authoring import workflow
from workflow_runs.engines.base import Capabilities
from workflow_runs.errors import CannotEncode, ConfigurationError, InvalidInput
from workflow_runs.model.entries import RunStarted
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import Action, Seed
from workflow_runs.model.states import Idempotency, StepKind
from workflow_runs.operations.registry import (
    RerunContext,
    ResumeContext,
    Runner,
    TriggerContext,
    WorkflowRunnerRegistry,
    workflow_runner,
)


@dataclass
class Order:
    id: int


@workflow("checkout", idempotency="safe", description="Sells.", tags=["area:shop"], version="v7")
def checkout(run, order: Order):
    """Sell."""


class KeepingEngine:
    """An engine that keeps requests and executes none."""

    capabilities = Capabilities()

    def __init__(self):
        self.requests = []

    def start(self, request):
        self.requests.append(request)
        return RunStarted(f"wfrn_{len(self.requests)}", created=True)

    def wait_for(self, awaitable):
        raise AssertionError

    def request_cancel(self, run_id):
        raise AssertionError


def trigger_context(**fields):
    return TriggerContext(workflow_name="checkout", action=Action("trigger"), **fields)


def rerun_context(**fields):
    return RerunContext(
        workflow_name="checkout", action=Action("rerun"), parent_run_id="wfrn_p", root_run_id="wfrn_r", **fields
    )


def resume_context(*seeds, **fields):
    return ResumeContext(
        workflow_name="checkout",
        action=Action("resume", claims_failure=True),
        parent_run_id="wfrn_p",
        root_run_id="wfrn_r",
        chain_run_id="wfrn_c",
        resume_from=StepKey("charge", "", 2),
        seeds=seeds,
        **fields,
    )


def test_a_name_is_registered_once():
    registry = WorkflowRunnerRegistry([Runner("a", "safe")])
    with pytest.raises(ConfigurationError, match="'a' is registered already"):
        registry.register(Runner("a", "unsafe"))


def test_runners_are_found_by_name_and_listed_in_order():
    b, a = Runner("b", "safe"), Runner("a", "safe")
    registry = WorkflowRunnerRegistry([b, a])
    assert (registry.list(), registry.get("a"), registry.has("b")) == ((b, a), a, True)
    assert (registry.get("c"), registry.has("c")) == (None, False)


def test_a_runner_has_one_of_three_policies():
    assert Runner("a", "resume-only").idempotency is Idempotency.RESUME_ONLY
    with pytest.raises(ConfigurationError, match="safe, unsafe, resume-only"):
        Runner("a", "sometimes")


@pytest.mark.parametrize("name", ["", "x" * 201, "two\nlines", 7])
def test_a_runner_has_a_name_that_runs_can_be_recorded_under(name):
    with pytest.raises(ConfigurationError):
        Runner(name, "safe")


def test_a_trigger_records_what_the_caller_gave_and_the_workflows_own_tags():
    context = trigger_context(
        input_json='{"id":1}',
        triggered_by_user_id="ann",
        correlation_id="c1",
        tags=("x", "area:shop"),
        idempotency_key="k",
    )
    request = context.request(checkout)
    assert (request.workflow_name, request.definition, request.code_version) == ("checkout", "checkout", "v7")
    assert (request.trigger, request.input, request.tags) == ("api", '{"id":1}', ("x", "area:shop"))
    assert (request.correlation_id, request.triggered_by_user_id, request.idempotency_key) == ("c1", "ann", "k")
    assert (request.parent_run_id, request.root_run_id, request.chain_run_id) == (None, None, None)
    assert request.action is context.action


def test_a_tag_that_the_caller_gave_twice_is_recorded_twice():
    assert trigger_context(input_json="{}", tags=("x", "x")).request(checkout).tags == ("area:shop", "x", "x")


def test_a_rerun_keeps_the_root_and_begins_a_chain_of_its_own():
    request = rerun_context(input_json="{}", tags=("x",)).request(checkout)
    assert (request.trigger, request.tags) == ("manual.rerun", ("x", "rerun:true"))
    assert (request.parent_run_id, request.root_run_id, request.chain_run_id) == ("wfrn_p", "wfrn_r", None)
    assert (request.seeds, request.resume_from) == ((), None)


def test_a_resume_keeps_root_and_chain_and_carries_the_seeds():
    seed = Seed(StepKey("reserve"), 1, '{"ref":"r1"}')
    request = resume_context(seed, tags=("x", "resume:true")).request(checkout)
    assert (request.trigger, request.tags) == ("manual.resume", ("x", "resume:true", "resume:true"))
    assert (request.parent_run_id, request.root_run_id, request.chain_run_id) == ("wfrn_p", "wfrn_r", "wfrn_c")
    assert (request.seeds, request.resume_from) == ((seed,), StepKey("charge", "", 2))


def test_a_handler_may_choose_name_trigger_tags_and_input():
    context = rerun_context(input_json='{"id":1}', tags=("x",))
    request = context.request(
        checkout, input=Order(2), workflow_name="orphan", trigger="schedule:nightly", tags=["only"]
    )
    assert (request.workflow_name, request.definition) == ("orphan", "checkout")
    assert (request.input, request.trigger, request.tags) == ('{"id":2}', "schedule:nightly", ("only",))


def test_an_input_that_would_not_come_back_equal_is_refused():
    with pytest.raises(CannotEncode):
        rerun_context().request(checkout, input=object())


def test_a_workflow_that_another_process_holds_is_requested_by_its_name():
    request = trigger_context(input_json="[1]").request("elsewhere", input={"a": 1})
    assert (request.definition, request.workflow_name, request.code_version) == ("elsewhere", "checkout", None)
    assert request.input == '{"a":1}'


def test_seed_results_are_decoded_by_label_in_order():
    context = resume_context(
        Seed(StepKey("charge"), 1, "[1]"),
        Seed(StepKey("now"), 2, '"2026"', kind=StepKind.NOW),
        Seed(StepKey("charge", "", 2), 3, "7"),
        Seed(StepKey("notify", "ann"), 4, None),
    )
    assert context.seed_results == {"charge": [1], "charge#2": 7, "notify[ann]": None}
    assert context.resume_from_step == "charge#2"


def test_the_default_handlers_start_the_workflow_on_the_engine():
    engine = KeepingEngine()
    runner = workflow_runner(checkout, engine)
    ids = [
        runner.trigger({}, trigger_context()),
        runner.rerun({}, rerun_context()),
        runner.resume({}, resume_context()),
    ]
    assert ids == ["wfrn_1", "wfrn_2", "wfrn_3"]
    assert [request.trigger for request in engine.requests] == ["api", "manual.rerun", "manual.resume"]
    assert (runner.name, runner.description, runner.policy) == ("checkout", "Sells.", Idempotency.SAFE)


def test_a_handler_of_the_default_runner_can_be_exchanged():
    runner = replace(workflow_runner(checkout, KeepingEngine()), trigger=None)
    assert (runner.trigger, runner.workflow) == (None, checkout)


def test_a_resume_only_workflow_has_no_rerun_handler():
    @workflow("once", idempotency="resume-only")
    def once(run):
        """Do nothing."""

    assert workflow_runner(once, KeepingEngine()).rerun is None


def test_a_declared_input_is_checked():
    runner = workflow_runner(checkout, KeepingEngine())
    runner.check_input('{"id":1}')
    with pytest.raises(InvalidInput) as caught:
        runner.check_input('{"id":"secret"}')
    assert "secret" not in str(caught.value)


def test_a_runner_may_check_the_input_itself():
    def refuse(_text):
        raise InvalidInput("not today", field="input")

    with pytest.raises(InvalidInput, match="not today"):
        Runner("a", "safe", validate_input=refuse).check_input("{}")


def test_a_runner_that_declares_nothing_takes_any_input():
    Runner("a", "safe").check_input("[null]")
