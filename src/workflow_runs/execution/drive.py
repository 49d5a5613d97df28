"""Drives a plain workflow: grants what its ``Course`` wants by blocking the thread it runs in.

Sync step functions are called in that very thread; coroutine functions on the engine's event loop; a sync function with ``timeout_s``
in a thread of its own, the only kind that can be left behind.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

from ..authoring import BRANCH, Run, StepCall
from ..errors import ClaimLost, JournalClosed, StepTimeout
from ..journal import Receipt
from .course import Course
from .drive_async import is_coroutine_function, timed_out, within
from .threads import Threads, call_in_own_thread
from .wants import Invoke, Pause, Stop, Want


class Drive:
    """One plain workflow on its way. ``run`` is called in the workflow's thread.

    Args:
        course: What it goes through.
        threads: For the branches of ``gather``.
        loop: Runs coroutine step functions.
    """

    def __init__(self, course: Course, threads: Threads, loop: asyncio.AbstractEventLoop) -> None:
        self._course = course
        self._threads = threads
        self._loop = loop
        self._wake = threading.Event()
        self._quiet = threading.Condition()
        self._under_way = 0
        self._tasks: set[asyncio.Task[Any]] = set()  # coroutine steps under way; only touched on the loop
        self._interrupted = False
        course.on_stop = self._wake.set

    def run(self) -> None:
        """Drive the workflow to its end, or to where it stops."""
        course = self._course
        run = Run(course.facts, self)
        result, error = None, None
        mark = BRANCH.set(run)
        try:
            result = course.workflow.fn(run, *course.arguments)
        except BaseException as raised:  # noqa: BLE001  # SystemExit too: it ends the run and not the server
            error = raised
        finally:
            BRANCH.reset(mark)
        course.body_ended()
        with self._quiet:  # threads that the function left behind: their steps are under way and belong to its record
            self._quiet.wait_for(lambda: not self._under_way)
        self.grant(course.finish(result, error))

    def interrupt(self) -> None:
        """Cancel coroutine steps that are under way; from any thread, after ``Course.stop``. What runs in a thread is waited for."""
        self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        self._interrupted = True
        for task in self._tasks:
            self._cancel(task)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        if not self._course.is_undoing:  # what undoes a step is not left half done
            task.cancel()

    # --- what the run object asks -----------------------------------------------------------------------------------

    def take(self, call: StepCall) -> Any:
        """Bring a step about and return its value."""
        with self._quiet:
            self._under_way += 1
        try:
            return self.grant(self._course.step(call, self._course.admit(call)))
        except JournalClosed as error:  # raised where an entry is submitted: this process ends
            raise self._course.claim_lost() from error
        finally:
            with self._quiet:
                self._under_way -= 1
                self._quiet.notify_all()

    def gather(self, branches: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run branches in threads of the pool, and in this one those that no thread has taken up yet.

        So a gather within a gather never waits for a thread that waits for it.
        """
        contexts = [contextvars.copy_context() for _ in branches]
        futures = [
            self._threads.submit(context.run, _outcome, branch)
            for context, branch in zip(contexts, branches, strict=True)
        ]
        return [
            context.run(_outcome, branch) if future.cancel() else future.result()
            for context, future, branch in zip(contexts, futures, branches, strict=True)
        ]

    # --- what the course wants --------------------------------------------------------------------------------------

    def grant(self, wants: Generator[Want, Any, Any]) -> Any:
        """Grant one want after the other and return what comes of it."""
        try:
            want = next(wants)
            while True:
                try:
                    answer = self._grant(want)
                except BaseException as error:  # noqa: BLE001  # it is the course's to judge
                    want = wants.throw(error)
                else:
                    want = wants.send(answer)
        except StopIteration as end:
            return end.value

    def _grant(self, want: Want) -> Any:
        if isinstance(want, Receipt):
            try:
                return want.result()
            except (ClaimLost, JournalClosed) as error:
                raise self._course.claim_lost() from error
        if isinstance(want, Pause):
            (threading.Event() if want.firm else self._wake).wait(want.seconds)
            return None
        return self._invoke(want)

    def _invoke(self, want: Invoke) -> Any:
        if is_coroutine_function(want.fn):
            return self._on_loop(within(want.fn(*want.args), want.timeout_s, want.label))
        value = want.fn(*want.args) if want.timeout_s is None else self._timed(want, want.timeout_s)
        if hasattr(type(value), "__await__"):  # a plain function that makes a coroutine
            return self._on_loop(within(value, want.timeout_s, want.label))
        return value

    def _timed(self, want: Invoke, timeout_s: float) -> Any:
        future = call_in_own_thread(contextvars.copy_context().run, want.fn, *want.args)
        done, _ = concurrent.futures.wait([future], timeout_s)
        if not done:
            raise StepTimeout(timed_out(want))
        return future.result()

    def _on_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(self._in_task(coroutine), self._loop).result()
        except concurrent.futures.CancelledError:
            # Unless the run was stopped already, the host's loop is being shut down: another process may go on.
            self._course.stop(Stop.HANDED_BACK)
            raise asyncio.CancelledError from None

    async def _in_task(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self._interrupted:  # it came when the course had decided to call this, but before it was here
            self._cancel(task)
        try:
            return await coroutine
        finally:
            self._tasks.discard(task)


def _outcome(branch: Callable[[], Any]) -> Any:
    BRANCH.set(object())  # not the workflow's own branch: repeated step names need keys here
    try:
        return branch()
    except BaseException as error:  # noqa: BLE001  # all branches end before one is judged
        return error
