"""How one run proceeds, the same for plain and coroutine workflows, on both databases."""

from __future__ import annotations

import asyncio
import json

import pytest

from workflow_runs.authoring import NOT_DONE, Retry, current_step
from workflow_runs.errors import Fatal, StepDrift, StepFailed, StepTimeout
from workflow_runs.model.digests import digest
from workflow_runs.model.records import ErrorRecord, StepKey
from workflow_runs.model.requests import Seed
from workflow_runs.model.states import EffectClass, StepState

QUICK = Retry(attempts=3, first_delay_s=0.001)


# --- outputs and order -------------------------------------------------------------------------------------------------


def test_steps_are_recorded_in_the_order_of_their_calls_with_their_outputs(ground):
    def body(run):
        first = yield run.step("first", lambda: 1)
        second = yield run.step("second", lambda x: x + 1, first)
        return [first, second]

    run = ground.do(ground.workflow(body))
    assert (run.state, json.loads(run.result)) == ("succeeded", [1, 2])
    assert [(s.sequence, s.step.name, s.last.output) for s in ground.store.get_steps(run.id)] == [
        (1, "first", "1"),
        (2, "second", "2"),
    ]


def test_the_workflow_sees_the_value_after_its_journey_through_json(ground):
    given = {"items": [1]}

    def body(run):
        seen = yield run.step("give", lambda: given)
        return seen == given and seen is not given

    assert ground.do(ground.workflow(body)).result == "true"


def test_coroutine_and_plain_step_functions_serve_both_kinds_of_workflow(ground):
    async def later(x):
        await asyncio.sleep(0)
        return x

    def body(run):
        one = yield run.step("coroutine", later, 1)
        two = yield run.step("plain", lambda: 2)
        three = yield run.step("plain that makes a coroutine", lambda: later(3))
        return one + two + three

    assert ground.do(ground.workflow(body)).result == "6"


def test_a_name_used_again_is_counted(ground):
    def body(run):
        for number in range(3):
            yield run.step("send", lambda n: n, number)

    run = ground.do(ground.workflow(body))
    assert {label: step.last.output for label, step in ground.steps(run).items()} == {
        "send": "0",
        "send#2": "1",
        "send#3": "2",
    }


def test_an_output_that_would_not_come_back_equal_fails_the_run_and_is_not_tried_again(ground, calls):
    def body(run):
        yield run.step("odd", calls.give({"when": object()}), retry=QUICK)

    run = ground.do(ground.workflow(body))
    assert (run.state, len(calls), run.error.step_name, run.error.code) == ("failed", 1, "odd", "cannot_encode")
    assert "$.when is a object" in run.error.message


def test_a_result_that_would_not_come_back_equal_fails_the_run(ground):
    def body(run):
        yield run.step("one", lambda: 1)
        return {1, 2}

    run = ground.do(ground.workflow(body))
    assert (run.state, run.error.code) == ("failed", "cannot_encode")


def test_the_clock_is_read_once_and_then_from_the_record(ground):
    seen = []

    def body(run):
        seen.append((yield run.now()))
        yield run.step("wait", lambda: None)

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.ended(run_id, "wait", StepState.FAILED, error=ErrorRecord("x"), sequence=2)
    ground.drive(workflow, run_id)
    second = ground.begin(workflow, seeds=(seed_of(ground, run_id, "now"),), chain_run_id=run_id)
    ground.drive(workflow, second)
    assert seen[0] == seen[1]
    assert seen[0].tzinfo is not None


def seed_of(ground, run_id, name):
    step = next(s for s in ground.store.get_steps(run_id) if s.step.name == name)
    return Seed(step.step, step.sequence, step.last.output, step.kind, step.effect, step.input_digest)


def test_uuid_and_random_are_the_same_in_a_resume_and_different_in_another_run(ground):
    drawn = []

    def body(run):
        drawn.append((run.uuid(), run.uuid(), run.random()))
        yield run.step("one", lambda: 1)

    workflow = ground.workflow(body)
    first = ground.do(workflow)
    ground.do(workflow, chain_run_id=first.id)
    ground.do(workflow)
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]


# --- failures and retries ----------------------------------------------------------------------------------------------


def test_a_failing_step_fails_the_run_with_its_own_message_and_name(ground, failing):
    def body(run):
        yield run.step("charge", failing(ValueError("card declined")))

    run = ground.do(ground.workflow(body))
    assert (run.state, run.error.message, run.error.step_name, run.error.type_name) == (
        "failed",
        "card declined",
        "charge",
        "ValueError",
    )


def test_an_error_outside_of_any_step_names_no_step(ground):
    def body(run):
        yield run.step("one", lambda: 1)
        raise KeyError("lost")

    run = ground.do(ground.workflow(body))
    assert (run.state, run.error.step_name, run.error.type_name) == ("failed", None, "KeyError")


def test_every_attempt_is_a_row_that_stays(ground, calls):
    def body(run):
        return (yield run.step("flaky", calls.fail(ConnectionError("away"), times=2, then="there"), retry=QUICK))

    run = ground.do(ground.workflow(body))
    assert (run.result, ground.states(run)) == ('"there"', {"flaky": ["failed", "failed", "succeeded"]})


def test_a_step_whose_attempts_are_used_up_raises_step_failed(ground, calls):
    def body(run):
        try:
            yield run.step("down", calls.fail(ConnectionError("away")), retry=QUICK)
        except StepFailed as failure:
            return [str(failure), failure.type_name, type(failure.__cause__).__name__]

    run = ground.do(ground.workflow(body))
    assert (json.loads(run.result), len(calls)) == (["away", "ConnectionError", "ConnectionError"], 3)


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (Fatal("no"), QUICK),
        (ValueError("no"), Retry(attempts=3, first_delay_s=0, retry_on=(OSError,))),
        (KeyError("no"), Retry(attempts=3, first_delay_s=0, never_on=(LookupError,))),
    ],
    ids=["fatal", "not listed", "listed as never"],
)
def test_the_class_of_the_error_decides_whether_it_is_tried_again(ground, calls, error, retry):
    def body(run):
        yield run.step("once", calls.fail(error), retry=retry)

    ground.do(ground.workflow(body))
    assert len(calls) == 1


def test_a_failure_on_record_takes_the_same_except_branch_and_is_not_executed_again(ground, calls):
    def body(run):
        try:
            yield run.step("down", calls.give(1))
        except StepFailed as failure:
            return [str(failure), failure.type_name, failure.error_code]

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.ended(run_id, "down", StepState.FAILED, error=ErrorRecord("away", "E1", "ConnectionError"))
    assert json.loads(ground.drive(workflow, run_id).result) == ["away", "ConnectionError", "E1"]
    assert calls == []


def test_attempts_go_on_counting_after_a_crash(ground, calls):
    def body(run):
        yield run.step("down", calls.fail(ConnectionError("away")), retry=QUICK)

    workflow = ground.workflow(body, idempotency="safe")
    run_id = ground.begin(workflow)
    ground.ended(run_id, "down", StepState.FAILED, error=ErrorRecord("away", None, "ConnectionError"))
    run = ground.drive(workflow, run_id)
    assert (len(calls), ground.states(run)) == (2, {"down": ["failed"] * 3})


# --- an outcome that nobody knows -----------------------------------------------------------------------------------------


def test_an_interrupted_idempotent_step_is_executed_again_and_the_cut_off_attempt_says_so(ground, calls):
    def body(run):
        yield run.step("put", calls.give("done"))

    workflow = ground.workflow(body, idempotency="safe")
    run_id = ground.begin(workflow)
    ground.started(run_id, "put", effect=EffectClass.IDEMPOTENT)
    run = ground.drive(workflow, run_id)
    assert (run.state, len(calls), ground.states(run)) == ("succeeded", 1, {"put": ["unknown", "succeeded"]})


def test_an_interrupted_unsafe_step_without_verify_makes_the_run_wait_for_a_person(ground, calls):
    def body(run):
        try:
            yield run.step("charge", calls.give(1))
        except Exception:  # noqa: BLE001  # what a broad handler must not swallow
            calls.append("swallowed")
        yield run.step("after", calls.give(2))

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.started(run_id, "charge")
    run = ground.drive(workflow, run_id)
    assert (run.state, run.status, run.claim_owner, calls) == ("unknown", "running", None, [])
    assert ground.states(run) == {"charge": ["unknown"]}


def test_verify_says_that_it_happened_and_gives_the_output(ground, calls):
    def body(run):
        return (yield run.step("charge", calls.give("paid again"), 7, verify=lambda order: f"paid {order}"))

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.started(run_id, "charge", args=(7,))
    run = ground.drive(workflow, run_id)
    assert (run.result, calls, ground.states(run)) == ('"paid 7"', [], {"charge": ["succeeded"]})


def test_what_verify_found_about_a_cancelled_attempt_is_on_record_as_the_one_after_it(ground, calls):
    def body(run):
        return (yield run.step("charge", calls.give("paid again"), verify=lambda: "found"))

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.ended(run_id, "charge", StepState.CANCELLED)
    run = ground.drive(workflow, run_id)
    assert (run.result, calls, ground.states(run)) == ('"found"', [], {"charge": ["cancelled", "succeeded"]})


def test_verify_says_that_it_did_not_happen_and_the_step_is_executed(ground, calls):
    async def verify():
        return NOT_DONE

    def body(run):
        return (yield run.step("charge", calls.give("paid"), verify=verify))

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.started(run_id, "charge")
    run = ground.drive(workflow, run_id)
    assert (run.result, ground.states(run)) == ('"paid"', {"charge": ["unknown", "succeeded"]})


def test_a_verify_that_cannot_tell_leaves_the_run_waiting_with_its_reason(ground, failing, calls):
    def body(run):
        yield run.step("charge", calls.give("paid"), verify=failing(OSError("provider away")))

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.started(run_id, "charge")
    run = ground.drive(workflow, run_id)
    assert (run.state, calls, ground.steps(run)["charge"].last.error.message) == ("unknown", [], "provider away")


def test_a_step_that_says_it_timed_out_asks_verify_before_any_further_attempt(ground, calls):
    asked = []

    def verify():
        asked.append(len(calls))
        return NOT_DONE if len(asked) == 1 else "found"

    def body(run):
        return (yield run.step("charge", calls.fail(StepTimeout("gateway")), verify=verify, retry=QUICK))

    run = ground.do(ground.workflow(body))
    assert (run.result, asked, ground.states(run)) == ('"found"', [1, 2], {"charge": ["failed", "succeeded"]})


def test_a_timeout_of_an_unsafe_step_without_verify_is_unknown(ground, calls):
    def body(run):
        yield run.step("charge", calls.fail(StepTimeout("gateway")), retry=QUICK)

    run = ground.do(ground.workflow(body))
    assert (run.state, len(calls), ground.states(run)) == ("unknown", 1, {"charge": ["unknown"]})


def test_a_timeout_of_a_repeatable_step_is_a_failed_attempt(ground, calls):
    def body(run):
        return (yield run.step("get", calls.fail(StepTimeout("slow"), times=1, then=1), effect="read", retry=QUICK))

    run = ground.do(ground.workflow(body))
    assert (run.state, ground.states(run)) == ("succeeded", {"get": ["failed", "succeeded"]})


# --- effect keys ---------------------------------------------------------------------------------------------------------


def test_the_effect_key_is_the_same_over_attempts_recovery_and_resumes_and_new_in_a_rerun(ground):
    keys = []

    def note():
        keys.append(current_step().effect_key)
        if len(keys) % 2:
            raise ConnectionError("once more")

    def body(run):
        yield run.step("pay", note, retry=QUICK)

    workflow = ground.workflow(body)
    first = ground.do(workflow)
    ground.do(workflow, chain_run_id=first.id)
    ground.do(workflow)
    assert len(keys) == 6
    assert len(set(keys[:4])) == 1
    assert keys[4] == keys[5] != keys[0]


def test_steps_of_one_name_and_steps_with_other_arguments_have_other_effect_keys(ground):
    keys = []

    def note(_):
        keys.append(current_step().effect_key)

    def body(run):
        yield run.step("pay", note, 1)
        yield run.step("pay", note, 1)
        yield run.step("pay", note, 2, key="k")
        yield run.step("pay", note, 2, key="k")

    ground.do(ground.workflow(body))
    assert len(set(keys)) == 4


# --- drift ---------------------------------------------------------------------------------------------------------------


def test_other_arguments_than_recorded_fail_the_run_and_nothing_is_executed_even_if_the_code_swallows_it(ground, calls):
    def body(run):
        try:
            yield run.step("charge", calls.give(1), 99)
        except StepDrift:
            yield run.step("instead", calls.give(2))

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.ended(run_id, "charge", StepState.SUCCEEDED, output="1", args=(10,))
    run = ground.drive(workflow, run_id)
    assert (run.state, run.error.code, calls) == ("failed", "step_drift", [])


def test_a_recorded_output_that_is_not_what_the_code_declares_is_drift(ground):
    def number() -> int:
        return 1

    def body(run):
        yield run.step("count", number)

    workflow = ground.workflow(body)
    run_id = ground.begin(workflow)
    ground.ended(run_id, "count", StepState.SUCCEEDED, output='"many"')
    assert ground.drive(workflow, run_id).error.code == "step_drift"


# --- resume is a start with seeds -------------------------------------------------------------------------------------------


def test_seeded_steps_are_not_executed_and_later_steps_see_their_outputs(ground, calls):
    def body(run):
        first = yield run.step("first", calls.give("again"))
        return (yield run.step("second", lambda x: x + "!", first))

    seed = Seed(StepKey("first"), 1, '"kept"', input_digest=digest(()))
    run = ground.do(ground.workflow(body), seeds=(seed,))
    assert (run.result, calls, ground.states(run)) == ('"kept!"', [], {"first": ["skipped"], "second": ["succeeded"]})
    assert ground.steps(run)["second"].sequence == 2


def test_a_seed_that_the_code_does_not_ask_for_stays_on_record_and_disturbs_nothing(ground):
    def body(run):
        return (yield run.step("only", lambda: 1))

    run = ground.do(ground.workflow(body), seeds=(Seed(StepKey("ghost"), 1, "null"),))
    assert (run.state, set(ground.steps(run))) == ("succeeded", {"ghost", "only"})


def test_seeds_of_a_repeated_name_keep_their_occurrences_apart(ground, calls):
    def body(run):
        values = []
        for number in range(3):
            values += [(yield run.step("send", calls.give("new"), number))]
        return values

    seeds = tuple(Seed(StepKey("send", "", n), n, f'"old {n}"', input_digest=digest((n - 1,))) for n in (1, 2))
    run = ground.do(ground.workflow(body), seeds=seeds)
    assert (json.loads(run.result), calls) == (["old 1", "old 2", "new"], [(2,)])
