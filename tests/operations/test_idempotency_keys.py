"""The same key gives the same answer, whatever became of the run; another request under it is refused."""

import pytest

from workflow_runs.errors import IdempotencyKeyReused
from workflow_runs.model.states import RunState


def test_the_same_trigger_gives_the_same_run_while_it_is_in_flight_and_after(shop):
    first = shop.desk.trigger("checkout", "[1]", idempotency_key="k", tags=["x"])
    assert shop.desk.trigger("checkout", "[1]", idempotency_key="k", tags=["x"]) == first
    shop.end(first.run_id, RunState.CANCELLED)
    assert shop.desk.trigger("checkout", "[1]", idempotency_key="k", tags=["x"]) == first


@pytest.mark.parametrize("other", [{"input_json": "[2]"}, {"tags": ["y"]}, {"correlation_id": "c"}])
def test_another_trigger_under_the_same_key_is_refused(shop, other):
    shop.desk.trigger("checkout", "[1]", idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        shop.desk.trigger("checkout", **{"input_json": "[1]", **other}, idempotency_key="k")


def test_the_hash_of_the_front_door_decides_where_it_gives_one(shop):
    first = shop.desk.trigger("checkout", "[1]", idempotency_key="k", request_hash="h")
    assert shop.desk.trigger("checkout", "[ 1 ]", idempotency_key="k", request_hash="h") == first


def test_a_key_belongs_to_its_workflow(shop):
    first = shop.desk.trigger("checkout", idempotency_key="k")
    assert shop.desk.trigger("payout", idempotency_key="k").run_id != first.run_id


def test_a_key_belongs_to_its_run_and_action(shop):
    one, other = shop.failed(), shop.failed()
    made = [
        shop.desk.rerun(one, idempotency_key="k"),
        shop.desk.rerun(other, idempotency_key="k"),
        shop.desk.resume(one, idempotency_key="k"),
    ]
    assert len({accepted.run_id for accepted in made}) == 3


def test_the_same_resume_gives_the_same_answer_before_any_state_is_looked_at(shop):
    parent = shop.failed()
    first = shop.desk.resume(parent, idempotency_key="k")
    assert shop.desk.resume(parent, idempotency_key="k") == first
    shop.end(first.run_id, RunState.SUCCEEDED)
    assert shop.desk.resume(parent, idempotency_key="k") == first
    assert (first.parent_run_id, first.resume_from_step) == (parent, "charge")


def test_the_same_rerun_needs_no_second_confirmation(shop):
    parent = shop.failed("payout")
    first = shop.desk.rerun(parent, confirm=True, idempotency_key="k")
    assert shop.desk.rerun(parent, idempotency_key="k") == first


def test_the_same_key_from_another_step_is_another_request(shop):
    parent = shop.failed()
    shop.desk.resume(parent, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        shop.desk.resume(parent, idempotency_key="k", from_step="reserve")


def test_a_repeated_request_calls_no_handler_and_leaves_no_second_audit_entry(shop):
    calls = []

    def start(_input, context):
        calls.append(context.idempotency_key)
        return shop.engine.start(context.request("checkout"))

    shop.register("counting", trigger=start)
    run_id = shop.desk.trigger("counting", idempotency_key="k").run_id
    shop.desk.trigger("counting", idempotency_key="k")
    assert (calls, len(shop.audit(run_id))) == (["k"], 1)


def test_a_key_of_a_run_made_elsewhere_is_kept_too(shop):
    made = iter(["job-1", "job-2"])
    shop.register("foreign", trigger=lambda _input, _context: next(made), rerun=lambda _input, _context: next(made))
    assert [shop.desk.trigger("foreign", idempotency_key="k").run_id for _ in range(2)] == ["job-1", "job-1"]
    parent = shop.failed("foreign")
    answers = [shop.desk.rerun(parent, idempotency_key="k") for _ in range(2)]
    assert [answer.run_id for answer in answers] == ["job-2", "job-2"]
