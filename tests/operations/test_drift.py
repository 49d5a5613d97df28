"""Two code versions: the same, another, or not known."""

import pytest

from workflow_runs.operations.drift import code_changed


@pytest.mark.parametrize(
    ("recorded", "current", "changed"),
    [("a", "a", False), ("a", "b", True), (None, "b", None), ("a", None, None), (None, None, None)],
)
def test_code_has_changed_when_both_versions_are_known_and_differ(recorded, current, changed):
    assert code_changed(recorded, current) is changed
