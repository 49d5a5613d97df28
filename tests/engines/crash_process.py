"""A process that executes workflows and ends, or freezes, at a named point. Started by tests, told by its arguments (JSON).

url, ledger: the database, and a file where each effect is a line: run, step, attempt, pid; appended and synced
name, lease_s: of the executor
start: workflows to start; their run ids are printed
point, deed: at "s1.before-effect", "s1.after-effect", "s1.after-journal", "undo-s0" ... do "kill" or "freeze", once
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from workflow_runs.authoring import NOT_DONE, AsyncRun, Run, current_step, workflow
from workflow_runs.clock import Clock
from workflow_runs.engines.local import LocalEngine
from workflow_runs.journal import Journal
from workflow_runs.model.requests import RunRequest
from workflow_runs.settings import EngineSettings
from workflow_runs.store.opening import open_store

TOLD = json.loads(sys.argv[1])


class Writer:
    """The store's writer, one transaction at a time under a lock."""

    def __init__(self, writer):
        self.close = writer.close
        self._apply = writer.apply

    def apply(self, entries):
        with writing:
            return self._apply(entries)


writing = threading.Lock()
clock = Clock()
store = open_store(TOLD["url"], clock=clock)
open_writer = store.open_writer
store.open_writer = lambda: Writer(open_writer())
journal = Journal(store, clock=clock)


def say(**fields):
    os.write(1, json.dumps(fields).encode() + b"\n")  # one write: threads say something too


def at(point):
    if TOLD.get("point") == point and TOLD.get("deed"):
        deed = TOLD.pop("deed")
        say(at=point)
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        # Not in the midst of a transaction: frozen with SQLite's write lock in hand, it would stop all others until it wakes.
        with writing:
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this thread: it goes not one line further


def effect(name):
    context = current_step()
    line = f"{context.run_id} {name} {context.attempt} {os.getpid()}\n"
    ledger = os.open(TOLD["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ledger, line.encode())
    os.fsync(ledger)
    os.close(ledger)


def step(name):
    at(f"{name}.before-effect")
    effect(name)
    at(f"{name}.after-effect")
    return f"did {name}"


async def step_later(name):
    return step(name)


def verify(name):
    with open(TOLD["ledger"]) as ledger:
        done = any(line.split()[:2] == [current_step().run_id, name] for line in ledger)
    return f"did {name}" if done else NOT_DONE


def undo(output):
    name = f"undo-{output.split()[1]}"
    effect(name)
    at(name)


@workflow("plain", idempotency="safe")
def plain(run: Run) -> list:
    done = []
    try:
        for number in range(3):
            done.append(run.step(f"s{number}", step, f"s{number}"))
            say(acknowledged=f"s{number}", run=run.id)
            at(f"s{number}.after-journal")
    except BaseException as error:
        say(unwound=type(error).__name__, run=run.id)
        raise
    return done


@workflow("coroutine", idempotency="safe")
async def coroutine(run: AsyncRun) -> list:
    done = []
    try:
        for number in range(3):
            done.append(await run.step(f"s{number}", step_later, f"s{number}"))
            say(acknowledged=f"s{number}", run=run.id)
            at(f"s{number}.after-journal")
    except BaseException as error:
        say(unwound=type(error).__name__, run=run.id)
        raise
    return done


@workflow("verified", idempotency="unsafe")
def verified(run: Run) -> list:
    return [run.step(f"s{number}", step, f"s{number}", verify=verify) for number in range(3)]


@workflow("unsafe", idempotency="unsafe")
def unsafe(run: Run) -> list:
    return [run.step(f"s{number}", step, f"s{number}") for number in range(3)]


@workflow("undone", idempotency="safe")
def undone(run: Run) -> None:
    for number in range(3):
        run.step(f"s{number}", step, f"s{number}", compensate=undo)
    run.step("fail", lambda: 1 / 0)


def main():
    # Taken from the queue, not handled: a signal that reaches another thread does not wake this one from waiting for a lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    store.migrate()
    settings = EngineSettings(lease_s=TOLD.get("lease_s", 30), poll_s=0.05)
    workflows = [plain, coroutine, verified, unsafe, undone]
    engine = LocalEngine(workflows, store, journal, name=TOLD.get("name"), settings=settings, clock=clock)
    engine.launch()
    for name in TOLD.get("start", ()):
        say(started=engine.start(RunRequest(name, name)).run_id)
    say(ready=True)
    signal.sigwait({signal.SIGTERM})
    engine.close()
    journal.close()
    store.close()


if __name__ == "__main__":
    main()
