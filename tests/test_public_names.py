"""What users may import is pinned: adding or removing a name is a decision, not an accident."""

from __future__ import annotations

import workflow_runs

PUBLIC = {
    "AsyncRun", "Cancelled", "Desk", "EngineSettings", "Fatal", "JournalSettings", "Limits", "NOT_DONE", "Retry", "Run", "Runner",
    "StepContext", "StepFailed", "Workflow", "WorkflowRunnerRegistry", "WorkflowRuns", "WorkflowRunsError", "begin_workflow_run",
    "current_step", "recorded_workflow", "workflow", "__version__",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(workflow_runs.__all__) == PUBLIC


def test_every_public_name_can_be_had() -> None:
    assert [name for name in PUBLIC if not hasattr(workflow_runs, name)] == []


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    assert not hasattr(workflow_runs, "Nonsense")
