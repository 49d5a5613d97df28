"""The only place that reads time and makes ids.

Three times, never mixed: *wall* (aware UTC, for people), *monotonic* (durations), *lease* (who is alive).
A run's id is a UUIDv7 written as a TypeID, and its ``started_at`` is the time inside the id: ordering by id is ordering by
time with a tie-break, so the primary key is the list's only index (spec: performance, section 5).

The id of a step is derived from its identity instead of drawn: nothing to write, and the same for ever.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from typeid import TypeID

RUN_PREFIX = "wfrn"
STEP_PREFIX = "wfrs"
AUDIT_PREFIX = "wfra"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32, lower case: the TypeID specification, v0.3
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
# To the digits that int(text, 32) reads; what is not in the alphabet becomes none (int would take capitals, "_" and blanks).
_TO_PYTHON = dict.fromkeys(range(128), "!") | str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")


class LeaseTime(NamedTuple):
    """A reading of a clock that survives the process but not the machine's boot. Comparable only within one ``boot_id``."""

    boot_id: str
    seconds: float


class Clock:
    """Reads the machine's clocks. Tests subclass it; nothing else in the package calls ``time`` or ``datetime.now``."""

    def now(self) -> datetime:
        """Return the wall time, aware, UTC, cut to milliseconds (the precision that is recorded and shown)."""
        return from_millis(self.now_millis())

    def now_millis(self) -> int:
        """Return the wall time in milliseconds since 1970 (UTC)."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back, for durations."""
        return time.monotonic()

    def lease_time(self) -> LeaseTime:
        """Return the reading by which SQLite leases are judged (contract, section Time)."""
        return LeaseTime(_BOOT_ID, time.clock_gettime(_BOOT_CLOCK))

    def new_run_id(self) -> str:
        """Return a fresh run id: ``wfrn_`` and 26 characters, increasing within the process."""
        return str(TypeID(RUN_PREFIX))

    def new_audit_id(self) -> str:
        """Return a fresh id of an audit row."""
        return str(TypeID(AUDIT_PREFIX))


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        # No such file outside Linux. The boot moment, rounded, tells two boots apart there.
        return f"{socket.gethostname()}:{round((time.time() - time.monotonic()) / 60)}"


_BOOT_ID = _boot_id()
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Which process on which machine: lets a neighbour on the same machine see at once that an owner is dead.

    ``scope`` is the boot and the pid name space; only within one scope do pids mean anything.
    """

    scope: str
    pid: int
    started: str

    def is_alive(self) -> bool | None:
        """Return whether that process lives, or None when this process cannot tell (another machine or container)."""
        if self.scope != this_process().scope:
            return None
        return _process_start(self.pid) == self.started


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process; read anew at each call, so that it is right after a fork."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = socket.gethostname()
    pid = os.getpid()
    return ProcessIdentity(f"{_BOOT_ID}/{space}", pid, _process_start(pid) or "")


def _process_start(pid: int) -> str | None:
    """Start time of a process in clock ticks (field 22 of /proc/PID/stat), which tells a reused pid apart; None if dead."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else fields[19].decode("ascii")


def to_millis(moment: datetime) -> int:
    """Return milliseconds since 1970 of an aware time."""
    return (moment - _EPOCH) // _MILLISECOND


def from_millis(millis: int) -> datetime:
    """Return the aware UTC time of milliseconds since 1970."""
    return _EPOCH + millis * _MILLISECOND


def run_id_millis(run_id: str) -> int:
    """Return the milliseconds inside a run id, which are its ``started_at``.

    Raises:
        ValueError: the text is not a run id.
    """
    prefix, _, suffix = run_id.rpartition("_")
    if prefix != RUN_PREFIX or len(suffix) != 26 or not suffix.isascii():
        raise ValueError("not a run id")
    # 26 characters carry 130 bits, the UUID's 128 right-aligned: 10 characters hold the 48-bit time and 2 bits above it.
    return int(suffix[:10].translate(_TO_PYTHON), 32)


def run_id_floor(moment: datetime) -> str:
    """Return the smallest run id of a moment: ``id >= floor`` is ``started_at >= moment`` (no index on time needed)."""
    return f"{RUN_PREFIX}_{_base32(max(0, to_millis(moment)) << 80)}"


def step_id(run_id: str, name: str, key: str, occurrence: int, attempt: int) -> str:
    """Return the id of a step's attempt, derived from its identity; ``wfrs_`` and 26 characters."""
    identity = "\x00".join((run_id, name, key, str(occurrence), str(attempt)))
    tail = int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=10).digest())
    try:
        millis = run_id_millis(run_id)
    except ValueError:
        millis = 0
    # A well-formed UUIDv7: 48 bits of time, version 7, variant 2.
    number = (millis << 80) | tail
    number = number & ~(0xF << 76) | (0x7 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return f"{STEP_PREFIX}_{_base32(number)}"


def _base32(number: int) -> str:
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(120, -1, -10)])
