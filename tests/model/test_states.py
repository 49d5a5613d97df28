"""The tables of states hold together."""

from __future__ import annotations

from workflow_runs.model.states import (
    RUN_STATUS,
    RUN_TRANSITIONS,
    STEP_STATUS,
    STEP_TRANSITIONS,
    EffectClass,
    Idempotency,
    RunState,
    RunStatus,
    StepState,
    default_effect,
    is_finished,
    may_follow,
    states_of,
)


def test_every_state_has_one_status_and_a_row_of_transitions() -> None:
    assert set(RUN_STATUS) == set(RUN_TRANSITIONS) == set(RunState)
    assert set(STEP_STATUS) == set(STEP_TRANSITIONS) == set(StepState)


def test_a_run_is_finished_when_its_status_is_not_running() -> None:
    assert all(is_finished(state) == (RUN_STATUS[state] is not RunStatus.RUNNING) for state in RunState)


def test_nothing_follows_a_terminal_run_state() -> None:
    assert not any(may_follow(end, after) for end in RunState if is_finished(end) for after in RunState)


def test_every_live_state_can_end() -> None:
    for state in RunState:
        if not is_finished(state):
            assert any(is_finished(after) for after in RUN_TRANSITIONS[state]), state


def test_a_run_that_is_undoing_never_ends_as_plainly_failed_or_succeeded() -> None:
    assert not may_follow(RunState.COMPENSATING, RunState.SUCCEEDED)
    assert not may_follow(RunState.COMPENSATING, RunState.FAILED)


def test_the_states_of_the_four_statuses_are_all_states() -> None:
    assert {state for status in RunStatus for state in states_of(status)} == set(RunState)


def test_steps_of_a_safe_workflow_are_idempotent_and_all_others_unsafe() -> None:
    assert default_effect(Idempotency.SAFE) is EffectClass.IDEMPOTENT
    assert default_effect(Idempotency.UNSAFE) is EffectClass.UNSAFE
    assert default_effect(Idempotency.RESUME_ONLY) is EffectClass.UNSAFE
