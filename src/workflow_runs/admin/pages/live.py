"""What a page hears while it is open: server-sent events, on plain ASGI.

    event: run      data: {"id", "rev", "status", "step"}   this run changed: fetch what is shown of it again
    event: new      data: {"count"}                         so many runs match the list's filter that are newer than its newest
    event: reset    data: {}                                what was missed is not known: fetch everything again
    (no event)      data: {}                                nothing; its ``id`` moves the place from which a cut connection goes on

At most four times a second something is sent, and a run at most once in it. A comment every 15 s keeps proxies from closing a
connection that is silent. What is missed during a cut is told after it (``Last-Event-ID``, or ``last`` in the address for a page's first
connection): see ``operations.changes``.

A stream ends when the client leaves, when the desk closes, and when uvicorn stops. That one waits for open connections *before* it
tells the application (lifespan), so a stream has to find out by itself: once a second it looks at the handler of SIGTERM, which is a
method of uvicorn's ``Server``. Rejected: putting a handler of our own in its place; signals are the host's. Other servers cut streams.

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from anyio import CancelScope, Event, create_task_group, current_time, move_on_after, sleep
from starlette.types import Receive, Send

from ...errors import InvalidQuery, StoreUnavailable
from ...operations.changes import WATCHES_MAX, Changes, Notice, NoticeKind, Watch
from ...wire import Json, notice_json
from ..answer import Answer

T = TypeVar("T")

_log = logging.getLogger("workflow_runs.admin")

RETRY_MS: Final = 3_000  # a browser waits so long before it connects again
PAUSE_S: Final = 0.25  # between two pieces that are sent
COMMENT_S: Final = 15.0
COUNT_S: Final = 2.0  # between two counts of new runs, when something was noticed
RECOUNT_S: Final = 10.0  # and when nothing was: a run that began unseen by the filter may match it later
_TICK_S: Final = 1.0

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect what is sent until it has 4 kB
)


class InThread(Protocol):
    """Runs a blocking call in a thread; ``abandon``: who waits may stop waiting."""

    def __call__(self, call: Callable[[], T], /, *, abandon: bool = False) -> Awaitable[T]:
        """Return what the call returns."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """What one page listens to.

    Args:
        changes: The desk's.
        run_ids: The runs that the page shows, at most ``changes.RUNS_MAX``.
        in_thread: Runs what waits for the database.
        last: The id that the client has seen last, or the position of its page.
        count_new: Gives the number of runs that match the page's filter and are newer than its newest; None: the page does not care.
        may_see: Whether whoever asks may see runs of a workflow, by its name; None: of all. What may not be seen is not told of.
        streams_max: Streams that may be open in this process.
    """

    changes: Changes
    run_ids: tuple[str, ...]
    in_thread: InThread
    last: str | None = None
    count_new: Callable[[], int] | None = None
    may_see: Callable[[str], bool] | None = None
    streams_max: int = WATCHES_MAX


async def serve_events(stream: Stream, receive: Receive, send: Send) -> None:
    """Answer a request with a stream, until one side ends it."""
    alarm = _Alarm()
    try:
        run_ids = await _visible(stream)
        watch = stream.changes.watch(
            run_ids,
            new_runs=stream.count_new is not None,
            last=stream.last,
            wake=alarm.ring_from_thread,
            watches_max=stream.streams_max,
        )
    except StoreUnavailable:
        await _refusal(503, "The database cannot be used now.").send(send)
        return
    except InvalidQuery as error:
        await _refusal(400, str(error)).send(send)
        return
    if watch is None:
        await _refusal(503, "As many pages are listening as may.").send(send)
        return
    with watch:
        await _stream(stream, watch, alarm, receive, send)


async def _visible(stream: Stream) -> tuple[str, ...]:
    if stream.may_see is None or not stream.run_ids:
        return stream.run_ids
    return await stream.in_thread(partial(stream.changes.visible, stream.run_ids, stream.may_see), abandon=True)


def _refusal(status: int, text: str) -> Answer:
    headers = [("retry-after", "5")] if status == 503 else []
    return Answer(status, text.encode(), headers, "text/plain; charset=utf-8")


async def _stream(stream: Stream, watch: Watch, alarm: _Alarm, receive: Receive, send: Send) -> None:
    try:
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        async with create_task_group() as tasks:
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
            await _Teller(stream, watch, alarm, send).tell()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()
    except* OSError:
        _log.debug("a client left while it was told something")  # what a server raises then (ASGI 2.4)


async def _until_gone(receive: Receive, scope: CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _server_is_ending() -> bool:
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


class _Alarm:
    """Wakes a stream from any thread, without waiting for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = Event()

    def ring_from_thread(self) -> None:
        """Wake it."""
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            _log.debug("a stream's event loop was closed")  # and the stream with it

    def _ring(self) -> None:
        self._event.set()

    def reset(self) -> None:
        """Hear what comes from now on."""
        self._event = Event()

    async def wait(self) -> None:
        """Return when it has rung since ``reset``."""
        await self._event.wait()


class _Teller:
    """Says what a watch is told."""

    def __init__(self, stream: Stream, watch: Watch, alarm: _Alarm, send: Send) -> None:
        self._stream = stream
        self._watch = watch
        self._alarm = alarm
        self._send = send
        self._has_news = False  # since runs were counted last
        self._counted_at: float | None = None
        self._counted = 0  # what the page was told last

    async def tell(self) -> None:
        """Send until the stream is over."""
        await self._say(f"retry: {RETRY_MS}\n\n")
        said_at = current_time()
        while not self._watch.is_over and not _server_is_ending():
            self._alarm.reset()
            # What changed is not kept back by a count, which waits for the database.
            has_said = await self._say(self._changed())
            has_said = await self._say(await self._new()) or has_said
            if not has_said and current_time() >= said_at + COMMENT_S:
                has_said = await self._say(self._still_here())
            if has_said:
                said_at = current_time()
                await sleep(PAUSE_S)
            else:
                with move_on_after(_TICK_S):
                    await self._alarm.wait()

    def _changed(self) -> str:
        notices = self._watch.take()
        if any(notice.kind is NoticeKind.NEW for notice in notices):
            self._has_news = True
        return "".join(_event_of(notice) for notice in notices if notice.kind is not NoticeKind.NEW)

    async def _new(self) -> str:
        count_new = self._stream.count_new
        pause_s = COUNT_S if self._has_news else RECOUNT_S
        if count_new is None or (self._counted_at is None and not self._has_news):
            return ""
        if self._counted_at is not None and current_time() < self._counted_at + pause_s:
            return ""
        self._counted_at = current_time()
        try:
            count = await self._stream.in_thread(count_new, abandon=True)
        except Exception as error:  # noqa: BLE001  # the stream goes on, and the count comes later
            _log.warning("new runs cannot be counted now: %s: %s", type(error).__name__, error)
            return ""
        self._has_news = False
        if count == self._counted:
            return ""
        self._counted = count
        return _event("new", {"count": count})

    def _still_here(self) -> str:
        position = self._watch.position()
        return ": still here\n\n" if position is None else f": still here\nid: {position}\ndata: {{}}\n\n"

    async def _say(self, text: str) -> bool:
        """Send a text; whether there was one."""
        if text:
            await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        return bool(text)


def _event_of(notice: Notice) -> str:
    data: Json = notice_json(notice) if notice.kind is NoticeKind.RUN else {}
    return _event(notice.kind.value, data, notice.id)


def _event(name: str, data: Json, event_id: str = "") -> str:
    # ASCII on one line, whatever a step is called.
    lines = [f"id: {event_id}"] if event_id else []
    lines += [f"event: {name}", f"data: {json.dumps(data, separators=(',', ':'))}"]
    return "\n".join(lines) + "\n\n"
