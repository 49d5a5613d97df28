"""The tree of exceptions: drawn completely, and every code its own."""

from __future__ import annotations

import inspect

from workflow_runs import errors


def _classes() -> list[type[BaseException]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return [cls for _, cls in members if issubclass(cls, BaseException) and cls.__module__ == errors.__name__]


def test_the_drawing_names_every_exception() -> None:
    assert errors.__doc__ is not None
    assert [cls.__name__ for cls in _classes() if cls.__name__ not in errors.__doc__] == []


def test_every_exception_has_one_root_but_the_one_that_unwinds() -> None:
    strays = [cls.__name__ for cls in _classes() if not issubclass(cls, errors.WorkflowRunsError)]
    assert strays == ["RunSuspended"]
    assert not issubclass(errors.RunSuspended, Exception)


def test_every_exception_says_what_it_means() -> None:
    assert [cls.__name__ for cls in _classes() if not inspect.getdoc(cls)] == []


def test_a_refusal_carries_its_details_apart_from_its_message() -> None:
    refusal = errors.AlreadyResumed("The failure was resumed already.", runId="wfrn_1")
    assert str(refusal) == "The failure was resumed already."
    assert refusal.details == {"runId": "wfrn_1"}


def test_an_invalid_field_is_named_and_not_echoed() -> None:
    error = errors.InvalidBody("must be a boolean", field="confirm")
    assert error.field == "confirm"
    assert "confirm" not in str(error)
