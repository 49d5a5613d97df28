"""The operator's desk for business workflows: record every run and step, show them, and re-execute them safely.

The public names, each loaded when it is first asked for: ``import workflow_runs`` itself costs next to nothing, and a process that
only writes workflows never loads SQL or web libraries. The list is pinned by a test.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import WorkflowRuns as WorkflowRuns
    from .authoring import (
        NOT_DONE as NOT_DONE,
        AsyncRun as AsyncRun,
        Run as Run,
        StepContext as StepContext,
        Workflow as Workflow,
        current_step as current_step,
        workflow as workflow,
    )
    from .errors import (
        Cancelled as Cancelled,
        Fatal as Fatal,
        StepFailed as StepFailed,
        WorkflowRunsError as WorkflowRunsError,
    )
    from .execution.recorder import begin_workflow_run as begin_workflow_run, recorded_workflow as recorded_workflow
    from .model.retries import Retry as Retry
    from .operations.desk import Desk as Desk
    from .operations.registry import Runner as Runner, WorkflowRunnerRegistry as WorkflowRunnerRegistry
    from .settings import EngineSettings as EngineSettings, JournalSettings as JournalSettings, Limits as Limits

__version__ = "0.1.0"

# Public name -> the module that defines it.
_HOMES = {
    "AsyncRun": "authoring",
    "Cancelled": "errors",
    "Desk": "operations.desk",
    "EngineSettings": "settings",
    "Fatal": "errors",
    "JournalSettings": "settings",
    "Limits": "settings",
    "NOT_DONE": "authoring",
    "Retry": "model.retries",
    "Run": "authoring",
    "Runner": "operations.registry",
    "StepContext": "authoring",
    "StepFailed": "errors",
    "Workflow": "authoring",
    "WorkflowRunnerRegistry": "operations.registry",
    "WorkflowRuns": "app",
    "WorkflowRunsError": "errors",
    "begin_workflow_run": "execution.recorder",
    "current_step": "authoring",
    "recorded_workflow": "execution.recorder",
    "workflow": "authoring",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604  # the table above is the list


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
