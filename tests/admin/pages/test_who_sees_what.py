"""Who sees what: scopes, workflows that do not exist for somebody, payloads that somebody may not see, a desk that only shows."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.admin.pages.site import BASE, CANARIES, FOREIGN, text_of
from workflow_runs.admin import Principal
from workflow_runs.admin.pages.places import PLACES
from workflow_runs.model.entries import RunEnded, StartRun, StepEnded
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RecordingMode, RunState, StepKind, StepState

# An address of each place about a run of the workflow "safe", and what whoever may see it is answered.
ADDRESSES = {
    "overview": ("/", 200),
    "runs": ("/runs", 200),
    "rows": ("/rows?run={failed}", 200),
    "jump": ("/jump?q={failed}", 303),
    "compare_two": ("/compare?run={failed}&run={succeeded}", 303),
    "run": ("/runs/{failed}", 200),
    "step": ("/runs/{failed}/steps/1", 303),
    "payload": ("/runs/{failed}/payload/input", 200),
    "compare": ("/runs/{failed}/compare", 200),
    "resume": ("/runs/{failed}/resume", 200),
    "rerun": ("/runs/{failed}/rerun", 200),
    "cancel": ("/runs/{running}/cancel", 200),
    "workflows": ("/workflows", 200),
    "start": ("/workflows/safe/run", 200),
    "workflow": ("/workflows/safe", 200),
}
ABOUT_ONE = {"run", "step", "payload", "compare", "resume", "rerun", "cancel", "start", "workflow"}
NEEDS_PAYLOADS = {"compare_two", "payload", "compare"}
ACTS = {"resume": "retry", "rerun": "retry", "cancel": "cancel", "start": "trigger"}


def address(site, name):
    path, status = ADDRESSES[name]
    return path.format_map(site.ids), status


def test_every_place_is_looked_at():
    assert {place.name for place in PLACES} == {*ADDRESSES, "events", "static"}


# --- scopes ----------------------------------------------------------------------------------------------------------


def expected(who, name, status):
    if who is None:
        return 401
    if who in {"nothing", "trigger", "retry", "cancel"}:
        return 403
    if who in {"blind", "blinkered"} and name in NEEDS_PAYLOADS:
        return 403
    if who == "blinkered" and name in ABOUT_ONE:
        return status if name == "step" else 404  # a step leads on to the run, whether there is one or not
    return status


@pytest.mark.parametrize(
    "who",
    ["all", "reader", "blind", "wildcard", "trigger", "retry", "cancel", "nothing", "safe-only", "blinkered", None],
)
def test_looking_takes_the_scope_that_the_place_names(site, who):
    told = {}
    for name in ADDRESSES:
        path, status = address(site, name)
        told[name] = site.get(path, who).status_code, expected(who, name, status)
    assert not {name: pair for name, pair in told.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("who", ["reader", "blind", "wildcard", "trigger", "retry", "cancel", "nothing", "blinkered"])
def test_acting_takes_the_scope_for_it_and_the_one_for_looking(site, who):
    """Whoever may act and not look could otherwise post without a token, and read the plan that is shown again."""
    for name in ACTS:
        answer = site.client(who).send(address(site, name)[0], {"token": "x"})
        assert (answer.status_code, "canary" in answer.text) == (403, False), name


def test_acting_takes_somebody(site):
    for name in ACTS:
        assert site.client(None).send(address(site, name)[0], {"token": "x"}).status_code == 401


def test_what_somebody_may_not_do_is_off_and_says_why(site):
    page = site.get(f"/runs/{site.ids['failed']}", "reader")
    assert "This needs the scope workflows:retry." in text_of(page)
    assert f'href="{BASE}/runs/{site.ids["failed"]}/resume" data-dialog' not in page.text.split('id="steps"')[0]
    for name, scope in ACTS.items():
        plan = site.get(address(site, name)[0], "reader")
        assert f"This needs the scope workflows:{scope}." in text_of(plan), name
        assert "disabled" in plan.text, name


@pytest.mark.parametrize("surface", ["cloud", "disabled"])
def test_a_desk_that_only_shows_says_so_and_does_nothing(site, surface):
    client = site.client("all", admin_surface=surface)
    page = client.get(f"/runs/{site.ids['failed']}")
    assert "Runs are only shown here, not acted on." in text_of(page)
    assert "This desk only shows." in text_of(page)
    before = len(site.runs_of())
    for name in ACTS:
        path = address(site, name)[0]
        assert client.get(path).status_code == 200
        assert client.send(path, site.client().form(path)).status_code == 403, name
    assert len(site.runs_of()) == before


# --- workflows that do not exist for somebody -------------------------------------------------------------------------

FOREIGN_RUNS = ("charged", "foreign success", "spaced", "guarded", "observed", "foreign child", "foreign running")


def foreign_words(site):
    return {
        *(site.ids[name] for name in FOREIGN_RUNS),
        *(site.ids[name][-10:] for name in FOREIGN_RUNS),
        *FOREIGN[1:],
        *("foreign-key", "foreign-tag", "foreign-user", "foreign-step", "foreign-live", "foreign-reason"),
        *("with%20space", "workflows/unsafe", "workflow%3Aunsafe", ">unsafe<"),
    }


def leaks(site, answer):
    return sorted(word for word in foreign_words(site) if word in answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/runs",
        "/runs?q=",
        "/runs?q=status%3Afailed",
        "/runs?q=by%3Aforeign-elsewhere",
        "/runs?q=workflow%3Aguard",
        "/workflows",
        "/workflows/safe",
        "/workflows/safe/run",
        "/runs/{failed}",
        "/runs/{failed}?q=status%3Afailed",
        "/runs/{resume}?q=",
        "/runs/{failed}/resume",
        "/runs/{failed}/rerun",
        "/runs/{running}/cancel",
        "/runs/{failed}/compare",
        "/runs/{failed}/compare?with=success",
        "/runs/{failed}.json",
    ],
)
def test_nothing_of_a_foreign_workflow_appears(site, path):
    answer = site.get(path.format_map(site.ids), "safe-only")
    assert answer.status_code == 200
    assert not leaks(site, answer)


def test_the_words_that_are_looked_for_are_shown_to_others(site):
    """Or the test before this one could not fail."""
    shown = "".join(
        site.get(path.format_map(site.ids)).text
        for path in ("/", "/runs?q=", "/workflows", "/runs/{charged}", "/runs/{failed}", "/runs/{observed}")
    )
    assert not [word for word in foreign_words(site) if word not in shown]


@pytest.mark.parametrize(
    "path",
    [
        "/runs/{charged}",
        "/runs/{charged}.json",
        "/runs/{charged}/payload/input",
        "/runs/{charged}/payload/output?step=1",
        "/runs/{charged}/compare",
        "/runs/{charged}/resume",
        "/runs/{charged}/rerun",
        "/runs/{foreign running}/cancel",
        "/runs/{failed}/compare?with={charged}",
        "/workflows/unsafe",
        "/workflows/unsafe/run",
        "/workflows/settled-elsewhere",
    ],
)
def test_what_is_foreign_is_told_of_as_what_does_not_exist(site, path):
    asked = path.replace("{charged}", "wfrn_none").replace("{foreign running}", "wfrn_none")
    for workflow in ("unsafe", "settled-elsewhere"):
        asked = asked.replace(f"/workflows/{workflow}", "/workflows/none")
    client = site.client("safe-only")
    foreign, absent = client.get(path.format_map(site.ids)), client.get(asked.format_map(site.ids))
    assert foreign.status_code == absent.status_code == 404
    assert text_of(foreign).partition("Request")[0] == text_of(absent).partition("Request")[0]
    if path.count("{") == 1:
        assert not leaks(site, foreign)


def test_a_foreign_run_cannot_be_acted_on(site):
    client, before = site.client("safe-only"), len(site.runs_of())
    for name, run in (("resume", "charged"), ("rerun", "charged"), ("cancel", "foreign running")):
        path = f"/runs/{site.ids[run]}/{name}"
        assert client.send(path, site.client().form(path)).status_code == 404
    assert client.send("/workflows/unsafe/run", {"token": "x", "input": ""}).status_code == 404
    assert len(site.runs_of()) == before


def test_a_workflow_that_was_taken_from_somebody_cannot_be_started_with_an_older_form(site):
    allowed = {"workflows": ["unsafe"]}

    async def authorize(_request):
        return Principal("eve", ["workflows:read", "workflows:trigger"], **allowed)

    client, before = site.client("eve", authorize=authorize), len(site.runs_of())
    form = client.form("/workflows/unsafe/run")
    allowed["workflows"] = ["safe"]
    assert client.send("/workflows/unsafe/run", {**form, "input": "{}"}).status_code == 404
    assert len(site.runs_of()) == before


@pytest.mark.parametrize("obstacle", ["resumed", "undone"])
def test_what_stands_in_the_way_of_a_resume_is_not_named_if_it_is_foreign(busy_site, obstacle):
    run_id = busy_site.fail()
    other = taken_up_elsewhere(busy_site, run_id, undoes=obstacle == "undone")
    for path in (f"/runs/{run_id}", f"/runs/{run_id}/resume"):
        known, unknown = (busy_site.get(path, who) for who in ("all", "safe-only"))
        assert other in known.text
        assert unknown.status_code == 200
        assert not leaks_of(other, unknown)
        assert "No. " in text_of(unknown)
    client = busy_site.client("safe-only")
    answer = client.send(f"/runs/{run_id}/resume", client.form(f"/runs/{run_id}/resume"))
    assert answer.status_code == 409
    assert not leaks_of(other, answer)


def leaks_of(run_id, answer):
    return run_id in answer.text or run_id[-10:] in answer.text


def taken_up_elsewhere(site, run_id, *, undoes=False):
    """A resume whose handler records it under another name: it is under way, or has undone a step that it carried over."""
    name = "settled-elsewhere"
    parent = {"parent_run_id": run_id, "root_run_id": run_id, "chain_run_id": run_id}
    request = RunRequest(name, name, **parent, resume_from=StepKey("invoice"))
    other, now = site.clock.new_run_id(), site.clock.now_millis()
    entries = [StartRun(other, request, RunState.RUNNING, RecordingMode.OBSERVE)]
    if undoes:
        head = (other, None, StepKey("reserve"), 1, 1, StepKind.STEP, EffectClass.IDEMPOTENT, None, now)
        entries += [
            StepEnded(*head, StepState.COMPENSATED, Origin.SEEDED, "1", None, now, 0),
            RunEnded(other, RunState.CANCELLED, now),
        ]
    for entry in entries:
        site.runs.journal.submit(entry).result(20)
    return other


def test_numbers_count_what_is_seen(site):
    failed = len(site.runs_of(workflow_names=("safe",), statuses=("failed",)))
    tabs = text_of(site.get("/runs?q=status%3Afailed", "safe-only"))
    assert f"Failed {failed} " in tabs
    assert f"{failed} match" in tabs
    assert len(site.runs_of(statuses=("failed",))) > failed
    assert "All failed" not in tabs


def test_asking_for_a_foreign_workflow_finds_nothing(site):
    for q in ("workflow%3Aunsafe", "workflow%3Aunsafe%2Cguarded+status%3Afailed"):
        page = site.get(f"/runs?q={q}", "safe-only")
        assert "0 match" in text_of(page)
        assert "data-run" not in page.text
        assert "data-run" in site.get(f"/runs?q={q}").text
    assert "data-run" in site.get("/runs?q=workflow%3Aunsafe%2Csafe", "safe-only").text


def test_failed_the_same_way_counts_what_is_seen(site):
    fingerprint = site.runs.desk.run_head(site.ids["failed"]).fingerprint
    counts = [len(site.runs_of(fingerprint=fingerprint, workflow_names=names)) for names in (("safe",), ())]
    assert 1 < counts[0] < counts[1]
    for who, alike in zip(("safe-only", "all"), counts, strict=True):
        assert f"{alike} runs failed the same way" in text_of(site.get(f"/runs/{site.ids['failed']}", who))


def test_to_somebody_who_sees_no_workflow_the_desk_is_empty(site):
    for path in ("/", "/runs", "/runs?q=", "/workflows"):
        answer = site.get(path, "blinkered")
        assert answer.status_code == 200
        assert not leaks(site, answer)
        assert site.ids["failed"] not in answer.text
    assert "No run has been recorded yet" in text_of(site.get("/", "blinkered"))


def test_rows_and_the_jump_know_no_foreign_run(site):
    client, foreign = site.client("safe-only"), site.ids["charged"]
    rows = client.get(f"/rows?run={foreign}&run={site.ids['failed']}")
    assert site.ids["failed"] in rows.text
    assert not leaks(site, rows)
    assert client.get(f"/jump?q={foreign}").headers["location"] == client.get("/jump?q=nobody").headers[
        "location"
    ].replace("nobody", foreign)
    assert client.get("/jump?q=foreign-key").headers["location"] == f"{BASE}/runs?q=foreign-key"


def test_a_step_of_a_foreign_run_is_not_told(site):
    answer = site.client("safe-only").part(f"/runs/{site.ids['charged']}/steps/1", "part")
    assert answer.status_code == 404
    assert not leaks(site, answer)


async def test_the_stream_tells_of_no_foreign_run(site):
    foreign, own = site.hold("unsafe"), site.hold()
    assert await listen(site, "safe-only", foreign, own) == {own}
    assert await listen(site, "all", foreign, own) == {foreign, own}


async def listen(site, who, *run_ids):
    """The ids that a stream tells of until it has told of all, or of nothing new."""
    query = "&".join(f"run={run_id}" for run_id in run_ids) + f"&last={site.runs.desk.changes.position()}"
    told, began, got_enough = set(), asyncio.Event(), asyncio.Event()

    async def receive():
        await got_enough.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("status") == 200:
            began.set()
        for line in message.get("body", b"").decode().splitlines():
            if line.startswith("data: ") and "id" in json.loads(line[6:]):
                told.add(json.loads(line[6:])["id"])
        if len(told) == len(run_ids):
            got_enough.set()

    path = f"{BASE}/events"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"x-who", who.encode())],
        "root_path": "",
        "scheme": "http",
        "server": ("testserver", 80),
    }
    running = asyncio.create_task(site.app()(scope, receive, send))
    await asyncio.wait_for(began.wait(), 20)
    for run_id in run_ids:
        site.runs.desk.cancel(run_id)
    await asyncio.wait([running], timeout=3)
    got_enough.set()
    await running
    return told


# --- payloads --------------------------------------------------------------------------------------------------------


def seen_by_readers(site):
    ids = site.ids
    for run_id in (ids["failed"], ids["charged"], ids["succeeded"], ids["cancelled"], ids["resume"], ids["guarded"]):
        yield from (f"/runs/{run_id}", f"/runs/{run_id}?step=1&tab=output", f"/runs/{run_id}?step=2&tab=error")
        yield from (f"/runs/{run_id}.json", f"/runs/{run_id}/resume", f"/runs/{run_id}/rerun", f"/runs/{run_id}/cancel")
    yield from ("/", "/runs", "/runs?q=", "/runs?q=status%3Afailed%2Ccancelled", f"/rows?run={ids['failed']}")
    yield from ("/workflows", "/workflows/safe", "/workflows/safe/run", "/workflows/booking/run", "/workflows/unsafe")


def test_whoever_may_not_see_payloads_sees_none(site):
    for path in seen_by_readers(site):
        for part in ("", "dialog") if path.endswith(("/resume", "/rerun", "/cancel")) else ("",):
            answer = site.client("blind").part(path, part)
            assert answer.status_code == 200, path
            assert not [canary for canary in CANARIES if canary in answer.text], path


def test_the_canaries_are_shown_to_others(site):
    shown = "".join(site.get(path).text for path in seen_by_readers(site))
    assert not [canary for canary in CANARIES if canary not in shown]


@pytest.mark.parametrize("q", ["error:canary-error", "-error:canary-error", "input.note:canary-input", "-input.note:x"])
def test_whoever_may_not_see_payloads_cannot_search_in_them(site, q):
    """A search that finds or does not find is an answer, too: asked often enough it spells the message out."""
    blind, path = site.client("blind"), f"/runs?q={q.replace(':', '%3A')}"
    page = blind.get(path)
    assert "data-row" not in page.text
    assert "workflows:read-payload" in text_of(page)
    assert "data-row" in site.client("reader").get(path.replace("%3Ax", "%3Ay")).text
    run = blind.get(f"/runs/{site.ids['failed']}{path[5:]}")
    assert 'data-key="["' not in run.text
    assert 'data-key="]"' not in run.text


def test_whoever_may_not_see_payloads_is_not_led_to_a_search_in_them(site):
    assert "error%3Anothing-like-it" in site.get("/runs?q=nothing-like-it", "reader").text
    assert "error%3Anothing-like-it" not in site.get("/runs?q=nothing-like-it", "blind").text


def test_a_step_and_the_plans_say_what_right_is_missing(site):
    step = site.client("blind").part(f"/runs/{site.ids['failed']}/steps/2", "part")
    assert step.status_code == 200
    assert "workflows:read-payload" in step.text
    assert not [canary for canary in CANARIES if canary in step.text]
