"""May a run be rerun, resumed, cancelled? Values in, a refusal or None out; no input or output.

The order of the checks is part of the contract: a caller who fails two of them is told about the first.

    rerun   not configured -> still live -> no runner -> resume-only -> no handler -> input unreadable -> (confirmation)
    resume  not configured -> not failed -> record has a gap that nobody accepts -> input unreadable -> no runner -> no handler
    cancel  ended already

What depends on the steps (the target, the steps before it, an existing resume) follows in ``plan``; the host's guard comes last and
is called by the desk, since it is code of others. The exceptions are returned, not raised: a plan shows them, an action raises them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import (
    CancelNotAllowed,
    ConfirmationRequired,
    NotConfigured,
    RecordHasGap,
    Refusal,
    RerunBlocked,
    RerunNotAllowed,
    ResumeBlocked,
    ResumeNotAllowed,
    RunnerNotRegistered,
    RunNotFinished,
)
from ..model.jsontext import check_json
from ..model.records import Run
from ..model.states import Idempotency, RunStatus, is_finished

_REASON_MAX = 500  # characters of a guard's reason that are shown


@dataclass(frozen=True, slots=True)
class Standing:
    """What the registry says about a workflow name and one action: all that the policy needs of it."""

    configured: bool = True  # the process has a registry at all
    idempotency: Idempotency | None = None  # None: nobody registered a runner
    supported: bool = False  # the runner has a handler for the action
    code_version: str | None = None  # of the workflow that the runner executes, where it says which


def may_rerun(run: Run, standing: Standing) -> Refusal | None:
    """Return why the run is not rerun, or None. Confirmation and the guard are asked for after this."""
    if not standing.configured:
        return not_configured("rerun")
    if not is_finished(run.state):
        return RunNotFinished("The run has not ended yet; a live run is not rerun.", state=run.state.value)
    if standing.idempotency is None:
        return not_registered(run.workflow_name, "rerun")
    if standing.idempotency is Idempotency.RESUME_ONLY:
        return RerunNotAllowed("The workflow is resume-only: a finished run of it never starts over.")
    if not standing.supported:
        return not_supported("rerun")
    if _is_input_unreadable(run):
        return RerunNotAllowed("The run's stored input cannot be read, so there is nothing to run again with.")
    return None


def may_resume(run: Run, standing: Standing, *, accept_gap: bool = False) -> Refusal | None:
    """Return why the run is not resumed, or None. Its steps are judged after this.

    ``accept_gap``: the caller knows that something is missing from the record, and takes it upon himself.
    """
    if not standing.configured:
        return not_configured("resume")
    if run.status is not RunStatus.FAILED:
        return ResumeNotAllowed("Only failed runs are resumed.", status=run.status.value)
    if run.has_gap and accept_gap is not True:
        # What is missing may be the very step that a resume would execute again.
        return RecordHasGap("The record of this run has a gap: which steps were completed is not known for certain.")
    if _is_input_unreadable(run):
        return ResumeNotAllowed("The run's stored input cannot be read.")
    if standing.idempotency is None:
        return not_registered(run.workflow_name, "resume")
    if not standing.supported:
        return not_supported("resume")
    return None


def _is_input_unreadable(run: Run) -> bool:
    return "input" in run.unreadable or (run.input is not None and check_json(run.input) is None)


def may_cancel(run: Run) -> Refusal | None:
    """Return why the run is not cancelled, or None."""
    if is_finished(run.state):
        return CancelNotAllowed("The run has ended.", status=run.status.value)
    return None


def needs_confirmation(kind: str, idempotency: Idempotency | None) -> bool:
    """Return whether the action waits for ``confirm: true``. A resume never does: it keeps what was done."""
    return kind == "rerun" and idempotency is Idempotency.UNSAFE


def confirmation_refusal(kind: str, idempotency: Idempotency | None, *, confirm: bool) -> Refusal | None:
    """Return the refusal of an unconfirmed rerun of an unsafe workflow, or None."""
    if not needs_confirmation(kind, idempotency) or confirm is True:
        return None
    return ConfirmationRequired(
        "The workflow is unsafe: running it again repeats its effects. Confirm to run it all the same.",
        idempotency=Idempotency.UNSAFE.value,
    )


def guard_refusal(kind: str, verdict: object) -> Refusal | None:
    """Return what a guard's answer means: None or True allow, False or a reason refuse.

    Raises:
        TypeError: the answer is something else. It must not be taken for a yes, and a no would have no reason.
    """
    if verdict is None or verdict is True:
        return None
    if verdict is False:
        reason = ""
    elif isinstance(verdict, str):
        reason = verdict
    else:
        raise TypeError(f"a guard gives None, True, False or a reason, not {type(verdict).__name__}")
    shown = reason.strip()[:_REASON_MAX].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    blocked = RerunBlocked if kind == "rerun" else ResumeBlocked
    return blocked(shown or "The guard of the workflow refused, without a reason.")


def not_configured(action: str) -> Refusal:
    """Return the refusal of a process that has no registry."""
    return NotConfigured("No workflow runners are configured in this process.", code=f"{action}_not_configured")


def not_registered(workflow_name: str, action: str) -> Refusal:
    """Return the refusal for a workflow name without a runner; ``action`` decides the status that the wire gives it."""
    return RunnerNotRegistered("No runner is registered for this workflow.", action=action, workflowName=workflow_name)


def not_supported(action: str) -> Refusal:
    """Return the refusal of a runner without a handler for the action."""
    return NotConfigured(f"The runner of this workflow has no {action} handler.", code=f"{action}_not_supported")
