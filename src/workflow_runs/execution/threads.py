"""Threads for sync code. They are daemons: a function that never returns must not keep the process from ending.

(The standard pool joins its threads at interpreter exit, so one stuck step would hang it for ever.)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

_IDLE_S: Final = 10.0  # an idle thread ends after so long

_Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """A bounded pool. Work beyond ``most`` threads waits, in order; a pool that has been idle for a while has no threads."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: deque[_Work] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0

    @property
    def has_room(self) -> bool:
        """Whether work that is submitted now would begin at once."""
        return self._idle > len(self._work) or self._threads < self._most

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have ``fn(*args)`` called; its outcome, of whatever class, is in the future. What is not taken up yet can be cancelled.

        Raises:
            RuntimeError: the process can start no thread and the pool has none: nothing will be called.
        """
        future: Future[Any] = Future()
        with self._changed:
            # One that was notified and has not woken yet still counts as idle, and its work still lies there.
            if self._idle <= len(self._work) and self._threads < self._most:
                self._spawn()
            self._work.append((future, fn, args))
            self._changed.notify()
        return future

    def _spawn(self) -> None:
        """Start one more thread; it waits for the lock, which is held, so that nobody counts on a thread that did not start."""
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:
            if self._threads < 1:
                raise
            return  # those that live take the work up
        self._threads += 1

    def _run(self) -> None:
        while work := self._next():
            _call(*work)
            del work  # an idle thread must not keep alive what it worked on

    def _next(self) -> _Work | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._work, _IDLE_S)
            self._idle -= 1
            if self._work:
                return self._work.popleft()
            self._threads -= 1
            return None


def call_in_own_thread(fn: Callable[..., Any], *args: Any) -> Future[Any]:
    """Have ``fn(*args)`` called in a thread of its own, which may be left behind without missing in a pool."""
    future: Future[Any] = Future()
    threading.Thread(target=_call, args=(future, fn, args), name="workflow-runs-timed-step", daemon=True).start()
    return future


def _call(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args)
    except BaseException as error:  # noqa: BLE001  # whoever waits for it decides what it means
        future.set_exception(error)
    else:
        future.set_result(result)
