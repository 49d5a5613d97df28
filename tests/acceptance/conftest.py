"""Servers as real processes, and an HTTP client that says what it wants."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from psycopg import sql

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0  # for anything that is waited for; reached only when something is broken
PAUSE_S = 0.02  # between two looks at a server


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return probing.getsockname()[1]


class Server:
    """A process that prints its URL when it answers."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self._http: httpx2.Client | None = None
        self._lock = threading.Lock()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def line(self) -> str:
        """The next line of output."""
        line = self._lines.get(timeout=DEADLINE_S)
        assert line is not None, f"the server ended with {self.process.wait(DEADLINE_S)}: {''.join(self._said)}"
        self._said.append(line)
        return line.rstrip("\n")

    def output(self) -> str:
        """All that it has said, once it has ended."""
        self.process.wait(DEADLINE_S)
        while (line := self._lines.get(timeout=DEADLINE_S)) is not None:
            self._said.append(line)
        return "".join(self._said)

    @property
    def http(self) -> httpx2.Client:
        with self._lock:
            if self._http is None:
                line = self.line()
                while not line.startswith("http://"):
                    line = self.line()
                limits = httpx2.Limits(max_connections=None, max_keepalive_connections=10)
                self._http = httpx2.Client(base_url=line, timeout=DEADLINE_S, trust_env=False, limits=limits)
        return self._http

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.http.get(path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        return self.http.post(path, json=body, **more) if body is not None else self.http.post(path, **more)

    def run(self, run_id: str) -> dict[str, Any]:
        """The detail of a run: ``run`` and ``steps``."""
        answer = self.get(f"/v1/admin/workflow-runs/{run_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def ended(self, run_id: str) -> dict[str, Any]:
        """The detail of a run, once it has ended."""
        return wait_until(lambda: (detail := self.run(run_id))["run"]["status"] != "running" and detail)

    def trigger(self, workflow: str, input: Any = None, **more: Any) -> str:
        """Trigger a run and return its id."""
        path = f"/v1/admin/workflows/{workflow}/runs"
        answer = self.post(path, {"input": {} if input is None else input, **more})
        assert answer.status_code == 202, answer.text
        return answer.json()["data"]["runId"]

    def ran(self, workflow: str, input: Any = None, **more: Any) -> dict[str, Any]:
        """Trigger a run and return its detail once it has ended."""
        return self.ended(self.trigger(workflow, input, **more))

    def act(self, run_id: str, action: str, body: Any = None, **more: Any) -> httpx2.Response:
        """Rerun, resume or cancel a run."""
        return self.post(f"/v1/admin/workflow-runs/{run_id}/{action}", body, **more)

    def acted(self, run_id: str, action: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """Rerun or resume a run and return the new run's detail once it has ended."""
        answer = self.act(run_id, action, body, **more)
        assert answer.status_code == 202, answer.text
        return self.ended(answer.json()["data"]["runId"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if self._http is not None:
            self._http.close()


def wait_until(look: Callable[[], Any], what: str = "it") -> Any:
    """Look until there is something to see, and return it."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} has not happened within {DEADLINE_S:g} s"
        pause.wait(PAUSE_S)
    return seen


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Look until there is something to see, within a deadline."""
    return wait_until


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Server]]:
    """Start a process; killed at the end of the module at the latest."""
    servers: list[Server] = []

    def begin(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Server:
        servers.append(Server(command, environment))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def start_contract_app(start: Callable[..., Server]) -> Callable[..., Server]:
    """Start the contract app on a database."""

    def begin(url: str, *flags: str) -> Server:
        return start(["examples/contract_app.py", "--port", str(free_port()), "--database-url", url, *flags])

    return begin


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty database of each kind, for all tests of a module: a server as a process is too dear for each."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('acceptance') / 'runs.db'}"
        return
    folder, server = request.getfixturevalue("_postgres")
    name = request.getfixturevalue("_new_name")()
    server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    yield f"postgresql+psycopg://postgres@/{name}?host={folder}"
    server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
