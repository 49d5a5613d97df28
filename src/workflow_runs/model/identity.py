"""How a step is identified within its run, and which names are fit to be one.

A step is (name, key, occurrence), the occurrence counted per (name, key) in the order of the calls. That order is the same at every
replay as long as one branch of the workflow makes the calls; where several do, it is the scheduler's, hence ``ParallelStepNeedsKey``.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

from ..errors import InvalidRequest, ParallelStepNeedsKey, WorkflowError
from ..settings import Limits
from .records import StepKey

_LIMITS: Final = Limits()
# Controls, lone surrogates, line and paragraph separators.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


class Identities:
    """Counts the uses of (name, key), and refuses the one whose place in the order would be chance. Used under the caller's lock."""

    __slots__ = ("_foreign", "_max", "_taken", "_uses")

    def __init__(self, steps_max: int) -> None:
        self._uses: dict[tuple[str, str], int] = {}
        self._foreign: set[tuple[str, str]] = set()  # used by another branch than the workflow's own
        self._taken = 0
        self._max = steps_max

    def take(self, name: str, key: str, *, own: bool, pending: bool) -> StepKey:
        """Return the identity of the next use. ``own``: by the workflow's own branch; ``pending``: the use before has not ended.

        Raises:
            ParallelStepNeedsKey: the count would depend on the scheduler.
            WorkflowError: the run has as many steps as a run may have.
        """
        pair = (name, key)
        count = self._uses.get(pair, 0) + 1
        if count > 1 and (pending or (not key and (not own or pair in self._foreign))):
            raise ParallelStepNeedsKey(_needs_key(name, key))
        if self._taken >= self._max:
            raise WorkflowError(f"a run may have {self._max} steps (Limits.steps_per_run_max), and this one wants more")
        if not own:
            self._foreign.add(pair)
        self._uses[pair] = count
        self._taken += 1
        return StepKey(name, key, count)


def _needs_key(name: str, key: str) -> str:
    if key:
        return f"step {name!r} is called with key {key!r} while a call with the same key has not ended: give each its own key"
    return (
        f"step {name!r} is called more than once in parallel: nothing tells the calls apart when the run is taken up again. "
        f"Give each call a key that says what it is about, such as run.step({name!r}, ..., key=order_id)"
    )


def derived(identity: tuple[str, ...]) -> bytes:
    """Return 16 bytes that follow from an identity: the same wherever and whenever it is asked for."""
    return hashlib.blake2b("\x00".join(identity).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def check_name(name: object, what: str, limits: Limits = _LIMITS) -> str:
    """Return a name that is fit for one line of a log: not empty, bounded, no control characters, no lone surrogates.

    Raises:
        InvalidRequest: it is not; ``field`` is ``what``.
    """
    if type(name) is str and name.isascii() and name.isprintable() and 0 < len(name) <= limits.name_length_max:
        return name
    if not isinstance(name, str):
        raise InvalidRequest(f"{what} must be a text, not {type(name).__name__}", field=what)
    if not 0 < len(name) <= limits.name_length_max:
        raise InvalidRequest(f"{what} must have 1 to {limits.name_length_max} characters, not {len(name)}", field=what)
    for place, character in enumerate(name):
        if unicodedata.category(character) in _REFUSED_CATEGORIES:
            raise InvalidRequest(f"{what} holds U+{ord(character):04X} at {place}, which no name may hold", field=what)
    return str(name)
