"""A hotel's desk for the tests of the pages: real workflows, real runs in every state, asked through Starlette's test client.

``Site.ids`` names what was seeded; tests look at these runs and never act on them. A test that acts makes runs of its own (``fail``).
"Foreign" is what the principal ``safe-only`` may not see: every run of another workflow than ``safe``. Canaries are texts that only
who may see payloads may see.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from html import unescape
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from tests.admin.conftest import PRINCIPALS, WAIT_S
from workflow_runs import AsyncRun, Cancelled, Run, WorkflowRuns, workflow
from workflow_runs.admin import Principal
from workflow_runs.admin.pages import PageSettings, mount_workflow_runs_pages
from workflow_runs.clock import Clock
from workflow_runs.model.entries import StartRun
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.requests import Action, RunRequest
from workflow_runs.model.states import RecordingMode, RunState
from workflow_runs.operations.registry import workflow_runner

# The last stands in stacks.
CANARIES = ("canary-input", "canary-output", "canary-result", "canary-error", "_break_down")
BASE = "/desk"
FOREIGN = ("unsafe", "with space/and slash", "resume-only", "guarded", "booking", "settled-elsewhere")


class SetClock(Clock):
    """The machine's clock, put forward by hand."""

    ahead_ms = 0

    def now_millis(self) -> int:
        return super().now_millis() + self.ahead_ms


class Room(Enum):
    """What can be booked."""

    SINGLE = "single"
    DOUBLE = "double"


@dataclass(frozen=True, slots=True)
class Guest:
    """Who comes."""

    name: str
    age: int | None = None


@dataclass(frozen=True, slots=True)
class Booking:
    """What a run of ``booking`` is started with."""

    nights: int
    room: Room
    guest: Guest
    breakfast: bool = False
    note: str = "none"


@dataclass
class World:
    """What is outside: switches, guards, and the books of what was done."""

    is_up: bool = True
    gate: threading.Event = field(default_factory=threading.Event)
    effects: Counter[str] = field(default_factory=Counter)
    guard: Callable[..., Any] = lambda _run, _plan, _actor: True
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def hold(self) -> str:
        self.arrived.release()
        self.gate.wait()
        return "let through"

    def ask(self, run: Any, plan: Any, actor: str | None) -> Any:
        return self.guard(run, plan, actor)


def _break_down() -> None:
    raise ConnectionError("canary-error: the ledger is down") from ValueError("canary-error of the cause")


def _workflows(world: World) -> list[Any]:
    def body(run: Run, input: Any = None) -> Any:
        knobs = input if isinstance(input, dict) else {}
        run.step("reserve", lambda: {"room": "canary-output"}, effect="idempotent")
        if knobs.get("charge"):
            run.step("charge", lambda: world.effects.update([knobs["charge"]]), effect="unsafe")
        if knobs.get("hold"):
            run.step("hold", world.hold)
        if knobs.get("cancel"):
            raise Cancelled("canary-error: changed my mind")
        if not world.is_up:
            run.step("invoice", _break_down, effect=knobs.get("effect", "idempotent"))
        run.step("mail", lambda: "sent", effect="idempotent")
        return {"code": "canary-result"}

    async def visa(run: AsyncRun, input: Any = None) -> None:
        await run.step("submit", _never, effect="unsafe", timeout_s=0.01)

    def book(run: Run, booking: Booking) -> str:
        return run.step("book", lambda: booking.guest.name, effect="idempotent")

    return [
        *(workflow(name, idempotency=name)(body) for name in ("safe", "unsafe", "resume-only")),
        workflow("with space/and slash", idempotency="safe")(body),
        workflow("visa", idempotency="unsafe")(visa),
        workflow("booking", idempotency="safe", description="Books a room.")(book),
    ]


async def _never() -> None:
    await asyncio.Event().wait()


@dataclass
class Site:
    """The desk, what it is mounted with, and the runs that were seeded."""

    runs: WorkflowRuns
    world: World
    clock: SetClock
    ids: dict[str, str] = field(default_factory=dict)
    _apps: dict[str, Starlette] = field(default_factory=dict)

    # --- asking ---

    def app(self, *, prefix: str = BASE, authorize: Any = None, **options: Any) -> Starlette:
        app = Starlette()
        settings = options.pop("settings", None) or page_settings(**options.pop("with_", {}))
        mount_workflow_runs_pages(
            app, self.runs.desk, prefix, authorize=authorize or who_asks, settings=settings, **options
        )
        return app

    def client(self, who: str | None = "all", **options: Any) -> Client:
        """A client for one of ``PRINCIPALS``, or for nobody. Those who want the same settings share an application, and its secret."""
        key = repr(options)
        app = self._apps.get(key) or self.app(**options)
        if set(options) <= {"with_"}:  # making one costs more than most tests do
            self._apps[key] = app
        return Client(TestClient(app, follow_redirects=False), who)

    def get(self, path: str, who: str | None = "all") -> Any:
        return self.client(who).get(path)

    # --- making runs ---

    def run(self, name: str = "safe", input: Any = None, **fields: Any) -> str:
        run_id = self.runs.trigger(name, {"note": "canary-input", **(input or {})}, **fields)
        self.runs.wait(run_id, WAIT_S)
        return run_id

    def fail(self, name: str = "safe", input: Any = None, **fields: Any) -> str:
        """A run that failed at ``invoice``, which works again."""
        self.world.is_up = False
        try:
            return self.run(name, input, **fields)
        finally:
            self.world.is_up = True

    def hold(self, name: str = "safe", **fields: Any) -> str:
        """A run that runs until the site closes."""
        run_id = self.runs.trigger(name, {"note": "canary-input", "hold": True}, **fields)
        assert self.world.arrived.acquire(timeout=WAIT_S)
        return run_id

    def runs_of(self, **where: Any) -> tuple[Any, ...]:
        return self.runs.desk.list_runs(RunFilter(**where), Page(limit=200), payloads=False).runs

    def close(self) -> None:
        self.world.gate.set()
        self.runs.close()


@dataclass
class Client:
    """A browser of somebody's: paths are below the mount, and forms are sent as a browser sends them."""

    http: TestClient
    who: str | None
    base: str = BASE

    def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> Any:
        sent = {} if self.who is None else {"x-who": self.who}
        return self.http.request(method, f"{self.base}{path}", headers={**sent, **(headers or {})}, **more)

    def get(self, path: str, **more: Any) -> Any:
        return self.request("GET", path, **more)

    def part(self, path: str, part: str = "live", **headers: str) -> Any:
        return self.get(path, headers={"x-fragment": part, **headers})

    def send(self, path: str, fields: dict[str, str], **headers: str) -> Any:
        return self.request("POST", path, data=fields, headers=headers)

    def form(self, path: str) -> dict[str, str]:
        """The hidden fields of a page's form."""
        return hidden(self.get(path).text)


async def who_asks(request: Request) -> Principal | None:
    """The principal that a header names."""
    return PRINCIPALS.get(request.headers.get("x-who", "nobody"))


def page_settings(**more: Any) -> PageSettings:
    """Settings under which an undefined name in a template is an error."""
    return PageSettings(**{"strict": True} | more)


def hidden(html: str) -> dict[str, str]:
    """The hidden fields of the form in a page."""
    return {
        unescape(name): unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', html)
    }


def text_of(answer: Response | Any) -> str:
    """What a person reads on a page: without markup, spaces made one."""
    html = re.sub(r"<(script|style|title)\b.*?</\1>", " ", answer.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def make_site(url: str) -> Site:
    """Return an open site without a run."""
    world, clock = World(), SetClock()
    runs = WorkflowRuns(url, _workflows(world), migrate=True, clock=clock)
    registry = runs.registry
    assert registry is not None
    plain = registry.get("safe") or workflow_runner(runs.workflows[0], runs.engine)
    registry.register(replace(plain, name="guarded", can_rerun=world.ask, can_resume=world.ask))
    registry.register(replace(plain, name="no-handlers", trigger=None, rerun=None, resume=None))
    runs.start()
    return Site(runs, world, clock)


def seeded_site(url: str) -> Site:
    """Return a site with a run in each state, and foreign ones that are related in every way there is."""
    site = make_site(url)
    ids, desk = site.ids, site.runs.desk
    ids["succeeded"] = site.run(correlation_id="key-1", tags=("market:ro",), triggered_by_user_id="sam")
    ids["failed"] = site.fail(correlation_id="key-2", triggered_by_user_id="sam")
    ids["cancelled"] = site.run(input={"cancel": True})
    ids["running"] = site.hold(correlation_id="key-live")
    ids["charged"] = site.fail("unsafe", {"charge": "seed"}, correlation_id="foreign-key", tags=("foreign-tag",))
    ids["doubtful"] = site.fail("unsafe", {"effect": "unsafe"}, triggered_by_user_id="sam")
    ids["foreign success"] = site.run("unsafe", {}, correlation_id="foreign-key-2")
    ids["resume only"] = site.fail("resume-only")
    ids["guarded"] = site.fail("guarded")
    ids["spaced"] = site.run("with space/and slash", triggered_by_user_id="foreign-user")
    ids["resumed"] = site.fail(correlation_id="key-3")
    ids["resume"] = desk.resume(ids["resumed"], actor="ada", reason="because").run_id
    site.runs.wait(ids["resume"], WAIT_S)
    ids["booking"] = site.runs.trigger("booking", Booking(2, Room.DOUBLE, Guest("canary-input")))
    site.runs.wait(ids["booking"], WAIT_S)
    ids["foreign running"] = site.hold("unsafe", correlation_id="foreign-live")
    ids["unknown"] = site.runs.trigger("visa", {"note": "canary-input"})
    ids["observed"] = _observed(site)
    ids["foreign child"] = _handed_over(site, ids["failed"])
    return site


def _handed_over(site: Site, parent: str) -> str:
    """What a rerun makes whose handler records it under another name: a foreign relative, and its audit entry."""
    action = Action("rerun", "foreign-user", "foreign-reason", target_run_id=parent)
    name = "settled-elsewhere"
    request = RunRequest(name, name, parent_run_id=parent, root_run_id=parent, action=action)
    entry = StartRun(
        site.clock.new_run_id(), request, RunState.RUNNING, RecordingMode.OBSERVE, audit_id=site.clock.new_audit_id()
    )
    return site.runs.journal.submit(entry).result(WAIT_S).run_id


def _observed(site: Site) -> str:
    recorder = site.runs.begin("settled-elsewhere", input={"note": "canary-input"}, triggered_by_user_id="foreign-user")
    recorder.start_step("foreign-step").fail(ConnectionError("canary-error"))
    recorder.fail(ConnectionError("canary-error"))
    assert recorder.flush(WAIT_S)
    return recorder.run_id


@contextmanager
def opened(site: Site) -> Iterator[Site]:
    """Close the site at the end."""
    try:
        yield site
    finally:
        site.close()
