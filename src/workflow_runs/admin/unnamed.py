"""What is said to whoever does not see every workflow: that another run stands in the way, and not which one.

A resume is refused because of another run of the same lineage, and a handler may have recorded that one under the name of a workflow
that does not exist for the principal. The API and the pages leave its id out alike; the refusal stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..errors import Refusal
from ..operations.plan import Plan, Refused
from ..operations.questions import DeskQuestions
from .access import Principal

NOT_YOURS: Final = "(not yours to see)"


def unnamed(refusal: Refusal, desk: DeskQuestions, principal: Principal) -> Refusal:
    """Return the refusal without the id of a run that does not exist for the principal. May ask the database."""
    run_id = refusal.details.get("runId")
    if not isinstance(run_id, str) or _is_seen(run_id, desk, principal):
        return refusal
    others = {name: value for name, value in refusal.details.items() if name != "runId"}
    return type(refusal)(str(refusal).replace(run_id, NOT_YOURS), **others)


def unnamed_plan(plan: Plan, desk: DeskQuestions, principal: Principal) -> Plan:
    """Return the same of a plan."""
    refused, resumed_by = plan.refused, plan.existing_resume_run_id
    if refused is not None and isinstance(refused.error, Refusal):
        told = unnamed(refused.error, desk, principal)
        refused = refused if told is refused.error else Refused(told)
    if resumed_by is not None and not _is_seen(resumed_by, desk, principal):
        resumed_by = None
    return replace(plan, refused=refused, existing_resume_run_id=resumed_by)


def _is_seen(run_id: str, desk: DeskQuestions, principal: Principal) -> bool:
    # What is recorded elsewhere belongs to nobody knows which workflow.
    return principal.workflows is None or any(principal.sees(run.workflow_name) for run in desk.runs_by_id([run_id]))
