"""Plan pages: what a resume, rerun or cancel will do, and the doing of it. Each is an address; as a dialog it is the same markup.

A POST acts only with the token of the plan that this person was shown, and only if the plan is still the same. Otherwise the plan is
shown again, with what has changed. What the verdict demands (a reason, a tick, a typed key) is asked for by the form and checked here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from ...errors import InvalidQuery, Refusal
from ...model.records import Run, Step, StepKey
from ...model.states import StepKind
from ...operations.answers import Accepted
from ...operations.judging import Judged
from ...operations.plan import GuardAnswer, PlanKind
from ...operations.verdict import Word, cancel_outlook, unmet
from ...wire import REASON_LENGTH_MAX
from ..answer import Answer
from ..unnamed import unnamed
from .call import PageCall
from .run import judged_for
from .statuses import run_look
from .tokens import TokenBasis, TokenCheck, TokenState, action_key

_LABELS_MAX: Final = 50
SHOWN_STEPS_MAX: Final = 200  # of each part of a plan


async def show_or_act(call: PageCall) -> Answer:
    """``GET runs/{id}/resume`` and ``/rerun``: the plan. ``POST``: the action, and on to the new run."""
    kind: PlanKind = "rerun" if call.place.action == "rerun" else "resume"
    if call.request.method != "POST":
        judged = await judged_for(call, call.values[0], kind, _from_step(call.query, kind))
        return await call.in_thread(partial(_show, call, kind, judged))
    return await _act(call, kind, await call.form())


async def _act(call: PageCall, kind: PlanKind, form: Mapping[str, str]) -> Answer:
    run_id, token = call.values[0], form.get("token", "")
    key = action_key(token)
    request_hash = hashlib.blake2b(repr((kind, form.get("from"))).encode(), digest_size=16).hexdigest()
    asked_before = partial(_first_answer, call, kind, key, request_hash)
    first = await call.in_thread(asked_before)
    if first is not None:
        return call.redirect(call.links.run(first.run_id))  # the same form, sent twice
    from_step = _from_step(form, kind)
    judged = await judged_for(call, run_id, kind, from_step)
    check = call.pages.tokens.check(token, _basis(call, kind, judged, from_step))
    reason = form.get("reason", "").strip()
    missing = unmet(
        judged.verdict.demands, reason=reason, checked=form.get("checked") == "yes", typed=form.get("typed", "").strip()
    )
    if len(reason) > REASON_LENGTH_MAX:
        missing = (*missing, ("reason", f"A reason has at most {REASON_LENGTH_MAX} characters."))
    show = partial(_show, call, kind, judged, form=form)
    # The desk would ask a guard that is silent once more, and wait for it without an end.
    is_silent = judged.plan.guard is GuardAnswer.SILENT
    is_other = judged.plan.refused is not None or check.state is not TokenState.GOOD or is_silent
    # Sent twice at once, it may be the other one that changed the plan.
    first = await call.in_thread(asked_before) if is_other or missing else None
    if first is not None:
        return call.redirect(call.links.run(first.run_id))
    if is_other:
        return await call.in_thread(partial(show, status=409, notice=_words_of(check, judged)))
    if missing:
        return await call.in_thread(partial(show, status=400, problems=dict(missing)))
    act = call.desk.rerun if kind == "rerun" else partial(call.desk.resume, from_step=from_step)
    try:
        accepted = await call.in_thread(
            partial(
                act,
                run_id,
                actor=call.principal.id,
                confirm=True,
                reason=reason or None,
                idempotency_key=key,
                request_hash=request_hash,
                plan_hash=judged.plan.hash,
                request_id=call.request_id,
            )
        )
    except Refusal as refusal:
        again = await judged_for(call, run_id, kind, from_step)
        told = await call.in_thread(partial(unnamed, refusal, call.desk, call.principal))
        return await call.in_thread(partial(_show, call, kind, again, form=form, status=409, notice=str(told)))
    return call.redirect(call.links.run(accepted.run_id))


def _first_answer(call: PageCall, kind: PlanKind, key: str, request_hash: str) -> Accepted | None:
    run = call.seen(call.desk.run_head(call.values[0]))
    return call.desk.answered(kind, run, key, request_hash)


def _show(
    call: PageCall,
    kind: PlanKind,
    judged: Judged,
    *,
    form: Mapping[str, str] | None = None,
    status: int = 200,
    notice: str | None = None,
    problems: Mapping[str, str] | None = None,
) -> Answer:
    run, plan, verdict = judged.run, judged.plan, judged.verdict
    from_step = _from_step(call.query if form is None else form, kind)
    steps = {step.step: step for step in judged.steps}
    kept = [(key, steps.get(key)) for key in plan.kept]
    repeated = {repeat.step for repeat in verdict.repeats}
    executed = [(key, steps.get(key), key in repeated) for key in plan.executed]
    why = call.why_not("workflows:retry")
    return call.page(
        "plan.html",
        status,
        area="Runs",
        kind=kind,
        run=run,
        look=run_look(run.state),
        plan=plan,
        verdict=verdict,
        kept=kept[:SHOWN_STEPS_MAX],
        kept_more=max(0, len(kept) - SHOWN_STEPS_MAX),
        executed=executed[:SHOWN_STEPS_MAX],
        executed_more=max(0, len(executed) - SHOWN_STEPS_MAX),
        following=_following(call, judged),
        first_times=not plan.rest_known,
        can_act=why is None and plan.refused is None and verdict.word is not Word.NO,
        why=why,
        from_step=from_step,
        choices=_choices(judged.steps) if kind == "resume" and plan.target is not None else (),
        token=call.pages.tokens.issue(_basis(call, kind, judged, from_step)),
        notice=notice,
        problems=problems or {},
        form=form or {},
        reason_max=REASON_LENGTH_MAX,
    )


def _following(call: PageCall, judged: Judged) -> list[str]:
    """The steps that the run has not reached, as far as the last success of the same code tells."""
    recorded = {step.step.label() for step in judged.steps}
    if judged.plan.rest_known or judged.plan.refused is not None or judged.plan.code_changed is not False:
        return []
    usual = call.soft(partial(call.desk.usual_steps, judged.run)) or ()
    return [label for label in usual if label not in recorded]


def _choices(steps: Sequence[Step]) -> list[str]:
    """The steps that an operator may start from."""
    labels = [step.step.label() for step in steps if step.kind is StepKind.STEP]
    return labels[:SHOWN_STEPS_MAX]


def _from_step(values: Mapping[str, str], kind: PlanKind) -> str | None:
    given = values.get("from") or None
    if given is not None and kind == "rerun":
        raise InvalidQuery("A rerun begins at the start; to begin at a step is a resume.", field="from")
    return given


def _basis(call: PageCall, kind: str, judged: Judged, from_step: str | None) -> TokenBasis:
    plan, verdict = judged.plan, judged.verdict
    # The verdict rests on more than the plan: a relative that began meanwhile changes what was said, and so what was agreed to.
    said = (verdict.word, verdict.title, verdict.findings, verdict.repeats, verdict.demands)
    return TokenBasis(
        user=call.principal.id,
        action=kind,
        run_id=judged.run.id,
        from_step=from_step,
        plan_hash=f"{plan.hash}.{_digest(said)}",
        guard=plan.guard.value,
        executed=_labels(plan.executed),
        kept=len(plan.kept),
    )


def _digest(said: object) -> str:
    return hashlib.blake2b(repr(said).encode("utf-8", "replace"), digest_size=12).hexdigest()


def _labels(keys: Sequence[StepKey]) -> tuple[str, ...]:
    return tuple(key.label() for key in keys[:_LABELS_MAX])


def _words_of(check: TokenCheck, judged: Judged) -> str | None:
    """What to say above a plan that is shown again."""
    if judged.plan.guard is GuardAnswer.SILENT:
        return "The guard of this workflow has not answered in time. Nothing was done; try again."
    if check.state is TokenState.GOOD:
        return None
    if check.state is TokenState.EXPIRED:
        return "This plan was shown more than five minutes ago. Nothing was done; here it is as it is now."
    seen = check.seen
    if seen is None:
        return "This form was not made for you, or not by this desk. Nothing was done; here is the plan as it is now."
    changes = []
    plan = judged.plan
    if seen.kept != len(plan.kept):
        changes.append(f"it kept {seen.kept} steps and now keeps {len(plan.kept)}")
    if seen.executed != _labels(plan.executed):
        changes.append("other steps are executed again")
    if seen.guard != plan.guard.value:
        changes.append(
            f"the guard's answer was {seen.guard.replace('_', ' ')} and is {plan.guard.value.replace('_', ' ')}"
        )
    what = "; ".join(changes) or "the run's data, its code or its relatives are others now"
    return f"The plan has changed since you saw it: {what}. Nothing was done."


# --- cancel ----------------------------------------------------------------------------------------------------------


async def show_or_cancel(call: PageCall) -> Answer:
    """``GET runs/{id}/cancel``: what a cancel stops. ``POST``: the cancel, and back to the run."""
    acts = call.request.method == "POST"
    form: Mapping[str, str] = await call.form() if acts else {}
    detail = await call.in_thread(partial(_live_run, call))
    run, steps = detail
    outlook = cancel_outlook(run, steps)
    basis = TokenBasis(call.principal.id, "cancel", run.id, None, _digest((outlook.title, outlook.findings)), "", (), 0)
    notice, status = None, 200
    if acts and not outlook.possible:
        status = 409  # the title says why
    elif acts:
        status, notice = await _cancel(call, run.id, form, basis)
        if status == 303:
            return call.redirect(call.links.run(run.id))
    why = call.why_not("workflows:cancel")
    return call.page(
        "cancel.html",
        status,
        area="Runs",
        run=run,
        look=run_look(run.state),
        outlook=outlook,
        why=why,
        can_act=why is None and outlook.possible,
        token=call.pages.tokens.issue(basis),
        notice=notice,
        form=form,
        reason_max=REASON_LENGTH_MAX,
    )


async def _cancel(call: PageCall, run_id: str, form: Mapping[str, str], basis: TokenBasis) -> tuple[int, str | None]:
    """Cancel a run if the form may; return the status of the answer and what to say on the page."""
    if call.pages.tokens.check(form.get("token", ""), basis).state is not TokenState.GOOD:
        return 409, "This form is older than five minutes, or was not made for you. Nothing was done."
    reason = form.get("reason", "").strip()
    if len(reason) > REASON_LENGTH_MAX:
        return 400, f"A reason has at most {REASON_LENGTH_MAX} characters. Nothing was done."
    cancel = partial(
        call.desk.cancel, run_id, actor=call.principal.id, reason=reason or None, request_id=call.request_id
    )
    try:
        await call.in_thread(cancel)
    except Refusal as refusal:
        return 409, str(refusal)
    return 303, None


def _live_run(call: PageCall) -> tuple[Run, tuple[Step, ...]]:
    detail = call.desk.get_run(call.values[0], payloads=False)
    return call.seen(detail.run), detail.steps
