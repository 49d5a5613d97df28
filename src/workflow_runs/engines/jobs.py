"""Runs in the hands of a local engine, and its event loop: what ``local`` needs to know of them. Nothing here starts or ends a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ..authoring import Workflow
from ..errors import ConfigurationError, InvalidInput, WorkflowError
from ..execution.course import Course
from ..model.entries import Claim, StartRun
from ..model.records import Run
from ..model.requests import RunRequest

T = TypeVar("T")

INTERRUPT_WAIT_S: Final = 2.0  # what was interrupted at the end of the drain time may record itself for so long


@dataclass(slots=True, eq=False)
class Job:
    """A run in this process's hands."""

    run_id: str
    workflow: Workflow
    claim: Claim
    request: RunRequest | None  # of a run that was started here; None: read the record
    recovered: bool = False
    is_begun: bool = False  # it was stored as running
    course: Course | None = None
    interrupt: Callable[[], None] | None = None  # cancels coroutines
    cancel: tuple[str | None] | None = None  # wanted before the course was there
    successor: Job | None = None  # the same run, claimed anew while this one was being given up
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A run that is about to be stored, and the slot that it has here, if it has one."""

    entry: StartRun
    job: Job | None


def interrupt(job: Job) -> None:
    """Cancel the coroutines of a run."""
    if job.interrupt is not None:
        try:
            job.interrupt()
        except RuntimeError:  # the loop is closed, and with it every coroutine gone
            return


def workflows_by_name(workflows: Iterable[Workflow]) -> dict[str, Workflow]:
    """Return the workflows by name.

    Raises:
        ConfigurationError: two have one name, or types that cannot be recorded.
    """
    named: dict[str, Workflow] = {}
    for workflow in workflows:
        if workflow.name in named:
            raise ConfigurationError(f"two workflows are named {workflow.name!r}")
        named[workflow.name] = workflow
        _ = workflow.input_codec, workflow.output_codec  # what is wrong with their types is said now
    return named


def input_of(workflow: Workflow, source: Run | RunRequest) -> tuple[Any, Exception | None]:
    """Decode the input as the workflow declares it; else why that is not possible."""
    if isinstance(source, Run) and "input" in source.unreadable:
        return None, WorkflowError("the recorded input is damaged and cannot be read")
    if source.input is None and (workflow.has_default_input or not workflow.takes_input):
        return None, None
    try:
        return workflow.input_codec.decode("null" if source.input is None else source.input), None
    except InvalidInput as error:
        return None, error


async def as_coroutine(awaitable: Awaitable[T]) -> T:
    """Await anything; where only a coroutine is taken."""
    return await awaitable


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop of this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Be the thread of an event loop until it is stopped; then end what is left on it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=INTERRUPT_WAIT_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
