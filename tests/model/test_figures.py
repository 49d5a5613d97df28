"""Figures that follow from others."""

from datetime import UTC, datetime

import pytest

from workflow_runs.model.figures import Bar, Totals, WorkflowFigures


@pytest.mark.parametrize("make", [Totals, lambda *numbers: WorkflowFigures("checkout", *numbers)])
def test_success_rate_is_of_the_runs_that_have_ended(make):
    figures = make(6, 3, 1, 90, 5, 9)
    assert figures.ended == 10
    assert figures.success_rate == 0.6


@pytest.mark.parametrize("make", [Totals, lambda *numbers: WorkflowFigures("checkout", *numbers)])
def test_where_nothing_has_ended_there_is_no_success_rate(make):
    assert make(0, 0, 0, 4, None, None).success_rate is None


def test_bar_is_as_high_as_all_its_runs():
    assert Bar(datetime(2026, 1, 1, tzinfo=UTC), 1, 2, 3, 4).total == 10
