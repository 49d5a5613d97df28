"""How a step is identified, and which names are fit to be one."""

from __future__ import annotations

import pytest

from workflow_runs.errors import InvalidRequest, ParallelStepNeedsKey, WorkflowError
from workflow_runs.model.identity import Identities, check_name
from workflow_runs.model.records import StepKey


def take(identities, name="send", key="", *, own=True, pending=False):
    return identities.take(name, key, own=own, pending=pending)


def test_uses_are_counted_by_name_and_key():
    identities = Identities(100)
    taken = [take(identities), take(identities), take(identities, key="a"), take(identities, key="a")]
    assert taken == [StepKey("send"), StepKey("send", "", 2), StepKey("send", "a"), StepKey("send", "a", 2)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"pending": True}),
        ({}, {"own": False}),
        ({"own": False}, {}),
        ({"key": "k"}, {"key": "k", "pending": True}),
    ],
    ids=["the first has not ended", "from another branch", "after another branch", "one key at once"],
)
def test_a_second_use_whose_count_would_be_chance_is_refused_and_says_what_to_do(first, second):
    identities = Identities(100)
    take(identities, **first)
    with pytest.raises(ParallelStepNeedsKey, match="key"):
        take(identities, **second)


def test_a_key_used_again_in_another_branch_is_its_own_affair():
    identities = Identities(100)
    take(identities, key="order-7", own=False)
    assert take(identities, key="order-7", own=False).occurrence == 2


def test_a_refused_use_is_not_counted():
    identities = Identities(100)
    take(identities)
    with pytest.raises(ParallelStepNeedsKey):
        take(identities, pending=True)
    assert take(identities).occurrence == 2


def test_steps_are_bounded():
    identities = Identities(2)
    take(identities), take(identities)
    with pytest.raises(WorkflowError, match="steps_per_run_max"):
        take(identities)


@pytest.mark.parametrize("name", ["charge", "Straße 7", "a/b..c", "\u202egnirts", "👩‍🚀", "<b>", "x" * 200])
def test_a_name_may_be_any_line_of_text(name):
    assert check_name(name, "step") == name


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\x1b[31m", "\x00", "\ud800", "a\u2028b", "\x7f", 7, None])
def test_a_name_that_is_no_line_of_text_is_refused_without_being_repeated(name):
    with pytest.raises(InvalidRequest) as refused:
        check_name(name, "the name of a step")
    assert refused.value.field == "the name of a step"
    assert not name or str(name) not in str(refused.value)
