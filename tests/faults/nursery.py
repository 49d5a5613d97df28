"""Starts fault apps without their half second of imports: a process that has everything loaded, and forks.

    {"env": {...}, "log": "file"}  ->  {"pid": 123}         a fault app with that environment has begun
    {"wait": 123}                  ->  {"status": -9}       it has ended so, as ``subprocess`` writes statuses

One line each, on standard input and output. A child is a process like any other: it is killed and frozen for real. It has no
thread, connection or lock of its parent's, which only imports.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any

# What the package loads when it is first needed.
LATER = (
    *("workflow_runs.store.sqlite", "workflow_runs.store.postgresql", "workflow_runs.store.reading"),
    *(
        "workflow_runs.store.migrating",
        "uvicorn.protocols.http.h11_impl",
        "uvicorn.lifespan.on",
        "uvicorn.loops.asyncio",
    ),
    *("alembic.command", "anyio._backends._asyncio"),
)


def main() -> None:
    faultapp = import_module("tests.faultapp")
    for name in LATER:
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.freeze()
    _say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        told = {"status": _wait(asked["wait"])} if "wait" in asked else {"pid": _fork(faultapp, asked)}
        _say(told)


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(faultapp: Any, asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        output = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(asked["env"])
        faultapp.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # the log says it, and the child never goes on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
