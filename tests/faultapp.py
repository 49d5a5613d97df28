"""The fault app: a server, written with the public API only, that a black-box harness starts, kills, freezes and starves.

Everything comes from the environment:

    FAULTS_PORT      port on 127.0.0.1
    FAULTS_DB_URL    sqlite:///FILE or postgresql+psycopg://...; the schema is made if missing
    FAULTS_LEDGER    base URL of the outside world, or empty: then its calls are skipped and nonces made up
    FAULTS_EXECUTOR  name of this process as an owner of runs
    FAULTS_LEASE_S   seconds after which a silent owner has lost its claims; default 2
    FAULTS_TOKEN     T: "Bearer T-op" may do everything, "Bearer T-ro" may read; unset: everything on loopback is allowed

``faults.chain`` calls the outside world around every step, which is how the harness learns what was done and how often.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from workflow_runs import AsyncRun, EngineSettings, Workflow, WorkflowRuns, workflow
from workflow_runs.admin import (
    Principal,
    bearer_tokens,
    development_access,
    mount_health_routes,
    mount_workflow_runs_admin_routes,
)
from workflow_runs.admin.pages import mount_workflow_runs_pages
from workflow_runs.errors import InvalidRequest, StoreUnavailable

LEDGER_TIMEOUT_S = 30.0
LEDGER_THREADS = 64
DRAIN_S = 8.0
START_RETRY_S = 0.2

READING = ("workflows:read", "workflows:read-payload")
EVERYTHING = (*READING, "workflows:trigger", "workflows:retry", "workflows:cancel", "workflows:admin")


class Failure(Exception):
    """A step or run that fails because it was asked to."""


# --- the outside world -----------------------------------------------------------------------------------------------


class Ledger:
    """The outside world, called over HTTP from threads of its own, so that hundreds of slow answers delay nobody else."""

    def __init__(self, base_url: str) -> None:
        self._base = urlsplit(base_url)
        self._threads = ThreadPoolExecutor(LEDGER_THREADS, thread_name_prefix="ledger")

    async def begin(self, about: Mapping[str, Any]) -> None:
        """Say that a step's body has begun."""
        await self._call("/begin", about)

    async def should_fail(self, key: str, step: str) -> bool:
        """Ask whether the step is to fail."""
        answer = await self._call("/should_fail", {"key": key, "step": step})
        return answer.get("fail") is True

    async def effect(self, about: Mapping[str, Any]) -> str:
        """Have the effect, and return the nonce that proves it."""
        answer = await self._call("/effect", about)
        return str(answer.get("nonce") or secrets.token_hex(8))

    async def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if not self._base.hostname:
            return {}
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._post, path, json.dumps(body))

    def _post(self, path: str, body: str) -> dict[str, Any]:
        assert self._base.hostname
        connection = http.client.HTTPConnection(self._base.hostname, self._base.port or 80, timeout=LEDGER_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("POST", self._base.path.rstrip("/") + path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        if answer.status >= 300:
            raise Failure(f"the ledger answers {answer.status} to {path}")
        parsed = json.loads(data) if data else {}
        return parsed if isinstance(parsed, dict) else {}


# --- workflows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChainInput:
    """The input of ``faults.chain``, read leniently."""

    steps: int
    key: str
    work_ms: float

    @classmethod
    def read(cls, input: Any) -> ChainInput:
        """Return what the input says, with the defaults for what it does not."""
        given = input if isinstance(input, dict) else {}
        return cls(int(given.get("steps") or 0), str(given.get("key") or ""), float(given.get("work_ms") or 0))


def chain(ledger: Ledger) -> Workflow:
    """Return ``faults.chain``."""

    @workflow(
        "faults.chain", idempotency="safe", description="Steps in a row, each with an effect in the outside world."
    )
    async def chained(run: AsyncRun, input: Any = None) -> dict[str, Any]:
        asked = ChainInput.read(input)

        async def link(i: int) -> dict[str, Any]:
            # When the body began, by a clock that a judge on this machine reads too: the call may be on its way when the process is frozen.
            about = {"key": asked.key, "step": f"s{i}", "run": run.id, "pid": os.getpid(), "at": time.monotonic()}
            await ledger.begin(about)
            await asyncio.sleep(asked.work_ms / 1000)
            if await ledger.should_fail(asked.key, f"s{i}"):
                raise Failure(f"s{i} was told to fail")
            return {"i": i, "nonce": await ledger.effect(about)}

        return {"outs": [await run.step(f"s{i}", link, i) for i in range(asked.steps)]}

    return chained


@workflow("faults.echo", idempotency="safe", description="Says the payload wherever a text can stand, then fails.")
async def echo(run: AsyncRun, input: Any = None) -> None:
    """Use the payload as step name, step output, log line and error message."""
    payload = input.get("payload") if isinstance(input, dict) else None
    said = payload if isinstance(payload, str) else json.dumps(payload)

    async def say(text: str) -> str:
        run.log.info("%s", text)
        return text

    try:
        step = run.step(said, say, said)
    except InvalidRequest:  # no step can bear that name; the output can still be that text
        step = run.step("payload", say, said)
    await step
    raise Failure(said)


# --- the server ------------------------------------------------------------------------------------------------------


class FaultServer(uvicorn.Server):
    """Says on standard output when it answers, and goes on answering while it hands its runs over: new triggers are told 503."""

    def __init__(self, config: uvicorn.Config, runs: WorkflowRuns) -> None:
        super().__init__(config)
        self._runs = runs
        self._draining: threading.Thread | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Hand over, then end; at once if asked a second time."""
        if self._draining is not None:
            super().handle_exit(sig, frame)
            return
        self._draining = threading.Thread(target=self._drain, args=(sig, frame), name="drain", daemon=True)
        self._draining.start()

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        try:
            self._runs.close()
        finally:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: Any = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        if self.started:
            print(f"http://{self.config.host}:{self.config.port}", flush=True)  # noqa: T201  # whoever started it waits for this


def build(environment: Mapping[str, str]) -> tuple[Starlette, WorkflowRuns]:
    """Return the application that the environment describes, and its runs."""
    runs = WorkflowRuns(
        environment["FAULTS_DB_URL"],
        [chain(Ledger(environment.get("FAULTS_LEDGER", ""))), echo],
        executor=environment.get("FAULTS_EXECUTOR") or None,
        engine_settings=EngineSettings(lease_s=float(environment.get("FAULTS_LEASE_S") or 2), drain_s=DRAIN_S),
        migrate=True,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            while True:
                try:
                    await stack.enter_async_context(runs)
                    break
                except StoreUnavailable:
                    # A server that starts before its database waits for it, however long that takes.
                    await asyncio.sleep(START_RETRY_S)
            yield

    app = Starlette(lifespan=lifespan)
    token = environment.get("FAULTS_TOKEN")
    principals = {f"{token}-op": Principal("op", EVERYTHING), f"{token}-ro": Principal("ro", READING)}
    authorize = bearer_tokens(principals) if token else development_access()
    mount_workflow_runs_admin_routes(app, runs.desk, authorize=authorize, openapi="/openapi.json")
    mount_workflow_runs_pages(app, runs.desk, prefix="/desk", authorize=authorize)
    mount_health_routes(app, runs.store)
    return app, runs


def main() -> None:
    """Serve until SIGTERM, and then end with status 0 once the runs in flight are handed over."""
    # Uvicorn raises the signal that stopped it again when it is done; by then all is written. A call to the outside world that hangs would
    # hold up an ordinary exit: the interpreter joins the threads of its executors.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    app, runs = build(os.environ)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=int(os.environ["FAULTS_PORT"]),
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    FaultServer(config, runs).run()


if __name__ == "__main__":
    main()
