"""What the desk reads for a verdict, and how a guard's answer, or its silence, gets into it."""

from dataclasses import replace

import pytest

from workflow_runs.errors import InvalidQuery, NotFound, ResumeBlocked
from workflow_runs.model.records import StepKey
from workflow_runs.model.states import EffectClass, RunState, StepState
from workflow_runs.operations import judging
from workflow_runs.operations.judging import with_guard
from workflow_runs.operations.plan import GuardAnswer
from workflow_runs.operations.verdict import Word

FAILED, IDEMPOTENT, READ = StepState.FAILED, EffectClass.IDEMPOTENT, EffectClass.READ


def raises(*_):
    raise RuntimeError("the guard's own trouble")


async def refuses(*_):
    return "invoice exists"


# What the guard gives -> its answer, what the plan is refused with, the word for an unsafe step that failed
GUARDS = {
    "none": (None, GuardAnswer.NONE, None, Word.CHECK),
    "allows": (lambda *_: None, GuardAnswer.ALLOWED, None, Word.YES),
    "refuses": (refuses, GuardAnswer.REFUSED, "resume_blocked", Word.NO),
    "raises": (raises, GuardAnswer.FAILED, "guard_failed", Word.NO),
    "no answer": (lambda *_: 7, GuardAnswer.FAILED, "guard_failed", Word.NO),
}


@pytest.mark.parametrize("case", GUARDS)
def test_a_guards_answer_gets_into_plan_and_verdict(shop, case):
    guard, answer, refused, word = GUARDS[case]
    shop.register("guarded", can_resume=guard)
    run_id = shop.failed("guarded", definition="checkout")
    judged = shop.desk.judge(run_id, "resume", actor="ada")
    assert (judged.plan.guard, judged.verdict.word) == (answer, word)
    assert (None if judged.plan.refused is None else judged.plan.refused.code) == refused
    plan = shop.desk.plan(run_id, "resume")
    assert replace(plan, refused=None) == replace(judged.plan, refused=None)  # exceptions are equal to themselves only
    assert (plan.refused is None) == (refused is None)
    assert [step.step.name for step in judged.steps] == ["reserve", "charge"]
    assert judged.run == shop.run(run_id)


def test_a_guard_is_asked_later_and_its_silence_is_said(sqlite_shop):
    asked = []
    sqlite_shop.register("guarded", can_resume=lambda run, plan, actor: asked.append((run.id, plan.kept, actor)))
    run_id = sqlite_shop.failed("guarded", definition="checkout")
    judged = sqlite_shop.desk.judge(run_id, "resume", guard=False)
    assert (judged.plan.guard, judged.verdict.word, asked) == (GuardAnswer.NOT_ASKED, Word.CHECK, [])
    silent = with_guard(judged, GuardAnswer.SILENT)
    assert (silent.plan.guard, silent.verdict.word, silent.plan.hash) == (
        GuardAnswer.SILENT,
        Word.CHECK,
        judged.plan.hash,
    )
    assert "Whether the guard allows it is not known: it has not answered in time" in [
        finding.text for finding in silent.verdict.findings
    ]
    answered = sqlite_shop.desk.ask_guard_of(silent, "ada")
    assert (answered.plan.guard, answered.verdict.word) == (GuardAnswer.ALLOWED, Word.YES)
    assert asked == [(run_id, (StepKey("reserve"),), "ada")]
    assert sqlite_shop.desk.ask_guard_of(answered, "ada") is answered
    assert len(asked) == 1


def test_a_guard_is_not_asked_about_what_is_refused_anyway(sqlite_shop):
    asked = []
    sqlite_shop.register("guarded", can_resume=lambda *_: asked.append(1))
    run_id = sqlite_shop.live("guarded", definition="checkout")
    judged = sqlite_shop.desk.judge(run_id, "resume")
    assert (judged.plan.guard, judged.verdict.word, asked) == (GuardAnswer.NOT_ASKED, Word.NO, [])


def test_each_action_has_its_own_guard(sqlite_shop):
    sqlite_shop.register("guarded", can_rerun=refuses)
    run_id = sqlite_shop.failed("guarded", definition="checkout")
    assert sqlite_shop.desk.judge(run_id, "resume").plan.guard is GuardAnswer.NONE
    judged = sqlite_shop.desk.judge(run_id, "rerun")
    assert (judged.plan.guard, judged.verdict.title) == (GuardAnswer.REFUSED, "No. invoice exists")


def test_the_action_asks_the_guard_anew(sqlite_shop):
    answers = [None, "meanwhile invoiced"]
    sqlite_shop.register("guarded", can_resume=lambda *_: answers.pop(0))
    run_id = sqlite_shop.failed("guarded", definition="checkout")
    judged = sqlite_shop.desk.judge(run_id, "resume")
    assert judged.verdict.word is Word.YES
    with pytest.raises(ResumeBlocked, match="meanwhile invoiced"):
        sqlite_shop.desk.resume(run_id, plan_hash=judged.plan.hash)


def test_what_a_failed_resume_has_done_is_found_though_the_run_knows_nothing_of_it(shop):
    run_id = shop.live()
    shop.step(run_id, 1, "pick", FAILED, effect=IDEMPOTENT)
    shop.end(run_id, step="pick")
    assert shop.desk.judge(run_id, "resume").verdict.word is Word.YES
    child = shop.desk.resume(run_id).run_id
    assert shop.desk.judge(run_id, "resume").verdict.word is Word.NO  # it is under way
    shop.step(child, 1, "pick", effect=IDEMPOTENT)
    shop.step(child, 2, "charge")
    shop.step(child, 3, "notify", FAILED, effect=IDEMPOTENT)
    shop.end(child, step="notify")
    # The desk would make a second resume of the first run: its claim is free again.
    judged = shop.desk.judge(run_id, "resume")
    assert judged.plan.refused is None
    assert judged.verdict.word is Word.REASON
    assert [(repeat.step.label(), repeat.run_id) for repeat in judged.verdict.repeats] == [("charge", child)]
    assert shop.desk.judge(child, "resume").verdict.word is Word.YES  # which keeps charge


def test_a_live_rerun_keeps_a_yes_away(shop):
    run_id = shop.live()
    shop.step(run_id, 1, "look", FAILED, effect=READ)
    shop.end(run_id, step="look")
    rerun = shop.desk.rerun(run_id).run_id
    judged = shop.desk.judge(run_id, "resume")
    assert judged.verdict.word is Word.REASON
    assert any(rerun in finding.text for finding in judged.verdict.findings)


def test_relatives_are_looked_at_up_to_a_bound_which_is_said(sqlite_shop, monkeypatch):
    monkeypatch.setattr(judging, "RELATIVES_MAX", 2)
    run_id = sqlite_shop.live()
    sqlite_shop.step(run_id, 1, "look", effect=READ)
    sqlite_shop.end(run_id, RunState.SUCCEEDED)
    words = []
    for _ in range(4):
        words.append(sqlite_shop.desk.judge(run_id, "rerun").verdict.word)
        sqlite_shop.end(sqlite_shop.desk.rerun(run_id).run_id, RunState.SUCCEEDED)
    assert words == [Word.YES, Word.YES, Word.YES, Word.REASON]
    assert sqlite_shop.desk.judge(run_id, "rerun").relatives is None


def test_what_plan_does_not_take_judge_does_not_take_either(sqlite_shop):
    run_id = sqlite_shop.failed()
    with pytest.raises(NotFound):
        sqlite_shop.desk.judge("wfrn_nothing", "resume")
    with pytest.raises(InvalidQuery):
        sqlite_shop.desk.judge(run_id, "resume", "ghost")
    with pytest.raises(InvalidQuery):
        sqlite_shop.desk.judge(run_id, "rerun", "charge")
