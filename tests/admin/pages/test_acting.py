"""Forms that act: what a plan's token is good for, once, twice and twenty times, and what a plan asks for beside it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.admin.pages.site import BASE, hidden, page_settings, text_of
from workflow_runs.admin.door import GUARDS_MAX
from workflow_runs.model.entries import RunEnded, StartRun, StepEnded
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RecordingMode, RunState, RunStatus, StepKind, StepState

SAFE = "Yes. Nothing that already happened will repeat."


@pytest.fixture
def site(busy_site):
    return busy_site


def plan_of(run_id, act="resume"):
    return f"/runs/{run_id}/{act}"


def made_of(site, run_id):
    """The runs that were made of one."""
    return site.runs_of(parent_run_id=run_id)


def new_run(site, answer):
    """The run that a form led to, ended."""
    assert answer.status_code == 303, text_of(answer)
    return site.runs.wait(answer.headers["location"].removeprefix(f"{BASE}/runs/"), 20)


def is_shown_again(site, answer, run_id, status, says, made=0):
    """Nothing was done, and the plan stands there again with a word about it and a new token."""
    assert answer.status_code == status, text_of(answer)
    assert says in text_of(answer)
    assert hidden(answer.text)["token"]
    assert len(made_of(site, run_id)) == made
    return True


def record_late_step(site, run_id):
    now = site.clock.now_millis()
    head = (run_id, None, StepKey("late"), 1, 1_000, StepKind.STEP, EffectClass.READ, None, now)
    site.runs.journal.submit(StepEnded(*head, StepState.SUCCEEDED, Origin.EXECUTED, "1", None, now, 0)).result(20)


# --- resume and rerun ------------------------------------------------------------------------------------------------


def test_a_resume_leads_to_the_new_run_and_is_in_the_audit_log(site, ada):
    run_id = site.fail("unsafe", {"charge": "resumed"})
    page = ada.get(plan_of(run_id))
    assert SAFE in text_of(page)
    run = new_run(site, ada.send(plan_of(run_id), {**hidden(page.text), "reason": " the ledger is back \u202e "}))
    assert (run.status, run.parent_run_id, site.world.effects["resumed"]) == (RunStatus.SUCCEEDED, run_id, 1)
    entry = site.runs.desk.audit(run.id)[-1]
    assert (entry.action, entry.actor, entry.reason) == ("resume", "ada", "the ledger is back \u202e")
    assert entry.plan_hash
    assert entry.request_id
    assert "\\u202e" in text_of(ada.get(f"/runs/{run_id}"))


def test_a_rerun_of_a_safe_workflow_asks_for_nothing(site, ada):
    run_id = site.run()
    path = plan_of(run_id, "rerun")
    run = new_run(site, ada.send(path, ada.form(path)))
    assert (run.trigger, run.parent_run_id) == ("manual.rerun", run_id)


@pytest.mark.parametrize("act", ["resume", "rerun"])
def test_the_same_form_sent_again_leads_to_the_same_run(site, ada, act):
    path = plan_of(run_id := site.fail(), act)
    form = ada.form(path)
    first = ada.send(path, form)
    for again in (form, {**form, "reason": "clicked once more"}):
        assert ada.send(path, again).headers["location"] == first.headers["location"]
    assert len(made_of(site, run_id)) == 1


@pytest.mark.parametrize("act", ["resume", "rerun"])
def test_the_same_form_sent_twenty_times_at_once_makes_one_run_and_all_are_led_to_it(site, ada, act):
    path = plan_of(run_id := site.fail(), act)
    form, start = ada.form(path), threading.Barrier(20)

    def send(_number):
        client = site.client()
        start.wait()
        answer = client.send(path, form)
        return answer.status_code, answer.headers.get("location")

    with ThreadPoolExecutor(20) as threads:
        answers = set(threads.map(send, range(20)))
    (made,) = made_of(site, run_id)
    assert answers == {(303, f"{BASE}/runs/{made.id}")}


def test_two_forms_are_two_actions(site, ada):
    path = plan_of(run_id := site.run(), "rerun")
    forms = [ada.form(path)]
    site.clock.ahead_ms += 1  # two plans of one millisecond are one
    forms.append(ada.form(path))
    runs = {new_run(site, ada.send(path, {**form, "reason": "again"})).id for form in forms}
    assert {run.id for run in made_of(site, run_id)} == runs
    assert len(runs) == 2


def test_a_step_to_begin_at_is_part_of_the_plan(site, ada):
    run_id = site.fail("unsafe", {"charge": "from"})
    path = plan_of(run_id)
    page = ada.get(f"{path}?from=charge")
    assert "Only with a reason." in text_of(page)
    form = hidden(page.text)
    assert form["from"] == "charge"
    without = {"token": form["token"], "reason": "x", "typed": run_id}
    assert is_shown_again(site, ada.send(path, without), run_id, 409, "The plan has changed since you saw it")
    run = new_run(site, ada.send(path, {**form, "reason": "the bank lost it", "typed": run_id}))
    assert (run.resume_from.label(), site.world.effects["from"]) == ("charge", 2)


def test_a_step_that_is_none_is_a_400(site, ada):
    run_id = site.fail()
    for path in (f"{plan_of(run_id)}?from=nowhere", f"{plan_of(run_id, 'rerun')}?from=reserve"):
        assert ada.get(path).status_code == 400
    assert ada.send(plan_of(run_id), {**ada.form(plan_of(run_id)), "from": "nowhere"}).status_code == 400
    assert not made_of(site, run_id)


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "x", "a.b", "\u00e9", "x" * 70_000])
def test_without_a_token_nothing_is_done(site, ada, token):
    for act in ("resume", "rerun"):
        run_id = site.fail()
        answer = ada.send(plan_of(run_id, act), {"reason": "x"} if token is None else {"reason": "x", "token": token})
        assert is_shown_again(site, answer, run_id, 409, "This form was not made for you, or not by this desk.")


def test_a_token_is_for_one_person_one_run_and_one_action(site, ada):
    run_id, other = site.fail(), site.fail()
    strangers = [
        site.client("safe-only").form(plan_of(run_id)),
        ada.form(plan_of(other)),
        ada.form(plan_of(run_id, "rerun")),
        site.client(with_={"secret": b"x" * 32}).form(plan_of(run_id)),
    ]
    for form in strangers:
        answer = ada.send(plan_of(run_id), form)
        assert is_shown_again(site, answer, run_id, 409, "This form was not made for you, or not by this desk.")


def test_processes_that_share_a_secret_take_each_others_forms(site):
    one, other = (site.client(settings=page_settings(secret=b"s" * 32)) for _ in range(2))
    assert one.http.app is not other.http.app
    run_id = site.fail()
    assert new_run(site, other.send(plan_of(run_id), one.form(plan_of(run_id)))).parent_run_id == run_id


def test_a_plan_is_good_for_five_minutes(site, ada):
    path = plan_of(run_id := site.fail())
    form = ada.form(path)
    site.clock.ahead_ms += 301_000
    answer = ada.send(path, {**form, "reason": "typed already"})
    assert is_shown_again(site, answer, run_id, 409, "This plan was shown more than five minutes ago.")
    assert 'value="typed already"' in answer.text
    assert new_run(site, ada.send(path, hidden(answer.text))).parent_run_id == run_id


def test_after_another_resume_the_plan_says_so(site, ada):
    path = plan_of(run_id := site.fail())
    form = ada.form(path)
    other = site.runs.desk.resume(run_id, actor="somebody else").run_id
    answer = ada.send(path, form)
    assert is_shown_again(site, answer, run_id, 409, "A resume of this run exists already.", made=1)
    assert f'href="{BASE}/runs/{other}"' in answer.text


def test_a_step_that_was_recorded_meanwhile_changes_the_plan(site, ada):
    path = plan_of(run_id := site.fail())
    form = ada.form(path)
    record_late_step(site, run_id)
    answer = ada.send(path, form)
    assert is_shown_again(site, answer, run_id, 409, "it kept 1 steps and now keeps 2")
    assert new_run(site, ada.send(path, hidden(answer.text))).parent_run_id == run_id


def test_a_relative_that_began_meanwhile_changes_what_was_agreed_to(site, ada):
    run_id = site.run()
    path = plan_of(run_id, "rerun")
    form = ada.form(path)
    other = site.clock.new_run_id()
    request = RunRequest("safe", "elsewhere", parent_run_id=run_id, root_run_id=run_id)
    site.runs.journal.submit(StartRun(other, request, RunState.RUNNING, RecordingMode.OBSERVE)).result(20)
    assert is_shown_again(site, ada.send(path, form), run_id, 409, "The plan has changed since you saw it", made=1)
    site.runs.journal.submit(RunEnded(other, RunState.CANCELLED, site.clock.now_millis())).result(20)


def test_a_run_that_cannot_be_resumed_offers_no_button(site, ada):
    page = ada.get(plan_of(site.ids["succeeded"]))
    assert "No. " in text_of(page)
    assert 'type="submit"' not in page.text.partition('class="plan-form"')[2].partition("</form>")[0]


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_only_forms_are_taken(site, ada, kind):
    run_id = site.fail()
    answer = ada.request("POST", plan_of(run_id), content=b"{}", headers={"content-type": kind})
    assert (answer.status_code, made_of(site, run_id)) == (415, ())


@pytest.mark.parametrize("body", [b"token=%ff", b"token=%00", b"\xff=1", b"&".join([b"a=1"] * 101)])
def test_a_form_that_cannot_be_read_is_a_400(site, ada, body):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert ada.request("POST", plan_of(site.ids["failed"]), content=body, headers=headers).status_code == 400


def test_a_form_that_is_too_long_is_a_413(site, ada):
    long = {"token": "x", "reason": "y" * 3_000_001}
    assert ada.send(plan_of(site.ids["failed"]), long).status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_a_page_of_another_site_cannot_act_even_with_a_token(site, ada, headers):
    run_id, live = site.fail(), site.hold()
    for path in (plan_of(run_id), plan_of(run_id, "rerun"), plan_of(live, "cancel"), "/workflows/safe/run"):
        assert ada.send(path, ada.form(path), **headers).status_code == 403
    assert not made_of(site, run_id)
    assert site.runs.desk.run_head(live).cancel_requested_at is None


def test_a_page_of_the_desk_or_of_a_trusted_origin_can_act(site):
    client = site.client(trusted_origins=["https://portal.example"])
    for headers in ({"sec-fetch-site": "same-origin"}, {"origin": "https://portal.example"}):
        path = plan_of(site.fail())
        assert client.send(path, client.form(path), **headers).status_code == 303


# --- what a verdict asks for -----------------------------------------------------------------------------------------


def test_repeating_an_effect_takes_its_key_and_a_reason(site, ada):
    run_id = site.fail("unsafe", {"charge": "twice"}, correlation_id="bk_77")
    path = plan_of(run_id, "rerun")
    form = ada.form(path)
    answer = ada.send(path, {**form, "typed": "bk_7", "reason": " "})
    assert is_shown_again(site, answer, run_id, 400, "Type bk_77 to show that this is the run you mean.")
    assert "Write a reason" in text_of(answer)
    for field in ("typed", "reason"):
        assert f'id="{field}-problem"' in answer.text
        assert f'aria-describedby="{field}-problem"' in answer.text
    assert 'name="typed" value="bk_7"' in answer.text
    answer = ada.send(path, {**hidden(answer.text), "typed": "bk_77", "reason": "x" * 1_001})
    assert is_shown_again(site, answer, run_id, 400, "A reason has at most 1000 characters.")
    assert new_run(site, ada.send(path, {**form, "typed": " bk_77 ", "reason": "lost"})).parent_run_id == run_id


def test_a_possible_effect_has_to_be_looked_for(site, ada):
    run_id = site.fail("unsafe", {"effect": "unsafe"})
    path = plan_of(run_id)
    page = ada.get(path)
    assert "Check first: invoice may have taken effect before it failed." in text_of(page)
    form = hidden(page.text)
    answer = ada.send(path, {**form, "reason": "looked"})
    assert is_shown_again(site, answer, run_id, 400, "Look whether invoice took effect, then tick that you did.")
    assert is_shown_again(site, ada.send(path, {**form, "checked": "yes"}), run_id, 400, "Write a reason")
    assert 'name="checked" value="yes" required checked' in ada.send(path, {**form, "checked": "yes"}).text
    assert new_run(site, ada.send(path, {**form, "checked": "yes", "reason": "looked"})).parent_run_id == run_id


def test_a_resume_only_workflow_is_not_rerun(site, ada):
    run_id = site.fail("resume-only")
    path = plan_of(run_id, "rerun")
    page = ada.get(path)
    assert "No. " in text_of(page)
    assert "Resume it instead" in text_of(page)
    assert is_shown_again(site, ada.send(path, {**hidden(page.text), "reason": "x"}), run_id, 409, "No. ")
    assert new_run(site, ada.send(plan_of(run_id), ada.form(plan_of(run_id)))).status is RunStatus.SUCCEEDED


# --- guards ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def guard(site):
    """Sets what the guard of ``guarded`` does."""

    def set_to(function):
        site.world.guard = function

    yield set_to
    set_to(lambda _run, _plan, _actor: True)


def test_a_guard_that_allows_is_quoted(site, ada):
    run_id = site.fail("guarded", {"effect": "unsafe"})
    page = ada.get(plan_of(run_id))
    assert SAFE in text_of(page)
    assert "Guard allows it" in text_of(page)
    assert new_run(site, ada.send(plan_of(run_id), hidden(page.text))).parent_run_id == run_id


def test_a_guard_that_refuses_is_a_no_with_its_reason(site, ada, guard):
    run_id = site.fail("guarded")
    guard(lambda _run, _plan, actor: f"not for {actor}")
    page = ada.get(plan_of(run_id))
    assert "No. not for ada" in text_of(page)
    assert is_shown_again(site, ada.send(plan_of(run_id), hidden(page.text)), run_id, 409, "not for ada")


def test_a_guard_that_raises_keeps_its_words_to_itself(site, ada, guard):
    run_id = site.fail("guarded")

    def raises(*_args):
        raise ValueError("the guard's secret")

    guard(raises)
    for path in (plan_of(run_id), f"/runs/{run_id}"):
        page = ada.get(path)
        assert SAFE not in text_of(page)
        assert "Whether the guard allows it is not known" in text_of(page)
        assert "secret" not in page.text
    assert is_shown_again(site, ada.send(plan_of(run_id), ada.form(plan_of(run_id))), run_id, 409, "No. ")


def test_a_guard_that_never_answers_keeps_no_page_waiting(site, guard):
    run_id, answered = site.fail("guarded"), threading.Event()
    guard(lambda _run, _plan, _actor: answered.wait(20))
    client = site.client(with_={"guard_timeout_s": 0.05})
    try:
        for path in (plan_of(run_id), f"/runs/{run_id}"):
            words = text_of(client.get(path))
            assert "it has not answered in time" in words
            assert SAFE not in words
        form = {**client.form(plan_of(run_id)), "reason": "x", "checked": "yes", "typed": run_id}
        answer = client.send(plan_of(run_id), form)
        assert is_shown_again(site, answer, run_id, 409, "The guard of this workflow has not answered in time")
    finally:
        answered.set()


def test_a_guard_that_hangs_holds_so_many_threads_and_is_asked_again_when_they_are_back(site, guard):
    run_id, answered, asked = site.fail("guarded"), threading.Event(), threading.Semaphore(0)

    def hangs(*_args):
        asked.release()
        return answered.wait(20)

    guard(hangs)
    client = site.client(settings=page_settings(guard_timeout_s=0.05))
    try:
        for _ in range(GUARDS_MAX):
            while not asked.acquire(blocking=False):  # a thread that began too late did not ask
                client.get(f"/runs/{run_id}")
        for _ in range(3):
            assert "it has not answered in time" in text_of(client.get(f"/runs/{run_id}"))
        assert not asked.acquire(blocking=False)
    finally:
        answered.set()
    waited = threading.Event()
    while "Guard allows it" not in text_of(client.get(plan_of(run_id))):
        waited.wait(0.01)  # they are on their way


def test_a_guard_that_changes_its_mind_changes_the_plan(site, ada, guard):
    run_id = site.fail("guarded", {"effect": "unsafe"})
    form = ada.form(plan_of(run_id))
    guard(lambda _run, _plan, _actor: "too late")
    answer = ada.send(plan_of(run_id), form)
    assert is_shown_again(site, answer, run_id, 409, "the guard's answer was allowed and is refused")


def test_a_guard_that_refuses_at_the_last_moment_is_heard(site, ada, guard):
    run_id = site.fail("guarded")
    form, asked = ada.form(plan_of(run_id)), []

    def second_thoughts(*_args):
        asked.append(1)
        return True if len(asked) == 1 else "gone meanwhile"

    guard(second_thoughts)
    assert is_shown_again(site, ada.send(plan_of(run_id), form), run_id, 409, "gone meanwhile")


def test_a_plan_that_changes_while_the_form_is_read_is_not_carried_out(site, ada, guard):
    run_id = site.fail("guarded")
    form, asked = ada.form(plan_of(run_id)), []

    def meddles(*_args):
        asked.append(1)
        if len(asked) == 1:  # the plan of this request is made, and its token found good
            record_late_step(site, run_id)
        return True

    guard(meddles)
    assert is_shown_again(site, ada.send(plan_of(run_id), form), run_id, 409, "no longer what the plan was made from")


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_a_cancel_leads_back_to_the_run_and_is_in_the_audit_log(site, ada):
    path = plan_of(run_id := site.hold(), "cancel")
    answer = ada.send(path, {**ada.form(path), "reason": "the guest left"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}/runs/{run_id}")
    entry = site.runs.desk.audit(run_id)[-1]
    assert (entry.action, entry.actor, entry.reason) == ("cancel", "ada", "the guest left")
    assert "Cancel asked for" in text_of(ada.get(f"/runs/{run_id}"))


def test_a_run_that_nobody_executes_is_cancelled_at_once(site, ada):
    run_id = site.runs.trigger("visa", {})
    waited = threading.Event()
    while site.runs.desk.run_head(run_id).state is not RunState.UNKNOWN:
        waited.wait(0.01)
    path = plan_of(run_id, "cancel")
    assert "The run ends at once." in text_of(ada.get(path))
    assert ada.send(path, ada.form(path)).status_code == 303
    assert site.runs.desk.run_head(run_id).status is RunStatus.CANCELLED


def test_a_cancel_without_its_token_does_nothing(site, ada):
    live, other = site.hold(), site.hold()
    path = plan_of(live, "cancel")
    form = ada.form(path)
    site.clock.ahead_ms += 301_000
    forms = [{"token": ""}, {"token": "x"}, form, ada.form(plan_of(other, "cancel")), ada.form(plan_of(live, "rerun"))]
    for sent in forms:
        answer = ada.send(path, {**sent, "reason": "kept"})
        assert answer.status_code == 409
        assert "Nothing was done." in text_of(answer)
        assert 'value="kept"' in answer.text
    assert site.runs.desk.run_head(live).cancel_requested_at is None


def test_a_cancel_that_comes_too_late_or_says_too_much_is_told_so(site, ada):
    path = plan_of(run_id := site.hold(), "cancel")
    answer = ada.send(path, {**ada.form(path), "reason": "x" * 1_001})
    assert answer.status_code == 400
    assert "A reason has at most 1000 characters." in text_of(answer)
    assert site.runs.desk.run_head(run_id).cancel_requested_at is None
    ended = plan_of(site.ids["succeeded"], "cancel")
    answer = ada.send(ended, ada.form(ended))
    assert (answer.status_code, "No. The run has ended." in text_of(answer)) == (409, True)
