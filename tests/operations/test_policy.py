"""The order of refusals, and what a guard's answer means."""

from dataclasses import replace

import pytest

from workflow_runs.errors import RerunBlocked, ResumeBlocked
from workflow_runs.model.states import RUN_STATUS, Idempotency, RunState, is_finished
from workflow_runs.operations.policy import (
    Standing,
    confirmation_refusal,
    guard_refusal,
    may_cancel,
    may_rerun,
    may_resume,
    needs_confirmation,
)

SAFE = Standing(idempotency=Idempotency.SAFE, supported=True)


def code(refusal):
    return None if refusal is None else refusal.code


def test_a_rerun_fails_its_checks_in_the_order_of_the_contract(make_run):
    live, ended = make_run(RunState.RUNNING), make_run(RunState.SUCCEEDED)
    unreadable = replace(ended, input=None, unreadable=("input",))
    resume_only = Standing(idempotency=Idempotency.RESUME_ONLY)
    assert code(may_rerun(live, Standing(configured=False))) == "rerun_not_configured"
    assert code(may_rerun(live, Standing())) == "run_not_finished"
    assert code(may_rerun(unreadable, Standing())) == "runner_not_registered"
    assert code(may_rerun(unreadable, resume_only)) == "rerun_not_allowed"
    assert code(may_rerun(unreadable, replace(SAFE, supported=False))) == "rerun_not_supported"
    assert code(may_rerun(unreadable, SAFE)) == "rerun_not_allowed"
    assert may_rerun(ended, SAFE) is None


def test_a_resume_fails_its_checks_in_the_order_of_the_contract(make_run):
    failed = make_run()
    assert code(may_resume(make_run(RunState.RUNNING), Standing(configured=False))) == "resume_not_configured"
    assert code(may_resume(make_run(RunState.RUNNING), Standing())) == "resume_not_allowed"
    assert code(may_resume(failed, Standing())) == "runner_not_registered"
    assert code(may_resume(failed, replace(SAFE, supported=False))) == "resume_not_supported"
    assert may_resume(failed, SAFE) is None


def test_a_resume_only_workflow_is_resumed(make_run):
    assert may_resume(make_run(), Standing(idempotency=Idempotency.RESUME_ONLY, supported=True)) is None


@pytest.mark.parametrize("state", list(RunState))
def test_every_ended_run_is_rerun_and_no_live_one(make_run, state):
    assert code(may_rerun(make_run(state), SAFE)) == (None if is_finished(state) else "run_not_finished")


@pytest.mark.parametrize("state", list(RunState))
def test_every_failed_run_is_resumed_and_no_other(make_run, state):
    expected = None if RUN_STATUS[state] == "failed" else "resume_not_allowed"
    assert code(may_resume(make_run(state), SAFE)) == expected


@pytest.mark.parametrize("state", list(RunState))
def test_every_live_run_is_cancelled_and_no_ended_one(make_run, state):
    assert code(may_cancel(make_run(state))) == ("cancel_not_allowed" if is_finished(state) else None)


def test_a_run_whose_record_has_a_gap_is_not_resumed(make_run):
    refusal = may_resume(make_run(has_gap=True), SAFE)
    assert (code(refusal), "gap" in str(refusal)) == ("record_has_gap", True)


def test_a_gap_is_accepted_by_who_says_so_and_nothing_else_with_it(make_run):
    assert may_resume(make_run(has_gap=True), SAFE, accept_gap=True) is None
    assert code(may_resume(make_run(has_gap=True), SAFE, accept_gap="yes")) == "record_has_gap"
    succeeded = make_run(RunState.SUCCEEDED, has_gap=True)
    assert code(may_resume(succeeded, SAFE, accept_gap=True)) == "resume_not_allowed"


@pytest.mark.parametrize("fields", [{"input": None, "unreadable": ("input",)}, {"input": '{"half'}])
def test_a_run_whose_input_cannot_be_read_is_neither_rerun_nor_resumed(make_run, fields):
    run = make_run(**fields)
    assert code(may_rerun(run, SAFE)) == "rerun_not_allowed"
    assert code(may_resume(run, SAFE)) == "resume_not_allowed"


def test_a_run_without_input_is_rerun(make_run):
    assert may_rerun(make_run(input=None), SAFE) is None


@pytest.mark.parametrize("policy", list(Idempotency))
def test_only_the_rerun_of_an_unsafe_workflow_is_to_be_confirmed(policy):
    assert needs_confirmation("rerun", policy) is (policy is Idempotency.UNSAFE)
    assert needs_confirmation("resume", policy) is False


@pytest.mark.parametrize("confirm", [False, 1, "true", None])
def test_only_true_confirms(confirm):
    refusal = confirmation_refusal("rerun", Idempotency.UNSAFE, confirm=confirm)
    assert (code(refusal), refusal.details) == ("confirmation_required", {"idempotency": "unsafe"})
    assert confirmation_refusal("rerun", Idempotency.UNSAFE, confirm=True) is None


@pytest.mark.parametrize("verdict", [None, True])
def test_a_guard_allows_with_none_or_true(verdict):
    assert guard_refusal("rerun", verdict) is None


@pytest.mark.parametrize(("kind", "blocked"), [("rerun", RerunBlocked), ("resume", ResumeBlocked)])
def test_a_guard_refuses_with_its_reason(kind, blocked):
    refusal = guard_refusal(kind, "the month is closed")
    assert (type(refusal), str(refusal)) == (blocked, "the month is closed")


@pytest.mark.parametrize("verdict", [False, "", "  "])
def test_a_guard_may_refuse_without_a_reason(verdict):
    assert "without a reason" in str(guard_refusal("rerun", verdict))


@pytest.mark.parametrize("verdict", [0, 1, {"ok": True}, []])
def test_what_is_no_answer_of_a_guard_is_not_taken_for_a_yes(verdict):
    with pytest.raises(TypeError):
        guard_refusal("rerun", verdict)


def test_a_guards_reason_is_cut_and_fit_to_be_sent():
    shown = str(guard_refusal("rerun", "\ud800\x00" + "x" * 1_000))
    assert len(shown) == 500
    assert shown.encode("utf-8").startswith("?\N{REPLACEMENT CHARACTER}x".encode())
