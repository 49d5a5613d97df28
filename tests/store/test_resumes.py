"""The claim on a failure and idempotency keys: what only one of many may do, whoever they are and however they race."""

import threading

import pytest

from workflow_runs.errors import (
    AlreadyResumed,
    IdempotencyKeyReused,
    IncompletePriorStep,
    NotFound,
    ResumeNotAllowed,
)
from workflow_runs.model.entries import ActionTaken, RunStarted, StepUndone
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import Action, IdempotencyKey, Seed
from workflow_runs.model.states import RunState, StepState

DEADLINE_S = 120.0


def at_once(records, entries):
    """Apply each entry from a thread of its own, all released together; return the outcomes."""
    gate = threading.Barrier(len(entries))
    outcomes = [None] * len(entries)

    def work(place, writer, entry):
        gate.wait(DEADLINE_S)
        (outcomes[place],) = writer.apply([entry])

    writers = [records[place % len(records)].store.open_writer() for place in range(len(entries))]
    threads = [
        threading.Thread(target=work, args=(place, writer, entry))
        for place, (writer, entry) in enumerate(zip(writers, entries, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    for writer in writers:
        writer.close()
    return outcomes


def test_fifty_resumes_of_one_failure_at_once_make_one_run(new_record):
    one, other = new_record(), new_record()
    failed = one.failed()
    outcomes = at_once([one, other], [one.resume(failed) for _ in range(50)])
    (started,) = [outcome for outcome in outcomes if isinstance(outcome, RunStarted)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, AlreadyResumed)]
    assert len(refused) == 49
    assert {refusal.details["runId"] for refusal in refused} == {started.run_id}
    assert one.ids(parent_run_id=failed) == [started.run_id]
    assert one.store.get_run(failed).resumed_by_run_id == started.run_id


def test_one_key_used_by_many_at_once_makes_one_run(new_record):
    one, other = new_record(), new_record()
    action = Action("trigger", idempotency=IdempotencyKey("trigger:checkout", "order-7", "hash"))
    entries = [one.start(action=action) for _ in range(24)]
    outcomes = at_once([one, other], entries)
    assert len({outcome.run_id for outcome in outcomes}) == 1
    assert [outcome.created for outcome in outcomes].count(True) == 1
    assert len(one.ids()) == 1


def test_one_resume_sent_many_times_with_its_key_is_answered_alike(new_record):
    one, other = new_record(), new_record()
    failed = one.failed()
    outcomes = at_once([one, other], [one.resume(failed, key="click") for _ in range(24)])
    assert len({outcome.run_id for outcome in outcomes}) == 1
    assert len(one.ids(parent_run_id=failed)) == 1


def test_refused_resume_leaves_no_trace(record):
    failed = record.failed()
    record.write(record.resume(failed))
    entry = record.resume(failed, key="second", tags=("a",), input="1")
    with pytest.raises(AlreadyResumed):
        record.write(entry)
    assert record.store.get_run(entry.run_id) is None
    assert record.store.find_action(f"resume:{failed}", "second") is None
    assert record.store.get_audit(entry.run_id) == ()
    assert record.ids(tags=("a",)) == []


def test_resume_whose_answer_got_lost_is_the_same_resume(record):
    entry = record.resume(record.failed())
    assert record.write(entry) == record.write(entry) == RunStarted(entry.run_id, created=True)


@pytest.mark.parametrize("ended", [RunState.FAILED, RunState.CANCELLED])
def test_failure_is_resumed_again_when_its_resume_failed_or_was_cancelled(record, ended):
    failed = record.failed()
    first = record.write(record.resume(failed)).run_id
    record.write(record.end(first, ended))
    second = record.write(record.resume(failed)).run_id
    assert record.store.get_run(failed).resumed_by_run_id == second


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.WAITING, RunState.UNKNOWN, RunState.SUCCEEDED])
def test_failure_is_not_resumed_while_its_resume_goes_on_or_has_succeeded(record, state):
    failed = record.failed()
    first = record.write(record.resume(failed)).run_id
    record.write(record.change(first, RunState.RUNNING))
    record.write(record.end(first) if state is RunState.SUCCEEDED else record.change(first, state))
    with pytest.raises(AlreadyResumed) as refusal:
        record.write(record.resume(failed))
    assert refusal.value.details == {"runId": first}


@pytest.mark.parametrize("target", ["first", "second"])
def test_no_failure_of_a_chain_is_resumed_while_another_resume_of_it_is_at_work(record, target):
    failures = {"first": record.failed()}
    failures["second"] = record.write(record.resume(failures["first"])).run_id
    record.write(record.end(failures["second"], RunState.FAILED))
    at_work = record.write(record.resume(failures["second"])).run_id
    with pytest.raises(AlreadyResumed) as refusal:
        record.write(record.resume(failures[target]))
    assert refusal.value.details == {"runId": at_work}


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, RunState.SUCCEEDED, RunState.CANCELLED])
def test_only_a_failed_run_is_resumed(record, state):
    run_id = record.started()
    record.write(record.change(run_id, RunState.RUNNING))
    if state is RunState.QUEUED:
        record.write(record.change(run_id, state))
    elif state is not RunState.RUNNING:
        record.write(record.end(run_id, state))
    with pytest.raises(ResumeNotAllowed):
        record.write(record.resume(run_id))


def test_run_that_is_not_there_is_not_resumed(record):
    entry = record.resume(record.failed())
    action = Action("resume", target_run_id=record.clock.new_run_id(), claims_failure=True)
    with pytest.raises(NotFound):
        record.write(record.start(entry.run_id, action=action))


def test_key_with_another_request_is_refused(record):
    def action(request_hash):
        return Action("trigger", idempotency=IdempotencyKey("trigger:checkout", "order-7", request_hash))

    first = record.write(record.start(action=action("one")))
    with pytest.raises(IdempotencyKeyReused):
        record.write(record.start(action=action("two")))
    found = record.store.find_action("trigger:checkout", "order-7")
    assert (found.run_id, found.request_hash) == (first.run_id, "one")


def test_key_with_the_same_request_gives_the_first_run(record):
    action = Action("trigger", idempotency=IdempotencyKey("trigger:checkout", "order-7", "one"))
    first = record.write(record.start(action=action))
    again = record.start(action=action)
    assert record.write(again) == RunStarted(first.run_id, created=False)
    assert record.store.get_run(again.run_id) is None


def test_key_is_matched_before_the_state_of_the_run(record):
    failed = record.failed()
    first = record.write(record.resume(failed, key="click"))
    assert record.write(record.resume(failed, key="click")) == RunStarted(first.run_id, created=False)


def test_keys_of_different_scopes_are_different(record):
    made = {
        record.write(record.start(action=Action("trigger", idempotency=IdempotencyKey(scope, "k", "h")))).run_id
        for scope in ("trigger:a", "trigger:b")
    }
    assert len(made) == 2


def test_two_resumes_in_one_batch_make_one_run(record):
    failed = record.failed()
    first, second = record.apply(record.resume(failed), record.resume(failed))
    assert isinstance(first, RunStarted)
    assert isinstance(second, AlreadyResumed)


def taken(record, failed, run_id, key=None):
    action = Action("resume", actor="ada", target_run_id=failed, claims_failure=True, idempotency=key)
    return ActionTaken(run_id, "checkout", action, record.start(action=action).audit_id, record.clock.now_millis())


def test_action_whose_run_was_made_elsewhere_claims_the_failure(record):
    failed = record.failed()
    key = IdempotencyKey(f"resume:{failed}", "click", "hash")
    entry = taken(record, failed, "elsewhere-1", key)
    assert record.apply(entry, entry) == [None, None]
    assert record.store.get_run(failed).resumed_by_run_id == "elsewhere-1"
    assert record.store.find_action(key.scope, key.key).run_id == "elsewhere-1"
    assert len(record.store.get_audit(failed)) == 1
    with pytest.raises(AlreadyResumed):
        record.write(record.resume(failed))


def test_action_is_refused_when_the_failure_is_claimed(record):
    failed = record.failed()
    record.write(record.resume(failed))
    (outcome,) = record.apply(taken(record, failed, "elsewhere-1"))
    assert isinstance(outcome, AlreadyResumed)
    assert record.store.get_audit("elsewhere-1") == ()


def test_resumes_of_one_chain_at_once_make_one_run(new_record):
    one, other = new_record(), new_record()
    first = one.failed()
    second = one.write(one.resume(first)).run_id
    one.write(one.end(second, RunState.FAILED))
    outcomes = at_once([one, other], [one.resume(target) for target in (first, second) * 6])
    assert sum(isinstance(outcome, RunStarted) for outcome in outcomes) == 1
    assert all(isinstance(outcome, RunStarted | AlreadyResumed) for outcome in outcomes)


CHARGE, PACK = Seed(StepKey("charge"), 1, '"paid"'), Seed(StepKey("pack", "order-7", 2), 2, '"packed"')


def undone_by_a_resume(record, state, *seeds):
    """A failure and a failed resume of it, which carried the seeds over and undid the first of them."""
    failed = record.failed()
    resume = record.write(record.resume(failed, seeds=seeds)).run_id
    record.write(StepUndone(resume, None, seeds[0].step, 1, state, None, record.clock.now_millis()))
    record.write(record.end(resume, RunState.FAILED))
    return failed, resume


@pytest.mark.parametrize("state", [StepState.COMPENSATED, StepState.COMPENSATION_FAILED])
@pytest.mark.parametrize("seed", [CHARGE, PACK])
def test_step_that_a_resume_undid_is_not_carried_over_again(record, state, seed):
    failed, resume = undone_by_a_resume(record, state, seed)
    entry = record.resume(failed, seeds=(CHARGE, PACK), key="click")
    with pytest.raises(IncompletePriorStep) as refusal:
        record.write(entry)
    assert refusal.value.details == {"stepName": seed.step.label(), "runId": resume}
    assert record.store.get_run(entry.run_id) is None
    assert record.store.find_action(f"resume:{failed}", "click") is None
    assert record.store.undone_of_chain(failed) == {seed.step: resume}


def test_step_that_a_resume_undid_may_be_executed_again(record):
    failed, _ = undone_by_a_resume(record, StepState.COMPENSATED, PACK, CHARGE)
    assert record.write(record.resume(failed, seeds=(CHARGE,))).created


def test_what_a_resume_executed_and_undid_itself_says_nothing_about_the_steps_of_others(record):
    failed = record.failed()
    resume = record.write(record.resume(failed)).run_id
    record.write(record.step_ended(resume, "charge"))
    record.write(StepUndone(resume, None, CHARGE.step, 1, StepState.COMPENSATED, None, record.clock.now_millis()))
    record.write(record.end(resume, RunState.FAILED))
    assert record.store.undone_of_chain(failed) == {}
    assert record.write(record.resume(failed, seeds=(CHARGE,))).created


def test_no_chain_has_a_strange_id(record):
    assert record.store.undone_of_chain("\x00") == record.store.undone_of_chain("nobody") == {}
