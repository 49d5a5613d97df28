"""Child processes that are forked, so that they cost milliseconds, may be given any function, and can be killed.

A child has what the parent has loaded and none of its threads. It must not use connections and clients that the parent has
opened: what a test needs of that kind it opens in the child. Of our own objects none may be shared either.

Source: https://docs.python.org/3/library/os.html#os.fork (why threads of the parent are no concern of a child that only runs
Python code, and when they are).
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import select
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

_DUMP_BEFORE_S: Final = 1.0
_CHUNK: Final = 65536


class ChildFailed(AssertionError):
    """A child raised something, or did not end in time. The message has its traceback."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: what its function returned, or ``killed``; and what it said before."""

    value: Any
    killed: bool
    said: list[Any] = field(default_factory=list)


class Mouth:
    """What a child speaks through. Each word is with the parent when ``say`` returns, whatever happens to the child then."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def say(self, word: Any) -> None:
        """Tell the parent a JSON value; from any thread."""
        self._write({"said": word})

    def _write(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


def kill_self() -> NoReturn:
    """End this process as ``kill -9`` does: nothing is flushed, closed or unwound."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a signal that cannot be ignored")


def in_child(work: Callable[[Mouth], Any], timeout_s: float = 60.0) -> Ended:
    """Call ``work`` in a forked child and wait for its end.

    Args:
        work: Given a ``Mouth``; what it returns must be JSON. Its process ends with it, without any clean-up.
        timeout_s: After which the child is killed; a second earlier it writes the stacks of its threads to stderr.

    Raises:
        ChildFailed: it raised an exception, ended by itself, or took longer.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads exist here: they do not in the child
        pid = os.fork()
    if not pid:
        _be_child(work, reading, writing, timeout_s)
    os.close(writing)
    try:
        messages = _hear(reading, time.monotonic() + timeout_s)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)  # it has ended, and is still ours to wait for: no other process has its number
        _, status = os.waitpid(pid, 0)
    if messages is None:
        raise ChildFailed(f"the child has not ended within {timeout_s:g} s; where its threads were stands in stderr")
    said = [message["said"] for message in messages if "said" in message]
    last = messages[-1] if messages else {}
    if "raised" in last:
        raise ChildFailed(f"in the child:\n{last['raised']}")
    if "returned" in last:
        return Ended(last["returned"], False, said)
    if os.WIFEXITED(status):
        raise ChildFailed(f"the child ended by itself, with code {os.WEXITSTATUS(status)}")
    return Ended(None, True, said)


def _be_child(work: Callable[[Mouth], Any], reading: int, writing: int, timeout_s: float) -> NoReturn:
    try:
        mouth = Mouth(writing)
        try:
            os.close(reading)
            gc.freeze()  # what is the parent's is not to be finalised here
            faulthandler.dump_traceback_later(max(0.1, timeout_s - _DUMP_BEFORE_S), file=2)
            message = {"returned": work(mouth)}
        except BaseException:  # noqa: BLE001  # nothing may return into the parent's code
            message = {"raised": traceback.format_exc()}
        mouth._write(message)  # noqa: SLF001  # its own module
    finally:
        os._exit(0)


def _hear(reading: int, deadline: float) -> list[dict[str, Any]] | None:
    """Return all that comes through the pipe until its end; None if that takes too long."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            return None
        chunk = os.read(reading, _CHUNK)
        if not chunk:
            # The last line may be half a word, cut off by the kill.
            return [json.loads(line) for line in data.split(b"\n")[:-1]]
        data += chunk
