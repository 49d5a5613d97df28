"""The contract app: what black-box suites of the admin API are run against, written with the public API only.

    python examples/contract_app.py --port P --database-url URL [--surface tenant|cloud|disabled] [--no-registry]
                                    [--token T] [--key-no-trigger K1] [--key-trigger K2]

Several may share one database. Only a tenant-surface server with a registry claims, recovers and executes runs; the others read.
Its workflows are knobs: the input says which step fails, waits, answers something else or is undone. The gates that hold a step, and the
counters that say how often a step's body ran, live in the memory of the process.

With ``--token``, T may do everything, K1 may read, K2 may read and trigger; without it everything on loopback is allowed. Whoever acts
is named by the header ``X-Conformance-User``. The pages are under ``/desk``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

from workflow_runs import AsyncRun, Cancelled, EngineSettings, Run, Runner, Workflow, WorkflowRuns, workflow
from workflow_runs.admin import (
    Authorize,
    Principal,
    bearer_tokens,
    development_access,
    mount_health_routes,
    mount_workflow_runs_admin_routes,
)
from workflow_runs.admin.pages import mount_workflow_runs_pages

STEPS = ("validate", "reserve", "charge", "notify", "close")
HOLD_S_MAX = 60.0
DRAIN_S = 3.0  # of a polite stop: a step that is held would not end within any drain

READING = ("workflows:read", "workflows:read-payload")
EVERYTHING = (*READING, "workflows:trigger", "workflows:retry", "workflows:cancel", "workflows:admin")


class OnPurpose(Exception):
    """What fails here fails because the input said so."""


# --- what the process remembers --------------------------------------------------------------------------------------


class Gates:
    """Gates by name: closed until opened, then open for good. Opened from any thread, waited for on any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[str] = set()
        self._waiting: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    def is_open(self, name: str) -> bool:
        """Return whether the gate was opened."""
        with self._lock:
            return name in self._open

    def open(self, name: str) -> None:
        """Open the gate and let everybody through who waits."""
        with self._lock:
            self._open.add(name)
            waiting = self._waiting.pop(name, [])
        for loop, passed in waiting:
            with contextlib.suppress(RuntimeError):  # the loop of a run that was given up is closed
                loop.call_soon_threadsafe(passed.set)

    async def wait(self, name: str) -> None:
        """Wait until the gate is open, at most ``HOLD_S_MAX`` seconds."""
        passed = asyncio.Event()
        with self._lock:
            if name in self._open:
                return
            self._waiting.setdefault(name, []).append((asyncio.get_running_loop(), passed))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(passed.wait(), HOLD_S_MAX)


class Probes:
    """How often the body of a step was executed in this process, by the probe's key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}

    def add(self, key: str, step: str) -> None:
        """Count one execution."""
        with self._lock:
            self._counts.setdefault(key, Counter())[step] += 1

    def counts(self, key: str) -> dict[str, int]:
        """Return the counts of a key; empty for one that nobody used."""
        with self._lock:
            return dict(self._counts.get(key, {}))


@dataclass(frozen=True, slots=True)
class Memory:
    """What the workflows share and a restart forgets."""

    gates: Gates = field(default_factory=Gates)
    probes: Probes = field(default_factory=Probes)


# --- the five-step workflow ------------------------------------------------------------------------------------------


class Knobs:
    """The input, read leniently: what is absent, unknown or of another shape has no effect."""

    def __init__(self, input: Any) -> None:
        self._input = members(input)

    def fails(self, step: str, gates: Gates) -> bool:
        """Return whether the step is to fail now; one with a gate does so while the gate is closed."""
        steps = members(self._input.get("fail"))
        return step in steps and not (isinstance(steps[step], str) and gates.is_open(steps[step]))

    def gate(self, step: str) -> str | None:
        """Return the gate that holds the step."""
        return text(members(self._input.get("hold")).get(step))

    def output(self, step: str, otherwise: dict[str, Any]) -> Any:
        """Return the step's output: the one that the input gives, or ``otherwise``."""
        return members(self._input.get("outputs")).get(step, otherwise)

    def is_undone(self, step: str) -> bool:
        """Return whether the step is to be compensated when the run fails."""
        steps = self._input.get("compensate")
        return isinstance(steps, list) and step in steps

    @property
    def probe(self) -> str | None:
        """Key of the counters."""
        return text(self._input.get("probe"))

    @property
    def cancel_after(self) -> Any:
        """Step after which the run ends itself as cancelled."""
        return self._input.get("cancelAfter")

    @property
    def fails_outside(self) -> bool:
        """Whether the workflow raises after its last step."""
        return self._input.get("failOutside") is True


def members(value: Any) -> dict[str, Any]:
    """Return a JSON object's members; nothing else has any."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """Return a text; nothing else is one."""
    return value if isinstance(value, str) else None


def five_steps(name: str, idempotency: str, memory: Memory, record: Record) -> Workflow:
    """Return the five-step workflow under a name."""

    @workflow(name, idempotency=idempotency, description="Five steps that do what the input says.")
    async def conformance(run: AsyncRun, input: Any = None) -> dict[str, Any]:
        knobs = Knobs(input)
        outputs: dict[str, Any] = {}
        executed: list[str] = []

        async def body(step: str, saw: dict[str, Any]) -> Any:
            executed.append(step)
            if knobs.probe is not None:
                memory.probes.add(knobs.probe, step)
            if (gate := knobs.gate(step)) is not None:
                await memory.gates.wait(gate)
            if knobs.fails(step, memory.gates):
                raise OnPurpose(f"{step} failed on purpose")
            output: dict[str, Any] = {"step": step, "nonce": secrets.token_hex(8)}
            return knobs.output(step, output | {"saw": saw} if step == "close" else output)

        for step in STEPS:
            # Only the last step is handed the outputs: what a step is given is part of what makes it the same step on a resume.
            saw = dict(outputs) if step == "close" else {}
            outputs[step] = await run.step(step, body, step, saw, compensate=undo if knobs.is_undone(step) else None)
            if knobs.cancel_after == step:
                raise Cancelled("cancelled on purpose")
        if knobs.fails_outside:
            raise OnPurpose("failed outside any step on purpose")
        if run.attempt > 1:  # taken up after a crash: what was executed before it stands in the record alone
            executed = await asyncio.to_thread(record.executed, run.id)
        return {"executed": executed}

    return conformance


async def undo(_output: Any) -> None:
    """Undo a step: nothing was done."""


# --- the other workflows ---------------------------------------------------------------------------------------------


def open_gate(memory: Memory) -> Workflow:
    """Return the workflow that opens a gate."""

    @workflow("conf-open-gate", idempotency="safe", description="Opens the gate input.gate.")
    async def opening(run: AsyncRun, input: Any = None) -> dict[str, Any]:
        gate = members(input).get("gate")

        async def body() -> None:
            if isinstance(gate, str):
                memory.gates.open(gate)

        await run.step("open", body)
        return {"opened": gate}

    return opening


def read_probe(memory: Memory) -> Workflow:
    """Return the workflow that tells the counters of a probe."""

    @workflow("conf-probe", idempotency="safe", description="Tells how often each step body of a probe was executed.")
    async def probing(run: AsyncRun, input: Any = None) -> dict[str, Any]:
        async def body() -> dict[str, int]:
            return memory.probes.counts(text(members(input).get("probe")) or "")

        return {"counts": await run.step("probe", body)}

    return probing


def echo(record: Record) -> Workflow:
    """Return the workflow that tells what its handler was handed. A plain function: it executes in a thread."""

    @workflow("conf-echo", idempotency="safe", description="Tells what it was handed.")
    def echoing(run: Run, input: Any = None) -> dict[str, Any]:
        def body() -> dict[str, Any]:
            return {"received": input}

        return {
            "received": run.step("echo", body)["received"],
            "correlationId": run.correlation_id,
            "tags": record.handed_tags(run.id),
            "idempotencyKey": run.idempotency_key,
            "triggeredByUserId": run.triggered_by_user_id,
        }

    return echoing


# --- the server ------------------------------------------------------------------------------------------------------


class Record:
    """What the workflows read from the record. Comes to life with ``runs``: workflows are written before the desk exists."""

    runs: WorkflowRuns

    def executed(self, run_id: str) -> list[str]:
        """Return the steps that were executed, not carried over, in this run."""
        steps = self.runs.desk.get_run(run_id).steps
        return [step.step.name for step in steps if step.last.origin == "executed"]

    def handed_tags(self, run_id: str) -> list[str]:
        """Return the tags that the run's handler was handed: those of the parent, if it has one, without the mark of the action."""
        run = self.runs.desk.get_run(run_id).run
        if run.parent_run_id is None:
            return list(run.tags)
        return list(self.runs.desk.get_run(run.parent_run_id).run.tags)

    def starts(self, definition: Workflow, workflow_name: str | None = None) -> Callable[[Any, Any], str]:
        """Return a handler that starts a run of a workflow, recorded under another name if one is given."""

        def handler(_input: Any, context: Any) -> str:
            started = self.runs.engine.start(context.request(definition, workflow_name=workflow_name))
            return str(started.run_id)

        return handler


def fails(action: str) -> Callable[[Any, Any], str]:
    """Return a handler that records nothing and raises."""

    def handler(_input: Any, _context: Any) -> str:
        raise OnPurpose(f"{action} handler failed on purpose")

    return handler


def guard(run: Any, _plan: Any, _actor: str | None) -> str | None:
    """Refuse a rerun with the text ``blockRerun`` of the input, raise if it says ``guardThrows``, else allow."""
    knobs = members(json.loads(run.input or "null"))
    if knobs.get("guardThrows") is True:
        raise OnPurpose("guard failed on purpose")
    return text(knobs.get("blockRerun"))


POLICIES = {
    "conf-safe": "safe",
    "conf-unsafe": "unsafe",
    "conf-resume-only": "resume-only",
    "conf-guarded": "safe",
    "conf-guarded-unsafe": "unsafe",
    "conf-trigger-fails": "safe",
    "conf-rerun-fails": "safe",
    "conf-resume-fails": "safe",
    "conf-no-trigger": "safe",
    "conf-make-orphan": "safe",
    "conf with space": "safe",
    "conf/slash": "safe",
}
ORPHAN = "conf-orphan"


def runners(workflows: Sequence[Workflow], record: Record) -> list[Runner]:
    """Return the runners that differ from those a workflow gets by itself."""
    orphan = record.starts(next(found for found in workflows if found.name == "conf-make-orphan"), ORPHAN)
    plain = {
        definition.name: Runner(
            definition.name,
            definition.idempotency,
            definition.description,
            trigger=record.starts(definition),
            rerun=record.starts(definition),
            resume=record.starts(definition),
            workflow=definition,
        )
        for definition in workflows
    }
    return [
        replace(plain["conf-guarded"], can_rerun=guard),
        replace(plain["conf-guarded-unsafe"], can_rerun=guard),
        replace(plain["conf-trigger-fails"], trigger=fails("trigger")),
        replace(plain["conf-rerun-fails"], rerun=fails("rerun")),
        replace(plain["conf-resume-fails"], resume=fails("resume")),
        replace(plain["conf-no-trigger"], trigger=None),
        replace(plain["conf-make-orphan"], trigger=orphan, rerun=orphan, resume=orphan),
    ]


def assemble(url: str, *, acts: bool, registry: bool) -> WorkflowRuns:
    """Return the desk. Only one that ``acts`` executes runs."""
    memory, record = Memory(), Record()
    workflows = [five_steps(name, policy, memory, record) for name, policy in POLICIES.items()]
    workflows += [open_gate(memory), read_probe(memory), echo(record)]
    record.runs = WorkflowRuns(
        url,
        workflows,
        runners=runners(workflows, record),
        engine_settings=EngineSettings(drain_s=DRAIN_S),
        execute=acts,
        registry=registry,
        migrate=True,
    )
    return record.runs


def access(token: str | None, key_no_trigger: str | None, key_trigger: str | None) -> Authorize:
    """Return who may do what; the header ``X-Conformance-User`` says who acts."""
    given = {
        token: Principal(None, EVERYTHING),
        key_no_trigger: Principal(None, READING),
        key_trigger: Principal(None, (*READING, "workflows:trigger")),
    }
    tokens = bearer_tokens({text: principal for text, principal in given.items() if text})
    known = development_access() if token is None else tokens

    async def authorize(request: Request) -> Principal | None:
        principal = await known(request)
        return principal and replace(principal, id=request.headers.get("x-conformance-user") or None)

    return authorize


def build(arguments: argparse.Namespace) -> Starlette:
    """Return the web application."""
    acts = arguments.surface == "tenant" and arguments.registry
    runs = assemble(arguments.database_url, acts=acts, registry=arguments.registry)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with runs:
            yield

    app = Starlette(lifespan=lifespan)
    mount_workflow_runs_admin_routes(
        app,
        runs.desk,
        authorize=access(arguments.token, arguments.key_no_trigger, arguments.key_trigger),
        admin_surface=arguments.surface,
        openapi="/openapi.json",
    )
    mount_workflow_runs_pages(
        app,
        runs.desk,
        "/desk",
        authorize=access(arguments.token, arguments.key_no_trigger, arguments.key_trigger),
        admin_surface=arguments.surface,
    )
    mount_health_routes(app, runs.store)
    return app


class ContractServer(uvicorn.Server):
    """Says on standard output when it answers."""

    async def startup(self, sockets: Any = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        if self.started:
            print(f"http://{self.config.host}:{self.config.port}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="The contract app.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--surface", choices=("tenant", "cloud", "disabled"), default="tenant")
    parser.add_argument("--no-registry", dest="registry", action="store_false")
    parser.add_argument("--token", metavar="T")
    parser.add_argument("--key-no-trigger", metavar="K1")
    parser.add_argument("--key-trigger", metavar="K2")
    arguments = parser.parse_args(argv)
    # Uvicorn raises the signal that stopped it again when it is done; by then there is nothing left to do but to leave politely.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    config = uvicorn.Config(
        build(arguments), host="127.0.0.1", port=arguments.port, log_level="warning", timeout_graceful_shutdown=2
    )
    ContractServer(config).run()


if __name__ == "__main__":
    main()
