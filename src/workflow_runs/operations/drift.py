"""Has the code changed since the run? Compares two code versions; the versions themselves are made where workflows are written.

A difference is told, not judged: a changed comment changes the version too. What really no longer fits (a step that is gone, other
arguments) is found by replay, step by step, and ends the resumed run with ``StepDrift`` before anything is executed wrongly.
"""

from __future__ import annotations


def code_changed(recorded: str | None, current: str | None) -> bool | None:
    """Return whether a workflow's code differs from the run's, or None when that cannot be known.

    It cannot be known for runs that executed elsewhere, and for runners whose workflow this process does not hold.
    """
    if recorded is None or current is None:
        return None
    return recorded != current
