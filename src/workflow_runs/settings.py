"""Limits and options, each with its unit, default and reason. Reads no environment: the command line and servers do that."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is accepted and kept. Reaching one is an error that names it, never a silent cut, except where said."""

    body_bytes_max: int = 1_000_000  # request bodies, counted while reading: 413
    json_depth_max: int = 100
    json_integer_digits_max: int = 4_300  # CPython's own bound on int <-> str
    output_bytes_max: int = 1_000_000  # encoded output of a step, result of a run
    error_text_max: int = 16_000  # characters of a message or a stack; longer ones are cut and say so
    error_causes_max: int = 8
    name_length_max: int = 200  # workflow names, step names, step keys
    tags_max: int = 50  # of a trigger; reruns and resumes add theirs on top
    tag_length_max: int = 128
    identifier_length_max: int = 255  # correlation ids, idempotency keys, user ids
    page_max: int = 200
    offset_max: int = 2**31 - 1
    total_max: int = 10_000  # counted exactly up to here
    steps_per_run_max: int = 10_000


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """How the write path behaves."""

    queue_entries_max: int = 10_000  # entries waiting for a commit; callers wait (journal mode) beyond it
    batch_entries_max: int = 1_000  # one transaction; batches beyond 200 gain nothing (spec: performance, section 4)
    start_visible_after_s: float = 0.05  # a step's start is held back for a merge with its end at most this long
    retry_pause_s: float = 0.05  # first pause while the database fails; doubles up to retry_pause_max_s, with jitter
    retry_pause_max_s: float = 1.0  # with a connection attempt (2 s) it delays what goes on when the database is back
    close_timeout_s: float = 10.0  # at close, queued entries are written for at most this long
    # Of observed runs, which wait for nothing. While the database is away their entries go to a file:
    spool_after_s: float = 1.0  # when nothing was written for so long; what was recorded in it, a kill may take
    spool_folder: str | None = None  # None: beside a SQLite file; ~/.local/state/workflow-runs/... for PostgreSQL
    spool_bytes_max: int = 64_000_000  # of what waits there, some 150,000 short steps; 0: no file, only memory
    unwaited_characters_max: int = 64_000_000  # of large payloads in memory, on their way to database or file


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the local engine executes."""

    runs_max: int = 200  # runs executing at once in this process; more stay queued in the database
    threads_max: int = 64  # threads for sync workflows and sync steps
    lease_s: float = 30.0  # an owner silent for so long has lost its claims
    heartbeat_s: float | None = None  # None: a fifth of the lease
    poll_s: float = 0.5  # how often other processes' queued and orphaned runs are looked for
    drain_s: float = 25.0  # at a polite stop, steps in flight may end for so long

    def __post_init__(self) -> None:
        """Check the bounds that would otherwise show as a hang or a double take-over."""
        if self.runs_max < 1 or self.threads_max < 1:
            raise ConfigurationError("runs_max and threads_max must be at least 1")
        if self.lease_s <= 0 or self.poll_s <= 0:
            raise ConfigurationError("lease_s and poll_s must be positive")
        if self.heartbeat_s is not None and not 0 < self.heartbeat_s <= self.lease_s / 2:
            raise ConfigurationError("heartbeat_s must be positive and at most half of lease_s")

    @property
    def heartbeat_every_s(self) -> float:
        """Seconds between two heartbeats."""
        return self.heartbeat_s if self.heartbeat_s is not None else self.lease_s / 5
