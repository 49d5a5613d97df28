"""Every exception of the package, drawn as one tree.

    WorkflowRunsError
    |- ConfigurationError            the package is put together wrongly: said at import or start, never at 3 a.m.
    |- InvalidRequest                what a caller handed in is not usable; names the field, never echoes the value
    |  |- InvalidQuery
    |  |- InvalidBody
    |  `- InvalidInput               a typed workflow input that does not validate
    |- Refusal                       understood, and declined: nothing was changed
    |  |- NotFound
    |  |- Forbidden  |- Unauthorized |- SurfaceRestricted
    |  |- NotConfigured              no registry, no runner, no handler for the action
    |  |- RunnerNotRegistered
    |  |- ResumeNotAllowed  |- RecordHasGap  |- NoFailedStep  |- IncompletePriorStep  |- AlreadyResumed
    |  |- RunNotFinished    |- RerunNotAllowed |- ConfirmationRequired |- RerunBlocked | ResumeBlocked
    |  |- CancelNotAllowed
    |  |- PlanChanged
    |  |- IdempotencyKeyReused
    |  `- AlreadyFinished            a terminal state is final
    |- GuardFailed                   a can_rerun / can_resume guard raised
    |- HandlerFailed                 a runner's trigger / rerun / resume handler raised
    |- RecordingError
    |  |- StoreUnavailable           the database cannot be used now; a later try may work
    |  |- SchemaMismatch             the database has another schema than this version needs
    |  |- EntryRejected              the database refused this one entry; others are not affected
    |  |- ClaimLost                  another process owns the run by now: write nothing, start nothing
    |  |- QueueFull  `- JournalClosed
    `- WorkflowError                 raised into, or by, workflow code
       |- CannotEncode               a value that would not come back equal
       |- ParallelStepNeedsKey       two parallel steps that only an explicit key can tell apart
       |- StepDrift                  the recorded step was given other arguments, or is missing
       |- StepFailed                 a step's attempts are used up; what the workflow sees, live and replayed
       |- StepTimeout  |- Fatal      a step's own errors that bear on its retries
       `- Cancelled                  ends the run as cancelled, with a reason

``RunSuspended`` stands outside, under ``BaseException``: it unwinds a run that has to wait, and a broad ``except
Exception`` in user code must not swallow it (fault E11 of the original).

Each class has a ``code`` that never changes; HTTP statuses are given to codes in ``wire``, nowhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar


class WorkflowRunsError(Exception):
    """Root of everything the package raises on purpose."""

    code: ClassVar[str] = "internal_error"


class ConfigurationError(WorkflowRunsError):
    """The application is assembled in a way that cannot work or is not safe."""

    code = "configuration_error"


# --- what a caller handed in -----------------------------------------------------------------------------------------


class InvalidRequest(WorkflowRunsError):
    """A value from outside is not usable. ``field`` is its path (``tags[3]``), never its value."""

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidQuery(InvalidRequest):
    """A query parameter is unknown, repeated where it may not be, or out of range."""

    code = "invalid_query"


class InvalidBody(InvalidRequest):
    """A request body is not the JSON that the route takes."""

    code = "invalid_body"


class InvalidInput(InvalidRequest):
    """The input does not validate against the workflow's declared type."""

    code = "invalid_request"


# --- refusals --------------------------------------------------------------------------------------------------------


class Refusal(WorkflowRunsError):
    """Understood and declined; nothing was changed.

    ``details`` are extra members of the answer (``runId``, ``idempotency``); they hold no payload.
    """

    code = "refused"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details: dict[str, Any] = details


class NotFound(Refusal):
    """No such run, or none that this principal may see."""

    code = "not_found"


class Unauthorized(Refusal):
    """Nobody is logged in."""

    code = "unauthorized"


class Forbidden(Refusal):
    """The principal lacks the scope of the action."""

    code = "forbidden"


class SurfaceRestricted(Refusal):
    """The admin surface of this process does not act."""

    code = "workflow_admin_surface_restricted"


class NotConfigured(Refusal):
    """The process has no registry, or the runner lacks the handler: ``what`` names the action."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # trigger_not_configured, trigger_not_supported, rerun_... : one class


class RunnerNotRegistered(Refusal):
    """Nobody registered a runner under the workflow's name."""

    code = "runner_not_registered"


class ResumeNotAllowed(Refusal):
    """Only failed runs are resumed."""

    code = "resume_not_allowed"


class RecordHasGap(Refusal):
    """Something of an observed run is missing from its record, and the caller has not said that he knows."""

    code = "record_has_gap"


class NoFailedStep(Refusal):
    """Nothing in the run can be the step to resume from."""

    code = "no_failed_step"


class IncompletePriorStep(Refusal):
    """A step before the target is not finished, or was undone."""

    code = "incomplete_prior_step"


class AlreadyResumed(Refusal):
    """An unfinished or succeeded resume of the run exists; ``details["runId"]`` is its id."""

    code = "already_resumed"


class ResumeBlocked(Refusal):
    """The runner's ``can_resume`` guard said no."""

    code = "resume_blocked"


class RunNotFinished(Refusal):
    """A run that is still live is not rerun."""

    code = "run_not_finished"


class RerunNotAllowed(Refusal):
    """The runner is resume-only."""

    code = "rerun_not_allowed"


class ConfirmationRequired(Refusal):
    """An unsafe workflow is rerun only with ``confirm: true``."""

    code = "confirmation_required"


class RerunBlocked(Refusal):
    """The runner's ``can_rerun`` guard said no."""

    code = "rerun_blocked"


class CancelNotAllowed(Refusal):
    """The run has ended."""

    code = "cancel_not_allowed"


class PlanChanged(Refusal):
    """The run is no longer what the plan was made from."""

    code = "plan_changed"


class IdempotencyKeyReused(Refusal):
    """The key was used before with another request."""

    code = "idempotency_key_reused"


class AlreadyFinished(Refusal):
    """The run has a terminal state already; the late outcome changed nothing. ``details["state"]`` is what it ended as."""

    code = "already_finished"


# --- code of the host that raised ------------------------------------------------------------------------------------


class GuardFailed(WorkflowRunsError):
    """A guard raised; its message is logged, not shown (contract, section Runs)."""

    code = "guard_failed"


class HandlerFailed(WorkflowRunsError):
    """A runner's handler raised. The message is the handler's own: it becomes the ``detail`` of the answer."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # trigger_failed, rerun_failed, resume_failed


# --- writing ---------------------------------------------------------------------------------------------------------


class RecordingError(WorkflowRunsError):
    """Something could not be recorded."""

    code = "recording_error"


class StoreUnavailable(RecordingError):
    """The database cannot be used now: away, locked, full, read-only. The write may be tried again."""

    code = "store_unavailable"


class SchemaMismatch(RecordingError):
    """The database's schema is not the one this version needs; run ``workflow-runs migrate``."""

    code = "schema_mismatch"


class EntryRejected(RecordingError):
    """The database refused this entry for what it holds; trying again cannot help."""

    code = "entry_rejected"


class ClaimLost(RecordingError):
    """The claim's epoch has passed to another owner; this process must write nothing more for the run."""

    code = "claim_lost"


class QueueFull(RecordingError):
    """The journal's bounded queue has no room."""

    code = "queue_full"


class JournalClosed(RecordingError):
    """The journal takes no more entries."""

    code = "journal_closed"


# --- workflow code ---------------------------------------------------------------------------------------------------


class WorkflowError(WorkflowRunsError):
    """Raised into or by workflow code."""

    code = "workflow_error"


class CannotEncode(WorkflowError):
    """A value that would not come back equal from the record.

    ``where`` says whose value it is (``step "charge" output``), ``path`` the place inside (``$.items[2].price``),
    ``type_name`` the offending Python type.
    """

    code = "cannot_encode"

    def __init__(self, where: str, path: str, type_name: str, reason: str) -> None:
        super().__init__(f"{where}: {path} is a {type_name}: {reason}")
        self.where, self.path, self.type_name, self.reason = where, path, type_name, reason


class ParallelStepNeedsKey(WorkflowError):
    """A step name is used twice in parallel, where only an explicit ``key=`` can tell the two apart."""

    code = "parallel_step_needs_key"


class StepDrift(WorkflowError):
    """The code asks for something else than what was recorded under the same step."""

    code = "step_drift"


class Fatal(WorkflowError):
    """Raise from a step to forbid its retries whatever the policy says."""

    code = "fatal"


class StepTimeout(WorkflowError):
    """The step did not end within ``timeout_s``."""

    code = "step_timeout"


class StepFailed(WorkflowError):
    """A step failed for good. Workflow code sees this class when it runs and when it is replayed, so both take one path.

    ``str()`` is the message of the original exception, ``type_name`` its class name, ``error_code`` its ``code`` if it had
    one; ``__cause__`` is the exception itself in the process that executed the step, and None on replay.
    """

    code = "step_failed"

    def __init__(self, message: str, *, step: str, type_name: str, error_code: str | None) -> None:
        super().__init__(message)
        self.step, self.type_name, self.error_code = step, type_name, error_code


class Cancelled(WorkflowError):
    """Raise from a workflow to end the run as cancelled; the message is the reason."""

    code = "cancelled"


class RunSuspended(BaseException):
    """Unwinds a run that has to stop here without ending: it waits for a person, or its claim is lost.

    A ``BaseException``, as ``asyncio.CancelledError`` is, so that ``except Exception`` in workflow code lets it pass.
    """
