"""Fault apps as processes, and an HTTP client that writes down every answer.

``Program`` starts each as a Python of its own, as a host would: that is what times of recovery are measured with. ``Nursery`` forks
them from a process that has the imports done: many more deaths for the same CPU.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0  # for anything that is waited for; reached only when something is broken
ANSWER_S = 30.0
PAUSE_S = 0.01

RUNS = "/v1/admin/workflow-runs"
CHAINS = "/v1/admin/workflows/faults.chain/runs"


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return probing.getsockname()[1]


def wait_until(look: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Look until there is something to see, and return it."""
    deadline = time.monotonic() + deadline_s
    pause = threading.Event()
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} has not happened within {deadline_s:g} s"
        pause.wait(PAUSE_S)
    return seen


# --- answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    retry_after: str | None
    took_s: float


@dataclass(eq=False)
class Answers:
    """Counts what was answered; 500s are kept with their text."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # 5xx other than 503, and 503 that do not say when to come again
    took_s: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, method: str, path: str, answer: Answer) -> None:
        with self.lock:
            self.statuses[answer.status] += 1
            self.took_s.append(answer.took_s)
            is_polite = answer.status == 503 and answer.retry_after is not None
            if answer.status >= 500 and not is_polite:
                self.broken.append(f"{method} {path}: {answer.status} {json.dumps(answer.body)[:300]}")


def ask(
    port: int, method: str, path: str, body: Any = None, *, timeout_s: float = ANSWER_S, token: str | None = None
) -> Answer:
    """Ask a server on 127.0.0.1. Raises OSError or HTTPException when there is no whole answer."""
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection):
        headers = {} if body is None else {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        data = response.read()
    is_json = response.headers.get_content_type() == "application/json"
    told = json.loads(data) if data and is_json else None
    return Answer(response.status, told, response.headers.get("Retry-After"), time.monotonic() - begun)


# --- servers -----------------------------------------------------------------------------------------------------------


class Process(Protocol):
    """What both ways to start give."""

    pid: int

    def wait(self) -> int:
        """Wait for its end and return its status."""
        ...


class Starter(Protocol):
    def start(self, environment: Mapping[str, str], log: Path) -> Process: ...


class Program:
    """Starts ``tests/faultapp.py`` as a program."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})

    def start(self, environment: Mapping[str, str], log: Path) -> Process:
        with open(log, "ab") as output:
            return subprocess.Popen(
                [sys.executable, "tests/faultapp.py"],
                cwd=ROOT,
                env={**os.environ, **self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


class Nursery:
    """Starts them as forks of one prepared process. Use it in a ``with``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()

    def start(self, environment: Mapping[str, str], log: Path) -> Process:
        pid = self.say({"env": dict(environment), "log": str(log)})["pid"]
        return Child(self, pid)

    def say(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return json.loads(line)


@dataclass(eq=False)
class Child:
    nursery: Nursery
    pid: int
    status: int | None = None

    def wait(self) -> int:
        # The nursery answers nothing else while it waits, so it is asked when the end is near.
        wait_until(self._is_over, f"the end of process {self.pid}")
        if self.status is None:
            self.status = self.nursery.say({"wait": self.pid})["status"]
        return self.status

    def _is_over(self) -> bool:
        return self.status is not None or is_gone(self.pid)


def is_gone(pid: int) -> bool:
    """Whether a process is gone, or waits only for its status to be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


class Server:
    """One fault app: started, asked, killed, started again under its name."""

    def __init__(self, starter: Starter, url: str, folder: Path, *, ledger: str = "", name: str = "one", **more: str):
        self._starter = starter
        self.name = name
        self.log = folder / f"{name}.log"
        self.environment = {"DB_URL": url, "LEDGER": ledger, "EXECUTOR": name, **more}
        self.answers = Answers()
        self.process: Process | None = None
        self.port = 0
        self.started_at = 0.0

    @property
    def is_running(self) -> bool:
        return self.process is not None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> Server:
        """Start without waiting for anything."""
        self.port = free_port()
        given = {**self.environment, "PORT": str(self.port)}
        self.started_at = time.monotonic()
        self.process = self._starter.start({f"FAULTS_{name}": value for name, value in given.items()}, self.log)
        return self

    def wait_healthy(self) -> float:
        """Wait for ``/readyz`` to say yes; return the seconds since the start."""
        wait_until(self._is_ready_or_begins_again, f"{self.name} being ready ({self.log})")
        return time.monotonic() - self.started_at

    def _is_ready_or_begins_again(self) -> bool:
        if is_gone(self.pid):
            said = self.log.read_text(errors="replace")[-2000:]
            assert "address already in use" in said, f"{self.name} has ended: {said}"
            self.wait()
            self.start()  # somebody had taken the port that was free
        return self.is_ready()

    def is_ready(self) -> bool:
        try:
            return ask(self.port, "GET", "/readyz", timeout_s=5).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        assert self.process is not None
        status = self.process.wait()
        self.process = None  # its pid may be somebody else's from now on
        return status

    def close(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
        self.kill()

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Answer:
        """Ask, and note what was answered. Raises OSError or HTTPException when there is no whole answer."""
        answer = ask(self.port, method, path, body, token=token)
        self.answers.note(method, path, answer)
        return answer
