"""What is to be done about a step call, from what is on record. Values in, a decision out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from workflow_runs.authoring import NO_RETRY, StepCall
from workflow_runs.clock import from_millis
from workflow_runs.execution.replay import (
    INTERRUPTIONS_MAX,
    AskVerify,
    Drift,
    Execute,
    History,
    OutcomeUnknown,
    RaiseRecorded,
    UseRecorded,
    decide,
)
from workflow_runs.model.records import Attempt, ErrorRecord, Step, StepKey
from workflow_runs.model.retries import Retry
from workflow_runs.model.states import REPEATABLE_EFFECTS, EffectClass, Origin, StepKind, StepState

NOW_MS = 1_800_000_000_000
KEY = StepKey("charge")
CALL = StepCall(KEY, lambda: None, (), EffectClass.UNSAFE)

states = st.sampled_from(StepState)
effects = st.sampled_from(EffectClass)
OPEN = {StepState.RUNNING, StepState.UNKNOWN, StepState.CANCELLED}


def attempt(number, state, *, error="ValueError", ended_ms=NOW_MS):
    record = ErrorRecord("no", type_name=error) if state is StepState.FAILED else None
    ended = None if state is StepState.RUNNING else from_millis(ended_ms)
    return Attempt(number, state, Origin.EXECUTED, "1", record, from_millis(ended_ms - 10), ended, 10)


def history(*attempts, effect=EffectClass.UNSAFE, digest="d", kind=StepKind.STEP):
    return History.of([Step("run", KEY, 4, kind, effect, digest, tuple(attempts))])


@st.composite
def recorded_attempts(draw):
    """What can stand on record: attempts that ended without success, and a last one of any state."""
    before = draw(st.lists(st.sampled_from([StepState.FAILED, StepState.UNKNOWN, StepState.CANCELLED]), max_size=5))
    return [attempt(n, state) for n, state in enumerate([*before, draw(states)], 1)]


@st.composite
def calls(draw):
    retry = draw(st.sampled_from([NO_RETRY, Retry(attempts=3), Retry(attempts=9, retry_on=(OSError,))]))
    verify = draw(st.sampled_from([None, lambda: None]))
    return CALL._replace(effect=draw(effects), verify=verify, retry=retry)


def test_a_step_that_is_not_on_record_is_executed_as_its_first_attempt():
    assert decide(History({}), CALL, "d", NOW_MS) == Execute(1)


@given(recorded_attempts(), calls(), effects)
def test_a_step_that_has_an_output_is_never_executed_again(attempts, call, effect):
    decision = decide(history(*attempts, effect=effect), call, "d", NOW_MS)
    has_output = attempts[-1].state not in {*OPEN, StepState.FAILED}
    assert isinstance(decision, UseRecorded) == has_output


@given(recorded_attempts(), calls(), effects)
def test_an_open_attempt_of_a_step_that_must_not_be_repeated_is_never_followed_by_another(attempts, call, effect):
    decision = decide(history(*attempts, effect=effect), call, "d", NOW_MS)
    repeatable = call.effect in REPEATABLE_EFFECTS and effect in REPEATABLE_EFFECTS
    if attempts[-1].state in OPEN and not repeatable:
        assert isinstance(decision, OutcomeUnknown if call.verify is None else AskVerify)


@given(recorded_attempts(), calls(), effects)
def test_an_executed_attempt_has_a_number_that_is_not_on_record(attempts, call, effect):
    decision = decide(history(*attempts, effect=effect), call, "d", NOW_MS)
    if isinstance(decision, Execute):
        assert decision.attempt == len(attempts) + 1
        assert decision.failures == sum(one.state is StepState.FAILED for one in attempts)
        assert decision.failures < call.retry.attempts or attempts[-1].state in OPEN
        assert (decision.stale is attempts[-1]) == (attempts[-1].state is StepState.RUNNING)


@given(recorded_attempts(), calls(), effects)
def test_a_decision_is_the_same_each_time(attempts, call, effect):
    known = history(*attempts, effect=effect)
    assert decide(known, call, "d", NOW_MS) == decide(known, call, "d", NOW_MS)


@given(recorded_attempts(), calls())
def test_other_arguments_are_drift_whatever_is_on_record(attempts, call):
    assert isinstance(decide(history(*attempts), call, "other", NOW_MS), Drift)


@given(recorded_attempts(), calls())
def test_arguments_that_are_not_known_drift_from_nothing(attempts, call):
    assert not isinstance(decide(history(*attempts), call, None, NOW_MS), Drift)
    assert not isinstance(decide(history(*attempts, digest=None), call, "other", NOW_MS), Drift)


def test_a_reading_of_the_clock_is_no_step():
    now = CALL._replace(kind=StepKind.NOW)
    assert isinstance(decide(history(attempt(1, StepState.SUCCEEDED)), now, None, NOW_MS), Drift)


def test_a_step_that_failed_for_good_raises_its_recorded_error():
    decision = decide(history(attempt(1, StepState.FAILED)), CALL, "d", NOW_MS)
    assert decision == RaiseRecorded(ErrorRecord("no", type_name="ValueError"))


@pytest.mark.parametrize(
    ("type_name", "retries"),
    [("ValueError", True), ("Fatal", False), ("CannotEncode", False), ("test.<locals>.Unheard", True)],
)
def test_a_recorded_error_is_judged_by_the_name_of_its_class(type_name, retries):
    call = CALL._replace(retry=Retry(attempts=5))
    decision = decide(history(attempt(1, StepState.FAILED, error=type_name)), call, "d", NOW_MS)
    assert isinstance(decision, Execute) == retries


@pytest.mark.parametrize(("ago_s", "left_s"), [(0, 10), (4, 6), (30, 0), (-3600, 10)])
def test_only_the_rest_of_a_pause_is_waited_for_and_a_clock_set_back_does_not_stretch_it(ago_s, left_s):
    call = CALL._replace(retry=Retry(attempts=5, first_delay_s=10))
    failed = attempt(1, StepState.FAILED, ended_ms=NOW_MS - ago_s * 1000)
    assert decide(history(failed), call, "d", NOW_MS).pause_s == pytest.approx(left_s)


def test_a_step_that_was_interrupted_too_often_fails():
    call = CALL._replace(effect=EffectClass.PURE)
    attempts = [attempt(n, StepState.UNKNOWN) for n in range(1, INTERRUPTIONS_MAX + 1)]
    last = replace(attempts[-1], state=StepState.RUNNING)
    known = history(*attempts[:-1], last, effect=EffectClass.PURE)
    assert decide(known, call, "d", NOW_MS).error.code == "interrupted"


def test_the_next_sequence_follows_the_greatest_on_record():
    assert (History({}).next_sequence, history(attempt(1, StepState.SUCCEEDED)).next_sequence) == (1, 5)
