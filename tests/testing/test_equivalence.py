"""Whatever the workflow and wherever its process dies, also twice: the record is that of an undisturbed run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from workflow_runs import AsyncRun, Retry, Run, current_step, workflow
from workflow_runs.testing import EffectLedger, Toll, World, settled
from workflow_runs.testing.scenarios import judge

STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "effect": st.sampled_from(["pure", "read", "idempotent"]),  # those that recovery may repeat by itself
            "failures": st.integers(0, 2),
            "fails_for_good": st.just(False) | st.booleans(),
            "undone": st.booleans(),
        }
    ),
    min_size=1,
    max_size=4,
)


def deed(step):
    if step["fails_for_good"] or current_step().attempt <= step["failures"]:
        raise ConnectionError("not this time")
    return step["effect"]


def options(step):
    undo = {"compensate": lambda value: None} if step["undone"] else {}
    return {"effect": step["effect"], "retry": Retry(attempts=3, first_delay_s=0.001), **undo}


def made_of(steps, is_async):
    if is_async:

        @workflow("made", idempotency="safe")
        async def made_async(run: AsyncRun) -> list:
            return [await run.step("step", deed, step, **options(step)) for step in steps]

        return made_async

    @workflow("made", idempotency="safe")
    def made(run: Run) -> list:
        return [run.step("step", deed, step, **options(step)) for step in steps]

    return made


def play(app, key, told):
    run_id = app.trigger("made", correlation_id=key, idempotency_key=key)
    told(run_id)
    settled(app, run_id)


@given(steps=STEPS, is_async=st.booleans(), first=st.integers(12, 60), second=st.integers(1, 40))
# Not shrunk: each try is four processes, and a workflow of four steps can be read as it is.
@settings(
    phases=[Phase.explicit, Phase.generate],
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_two_kills_leave_the_record_of_an_undisturbed_run(steps, is_async, first, second):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        world = World(f"sqlite:///{path / 'runs.db'}", (made_of(steps, is_async),), EffectLedger(path / "effects"))
        reference = world.live(play, "undisturbed")
        told = world.live(play, "disturbed", at_event=first).said
        told += world.live(play, "disturbed", at_event=second).said
        toll = Toll()
        judge(
            toll,
            f"killed at {first} and {second}",
            reference,
            world.live(play, "disturbed", again=True),
            told,
            world.ledger,
        )
        toll.check()
