"""Streams as a browser gets them, from a real server; and what the server's side does when either end goes away."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from urllib.parse import parse_qs

import anyio
import httpx2
import pytest
import sqlalchemy as sa
import uvicorn

from workflow_runs import WorkflowRuns, workflow
from workflow_runs.admin.door import Door
from workflow_runs.admin.pages import live
from workflow_runs.admin.pages.live import Stream, serve_events
from workflow_runs.model.entries import RegisterExecutor, RunChanged, RunEnded, StartRun, StepEnded
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState

DEADLINE_S = 30.0


async def everybody(_request):
    return None


@workflow("held", idempotency="safe")
def held(run, input):
    return None


class Writer:
    """Writes runs as an engine of its own process would: under a claim."""

    def __init__(self, runs):
        self.runs = runs
        self.clock = runs.clock
        self.claim = self.write(RegisterExecutor(self.clock.new_run_id(), 60.0, "elsewhere", 1, "1"))

    def write(self, entry):
        return self.runs.journal.submit(entry).result()

    def live(self, name="held"):
        run_id = self.write(StartRun(self.clock.new_run_id(), RunRequest(name, name), claim=self.claim)).run_id
        self.write(RunChanged(run_id, RunState.RUNNING, self.clock.now_millis(), self.claim))
        return run_id

    def step(self, run_id, name, sequence=1):
        now = self.clock.now_millis()
        head = (run_id, self.claim, StepKey(name), 1, sequence, StepKind.STEP, EffectClass.PURE, None, now)
        self.write(StepEnded(*head, StepState.SUCCEEDED, Origin.EXECUTED, "1", None, now, 0))

    def end(self, run_id, state=RunState.SUCCEEDED):
        self.write(RunEnded(run_id, state, self.clock.now_millis(), claim=self.claim))


class Listener:
    """A client that reads a stream event by event; comments and bare ids are events too."""

    def __init__(self, answer):
        self.answer = answer
        self._lines = answer.iter_lines()

    def next(self):
        fields = {}
        for line in self._lines:
            if not line:
                return fields
            name, _, value = line.partition(": ")
            assert name not in fields, f"{name} twice in one event"
            fields[name] = value
        return None

    def until(self, event):
        """Return the id and the data of the next event of a kind."""
        while (fields := self.next()) is not None:
            if fields.get("event") == event:
                return fields.get("id", ""), json.loads(fields["data"])
        raise AssertionError(f"the stream ended without {event}")


class Site:
    """A server with a stream at /events: ``run``, ``last`` and ``new`` in the address, and what a test sets."""

    def __init__(self, runs):
        self.runs = runs
        self.changes = runs.desk.changes
        self.options = {}
        self.count = 0
        self.counts = []
        self.in_thread = Door(everybody, "tenant", ()).in_thread

    async def __call__(self, scope, receive, send):
        asked = parse_qs(scope["query_string"].decode())
        header = dict(scope["headers"]).get(b"last-event-id", b"").decode()
        stream = Stream(
            changes=self.changes,
            run_ids=tuple(asked.get("run", ())),
            in_thread=self.in_thread,
            last=header or asked.get("last", [None])[0],
            count_new=self.count_new if "new" in asked else None,
            **self.options,
        )
        await serve_events(stream, receive, send)

    def count_new(self):
        self.counts.append(time.monotonic())
        return self.count

    @contextmanager
    def listen(self, *run_ids, last_event_id=None, **query):
        pairs = [*(("run", run_id) for run_id in run_ids), *query.items()]
        headers = {} if last_event_id is None else {"last-event-id": last_event_id}
        with httpx2.stream("GET", self.url, params=pairs, headers=headers, timeout=DEADLINE_S) as answer:
            yield Listener(answer)

    def get(self, *run_ids):
        return httpx2.get(self.url, params=[("run", run_id) for run_id in run_ids], timeout=DEADLINE_S)


@pytest.fixture
def site(database_url):
    with WorkflowRuns(database_url, [held], execute=False, migrate=True) as runs:
        site = Site(runs)
        server = uvicorn.Server(uvicorn.Config(site, port=0, log_level="warning", lifespan="off"))
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        site.url = f"http://127.0.0.1:{listener.getsockname()[1]}/events"
        yield site
        site.changes.close()
        server.should_exit = True
        thread.join(DEADLINE_S)
        listener.close()
        assert not thread.is_alive()
        assert site.changes.watching == 0


@pytest.fixture
def writer(site):
    return Writer(site.runs)


def wait_until(is_so):
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not is_so():
        assert time.monotonic() < deadline
        pause.wait(0.005)


# --- what a client gets ----------------------------------------------------------------------------------------------


def test_a_change_comes_as_an_event_with_its_id(site, writer):
    run_id = writer.live()
    position = site.changes.position()
    with site.listen(run_id, last=position) as heard:
        assert heard.answer.status_code == 200
        assert heard.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert heard.answer.headers["cache-control"] == "no-store"
        assert heard.answer.headers["x-accel-buffering"] == "no"
        assert heard.next() == {"retry": "3000"}
        first = heard.until("run")  # it is live, and was not looked at before: something may have changed
        assert first == ("", {"id": run_id, "rev": 0, "status": "running", "step": None})
        writer.step(run_id, "charge")
        event_id, data = heard.until("run")
        assert event_id.rpartition("-")[0] == position.rpartition("-")[0]
        assert data == {"id": run_id, "rev": int(event_id.rpartition("-")[2]), "status": "running", "step": "charge"}
        writer.end(run_id, RunState.LOST)
        assert heard.until("run")[1]["status"] == "failed"


def test_a_step_of_any_name_stays_on_one_line_of_data(site, writer):
    run_id = writer.live()
    name = "a\nevent: reset\r\n\u2028é"
    with site.listen(run_id, last=site.changes.position()) as heard:
        heard.next()
        writer.step(run_id, name)
        data = {"step": None}
        while data["step"] is None:
            _, data = heard.until("run")
        assert data["step"] == name


def test_a_silent_stream_sends_comments_that_move_the_position(site, writer, monkeypatch):
    monkeypatch.setattr(live, "COMMENT_S", 0.01)
    monkeypatch.setattr(live, "_TICK_S", 0.01)
    run_id = writer.live()
    writer.end(run_id)
    with site.listen(run_id, last=site.changes.position()) as heard:
        positions = []
        while len(positions) < 2:
            fields = heard.next()
            if "" in fields and "id" in fields:
                assert (fields[""], fields["data"], "event" in fields) == ("still here", "{}", False)
                positions.append(fields["id"])
    assert positions[0] != positions[1]
    with site.listen(run_id, last_event_id=positions[0]) as heard:
        assert heard.next() == {"retry": "3000"}
        assert "" in heard.next()  # no reset: the position is good


def test_after_a_cut_exactly_the_missed_changes_come(site, writer):
    runs = [writer.live() for _ in range(4)]
    with site.listen(*runs, last=site.changes.position()) as heard:
        for _ in runs:
            heard.until("run")  # at the first look
        writer.step(runs[0], "first")
        event_id, data = heard.until("run")
        assert (bool(event_id), data["id"]) == (True, runs[0])
    wait_until(lambda: site.changes.watching == 0)
    writer.end(runs[2])
    writer.step(runs[1], "second")
    with site.listen(*runs, last_event_id=event_id, last="of-an-old-address-1") as heard:
        told = [heard.until("run") for _ in range(2)]
        wait_until(lambda: not site.changes._unknown)  # and was looked at again
        writer.step(runs[3], "third")
        told.append(heard.until("run"))
    assert [(data["id"], data["status"], data["step"]) for _, data in told] == [
        (runs[2], "succeeded", None),
        (runs[1], "running", "second"),
        (runs[3], "running", "third"),
    ]
    numbers = [int(text.rpartition("-")[2]) for text in (event_id, *(text for text, _ in told))]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("last", ["0123456789abcdef-77", "", "x" * 5000])
def test_an_id_of_another_process_gives_a_reset(site, writer, last):
    run_id = writer.live()
    with site.listen(run_id, last_event_id=last) as heard:
        assert heard.next() == {"retry": "3000"}
        reset = heard.next()
        assert (reset["event"], reset["data"]) == ("reset", "{}")
        writer.end(run_id)
        assert heard.until("run")[1]["status"] == "succeeded"
    with site.listen(run_id, last_event_id=reset["id"]) as heard:
        assert heard.until("run")[1]["status"] == "succeeded"


def test_another_process_is_heard(site, writer, database_url):
    run_id = writer.live()
    with (
        WorkflowRuns(database_url, [held], execute=False, migrate=False) as others,
        site.listen(run_id, last=site.changes.position()) as heard,
    ):
        heard.until("run")  # it is live, and was not looked at before
        others.desk.cancel(run_id)
        event_id, data = heard.until("run")
        assert (bool(event_id), data["id"], data["status"]) == (True, run_id, "running")


# --- new runs --------------------------------------------------------------------------------------------------------


def test_new_runs_are_counted_and_told_when_their_number_changes(site, writer, monkeypatch):
    monkeypatch.setattr(live, "COUNT_S", 0.05)
    with site.listen(new="1", last=site.changes.position()) as heard:
        wait_until(lambda: len(site.counts) == 1)  # a run may have begun before the stream
        site.count = 3
        writer.live()
        assert heard.until("new") == ("", {"count": 3})
        counts = len(site.counts)
        writer.live()
        wait_until(lambda: len(site.counts) > counts)
        site.count = 4
        writer.live()
        assert heard.until("new") == ("", {"count": 4})


def test_new_runs_are_not_counted_more_often_than_every_two_seconds(site, writer):
    with site.listen(new="1", last=site.changes.position()) as heard:
        wait_until(lambda: len(site.counts) == 1)
        site.count = 1
        for _ in range(30):
            writer.live()
        assert heard.until("new") == ("", {"count": 1})
    first, second = site.counts[:2]
    assert second - first >= live.COUNT_S - 0.01


def test_a_count_that_fails_is_made_again(site, writer, monkeypatch):
    monkeypatch.setattr(live, "COUNT_S", 0.05)
    failures = [ValueError("no count")]

    def count_new():
        if failures:
            raise failures.pop()
        return 5

    monkeypatch.setattr(site, "count_new", count_new)
    with site.listen(new="1", last=site.changes.position()) as heard:
        assert heard.until("new") == ("", {"count": 5})


# --- who may hear what -----------------------------------------------------------------------------------------------


def test_what_may_not_be_seen_is_not_told_of(site, writer):
    mine, theirs = writer.live("mine"), writer.live("theirs")
    site.options = {"may_see": {"mine"}.__contains__}
    with site.listen(theirs, mine, last=site.changes.position()) as heard:
        writer.step(theirs, "secret")
        writer.step(mine, "shown")
        told = []
        while not told or told[-1]["step"] != "shown":
            told.append(heard.until("run")[1])
        writer.end(mine)
        while told[-1]["status"] != "succeeded":
            told.append(heard.until("run")[1])
    assert {data["id"] for data in told} == {mine}


def test_more_runs_than_a_page_shows_are_refused(site):
    answer = site.get(*(f"wfrn_{number}" for number in range(51)))
    assert (answer.status_code, "retry-after" in answer.headers) == (400, False)


def test_one_stream_more_than_may_is_told_to_come_back(site, writer):
    site.options = {"streams_max": 1}
    with site.listen(writer.live()) as heard:
        heard.next()
        answer = site.get("wfrn_x")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    wait_until(lambda: site.changes.watching == 0)
    with site.listen("wfrn_x") as heard:
        assert heard.answer.status_code == 200


def test_without_the_database_who_may_not_see_everything_is_told_to_come_back(site, writer, database_url):
    run_id = writer.live()
    site.options = {"may_see": {"held"}.__contains__}
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE workflow_runs RENAME TO away")
    answer = site.get(run_id)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO workflow_runs")
    engine.dispose()


# --- the end ---------------------------------------------------------------------------------------------------------


def test_who_leaves_is_forgotten_at_once_and_the_thread_with_the_last(site, writer):
    run_id = writer.live()
    with site.listen(run_id) as heard:
        heard.until("reset")
        with site.listen(run_id) as other:
            other.until("reset")
            assert site.changes.watching == 2
            thread = site.changes._thread
        wait_until(lambda: site.changes.watching == 1)
    left = time.monotonic()
    wait_until(lambda: site.changes.watching == 0)
    assert time.monotonic() - left < DEADLINE_S / 2
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_closing_the_desk_ends_streams(site, writer):
    with site.listen(writer.live()) as heard:
        heard.until("reset")
        site.changes.close()
        while heard.next() is not None:
            pass
    wait_until(lambda: site.changes.watching == 0)


SERVER = """
import sys
import uvicorn
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.routing import Mount
from workflow_runs import WorkflowRuns
from workflow_runs.admin.door import Door
from workflow_runs.admin.pages.live import Stream, serve_events

runs = WorkflowRuns(sys.argv[1], execute=False)

@asynccontextmanager
async def lifespan(app):
    async with runs:
        yield
    print("closed", flush=True)

async def events(scope, receive, send):
    in_thread = Door(lambda request: None, "tenant", ()).in_thread
    await serve_events(Stream(runs.desk.changes, ("wfrn_x",), in_thread), receive, send)

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

app = Starlette(routes=[Mount("/events", events)], lifespan=lifespan)
Server(uvicorn.Config(app, port=0, log_level="error")).run()
"""


def test_a_server_that_is_told_to_stop_does_not_wait_for_streams(sqlite_url):
    process = subprocess.Popen([sys.executable, "-c", SERVER, sqlite_url], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        url = f"http://127.0.0.1:{port}/events/"
        with httpx2.stream("GET", url, timeout=DEADLINE_S) as answer:
            heard = Listener(answer)
            heard.until("reset")
            process.send_signal(signal.SIGTERM)
            while heard.next() is not None:
                pass
        assert process.stdout.readline() == "closed\n"
        assert process.wait(DEADLINE_S) in {0, -signal.SIGTERM}
    finally:
        process.kill()
        process.communicate()


# --- without a server ------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(sqlite_url):
    """A desk, and streams that are called by hand."""
    with WorkflowRuns(sqlite_url, [held], execute=False) as runs:
        yield Site(runs)


async def never():
    await anyio.sleep_forever()


async def test_something_is_sent_at_most_four_times_a_second_and_a_run_once_in_it(bare):
    writer = Writer(bare.runs)
    runs = [writer.live() for _ in range(3)]
    sent = []

    async def send(message):
        sent.append((anyio.current_time(), message.get("body", b"")))

    def work():
        until = time.monotonic() + 1.2
        number = 0
        while time.monotonic() < until:
            number += 1
            for run_id in runs:
                writer.step(run_id, f"step-{number}", number)

    stream = Stream(bare.changes, tuple(runs), bare.in_thread, bare.changes.position())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_events, stream, never, send)
        await anyio.to_thread.run_sync(work)
        bare.changes.close()
    told = [(at, body.decode()) for at, body in sent if b"event: run" in body]
    assert len(told) >= 2
    assert all(later - at >= 0.24 for (at, _), (later, _) in pairwise(told))
    for _, body in told:
        assert all(body.count(run_id) <= 1 for run_id in runs)
    assert sent[-1][1] == b""
    assert bare.changes.watching == 0


async def test_a_client_that_has_left_without_a_word_ends_the_stream(bare):
    pieces = []

    async def send(message):
        pieces.append(message)
        if len(pieces) > 1:
            raise OSError("broken pipe")

    with anyio.fail_after(DEADLINE_S):
        await serve_events(Stream(bare.changes, ("wfrn_x",), bare.in_thread), never, send)
    assert bare.changes.watching == 0


async def test_a_client_that_leaves_while_new_runs_are_counted_is_not_waited_with(bare):
    counting, may_end = threading.Event(), threading.Event()
    gone = asyncio.Event()

    def count_new():
        counting.set()
        may_end.wait(DEADLINE_S)
        return 1

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        return None

    stream = Stream(bare.changes, (), bare.in_thread, None, count_new)
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_events, stream, receive, send)
            await anyio.to_thread.run_sync(counting.wait)
            gone.set()
    assert bare.changes.watching == 0
    may_end.set()


async def test_a_cancelled_stream_stops_watching(bare):
    async def send(message):
        return None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_events, Stream(bare.changes, ("wfrn_x",), bare.in_thread), never, send)
        while not bare.changes.watching:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert bare.changes.watching == 0


def test_an_alarm_of_a_loop_that_is_gone_disturbs_nobody():
    async def make():
        return live._Alarm()

    asyncio.run(make()).ring_from_thread()
