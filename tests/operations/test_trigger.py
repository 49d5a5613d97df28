"""Starting runs: what is recorded, what is refused and in which order."""

import asyncio

import pytest

from workflow_runs.errors import (
    AlreadyResumed,
    CannotEncode,
    HandlerFailed,
    InvalidInput,
    InvalidRequest,
    NotConfigured,
    RunnerNotRegistered,
    StoreUnavailable,
)
from workflow_runs.operations.desk import Desk
from workflow_runs.operations.registry import Runner


def test_a_trigger_stores_the_run_before_it_answers(shop):
    accepted = shop.desk.trigger(
        "checkout", '{"order": 7}', actor="ann", correlation_id="c1", tags=["x"], idempotency_key="k1", request_id="q1"
    )
    run = shop.run(accepted.run_id)
    assert accepted.workflow_name == "checkout"
    assert (run.workflow_name, run.trigger, run.input, run.tags) == ("checkout", "api", '{"order": 7}', ("x",))
    assert (run.correlation_id, run.triggered_by_user_id, run.idempotency_key) == ("c1", "ann", "k1")
    assert (run.root_run_id, run.chain_run_id, run.parent_run_id) == (run.id, run.id, None)


def test_a_trigger_leaves_an_audit_entry(shop):
    run_id = shop.desk.trigger("checkout", actor="ann", request_id="q1").run_id
    [entry] = shop.audit(run_id)
    assert (entry.action, entry.actor, entry.request_id, entry.target_run_id) == ("trigger", "ann", "q1", None)
    assert (entry.run_id, entry.workflow_name) == (run_id, "checkout")


def test_no_input_counts_as_an_empty_object_and_null_stays_null(shop):
    assert shop.run(shop.desk.trigger("checkout").run_id).input == "{}"
    assert shop.run(shop.desk.trigger("checkout", "null").run_id).input == "null"


def test_a_process_without_a_registry_triggers_nothing(shop):
    with pytest.raises(NotConfigured) as caught:
        Desk(shop.store, shop.journal, None, shop.engine).trigger("checkout")
    assert caught.value.code == "trigger_not_configured"


def test_an_unknown_workflow_is_refused(shop):
    with pytest.raises(RunnerNotRegistered) as caught:
        shop.desk.trigger("nobody")
    assert caught.value.details["action"] == "trigger"


def test_a_runner_without_a_trigger_handler_is_refused(shop):
    shop.register("silent", trigger=None)
    with pytest.raises(NotConfigured) as caught:
        shop.desk.trigger("silent")
    assert caught.value.code == "trigger_not_supported"


def test_an_input_of_another_type_than_declared_is_refused(sqlite_shop):
    with pytest.raises(InvalidInput) as caught:
        sqlite_shop.desk.trigger("typed", '{"id":"secret"}')
    assert "secret" not in str(caught.value)


def test_an_input_that_is_no_json_is_refused(sqlite_shop):
    with pytest.raises(InvalidInput):
        sqlite_shop.desk.trigger("checkout", '{"half"')


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"correlation_id": ""}, "correlationId"),
        ({"correlation_id": "x" * 256}, "correlationId"),
        ({"idempotency_key": "a\nb"}, "idempotencyKey"),
        ({"tags": ["x"] * 51}, "tags"),
        ({"tags": ["x", "y" * 129]}, "tags[1]"),
        ({"tags": ["\ud800"]}, "tags[0]"),
    ],
)
def test_fields_are_bounded_and_named(sqlite_shop, fields, named):
    with pytest.raises(InvalidRequest) as caught:
        sqlite_shop.desk.trigger("checkout", **fields)
    assert caught.value.field == named


def test_a_python_value_is_encoded_by_the_declared_type(shop):
    accepted = shop.desk.trigger_value("typed", {"id": 1})
    assert shop.run(accepted.run_id).input == '{"id":1}'
    with pytest.raises(CannotEncode):
        shop.desk.trigger_value("typed", {"id": "x"})
    with pytest.raises(CannotEncode):
        shop.desk.trigger_value("checkout", object())


def test_a_handlers_exception_is_told_with_its_own_message(sqlite_shop):
    def broken(_input, _context):
        raise ValueError("no stock left")

    sqlite_shop.register("broken", trigger=broken)
    with pytest.raises(HandlerFailed) as caught:
        sqlite_shop.desk.trigger("broken")
    assert (caught.value.code, str(caught.value)) == ("trigger_failed", "no stock left")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("answer", [None, 7, "", {}, {"runId": 7}, object(), "two\nlines", "x" * 256])
def test_a_handler_that_gives_no_run_id_has_failed(sqlite_shop, answer):
    sqlite_shop.register("mute", trigger=lambda _input, _context: answer)
    with pytest.raises(HandlerFailed, match="gave no run id") as caught:
        sqlite_shop.desk.trigger("mute")
    assert caught.value.code == "trigger_failed"


def test_a_handler_gives_the_run_id_in_one_of_several_forms(shop):
    forms = {
        "text": lambda started: started.run_id,
        "object": lambda started: started,
        "camel": lambda started: {"runId": started.run_id},
        "snake": lambda started: {"run_id": started.run_id},
    }
    for name, form in forms.items():

        def start(_input, context, form=form):
            return form(shop.engine.start(context.request("checkout")))

        shop.register(name, trigger=start)
        assert shop.run(shop.desk.trigger(name).run_id).workflow_name == name


def test_a_handler_may_be_a_coroutine_function(shop):
    async def start(_input, context):
        await asyncio.sleep(0)
        return shop.engine.start(context.request("checkout"))

    shop.register("later", trigger=start)
    assert shop.run(shop.desk.trigger("later").run_id).workflow_name == "later"


def test_a_coroutine_handler_without_an_engine_fails_and_says_why(sqlite_shop):
    async def start(_input, _context):
        return "wfrn_1"

    sqlite_shop.register("later", trigger=start)
    with pytest.raises(HandlerFailed, match="needs an engine"):
        Desk(sqlite_shop.store, sqlite_shop.journal, sqlite_shop.registry, None).trigger("later")


def test_a_handler_is_handed_the_decoded_input_and_the_text(shop):
    seen = []

    def start(input, context):
        seen.append((input, context.input_json))
        return shop.engine.start(context.request("checkout"))

    shop.register("seeing", trigger=start)
    shop.desk.trigger("seeing", '{"a": [1]}')
    assert seen == [({"a": [1]}, '{"a": [1]}')]


def test_a_run_may_be_recorded_under_another_name_than_its_runners(shop):
    def start(_input, context):
        return shop.engine.start(context.request("checkout", workflow_name="orphan"))

    shop.register("maker", trigger=start)
    accepted = shop.desk.trigger("maker")
    run = shop.run(accepted.run_id)
    assert (accepted.workflow_name, run.workflow_name, run.definition) == ("maker", "orphan", "checkout")


def test_a_run_that_a_handler_made_elsewhere_still_gets_its_audit_entry(shop):
    shop.registry.register(Runner("foreign", "safe", trigger=lambda _input, _context: "job-17"))
    assert shop.desk.trigger("foreign", actor="ann").run_id == "job-17"
    [entry] = shop.audit("job-17")
    assert (entry.action, entry.actor, entry.workflow_name) == ("trigger", "ann", "foreign")


def test_a_handler_that_answers_with_an_older_run_has_acted_too(shop):
    older = shop.desk.trigger("checkout", actor="ann").run_id
    shop.register("joining", trigger=lambda _input, _context: older)
    shop.desk.trigger("joining", actor="bob")
    assert [entry.actor for entry in shop.audit(older)] == ["ann", "bob"]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), AlreadyResumed("late", runId="x"), InvalidInput("no")])
def test_what_the_engine_says_passes_through_the_handler(sqlite_shop, error):
    def start(_input, _context):
        raise error

    sqlite_shop.register("passing", trigger=start)
    with pytest.raises(type(error)) as caught:
        sqlite_shop.desk.trigger("passing")
    assert caught.value is error
