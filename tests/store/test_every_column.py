"""Any value in any column (promise P16): no question, page or claim fails for it, and nothing beside it is touched.

All damage stands in one database at once (``damage``), beside three runs that are sound: a list or a figure that one row could break has
them all on it. The record of each damaged run is asked for, and plan and pages of every eighth; of all with ``DAMAGE=all`` in the
environment, which takes minutes:

    DAMAGE=all python -m pytest tests/store/test_every_column.py
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle, product
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from psycopg import sql
from starlette.applications import Starlette

from tests.store.damage import NEVER_TEXT, Damage, Outsider, Victim
from workflow_runs import Run, WorkflowRuns, workflow
from workflow_runs.admin import CANCEL, READ, READ_PAYLOAD, RETRY, TRIGGER, Principal, mount_workflow_runs_admin_routes
from workflow_runs.admin.pages import PageSettings, mount_workflow_runs_pages
from workflow_runs.clock import Clock, from_millis
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.states import is_finished
from workflow_runs.operations.changes import NoticeKind
from workflow_runs.store.rows import RUN_FIELDS, STEP_FIELDS
from workflow_runs.store.tables import metadata, rollup

API = "/v1/admin/workflow-runs"
WAIT_S = 60.0
EVERY = 1 if os.environ.get("DAMAGE") == "all" else 8
KINDS = ("resume", "rerun")
ADA = Principal("ada", [READ, READ_PAYLOAD, TRIGGER, RETRY, CANCEL])


@dataclass
class World:
    """What the workflows meet."""

    is_up: bool = False
    charged: list[str] = field(default_factory=list)

    def charge(self, run_id: str) -> str:
        if not self.is_up:
            raise ConnectionError("down")
        self.charged.append(run_id)
        return "paid"


@dataclass
class Answer:
    """What the application answers."""

    status: int = 0
    body: bytes = b""

    @property
    def data(self) -> Any:
        return json.loads(self.body)


async def _asked(app: Starlette, path: str, method: str) -> Answer:
    answer = Answer()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(urlsplit(path).path),
        "raw_path": urlsplit(path).path.encode(),
        "query_string": urlsplit(path).query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        answer.status = message.get("status", answer.status)
        answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


@dataclass
class Ruin:
    """The damaged database, and a desk on it that executes nothing."""

    url: str
    world: World
    runs: WorkflowRuns
    app: Starlette
    sound: dict[str, Any] = field(default_factory=dict)  # details of the sound runs before the damage
    victims: list[Victim] = field(default_factory=list)
    orphan: str = ""  # a sound run that nobody executes

    def ask(self, *paths: str, method: str = "GET") -> list[Answer]:
        """Ask the application itself: a test client costs five times as much as what it asks for."""

        async def all_of_them() -> list[Answer]:
            return [await _asked(self.app, path, method) for path in paths]

        return asyncio.run(all_of_them())

    def get(self, path: str) -> Answer:
        return self.ask(path)[0]

    def engine(self) -> WorkflowRuns:
        """One more process, as far as the database can see; it executes."""
        return WorkflowRuns(self.url, _workflows(self.world), migrate=True)


def _workflows(world: World) -> list[Any]:
    def body(run: Run, input: Any = None) -> dict[str, bool]:
        run.step("reserve", lambda: {"room": 1})
        run.step("charge", world.charge, run.id)
        return {"done": True}

    return [workflow(name, idempotency="safe", version="v1")(body) for name in ("shop", "left behind")]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('ruin') / 'runs.db'}"
        return
    folder, server = request.getfixturevalue("_postgres")
    name = request.getfixturevalue("_new_name")()
    server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield f"postgresql+psycopg://postgres@/{name}?host={folder}"
    server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def ruin(url: str) -> Iterator[Ruin]:
    world = World()
    with WorkflowRuns(url, _workflows(world), migrate=True) as before:
        sound = [before.trigger("shop", {"n": 1}, tags=("sound",)) for _ in range(3)]
        for run_id in sound:
            before.wait(run_id, WAIT_S)
    outsider = Outsider(url)
    runs = WorkflowRuns(url, _workflows(world), execute=False)
    app = Starlette()
    mount_workflow_runs_admin_routes(app, runs.desk, authorize=lambda _request: ADA)
    mount_workflow_runs_pages(
        app, runs.desk, "/desk", authorize=lambda _request: ADA, settings=PageSettings(strict=True)
    )
    with runs:
        ruin = Ruin(url, world, runs, app)
        ruin.sound = {run_id: ruin.get(f"{API}/{run_id}").data["data"] for run_id in sound}
        ruin.victims = Damage(runs.store, outsider).do()
        ruin.orphan = runs.trigger("left behind", {"n": 1})
        yield ruin
    outsider.connection.close()


def walk(ruin: Ruin, view: str) -> list[Any]:
    """All runs, page by page."""
    found, cursor = [], ""
    while cursor is not None:
        answer = ruin.get(f"{API}?limit=200&view={view}{cursor and '&cursor='}{cursor}")
        assert answer.status == 200, answer.body
        found += answer.data["data"]
        cursor = answer.data["nextCursor"]
    return found


def test_every_column_of_every_table_is_damaged(ruin):
    damaged = {(victim.table, victim.column) for victim in ruin.victims}
    columns = {(table.name, column.name) for table in metadata.sorted_tables for column in table.columns}
    if not ruin.url.startswith("sqlite"):
        columns.remove(("workflow_runs", "has_gap"))  # PostgreSQL's boolean takes nothing that is none
    assert damaged == columns


@pytest.mark.parametrize("view", ["full", "summary"])
def test_lists_show_every_run_once_and_the_sound_ones_as_they_were(ruin, view):
    found = walk(ruin, view)
    shown = {run["id"]: run for run in found}
    assert len(found) == len(shown) or ruin.url.startswith(
        "sqlite"
    )  # ids that are no text have no name to tell them apart
    missing = [str(victim) for victim in ruin.victims if victim.has_id and victim.run_id not in shown]
    assert missing == []
    for run_id, detail in ruin.sound.items():
        kept = {name: value for name, value in detail["run"].items() if name in shown[run_id] and name != "error"}
        assert {name: shown[run_id][name] for name in kept} == kept


def test_what_is_no_text_is_named_as_unreadable(ruin):
    """Only SQLite keeps bytes in a column of text or numbers."""
    # A gap that may be is a gap; of an error the whole stands elsewhere, and is shown.
    named = set(RUN_FIELDS) - {"id", "has_gap", "error_message", "error_code", "error_step"}
    damaged = [victim for victim in ruin.victims if victim.kind in NEVER_TEXT and victim.column in named]
    of_runs = [victim for victim in damaged if victim.table == "workflow_runs"]
    assert of_runs or not ruin.url.startswith("sqlite")
    silent = [
        str(victim) for victim in of_runs if victim.column not in ruin.runs.store.get_run(victim.run_id).unreadable
    ]
    assert silent == []


def failures(ruin: Ruin, paths: dict[str, str]) -> dict[str, int]:
    """Ask for each path; return those that fail, by what was damaged."""
    answers = zip(paths, ruin.ask(*paths.values()), strict=True)
    return {name: answer.status for name, answer in answers if not 200 <= answer.status < 500}


def test_the_record_of_every_damaged_run_is_shown(ruin):
    damaged = [victim for victim in ruin.victims if victim.has_id]
    if not ruin.url.startswith("sqlite"):
        damaged = damaged[
            :: min(EVERY, 3)
        ]  # what a text or a number may say is seen on SQLite, and PostgreSQL takes three times as long
    assert failures(ruin, {f"{victim}": f"{API}/{victim.run_id}" for victim in damaged}) == {}


def test_every_damaged_run_has_a_plan_or_a_reason_why_not(ruin):
    damaged = [victim for victim in ruin.victims if victim.has_id][::EVERY]
    paths = {f"{victim}, {kind}": f"{API}/{victim.run_id}/plan?kind={kind}" for victim in damaged for kind in KINDS}
    assert failures(ruin, paths) == {}


def test_a_damaged_step_is_shown_as_unknown_in_its_place(ruin):
    for victim in ruin.victims:
        if victim.table == "workflow_run_steps" and victim.kind in NEVER_TEXT and victim.column in STEP_FIELDS:
            labels = {step.step.name for step in ruin.runs.store.get_steps(victim.run_id)}
            assert "charge" in labels or victim.column == "run_id", str(victim)


PAGES = ("", "/resume", "/rerun", "/cancel", "/compare", "/payload/input", "/steps/1")


def test_every_page_of_a_damaged_run_is_a_page(ruin):
    """One page of each; the pages take turns, and the columns meet each of them."""
    damaged = [victim for victim in ruin.victims if victim.has_id][::EVERY]
    chosen = zip(damaged, cycle(PAGES)) if EVERY > 1 else product(damaged, PAGES)
    assert failures(ruin, {f"{victim}, {page}": f"/desk/runs/{victim.run_id}{page}" for victim, page in chosen}) == {}


FILTERS = (
    *("status=failed", "status=running", "state=queued", "state=unknown", "tag=t", "correlationId=c", "trigger=manual"),
    *("triggeredByUserId=u", "fingerprint=f", "minDurationMs=0", "minDurationMs=10000000", "maxDurationMs=1"),
    *("workflowName=shop", "workflowName=shop&status=failed", "workflowName=shop&tag=t&minDurationMs=1"),
    *(
        "startedSince=2020-01-01T00:00:00Z&startedUntil=2040-01-01T00:00:00Z",
        "parentRunId=x",
        "rootRunId=x",
        "offset=900",
    ),
)


@pytest.mark.parametrize("asked", FILTERS)
def test_filters_find_what_they_ask_for(ruin, asked):
    answer = ruin.get(f"{API}?limit=200&{asked}")
    assert answer.status == 200
    assert answer.data["data"] or "x" in asked or "10000000" in asked or "unknown" in asked or "max" in asked


SITE = (
    *("/", "/runs", "/runs?q=status:failed", "/runs?q=tag:t", "/runs?q=down", "/runs?q=input.n:1", "/runs?page=7"),
    *("/workflows", "/workflows/shop", "/workflows/shop/run", "/workflows/left%20behind"),
)


@pytest.mark.parametrize("path", SITE)
def test_pages_over_all_runs_are_pages(ruin, path):
    assert ruin.get(f"/desk{path}").status == 200


def test_figures_of_a_workflow_add_up_beside_damaged_counts(ruin):
    now = from_millis(Clock().now_millis())
    figures = {
        each.workflow_name: each
        for each in ruin.runs.store.workflow_figures(now - timedelta(hours=2), now + timedelta(hours=2), 4, ())
    }
    rolled = {victim.column for victim in ruin.victims if victim.table == rollup.name}
    for column in rolled - {"half_hour", "workflow_name", "shard"}:
        taken = sum(victim.column == column for victim in ruin.victims if victim.table == rollup.name)
        assert figures[f"rolled {column}"].failed >= taken, column
    totals = ruin.runs.store.totals(now - timedelta(hours=2), now + timedelta(hours=2), ())
    assert totals.failed >= 3
    histogram = ruin.runs.store.histogram(RunFilter(), now - timedelta(hours=1), now + timedelta(hours=1), 4)
    assert sum(bar.failed for bar in histogram.bars) >= 3


def test_who_watches_hears_of_a_new_run(ruin):
    ids = [victim.run_id for victim in ruin.victims if victim.has_id]
    for begin in range(0, len(ids), 500):
        assert ruin.runs.store.run_marks(ids[begin : begin + 500]).keys() <= set(ids)
    assert ruin.runs.store.newest_run_id() >= ruin.orphan
    changes = ruin.runs.desk.changes
    with changes.watch(ids[:50], new_runs=True, last=changes.position()) as watch:
        ruin.runs.trigger("left behind", {"n": 2})
        assert NoticeKind.NEW in {notice.kind for notice in watch.take()}


def test_runs_beside_the_damaged_ones_go_on(ruin):
    """Last: it executes. A process that starts takes up what was left behind, damaged or not, and serves as ever."""
    ruin.world.is_up = True
    failed = next(iter(ruin.sound))
    with ruin.engine() as engine:
        assert engine.wait(ruin.orphan, WAIT_S).state == "succeeded"
        assert engine.wait(engine.trigger("shop", {"n": 3}), WAIT_S).state == "succeeded"
        resumed = engine.desk.resume(failed, actor="ada").run_id
        assert engine.wait(resumed, WAIT_S).state == "succeeded"
        stats = engine.journal.stats()
        assert (stats.failures, stats.last_error) == (0, None)
        live = [victim for victim in ruin.victims if victim.is_live and victim.has_id]
        answers = ruin.ask(*(f"{API}/{victim.run_id}/cancel" for victim in live), method="POST")
        told = {str(victim): answer.body for victim, answer in zip(live, answers, strict=True) if answer.status >= 500}
        assert told == {}
        damaged_states = [victim for victim in live if victim.column == "state"]
        assert all(is_finished(ruin.runs.store.get_run(victim.run_id).state) for victim in damaged_states)
    assert max(map(ruin.world.charged.count, ruin.world.charged)) == 1
    found = ruin.runs.store.list_runs(RunFilter(tags=("sound",)), Page(), payloads=False).runs
    assert {run.id for run in found} >= set(ruin.sound)
