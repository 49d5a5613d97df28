"""An outside world for tests: an HTTP server that writes down what steps did to it, in the order in which it came.

A step that calls it before, within and after its effect leaves what no journal can tell: what was done, how often, by which process.

    POST /begin        {"key", "step", ...}  ->  {}                  the body of a step has begun; also "run", "pid", "at"
    POST /should_fail  {"key", "step"}       ->  {"fail": bool}      whether the step is to fail
    POST /effect       {"key", "step", ...}  ->  {"nonce": "..."}    the effect; the nonce proves it

It can keep the caller waiting at one call (``hold``), and tell of each call before and after it is answered (``before``, ``after``):
the moments at which a test kills, freezes or cuts off whoever called.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

HOLD_MOST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call that came. ``run`` and ``pid`` are empty and 0 where the caller does not say."""

    at: float  # seconds, monotonic: when the caller says that the step began ("at"), or else when the call arrived
    path: str
    key: str
    step: str
    run: str
    pid: int


class Ledger(ThreadingHTTPServer):
    """The outside world on a port of its own on 127.0.0.1. ``running()`` serves it."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.calls: list[Call] = []  # in the order of arrival
        self.nonces: dict[tuple[str, str], list[str]] = {}  # by key and step
        self.failing: set[str | tuple[str, str]] = set()  # steps, or keys with a step, that are told to fail
        self.before: Callable[[Call], None] | None = None  # called once the call is written down, before its answer
        self.after: Callable[[Call], None] | None = None  # called when the answer has left
        self.reached = threading.Event()  # the call to be held has come
        self.release = threading.Event()  # it may be answered
        self._held: tuple[str, str] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Ledger]:
        """Serve in a thread until the end of the block."""
        with self:
            thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="ledger", daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.release.set()
                self.shutdown()
                thread.join()

    def hold(self, path: str, step: str) -> None:
        """Do not answer the next call of that path and step before ``release`` is set (60 s at most); ``reached`` says that it came."""
        self._held = (path, step)

    def count(self, path: str) -> Counter[tuple[str, str]]:
        """Return how often each (key, step) came by that path."""
        with self.lock:
            return Counter((call.key, call.step) for call in self.calls if call.path == path)

    def answer(self, path: str, about: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """Write a call down and return what it is answered."""
        key, step = str(about.get("key", "")), str(about.get("step", ""))
        at = float(about.get("at", time.monotonic()))
        call = Call(at, path, key, step, str(about.get("run", "")), int(about.get("pid", 0)))
        nonce = secrets.token_hex(8)
        with self.lock:
            self.calls.append(call)
            if path == "/effect":
                self.nonces.setdefault((key, step), []).append(nonce)
            is_held = self._held == (path, step)
            if is_held:
                self._held = None
        if is_held:
            self.reached.set()
            self.release.wait(HOLD_MOST_S)
        if self.before is not None:
            self.before(call)
        if path == "/should_fail":
            return call, {"fail": step in self.failing or (key, step) in self.failing}
        return call, {"nonce": nonce} if path == "/effect" else {}


class _Answering(BaseHTTPRequestHandler):
    server: Ledger  # type: ignore[mutable-override]  # this handler is given to no other

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        asked = self.rfile.read(length)
        if len(asked) < length:
            return  # the caller was killed while it asked
        call, answer = self.server.answer(self.path, json.loads(asked))
        data = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # the caller was killed while it waited
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        if self.server.after is not None:
            self.server.after(call)

    def handle(self) -> None:
        """Serve a connection; one that is cut is nobody's fault here."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
