"""The retry policy of a step: how often, when, and after which errors it is tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import CannotEncode, ConfigurationError, EntryRejected, Fatal

_ATTEMPTS_MAX: Final = 1_000  # of one step: each is a row that is never deleted
# The last two: the function ended well and its output cannot be kept; doing it again would repeat the effect and not help.
_NEVER: Final = (Fatal, CannotEncode, EntryRejected)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and when a failed step is tried again.

    The pause before attempt n+1 is ``first_delay_s * factor ** (n-1)``, at most ``delay_s_max``, give or take the share ``jitter`` (so
    that runs which failed together do not return together). Pauses are real time; a run taken up after a crash waits only for the rest.

    Args:
        attempts: How many in all, the first one included; 1 is no retry. At most 1,000.
        first_delay_s: Seconds before the second attempt.
        factor: By how much each further pause is longer; 1 keeps it.
        delay_s_max: Longest pause, in seconds.
        jitter: 0 to 1; 0.1 spreads a pause of 10 s over 9 to 11 s.
        retry_on: Only these errors (and their subclasses) are tried again.
        never_on: These are not, whatever ``retry_on`` says. ``Fatal`` never is, listed or not, nor is
            an output that cannot be recorded: its effect has happened.

    Raises:
        ConfigurationError: a number is out of its range.
    """

    attempts: int = 3
    first_delay_s: float = 1.0
    factor: float = 2.0
    delay_s_max: float = 60.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    never_on: tuple[type[BaseException], ...] = (Fatal,)

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= _ATTEMPTS_MAX:
            raise ConfigurationError(f"Retry.attempts must be from 1 to {_ATTEMPTS_MAX}, not {self.attempts}")
        if self.first_delay_s < 0 or self.delay_s_max < 0 or self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ConfigurationError("Retry: delays must not be negative, factor at least 1, jitter from 0 to 1")

    def allows(self, error: BaseException) -> bool:
        """Return whether an error of this class is tried again, attempts permitting."""
        return isinstance(error, self.retry_on) and not isinstance(error, (*_NEVER, *self.never_on))

    def allows_recorded(self, type_name: str | None) -> bool:
        """Return the same for an error of which only the class name is on record (after a crash between two attempts).

        A name that several classes bear counts as forbidden if one of them is: not to repeat is the safer mistake.
        """
        short = (type_name or "").rpartition(".")[2]
        if _is_named(short, (*_NEVER, *self.never_on)):
            return False
        return Exception in self.retry_on or BaseException in self.retry_on or _is_named(short, self.retry_on)

    def pause_s(self, failures: int, draw: float = 0.5) -> float:
        """Return the seconds to wait after that many failed attempts; ``draw`` from [0, 1) places it within the jitter."""
        try:
            pause = min(self.delay_s_max, self.first_delay_s * self.factor ** (failures - 1))
        except OverflowError:
            pause = self.delay_s_max
        return pause * (1 + self.jitter * (2 * draw - 1))


NO_RETRY: Final = Retry(attempts=1)


def _is_named(name: str, roots: Sequence[type[BaseException]]) -> bool:
    """Whether one of the classes, or of their subclasses loaded in this process, has that name."""
    seen: set[type[BaseException]] = set()
    waiting = list(roots)
    while waiting:
        cls = waiting.pop()
        if cls.__name__ == name:
            return True
        if cls not in seen:
            seen.add(cls)
            waiting.extend(cls.__subclasses__())
    return False
