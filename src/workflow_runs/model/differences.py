"""Where two recorded JSON texts differ, by path: what the pages show when two runs are compared.

Members of objects are matched by key, whatever their order; items of arrays by place. Matching items by likeness was rejected: it takes
quadratic time, and tells of a list with one item put in front a story that may not be what happened.

Numbers are compared as written, since the record writes equal numbers alike: ``1`` and ``1.0`` differ, as they do to a workflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from .exact import PATH_CHARACTERS_MAX, Members, is_container, quoted, read_exactly, scalar, step, summary

Side: TypeAlias = Literal["before", "after"]
Pair: TypeAlias = tuple[str | int, Any, Any]

DIFFERENCES_MAX: Final = 500
# Pairs of values looked at, which bounds the time to a fraction of a second. That not all were looked at is said (``is_cut``).
_PAIRS_MAX: Final = 300_000
_CONTAINER_PAIRS: Final = 3  # what opening two containers costs more than comparing two scalars
_SHOWN_CHARACTERS_MAX: Final = 200
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place. The texts are JSON; long ones are cut, and a container that is not short is summed up: ``{ 12 keys }``."""

    path: str  # "$.rooms[0].name"; the beginning of a very long one is left out
    kind: Literal["added", "removed", "changed"]
    before: str | None  # None if added
    after: str | None  # None if removed


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences in the order of the first document, then of what only the second has, level by level."""

    items: tuple[Difference, ...]
    is_cut: bool = False  # there may be more
    unreadable: tuple[Side, ...] = ()  # which texts are no JSON; then there are no items


def differences(before: str | None, after: str | None, differences_max: int = DIFFERENCES_MAX) -> Differences:
    """Return where ``after`` differs from ``before``. None is nothing recorded. Raises nothing."""
    if before == after:
        return Differences(())
    values: list[Any] = []
    unreadable: list[Side] = []
    sides: tuple[tuple[Side, str | None], ...] = (("before", before), ("after", after))
    for side, text in sides:
        try:
            values.append(_ABSENT if text is None else read_exactly(text))
        except ValueError:
            unreadable.append(side)
    if unreadable:
        return Differences((), unreadable=tuple(unreadable))
    return _Walk(differences_max).over(*values)


class _Walk:
    """One comparison. It keeps its own stack, so that nesting cannot exhaust the interpreter's."""

    def __init__(self, differences_max: int) -> None:
        self._found: list[Difference] = []
        self._differences_max = differences_max
        self._pairs_left = _PAIRS_MAX

    def over(self, before: Any, after: Any) -> Differences:
        """Return the differences of two values."""
        # The path to each open pair of containers, and the pairs of it that are still to be looked at.
        stack: list[tuple[str, Iterator[Pair]]] = [("", iter([("$", before, after)]))]
        while stack:
            path, pairs = stack[-1]
            pair = self._next_differing(pairs)
            if pair is None:
                stack.pop()
                continue
            if self._pairs_left < 0 or len(self._found) >= self._differences_max:
                return Differences(tuple(self._found), is_cut=True)
            part, mine, theirs = pair
            here = _grown(path, part)
            if type(mine) is type(theirs) and is_container(mine):
                self._pairs_left -= _CONTAINER_PAIRS
                stack.append((here, _members(mine, theirs) if isinstance(mine, Members) else _items(mine, theirs)))
            else:
                self._found.append(_difference(here, mine, theirs))
        return Differences(tuple(self._found))

    def _next_differing(self, pairs: Iterator[Pair]) -> Pair | None:
        """The next pair that is not the same scalar, or the one at which patience ends. Most of the work is done here."""
        for pair in pairs:
            self._pairs_left -= 1
            _, mine, theirs = pair
            if self._pairs_left < 0 or type(mine) is not type(theirs) or is_container(mine) or mine != theirs:
                return pair
        return None


def _items(before: list[Any], after: list[Any]) -> Iterator[Pair]:
    for index, (mine, theirs) in enumerate(zip(before, after, strict=False)):
        yield index, mine, theirs
    for index in range(len(after), len(before)):
        yield index, before[index], _ABSENT
    for index in range(len(before), len(after)):
        yield index, _ABSENT, after[index]


def _members(before: Members, after: Members) -> Iterator[Pair]:
    mine, theirs = dict(before), dict(after)  # of duplicates the last counts, as it does to a workflow
    for key, value in mine.items():
        yield key, value, theirs.get(key, _ABSENT)
    for key, value in theirs.items():
        if key not in mine:
            yield key, _ABSENT, value


def _grown(path: str, part: str | int) -> str:
    if not path:
        return "$"
    whole = path + step(part)
    if len(whole) <= PATH_CHARACTERS_MAX:
        return whole
    return f"\N{HORIZONTAL ELLIPSIS}{whole[-PATH_CHARACTERS_MAX // 2 :]}"


def _difference(path: str, before: Any, after: Any) -> Difference:
    if before is _ABSENT:
        return Difference(path, "added", None, _brief(after))
    if after is _ABSENT:
        return Difference(path, "removed", _brief(before), None)
    return Difference(path, "changed", _brief(before), _brief(after))


# --- values in one line ----------------------------------------------------------------------------------------------


def _brief(value: Any) -> str:
    if not is_container(value):
        return _brief_scalar(value)
    pieces: list[str] = []
    return "".join(pieces) if _write(value, pieces, [_SHOWN_CHARACTERS_MAX]) else summary(value)


def _brief_scalar(value: Any) -> str:
    if type(value) is str and len(value) > _SHOWN_CHARACTERS_MAX:
        return f"{quoted(value[:_SHOWN_CHARACTERS_MAX])}\N{HORIZONTAL ELLIPSIS} {len(value):,} characters"
    text = scalar(value)
    if type(value) is str or len(text) <= _SHOWN_CHARACTERS_MAX:
        return text
    return f"{text[:_SHOWN_CHARACTERS_MAX]}\N{HORIZONTAL ELLIPSIS} {len(text):,} digits"


def _write(value: Any, pieces: list[str], room: list[int]) -> bool:
    """Append the value as JSON; False once there is no room left. Every level takes some of it, which bounds the recursion."""
    if not is_container(value):
        is_long = type(value) is str and len(value) > room[0]  # not even quoted
        return not is_long and _put(scalar(value), pieces, room)
    is_object = isinstance(value, Members)
    left, right = "{}" if is_object else "[]"
    if not _put(left, pieces, room):
        return False
    for index, item in enumerate(value):
        name, inner = item if is_object else ("", item)
        if index and not _put(", ", pieces, room):
            return False
        if is_object and not (_write(name, pieces, room) and _put(": ", pieces, room)):
            return False
        if not _write(inner, pieces, room):
            return False
    return _put(right, pieces, room)


def _put(text: str, pieces: list[str], room: list[int]) -> bool:
    pieces.append(text)
    room[0] -= len(text)
    return room[0] >= 0
