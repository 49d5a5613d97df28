"""Drives a coroutine workflow: grants what its ``Course`` wants by awaiting.

Cancelling. Coroutines are cancelled; a thread cannot be, so a sync step of a cancelled run is waited for and its true outcome recorded,
and only then is the cancellation raised on. (Only a step with ``timeout_s`` is ever left behind.)
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect

# None where the public get_running_loop() raises.
from asyncio import _get_running_loop
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from ..authoring import AsyncRun, StepCall
from ..errors import Cancelled, ClaimLost, JournalClosed, StepTimeout
from ..journal import Receipt
from .course import Course
from .threads import Threads, call_in_own_thread
from .wants import Invoke, Pause, Stop, Want

_CO_COROUTINE: Final = inspect.CO_COROUTINE
_EXITS: Final = (SystemExit, KeyboardInterrupt)


class AsyncDrive:
    """One coroutine workflow on its way. Made on the event loop; ``stop`` is for any thread."""

    def __init__(self, course: Course, threads: Threads) -> None:
        self._course = course
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._tasks: dict[asyncio.Task[Any], int] = {}  # those in which steps are under way, and how many
        self._body: asyncio.Task[Any] | None = None
        self._idle = asyncio.Event()
        course.on_stop = partial(_wake_up, self._loop, self._wake)  # not a method: the two would hold each other

    async def run(self) -> None:
        """Drive the workflow to its end, or to where it stops."""
        course = self._course
        self._body = self._loop.create_task(self._call_workflow(), name=f"workflow-runs {course.facts.id}")
        while not await self._is_through(self._body):
            # Cancelled, and not by an operator: the host's loop is being shut down, and another process may go on.
            course.stop(Stop.HANDED_BACK)
            self._interrupt()
        result, error = _outcome(self._body)
        try:
            await self.grant(course.finish(result, error))
        except asyncio.CancelledError:
            course.stop(Stop.HANDED_BACK)
            await self.grant(course.leave())

    async def _is_through(self, body: asyncio.Task[Any]) -> bool:
        """Wait for the function, and for steps in tasks that it left behind: they are under way and belong to its record.

        False: the waiting was cancelled.
        """
        try:
            await asyncio.wait({body})
            self._course.body_ended()
            while self._tasks:
                self._idle.clear()
                await self._idle.wait()
        except asyncio.CancelledError:
            return False
        return True

    async def _call_workflow(self) -> Any:
        try:
            return await self._course.workflow.fn(AsyncRun(self._course.facts, self), *self._course.arguments)
        except _EXITS as error:
            raise contained(error) from error

    def interrupt(self) -> None:
        """Cancel what is under way; from any thread."""
        self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        if self._body is not None and not self._body.done():
            self._body.cancel()
        for task in list(self._tasks):
            if task is not self._body:
                task.cancel()

    # --- what the run object asks -----------------------------------------------------------------------------------

    def take(self, call: StepCall) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that brings the step about; its place in the order is settled now."""
        return self._take(call, self._course.admit(call))

    async def _take(self, call: StepCall, sequence: int) -> Any:
        task = asyncio.current_task()
        assert task is not None
        tasks = self._tasks
        tasks[task] = tasks.get(task, 0) + 1
        try:
            return await self.grant(self._course.step(call, sequence))
        except JournalClosed as error:  # raised where an entry is submitted: this process ends
            raise self._course.claim_lost() from error
        finally:
            tasks[task] -= 1
            if not tasks[task]:
                del tasks[task]
                if not tasks:
                    self._idle.set()

    # --- what the course wants --------------------------------------------------------------------------------------

    async def grant(self, wants: Generator[Want, Any, Any]) -> Any:
        """Grant one want after the other and return what comes of it."""
        try:
            want = next(wants)
            while True:
                try:
                    # Written out for the two that every step wants: a coroutine more for each would cost as much as the deciding.
                    if isinstance(want, Receipt):
                        answer = await want
                    elif isinstance(want, Invoke):
                        quick = want.timeout_s is None and is_coroutine_function(want.fn)
                        answer = await (want.fn(*want.args) if quick else self._invoke(want))
                    else:
                        answer = None
                        await self._pause(want)
                except BaseException as error:  # noqa: BLE001  # it is the course's to judge
                    lost = isinstance(want, Receipt) and isinstance(error, (ClaimLost, JournalClosed))
                    want = wants.throw(self._course.claim_lost() if lost else contained(error))
                else:
                    want = wants.send(answer)
        except StopIteration as end:
            return end.value

    async def _invoke(self, want: Invoke) -> Any:
        if is_coroutine_function(want.fn):
            return await within(want.fn(*want.args), want.timeout_s, want.label)
        value = await self._in_thread(want)
        if hasattr(type(value), "__await__"):  # a plain function that makes a coroutine
            return await within(value, want.timeout_s, want.label)
        return value

    async def _pause(self, want: Pause) -> None:
        if want.firm:
            await asyncio.sleep(want.seconds)
            return
        try:
            async with asyncio.timeout(want.seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _in_thread(self, want: Invoke) -> Any:
        context = contextvars.copy_context()
        if want.timeout_s is None:
            future = self._threads.submit(context.run, want.fn, *want.args)
        else:
            future = call_in_own_thread(context.run, want.fn, *want.args)
        ended: asyncio.Future[None] = self._loop.create_future()
        future.add_done_callback(partial(_tell, self._loop, ended))
        try:
            async with asyncio.timeout(want.timeout_s):
                await ended
        except TimeoutError:
            if not future.done():
                raise StepTimeout(timed_out(want)) from None
        except asyncio.CancelledError:
            if future.cancel():  # not taken up by a thread yet
                raise
            await self._wait_uninterrupted(future, want)
        return future.result()

    async def _wait_uninterrupted(self, future: Future[Any], want: Invoke) -> None:
        """Wait for a thread through all cancellations, then ask for them anew: they are raised at the next await.

        Raises:
            StepTimeout: ``timeout_s`` more have passed.
        """
        task = asyncio.current_task()
        assert task is not None
        swallowed = 1
        timer = None if want.timeout_s is None else self._loop.time() + want.timeout_s
        while not future.done() and (timer is None or self._loop.time() < timer):
            ended: asyncio.Future[None] = self._loop.create_future()
            future.add_done_callback(partial(_tell, self._loop, ended))
            try:
                await asyncio.wait({ended}, timeout=None if timer is None else timer - self._loop.time())
            except asyncio.CancelledError:
                swallowed += 1
        for _ in range(swallowed):
            task.uncancel()
            task.cancel()
        if not future.done():
            raise StepTimeout(timed_out(want))


def _wake_up(loop: asyncio.AbstractEventLoop, wake: asyncio.Event) -> None:
    """End the pauses; from any thread."""
    if _get_running_loop() is loop:
        wake.set()
        return
    try:
        loop.call_soon_threadsafe(wake.set)
    except RuntimeError:  # the loop is closed: nothing pauses there any more
        return


def _outcome(body: asyncio.Task[Any]) -> tuple[Any, BaseException | None]:
    if body.cancelled():
        return None, asyncio.CancelledError()
    error = body.exception()
    return (None, error) if error is not None else (body.result(), None)


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], _: Future[Any]) -> None:
    try:
        loop.call_soon_threadsafe(_set, ended)
    except RuntimeError:  # the loop is closed: nobody waits there any more
        return


def _set(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Return whether calling ``fn`` makes a coroutine; quick for plain functions, since each step asks."""
    code = getattr(fn, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _CO_COROUTINE)
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


async def within(awaitable: Any, timeout_s: float | None, label: str) -> Any:
    """Await for at most so many seconds.

    Raises:
        StepTimeout: it did not end in time, and was cancelled. (A ``TimeoutError`` of its own passes as it is.)
    """
    scope = asyncio.timeout(timeout_s)
    try:
        async with scope:
            return await awaitable
    except TimeoutError as error:
        if scope.expired():
            raise StepTimeout(f"{label} did not end within {timeout_s:g} s") from error
        raise
    except _EXITS as error:
        raise contained(error) from error


def contained(error: BaseException) -> BaseException:
    """Return what to raise for an error on an event loop: asyncio lets these two out of the task, and they would end the loop."""
    if not isinstance(error, _EXITS):
        return error
    cancelled = Cancelled(repr(error))
    cancelled.__cause__ = error
    return cancelled


def timed_out(want: Invoke) -> str:
    """Return the message for a function that did not end in time."""
    return (
        f"{want.label} did not end within {want.timeout_s:g} s; its thread cannot be stopped, and its result is ignored"
    )
