"""A clock that goes when it is told to."""

from __future__ import annotations

import secrets
import threading

from ..clock import AUDIT_PREFIX, RUN_PREFIX, Clock, LeaseTime, _base32


class FakeClock(Clock):
    """Stands still until ``advance``. Safe from any thread.

    It decides what is recorded, how long things took, which leases are over (on SQLite; PostgreSQL judges leases by its own clock) and
    when a pause has passed. It does not wake who sleeps: a thread that waits for a pause of a second looks again after a second of the
    machine's. So give a workflow under test short pauses, or let its tests not wait for them.

    Args:
        now_ms: Wall time to begin with, milliseconds since 1970. Default: the machine's.
    """

    def __init__(self, now_ms: int | None = None) -> None:
        self._lock = threading.Lock()
        self._wall_ms = super().now_millis() if now_ms is None else now_ms
        self._monotonic_s = super().monotonic()
        self._lease = super().lease_time()
        self._made = 0

    def advance(self, seconds: float, *, wall_s: float | None = None, lease_s: float | None = None) -> None:
        """Let time pass.

        Args:
            seconds: On all three clocks.
            wall_s: On the wall clock instead; may be negative, as when somebody sets it.
            lease_s: On the clock of leases instead: 0 for a machine that stood still.

        Raises:
            ValueError: a clock that never goes back was to go back.
        """
        leased = seconds if lease_s is None else lease_s
        if seconds < 0 or leased < 0:
            raise ValueError("only the wall clock can be set back: advance(0, wall_s=-3600)")
        with self._lock:
            self._wall_ms += round((seconds if wall_s is None else wall_s) * 1000)
            self._monotonic_s += seconds
            self._lease = LeaseTime(self._lease.boot_id, self._lease.seconds + leased)

    def reboot(self) -> None:
        """Have the machine started anew: no lease of before means anything."""
        with self._lock:
            self._lease = LeaseTime(f"{self._lease.boot_id}+", 0.0)

    def now_millis(self) -> int:
        """Return the wall time."""
        with self._lock:
            return self._wall_ms

    def new_run_id(self) -> str:
        """Return a fresh run id with the time of this clock inside; increasing as long as that is not set back."""
        return self._new_id(RUN_PREFIX)

    def new_audit_id(self) -> str:
        """Return a fresh id of an audit row, likewise."""
        return self._new_id(AUDIT_PREFIX)

    def _new_id(self, prefix: str) -> str:
        # UUIDv7: 48 bits of time, version 7, 12 bits that count, variant 2, and chance, for processes that do not know each other.
        with self._lock:
            self._made += 1
            number = self._wall_ms << 80 | 7 << 76 | (self._made & 0xFFF) << 64 | 2 << 62 | secrets.randbits(62)
        return f"{prefix}_{_base32(number)}"

    def monotonic(self) -> float:
        """Return the clock of durations."""
        with self._lock:
            return self._monotonic_s

    def lease_time(self) -> LeaseTime:
        """Return the clock of leases."""
        with self._lock:
            return self._lease
