"""Journal mode, where the record decides: what cannot be recorded stops the run before its next step, and leaves it to be taken up."""

from contextlib import suppress

import pytest

KINDS = ["plain", "coroutine"]


@pytest.mark.parametrize("sqlite_ground", KINDS, indirect=True)
def test_a_step_that_cannot_be_recorded_is_the_last_that_is_executed(sqlite_ground, calls):
    def second():
        sqlite_ground.journal.close()
        return calls.give("second")()

    def body(run):
        yield run.step("first", calls.give("first"))
        yield run.step("second", second)
        yield run.step("third", calls.give("third"))

    run = sqlite_ground.do(sqlite_ground.workflow(body))
    assert len(calls) == 2
    assert (run.state, sqlite_ground.states(run)) == ("running", {"first": ["succeeded"], "second": ["running"]})


@pytest.mark.parametrize("sqlite_ground", KINDS, indirect=True)
def test_code_that_swallows_it_executes_nothing_more_either(sqlite_ground, calls):
    def body(run):
        sqlite_ground.journal.close()
        for name in ("first", "second", "third"):
            with suppress(Exception):  # as careless code does
                yield run.step(name, calls.give(name))

    run = sqlite_ground.do(sqlite_ground.workflow(body))
    assert (calls, run.state, sqlite_ground.states(run)) == ([], "running", {})
