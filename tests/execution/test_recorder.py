"""Recording a run that executes elsewhere: everything that happened is on record, and nothing that happens to the record disturbs it."""

import asyncio
import dataclasses
import datetime as dt
import decimal
import json
import logging
import threading
from dataclasses import dataclass

import pytest

from workflow_runs.clock import Clock, from_millis, step_id
from workflow_runs.errors import AlreadyResumed, CannotEncode, IdempotencyKeyReused, StoreUnavailable
from workflow_runs.execution.recorder import RunRecorder, begin_workflow_run
from workflow_runs.journal import Journal
from workflow_runs.model.entries import RegisterExecutor, StartRun
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import Action, IdempotencyKey, RunRequest, Seed
from workflow_runs.model.states import EffectClass, Origin, RecordingMode, RunState, StepState
from workflow_runs.operations.registry import ResumeContext, TriggerContext
from workflow_runs.settings import JournalSettings
from workflow_runs.store.opening import open_store

PATIENCE_S = 30.0


@dataclass
class Recording:
    """What ``WorkflowRuns`` is for the recorder."""

    journal: Journal
    store: object
    clock: Clock


@pytest.fixture
def open_recording(request):
    def make(url, clock=None, settings=None, migrate=True):
        clock = clock or Clock()
        store = open_store(url, clock=clock)
        if migrate:
            store.migrate()
        journal = Journal(store, settings or JournalSettings(), clock)
        request.addfinalizer(store.close)
        request.addfinalizer(journal.close)
        return Recording(journal, store, clock)

    return make


@pytest.fixture
def runs(database_url, open_recording):
    return open_recording(database_url)


@pytest.fixture
def absent(tmp_path, open_recording):
    """A recording whose database is away, and what brings it back."""
    folder = tmp_path / "later"
    url = f"sqlite:///{folder / 'runs.db'}"
    settings = JournalSettings(queue_entries_max=10, retry_pause_s=0.01, retry_pause_max_s=0.02, close_timeout_s=0.1)
    away = open_recording(url, settings=settings, migrate=False)

    def heal():
        folder.mkdir()
        store = open_store(url, clock=away.clock)
        store.migrate()
        store.close()

    return away, heal


def begin(runs, name="checkout", **fields):
    return begin_workflow_run(runs, workflow_name=name, **fields)


def durable(recorder):
    assert recorder.flush(PATIENCE_S)
    assert recorder.lost == 0


def steps_of(runs, recorder):
    return [
        (step.step.label(), step.sequence, step.state.value, step.last.output)
        for step in runs.store.get_steps(recorder.run_id)
    ]


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_is_on_record_when_begin_returns(runs):
    recorder = begin(runs, trigger="payment.completed", correlation_id="ord_77", tags=["a:1", "b"], input={"id": 7})
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.mode) == (RunState.RUNNING, RecordingMode.OBSERVE)
    assert (run.workflow_name, run.trigger, run.correlation_id) == ("checkout", "payment.completed", "ord_77")
    assert (run.tags, run.input, run.has_gap) == (("a:1", "b"), '{"id":7}', False)


def test_steps_and_result_are_recorded_in_order(runs):
    recorder = begin(runs)
    recorder.start_step("reserve").complete({"ref": "r1"})
    recorder.record_skipped_step("notify", {"sent": False})
    recorder.start_step("close").complete()
    assert recorder.complete({"done": True})
    durable(recorder)
    assert steps_of(runs, recorder) == [
        ("reserve", 1, "succeeded", '{"ref":"r1"}'),
        ("notify", 2, "skipped", '{"sent":false}'),
        ("close", 3, "succeeded", None),
    ]
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.result) == (RunState.SUCCEEDED, '{"done":true}')


def test_a_failure_names_the_step_that_failed_with_it(runs):
    recorder = begin(runs)

    class GatewayError(Exception):
        code = "refused"

    error = GatewayError("gateway refused")
    recorder.start_step("capture").fail(error)
    recorder.fail(error)
    durable(recorder)
    run = runs.store.get_run(recorder.run_id)
    (step,) = runs.store.get_steps(recorder.run_id)
    for failure in (run.error, step.last.error):
        assert (failure.message, failure.code, failure.step_name) == ("gateway refused", "refused", "capture")
    assert run.fingerprint == step.last.error.fingerprint


def test_an_error_outside_any_step_names_none(runs):
    recorder = begin(runs)
    recorder.start_step("capture").fail(ValueError("handled"))
    recorder.fail(ValueError("other"))
    durable(recorder)
    assert runs.store.get_run(recorder.run_id).error.step_name is None


@pytest.mark.parametrize(
    ("error", "message"),
    [("gateway refused", "gateway refused"), (None, "No reason was given")],
    ids=["text", "nothing"],
)
def test_a_failure_without_an_exception_has_a_message(runs, error, message):
    recorder = begin(runs)
    recorder.fail(error, step_name="capture")
    durable(recorder)
    failure = runs.store.get_run(recorder.run_id).error
    assert (failure.message, failure.step_name) == (message, "capture")


def test_a_cancelled_run_has_its_reason(runs):
    recorder = begin(runs)
    recorder.start_step("wait").cancel()
    recorder.cancel("customer withdrew")
    durable(recorder)
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.error.message) == (RunState.CANCELLED, "customer withdrew")
    assert steps_of(runs, recorder) == [("wait", 1, "cancelled", None)]


def test_a_handle_knows_the_id_under_which_its_step_is_shown(runs):
    recorder = begin(runs)
    handle = recorder.start_step("reserve", key="o1")
    assert handle.step == StepKey("reserve", "o1")
    assert handle.step_id == step_id(recorder.run_id, "reserve", "o1", 1, 1)


def test_a_slow_step_is_visible_while_it_runs(runs):
    recorder = begin(runs)
    recorder.start_step("slow")
    durable(recorder)
    assert steps_of(runs, recorder) == [("slow", 1, "running", None)]


# --- what the original loses -----------------------------------------------------------------------------------------


def test_starts_that_nobody_waits_for_lose_no_completion(runs):  # R24
    recorder = begin(runs)
    for name in "abc":
        recorder.start_step(name)
    for name in "abc":
        assert recorder.complete_step(name, {"of": name})
    durable(recorder)
    assert [state for _, _, state, _ in steps_of(runs, recorder)] == ["succeeded"] * 3


def test_a_name_that_is_used_twice_is_two_steps(runs):  # R6
    recorder = begin(runs)
    first, second = recorder.start_step("ship"), recorder.start_step("ship")
    second.complete(2)
    first.complete(1)
    durable(recorder)
    assert steps_of(runs, recorder) == [("ship", 1, "succeeded", "1"), ("ship#2", 2, "succeeded", "2")]


def test_by_name_the_step_that_has_been_open_the_longest_is_ended(runs):
    recorder = begin(runs)
    recorder.start_step("ship")
    recorder.start_step("ship")
    assert recorder.complete_step("ship", 1)
    assert recorder.fail_step("ship", "out of stock")
    assert not recorder.complete_step("ship")
    assert recorder.flush(PATIENCE_S) is False  # the third was nobody's
    assert steps_of(runs, recorder) == [("ship", 1, "succeeded", "1"), ("ship#2", 2, "failed", None)]


def test_the_end_of_a_step_that_never_began_is_counted_logged_and_a_gap(runs, caplog):
    recorder = begin(runs)
    assert recorder.complete_step("ghost", {"a": 1}) is False
    assert recorder.lost == 1
    assert "ghost" in caplog.text
    recorder.complete()
    recorder.flush(PATIENCE_S)
    assert runs.store.get_run(recorder.run_id).has_gap


def test_the_first_end_of_a_run_is_its_end(runs, caplog):  # R18
    recorder = begin(runs)
    assert recorder.fail("gateway refused")
    assert recorder.complete({"late": True}) is False
    durable(recorder)
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.result, run.error.message) == (RunState.FAILED, None, "gateway refused")
    assert "not recorded" in caplog.text


def test_the_first_end_counts_when_two_recorders_end_one_run(runs, caplog):
    first = begin(runs, correlation_id="c1")
    second = begin(runs, correlation_id="c1", reuse_running_run=True)
    assert second.run_id == first.run_id
    first.fail("gateway refused")
    durable(first)
    second.complete()
    second.flush(PATIENCE_S)
    assert runs.store.get_run(first.run_id).state is RunState.FAILED
    assert "had ended as failed already" in caplog.text


def test_the_first_end_of_a_step_is_its_end(runs, caplog):
    recorder = begin(runs)
    handle = recorder.start_step("charge")
    assert handle.fail("refused")
    assert handle.complete({"late": True}) is False
    durable(recorder)
    assert steps_of(runs, recorder) == [("charge", 1, "failed", None)]
    assert "had ended before" in caplog.text


def test_a_result_without_a_json_form_leaves_a_mark_and_the_status_is_written(runs):  # R17
    recorder = begin(runs)
    recorder.start_step("open").complete({"connection": object(), "at": dt.date(2026, 1, 2)})
    assert recorder.complete(10**5000)
    recorder.flush(PATIENCE_S)
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.has_gap) == (RunState.SUCCEEDED, True)
    assert json.loads(run.result)["$unserializable"] == "int"
    (step,) = runs.store.get_steps(recorder.run_id)
    assert json.loads(step.last.output) == {"connection": {"$unserializable": "object"}, "at": "2026-01-02"}


def test_a_scalar_input_is_stored_as_it_is(runs):  # A14
    for value in (7, "text", [1, 2], True, 0.5):
        recorder = begin(runs, input=value)
        assert json.loads(runs.store.get_run(recorder.run_id).input) == value


def test_rich_inputs_become_readable(runs):
    @dataclass
    class Order:
        total: decimal.Decimal

    recorder = begin(runs, input=Order(decimal.Decimal("1.10")))
    assert runs.store.get_run(recorder.run_id).input == '{"total":"1.10"}'


class TurnedBack(Clock):
    """A wall clock that somebody sets back an hour between any two looks at it."""

    def __init__(self):
        self.millis = 1_800_000_000_000
        self.seconds = 0.0

    def now_millis(self):
        self.millis -= 3_600_000
        return self.millis

    def monotonic(self):
        self.seconds += 0.25
        return self.seconds


def test_durations_are_not_negative_when_the_clock_is_set_back(database_url, open_recording):  # A13
    runs = open_recording(database_url)
    recorder = begin_workflow_run(dataclasses.replace(runs, clock=TurnedBack()), workflow_name="checkout")
    recorder.start_step("slow").complete()
    recorder.complete()
    durable(recorder)
    run = runs.store.get_run(recorder.run_id)
    (step,) = runs.store.get_steps(recorder.run_id)
    assert step.last.duration_ms >= 250
    assert step.last.ended_at - step.last.started_at == dt.timedelta(milliseconds=step.last.duration_ms)
    assert run.completed_at >= run.started_at
    assert run.duration_ms >= 0


def test_odd_names_do_not_cost_the_record(runs):
    for name in ("a\x00b", "\ud800", "x" * 10_000, "", None, 7):
        recorder = begin(runs, name=name, tags=[name], correlation_id=name, trigger=name)
        assert recorder.start_step(name).complete(name)
        assert recorder.complete()
        durable(recorder)
        assert len(runs.store.get_steps(recorder.run_id)) == 1
        assert runs.store.get_run(recorder.run_id).state is RunState.SUCCEEDED


def test_tags_beyond_the_limit_are_a_gap_and_odd_ones_do_no_harm(runs):
    many = begin(runs, tags=[f"t{number}" for number in range(60)])
    assert len(runs.store.get_run(many.run_id).tags) == 50
    assert runs.store.get_run(many.run_id).has_gap
    assert runs.store.get_run(begin(runs, tags="one").run_id).tags == ("one",)
    assert runs.store.get_run(begin(runs, tags=7).run_id).tags == ()


# --- many at once ----------------------------------------------------------------------------------------------------


def test_threads_may_record_into_one_run(runs):
    recorder = begin(runs)

    def work(number):
        for item in range(10):
            recorder.start_step("item", key=f"{number}-{item}").complete(item)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    recorder.complete()
    durable(recorder)
    steps = steps_of(runs, recorder)
    assert sorted(sequence for _, sequence, _, _ in steps) == list(range(1, 81))
    assert {state for _, _, state, _ in steps} == {"succeeded"}


async def test_coroutines_record_without_waiting(runs):
    recorder = begin(runs)

    async def work(number):
        return await asyncio.sleep(0, number)

    results = await asyncio.gather(*[recorder.step("item", work, number, key=str(number)) for number in range(20)])
    assert results == list(range(20))
    recorder.complete(results)
    assert await asyncio.to_thread(recorder.flush, PATIENCE_S)
    assert len(steps_of(runs, recorder)) == 20


def test_a_step_gives_what_its_function_gives_and_raises_what_it_raises(runs):
    recorder = begin(runs)
    value = object()
    assert recorder.step("give", lambda: value) is value
    error = KeyError("x")

    def fail():
        raise error

    with pytest.raises(KeyError) as caught:
        recorder.step("fail", fail)
    assert caught.value is error
    recorder.flush(PATIENCE_S)
    assert [state for _, _, state, _ in steps_of(runs, recorder)] == ["succeeded", "failed"]


async def test_a_step_that_is_cancelled_is_recorded_so(runs):
    recorder = begin(runs)
    began = asyncio.Event()

    async def wait():
        began.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(recorder.step("wait", wait))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(recorder.flush, PATIENCE_S)
    assert steps_of(runs, recorder) == [("wait", 1, "cancelled", None)]


def test_ten_thousand_steps_are_kept_and_the_rest_is_a_gap(sqlite_url, open_recording):
    runs = open_recording(sqlite_url, settings=JournalSettings(queue_entries_max=100_000))
    recorder = begin(runs)
    for _ in range(10_002):
        recorder.start_step("loop").complete()
    recorder.complete()
    recorder.flush(PATIENCE_S)
    assert recorder.lost == 2
    assert len(runs.store.get_steps(recorder.run_id)) == 10_000
    assert runs.store.get_run(recorder.run_id).has_gap


# --- while the database is away --------------------------------------------------------------------------------------


def test_what_happens_while_the_database_is_away_is_recorded_when_it_is_back(absent):  # A4
    runs, heal = absent
    recorder = begin(runs, wait_s=0.01, input=7)
    recorder.start_step("reserve").complete({"ref": "r1"})
    recorder.complete("done")
    assert recorder.flush(0.01) is False
    heal()
    durable(recorder)
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.input, run.result, run.has_gap) == (RunState.SUCCEEDED, "7", '"done"', False)
    assert steps_of(runs, recorder) == [("reserve", 1, "succeeded", '{"ref":"r1"}')]


def test_losses_are_counted_logged_once_and_a_gap_and_the_end_is_kept(absent, caplog):
    runs, heal = absent
    recorder = begin(runs, wait_s=0.0)
    for _ in range(100):
        recorder.start_step("loop").complete()
    is_taken = recorder.complete("done")  # or kept, where there is no room
    lost = recorder.lost
    assert lost > 60
    losses = [
        record for record in caplog.records if record.name == "workflow_runs.recorder" and "entry" in record.message
    ]
    assert [record.levelno for record in losses].count(logging.WARNING) == 1
    heal()
    recorder.flush(PATIENCE_S)
    run = runs.store.get_run(recorder.run_id)
    assert (run.state, run.has_gap) == (RunState.SUCCEEDED, True)
    assert runs.journal.stats().dropped == recorder.lost == lost - (not is_taken)


def test_a_run_whose_begin_found_no_room_is_recorded_later(absent):
    runs, heal = absent
    for _ in range(1_000):  # begins have some room of their own beside what a run can do without
        recorder = begin(runs, wait_s=0.0)
        if recorder.lost:
            break
    assert recorder.lost == 1
    heal()
    durable(recorder)
    recorder.start_step("reserve").complete()
    recorder.complete()
    recorder.flush(PATIENCE_S)
    assert runs.store.get_run(recorder.run_id).state is RunState.SUCCEEDED
    assert steps_of(runs, recorder) == [("reserve", 1, "succeeded", None)]
    assert recorder.lost == 0


def test_after_the_journal_is_closed_nothing_is_raised_and_all_is_counted(runs):
    recorder = begin(runs)
    runs.journal.close()
    assert recorder.start_step("reserve").complete() is False
    assert recorder.complete() is False
    assert recorder.lost == 3
    assert begin(runs).lost == 1


def test_an_event_loop_is_not_held_up_by_a_database_that_is_away(absent):
    runs, _ = absent

    async def record():
        recorder = begin(runs, wait_s=PATIENCE_S * 100)  # would be the test's timeout
        recorder.step("reserve", int)
        return recorder.complete()

    assert asyncio.run(record())


# --- an operator's action --------------------------------------------------------------------------------------------


def failed_run(runs):
    recorder = begin(runs, input={"id": 7}, tags=["a"], correlation_id="c1")
    recorder.start_step("reserve").complete({"ref": "r1"})
    recorder.start_step("charge").fail("refused")
    recorder.fail("refused", step_name="charge")
    durable(recorder)
    return runs.store.get_run(recorder.run_id)


def resume_context(parent, **action):
    return ResumeContext(
        workflow_name=parent.workflow_name,
        action=Action("resume", actor="kim", target_run_id=parent.id, claims_failure=True, **action),
        input_json=parent.input,
        triggered_by_user_id="kim",
        correlation_id=parent.correlation_id,
        tags=parent.tags,
        parent_run_id=parent.id,
        root_run_id=parent.root_run_id,
        chain_run_id=parent.chain_run_id,
        resume_from=StepKey("charge"),
        seeds=(Seed(StepKey("reserve"), 1, '{"ref":"r1"}'),),
    )


def test_a_resume_is_recorded_with_its_lineage_seeds_and_audit(runs):  # A1
    parent = failed_run(runs)
    recorder = begin(runs, ctx=resume_context(parent))
    assert recorder.record_skipped_step("reserve", {"ref": "r1"})  # as the original's handlers do; it is there already
    recorder.start_step("charge").complete()
    recorder.complete()
    durable(recorder)
    run = runs.store.get_run(recorder.run_id)
    assert (run.parent_run_id, run.root_run_id, run.resume_from) == (parent.id, parent.id, StepKey("charge"))
    assert (run.trigger, run.tags, run.triggered_by_user_id) == ("manual.resume", ("a", "resume:true"), "kim")
    assert (run.input, run.correlation_id) == ('{"id":7}', "c1")
    assert steps_of(runs, recorder) == [
        ("reserve", 1, "skipped", '{"ref":"r1"}'),
        ("charge", 2, "succeeded", None),
    ]
    assert [audit.actor for audit in runs.store.get_audit(recorder.run_id)] == ["kim"]


def test_a_step_that_is_executed_although_it_was_kept_is_another_step(runs):
    recorder = begin(runs, ctx=resume_context(failed_run(runs)))
    recorder.start_step("reserve").complete({"ref": "r2"})
    durable(recorder)
    assert [row[0] for row in steps_of(runs, recorder)] == ["reserve", "reserve#2"]


def test_a_failure_is_resumed_once(runs):
    parent = failed_run(runs)
    first = begin(runs, ctx=resume_context(parent))
    with pytest.raises(AlreadyResumed) as caught:
        begin(runs, ctx=resume_context(parent))
    assert caught.value.details["runId"] == first.run_id


def trigger_context(request_hash):
    key = IdempotencyKey("trigger:checkout", "k1", request_hash)
    return TriggerContext(workflow_name="checkout", action=Action("trigger", idempotency=key), input_json="7")


def test_an_idempotency_key_makes_one_run_and_the_second_recorder_records_nothing(runs):
    first = begin(runs, ctx=trigger_context("h1"))
    second = begin(runs, ctx=trigger_context("h1"))
    assert (first.created, second.created) == (True, False)
    assert second.run_id == first.run_id
    assert second.start_step("charge").complete() is False
    assert second.complete() is False
    assert first.complete()
    durable(first)
    assert steps_of(runs, first) == []
    assert runs.store.get_run(first.run_id).state is RunState.SUCCEEDED


def test_an_idempotency_key_with_another_request_is_refused(runs):
    begin(runs, ctx=trigger_context("h1"))
    with pytest.raises(IdempotencyKeyReused):
        begin(runs, ctx=trigger_context("h2"))


def test_an_action_is_refused_when_it_cannot_be_recorded(runs):
    parent = failed_run(runs)
    runs.journal.close()
    with pytest.raises(StoreUnavailable):
        begin(runs, ctx=resume_context(parent))


def test_an_action_is_refused_an_input_that_cannot_be_recorded(runs):
    with pytest.raises(CannotEncode):
        begin(runs, ctx=trigger_context("h1"), input=object())


def test_what_is_given_beside_the_context_wins(runs):
    recorder = begin(runs, ctx=trigger_context("h1"), trigger="webhook", tags=["b"], correlation_id="c9", input=[1])
    run = runs.store.get_run(recorder.run_id)
    assert (run.trigger, run.tags, run.correlation_id, run.input) == ("webhook", ("b",), "c9", "[1]")


# --- going on with a running run -------------------------------------------------------------------------------------


def test_a_reused_run_goes_on_where_the_other_recorder_was(runs):
    first = begin(runs, correlation_id="c1")
    first.start_step("loop").complete(1)
    first.start_step("open")
    durable(first)
    second = begin(runs, correlation_id="c1", reuse_running_run=True)
    assert second.run_id == first.run_id
    assert second.complete_step("open", 2)
    second.start_step("loop").complete(3)
    second.complete()
    durable(second)
    assert steps_of(runs, second) == [
        ("loop", 1, "succeeded", "1"),
        ("open", 2, "succeeded", "2"),
        ("loop#2", 3, "succeeded", "3"),
    ]


@pytest.mark.parametrize("fields", [{"correlation_id": "other"}, {"correlation_id": None}, {"name": "other"}], ids=str)
def test_another_run_is_not_reused(runs, fields):
    first = begin(runs, correlation_id="c1")
    assert begin(runs, **{"correlation_id": "c1", **fields, "reuse_running_run": True}).run_id != first.run_id


def test_a_run_that_has_ended_is_not_reused(runs):
    first = begin(runs, correlation_id="c1")
    first.complete()
    durable(first)
    assert begin(runs, correlation_id="c1", reuse_running_run=True).run_id != first.run_id


def test_a_new_run_begins_when_the_database_does_not_say_whether_one_is_running(absent):
    runs, _ = absent
    recorder = begin(runs, correlation_id="c1", reuse_running_run=True, wait_s=0.01)
    assert recorder.run_id.startswith("wfrn_")
    assert recorder.start_step("a").complete()


# --- for engines -----------------------------------------------------------------------------------------------------


def test_an_engine_records_attempts_states_and_the_end(runs):
    claim = runs.journal.submit(RegisterExecutor("e1", 30.0, "here", 1, "0")).result(PATIENCE_S)
    run_id = runs.clock.new_run_id()
    request = RunRequest("checkout", "checkout")
    runs.journal.submit(StartRun(run_id, request, RunState.QUEUED, claim=claim)).result(PATIENCE_S)
    recorder = RunRecorder(runs.journal, runs.clock, run_id, claim)
    recorder.run_changed(RunState.RUNNING)
    first = recorder.attempt(StepKey("charge"), 1, 1, effect=EffectClass.IDEMPOTENT, input_digest="d")
    recorder.step_started(first, lazy=True)
    recorder.step_ended(first, StepState.FAILED)
    second = recorder.attempt(StepKey("charge"), 2, 1, effect=EffectClass.IDEMPOTENT, input_digest="d")
    recorder.step_ended(second, StepState.SUCCEEDED, output="1")
    recorder.step_undone(StepKey("charge"), 2, StepState.COMPENSATED)
    outcome = recorder.run_ended(RunState.FAILED).result(PATIENCE_S)
    assert (outcome.changed, outcome.state) == (True, RunState.FAILED)
    (step,) = runs.store.get_steps(run_id)
    assert [attempt.state for attempt in step.attempts] == [StepState.FAILED, StepState.COMPENSATED]
    assert (step.effect, step.input_digest, step.last.origin) == (EffectClass.IDEMPOTENT, "d", Origin.EXECUTED)
    assert from_millis(first.started_ms) == step.attempts[0].started_at
