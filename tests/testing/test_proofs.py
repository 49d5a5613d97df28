"""What users prove of their workflows; and that what does not hold is found, with the step and the point named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workflow_runs import NOT_DONE, AsyncRun, Retry, Run, current_step, workflow
from workflow_runs.testing import (
    ChildFailed,
    EffectLedger,
    Moment,
    in_child,
    prove_resumes_from_each_step,
    prove_survives_crashes,
)


@pytest.fixture
def outside(tmp_path):
    """The outside world: what was done to it, and can be asked."""
    return EffectLedger(tmp_path / "outside")


def test_a_plain_workflow_survives_and_its_repeats_are_told(tmp_path):
    @workflow("plain", idempotency="safe")
    def plain(run: Run, name: str) -> str:
        greeting = run.step("greet", lambda: f"Hello {name}")
        return run.step("shout", str.upper, greeting)

    report = prove_survives_crashes(plain, "Ada", folder=tmp_path)
    assert report.points == [
        "accepted",
        "before greet, attempt 1",
        "after greet, attempt 1",
        "recorded greet, attempt 1",
        "before shout, attempt 1",
        "after shout, attempt 1",
        "recorded shout, attempt 1",
        "ending",
        "ended",
    ]
    assert report.repeated == {"greet": "idempotent", "shout": "idempotent"}
    assert report.waiting == []
    assert str(report) == "killed at 9 points; repeated: greet (idempotent), shout (idempotent)"


def test_an_unsafe_step_is_left_to_a_person_and_one_that_can_be_asked_about_is_not(tmp_path, outside):
    def pay():
        outside.record()
        return "paid"

    def look():
        context = current_step()
        return "paid" if any(effect.effect_key == context.effect_key for effect in outside.all()) else NOT_DONE

    @workflow("payments", idempotency="unsafe")
    async def payments(run: AsyncRun) -> str:
        first = await run.step("sure", pay, verify=look)
        return first + await run.step("blind", pay)

    report = prove_survives_crashes(payments, moments=frozenset({Moment.BEFORE, Moment.AFTER}), folder=tmp_path)
    assert report.waiting == ["before blind, attempt 1", "after blind, attempt 1"]
    assert report.repeated == {}
    assert set(outside.repeated()) == set()


def test_retries_and_undoing_survive(tmp_path):
    def flaky():
        if current_step().attempt == 1:
            raise ConnectionError("once")
        return 1

    @workflow("undone", idempotency="safe")
    def undone(run: Run) -> None:
        run.step("flaky", flaky, retry=Retry(attempts=5, first_delay_s=0.001), compensate=lambda value: None)
        run.step("fail", lambda: 1 / 0)

    report = prove_survives_crashes(undone, ends="compensated", folder=tmp_path)
    assert "after undoing flaky, attempt 2" in report.points
    assert report.repeated == {"flaky": "idempotent", "undoing flaky": "idempotent", "fail": "idempotent"}


def test_a_workflow_that_decides_by_something_unrecorded_is_told_so(tmp_path):
    @workflow("forgetful", idempotency="safe")
    def forgetful(run: Run) -> str:
        who = run.step("ask", lambda: "Ada")
        return f"{who} in process {os.getpid()}"

    with pytest.raises(AssertionError) as proof:
        prove_survives_crashes(forgetful, folder=tmp_path)
    text = str(proof.value)
    assert "workflow 'forgetful' does not hold:" in text
    assert "killed recorded ask, attempt 1: the result is" in text


def test_a_workflow_that_acts_outside_of_steps_is_caught_by_the_outside_alone(tmp_path):
    marker = tmp_path / "marker"

    @workflow("changing", idempotency="safe")
    def changing(run: Run) -> int:
        first = not marker.exists()
        marker.touch()
        run.step("one" if first else "other", lambda: 1)
        return 1

    with pytest.raises(AssertionError, match=r"the point '.*one.*' was not reached a second time"):
        prove_survives_crashes(changing, moments=frozenset({Moment.RECORDED}), folder=tmp_path)


def test_undisturbed_it_has_to_end_well(tmp_path):
    @workflow("broken", idempotency="safe")
    def broken(run: Run) -> None:
        run.step("fail", lambda: 1 / 0)

    with pytest.raises(
        AssertionError, match=r"undisturbed, the run ended as failed and not as succeeded.*division by zero"
    ):
        prove_survives_crashes(broken, folder=tmp_path)


def test_a_workflow_resumes_from_each_step(tmp_path, outside):
    @workflow("order", idempotency="unsafe")
    def order(run: Run, amount: int) -> dict:
        booked = run.step("book", lambda: outside.record() or "seat")
        try:
            run.step("advertise", lambda: None)
        except Exception:  # noqa: BLE001  # nobody minds
            booked += "!"
        run.step("pay", outside.record, retry=Retry(attempts=3))
        return {"paid": amount}

    report = prove_resumes_from_each_step(order, 5, folder=tmp_path)
    assert report.resumed == ["book", "pay"]
    assert report.handled == ["advertise"]
    assert outside.repeated() == {}


def test_a_workflow_that_would_do_a_step_again_in_a_resume_is_named(tmp_path):
    @workflow("restless", idempotency="unsafe")
    def restless(run: Run) -> int:
        run.step(f"charge-{run.id}", lambda: 1)
        return run.step("ship", lambda: 2)

    with pytest.raises(AssertionError, match="step 'ship' was made to fail"):
        prove_resumes_from_each_step(restless, folder=tmp_path)


def test_what_a_child_raises_is_told_with_its_traceback():
    def fall(_):
        raise LookupError("over this")

    with pytest.raises(ChildFailed, match=r"in fall.*(.|\n)*LookupError: over this"):
        in_child(fall)


def test_a_child_that_takes_too_long_is_killed():
    with pytest.raises(ChildFailed, match=r"not ended within 0\.3 s"):
        in_child(lambda _: signal.pause(), timeout_s=0.3)


def test_what_a_child_says_arrives_whatever_becomes_of_it():
    def speak(mouth):
        mouth.say({"long": "x" * 1_000_000})
        os.kill(os.getpid(), signal.SIGKILL)

    ended = in_child(speak)
    assert ended.killed
    assert len(ended.said[0]["long"]) == 1_000_000


USERS_TEST = """
    import pytest
    from workflow_runs import Run, workflow

    @pytest.fixture
    def greeting():
        @workflow("greeting", idempotency="safe")
        def greeting(run: Run) -> str:
            return run.step("greet", lambda: "Hello")
        return greeting

    def test_greeting_survives(greeting, prove_survives_crashes, prove_resumes_from_each_step, effect_ledger):
        assert prove_survives_crashes(greeting).repeated == {"greet": "idempotent"}
        assert prove_resumes_from_each_step(greeting).resumed == ["greet"]
        assert effect_ledger.all() == []
"""


def test_the_plugin_gives_fixtures(tmp_path):
    (tmp_path / "test_users.py").write_text(textwrap.dedent(USERS_TEST))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "workflow_runs.testing.plugin",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
    ]
    finished = subprocess.run(
        [*command, "-p", "no:schemathesis", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stdout
    assert "1 passed" in finished.stdout


def test_the_plugin_is_registered_with_pytest():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"workflow_runs.testing.plugin": "workflow_runs.testing.plugin"}
