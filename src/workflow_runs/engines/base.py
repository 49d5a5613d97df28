"""What the desk asks of an engine. An engine receives a ``RunRequest`` and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..model.entries import RunStarted
from ..model.requests import RunRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; the plan and the pages read it."""

    resume: bool = True
    cancel_running: bool = True


class Engine(Protocol):
    """A place where runs execute."""

    capabilities: Capabilities

    def start(self, request: RunRequest) -> RunStarted:
        """Store the run durably, return its id, and execute it soon: here, or in any process that shares the database.

        Raises:
            Refusal: ``AlreadyResumed`` or ``IdempotencyKeyReused``, from the transaction that would have made the run.
            StoreUnavailable: the run is not accepted.
        """
        ...

    async def start_async(self, request: RunRequest) -> RunStarted:
        """As ``start``, for coroutines: the event loop goes on meanwhile."""
        ...

    def wait_for(self, awaitable: Awaitable[T]) -> T:
        """Run host code that is a coroutine (an async handler or guard) to its end from a sync caller, on the engine's event loop."""
        ...

    def request_cancel(self, run_id: str) -> None:
        """Tell the engine that the record says a run is to be cancelled; a hint that saves waiting for the next heartbeat."""
        ...
