"""Every state has its word, icon and class, and what these name exists."""

import re
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from workflow_runs.admin.pages import jsonview, statuses, waterfall
from workflow_runs.model.states import EffectClass, Origin, RunState, StepState

PAGES = Path(waterfall.__file__).parent


@pytest.mark.parametrize(
    ("mapped", "states"),
    [
        (statuses.RUN_LOOKS, RunState),
        (statuses.STEP_LOOKS, StepState),
        (statuses.ORIGIN_TEXTS, Origin),
        (statuses.EFFECT_BADGES, EffectClass),
    ],
    ids=["runs", "steps", "origins", "effects"],
)
def test_no_state_is_without_its_looks(mapped, states):
    assert set(mapped) == set(states)


def test_no_two_states_of_one_kind_share_their_word():
    for looks in (statuses.RUN_LOOKS, statuses.STEP_LOOKS):
        words = [look.word for look in looks.values()]
        assert len(set(words)) == len(words)


def test_a_step_that_the_workflow_skipped_was_not_kept():
    assert statuses.step_look(StepState.SKIPPED, Origin.SEEDED).word == "Kept"
    assert statuses.step_look(StepState.SKIPPED, Origin.SKIPPED).word == "Skipped"


def rules():
    """The classes that the style sheet has rules for."""
    return set(re.findall(r"\.([a-z][a-z-]*)", (PAGES / "static" / "wr.css").read_text()))


def test_every_class_of_a_state_is_a_rule_and_every_icon_a_symbol():
    looks = {*chain(statuses.RUN_LOOKS.values(), statuses.STEP_LOOKS.values()), statuses.NOT_REACHED}
    templates = "".join(file.read_text() for file in (PAGES / "templates").glob("*.html"))
    assert {look.css for look in looks} - rules() == set()
    assert {look.icon for look in looks} - set(re.findall(r'<symbol id="i-([a-z]+)"', templates)) == set()


def test_every_kind_of_bar_is_a_rule():
    assert {f"b-{kind}" for kind in get_args(waterfall.BarKind)} - rules() == set()


def test_every_class_of_json_is_a_rule():
    assert {"j-k", *filter(None, get_args(jsonview.Css))} - rules() == set()
