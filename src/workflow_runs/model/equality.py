"""Whether a value is JSON's own, and whether what was read back is the value that was written: type and content, with the place.

``==`` does not decide here: it says that ``1``, ``1.0`` and ``True`` are one, a subclass equals its parent, a class without
``__eq__`` never comes back, and NaN is not itself. Nor does it say where.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from .jsontext import Path

# The parser that reads records stops at 200 levels. Front doors admit 100, so a workflow may wrap what it was given.
DEPTH_MAX = 200

Comparing: TypeAlias = "Callable[[Any, Any, Path], Mismatch | None]"

_MISSING = object()  # equal to no key

_ATOMS = frozenset({str, int, bool, type(None)})
# Compared by ``==`` once the types are the same.
_SIMPLE = _ATOMS | {bytes, dt.date, dt.timedelta}


class Mismatch(Exception):  # a finding on its way to CannotEncode; never leaves the package
    """The value at ``path`` cannot be kept, and why."""

    def __init__(self, path: Path, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.path, self.type_name, self.reason = path, type_name(value), reason


def type_name(value: Any) -> str:
    """Return the name of a value's class, which may be of any making."""
    return str(type.__getattribute__(type(value), "__name__"))[:200]


# --- JSON's own values -----------------------------------------------------------------------------------------------


def is_plain(value: Any, bytes_max: int) -> bool:
    """Return whether the value is made of exact JSON types, finite, at most ``DEPTH_MAX`` deep and of fewer items than ``bytes_max``.

    The count stops what would never end: ten lists, each twice inside the next, are a thousand items as JSON, and forty are 10^12.
    """
    return _is_plain(value, DEPTH_MAX, [bytes_max])


def _is_plain(value: Any, depth: int, budget: list[int]) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is float:
        return math.isfinite(value)
    if depth == 0 or (kind is not dict and kind is not list):
        return False
    budget[0] -= len(value) + 1
    if budget[0] < 0:
        return False
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not (type(item) in _ATOMS or _is_plain(item, depth - 1, budget)):
                return False
        return True
    return all(type(item) in _ATOMS or _is_plain(item, depth - 1, budget) for item in value)


def plain_flaw(value: Any, advice: str, bytes_max: int, digits_max: int) -> Mismatch:
    """Return why a value is not plain JSON; called when it is known that it is not."""
    limits = _PlainLimits(advice, 10**digits_max, [bytes_max])
    return _flaw(value, (), limits) or Mismatch((), value, advice)


@dataclasses.dataclass(frozen=True, slots=True)
class _PlainLimits:
    advice: str
    integer_end: int
    budget: list[int]


def _flaw(value: Any, path: Path, limits: _PlainLimits) -> Mismatch | None:
    kind = type(value)
    if kind is str:
        return None if _is_text(value) else Mismatch(path, value, "a lone surrogate cannot be kept as UTF-8")
    if kind is int:
        return None if abs(value) < limits.integer_end else Mismatch(path, value, "an integer of too many digits")
    if kind is float:
        return None if math.isfinite(value) else Mismatch(path, value, "JSON has no infinity and no NaN")
    if kind in _ATOMS:
        return None
    if kind is not dict and kind is not list:
        return Mismatch(path, value, limits.advice)
    if len(path) >= DEPTH_MAX:
        return Mismatch(path, value, f"nested more than {DEPTH_MAX} levels deep, or within itself")
    limits.budget[0] -= len(value) + 1
    if limits.budget[0] < 0:
        return Mismatch((), value, "larger than what is kept")
    if kind is list:
        return next((found for index, item in enumerate(value) if (found := _flaw(item, (*path, index), limits))), None)
    for key, item in value.items():
        if type(key) is not str:
            return Mismatch(path, key, "as a key; JSON has only str keys, " + limits.advice)
        found = _flaw(key, (*path, key), limits) or _flaw(item, (*path, key), limits)
        if found:
            return found
    return None


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def unencodable(value: Any, bytes_max: int) -> Mismatch | None:
    """Return the first part of a declared value that can be seen to have no JSON form, to say where; None if none is seen."""
    return _unencodable(value, (), [bytes_max])


def _unencodable(value: Any, path: Path, budget: list[int]) -> Mismatch | None:
    budget[0] -= 1
    if len(path) > DEPTH_MAX or budget[0] < 0:
        return Mismatch(path[:DEPTH_MAX], value, "nested too deep, or within itself, or too large")
    if isinstance(value, str):
        return None if _is_text(value) else Mismatch(path, value, "a lone surrogate cannot be kept as UTF-8")
    inside = _inside(value)
    if inside is not None:
        return next((found for part, item in inside if (found := _unencodable(item, (*path, part), budget))), None)
    if isinstance(value, _HAVE_JSON) or value is None:
        return None
    return Mismatch(path, value, "it has no JSON form")


_HAVE_JSON = (int, float, bytes, decimal.Decimal, enum.Enum, dt.date, dt.time, dt.timedelta)


def _inside(value: Any) -> Iterator[tuple[str | int, Any]] | None:
    """The parts of a container with their places, or None when it is none."""
    if isinstance(value, Mapping):
        return ((key if isinstance(key, str | int) else type_name(key), item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return iter(enumerate(value))
    if isinstance(value, BaseModel):
        return iter(value.__dict__.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    return None


# --- comparing -------------------------------------------------------------------------------------------------------


def difference(value: Any, back: Any, path: Path) -> Mismatch | None:
    """Return where ``back``, read from what was written of ``value``, is another value; None when it is the same."""
    kind = type(value)
    if kind is not type(back):
        if kind is int and type(back) is float and back == value:
            return None  # an int where float is declared: the float is equal, and annotations allow it
        return Mismatch(path, value, f"it would come back as {type_name(back)}; declare its exact type")
    if kind in _SIMPLE:
        return None if value == back else _changed(path, value)
    return _comparing(kind)(value, back, path)  # type: ignore[arg-type]  # classes are hashable


def _changed(path: Path, value: Any) -> Mismatch:
    return Mismatch(path, value, "it would come back changed")


def _items_differ(value: Sequence[Any], back: Sequence[Any], path: Path) -> Mismatch | None:
    if len(value) != len(back):
        return _changed(path, value)
    for index, (mine, read) in enumerate(zip(value, back, strict=True)):
        found = difference(mine, read, (*path, index))
        if found is not None:
            return found
    return None


def _members_differ(value: Mapping[Any, Any], back: Mapping[Any, Any], path: Path) -> Mismatch | None:
    if len(value) != len(back):
        return _changed(path, value)
    for (key, mine), (key_read, read) in zip(value.items(), _in_order_of(value, back), strict=True):
        if type(key) is str and key == key_read:
            part: str | int = key
        else:
            part = key if type(key) is int else type_name(key)
            if difference(key, key_read, ()) is not None:
                return Mismatch(path, key, "as a key; it would come back changed, declare the type of the keys")
        found = difference(mine, read, (*path, part))
        if found is not None:
            return found
    return None


def _in_order_of(value: Mapping[Any, Any], back: Mapping[Any, Any]) -> Iterable[tuple[Any, Any]]:
    """The members of ``back`` in the other's order, which a typed dict does not keep; all code sees the order that came back."""
    if all(key == key_read for key, key_read in zip(value, back, strict=True)):
        return back.items()
    keys = {key: key for key in back}
    return [(keys[key], back[key]) if key in keys else (_MISSING, None) for key in value]


@functools.lru_cache(maxsize=1024)
def _comparing(kind: type) -> Comparing:
    """How two values of one class are compared. Kept for each class: finding it out costs more than most comparisons."""
    if dataclasses.is_dataclass(kind):
        return functools.partial(_fields_differ, tuple(field.name for field in dataclasses.fields(kind)))
    return next((compare for base, compare in _COMPARING if issubclass(kind, base)), _equality_differs)


def _floats_differ(value: float, back: float, path: Path) -> Mismatch | None:
    same = value == back and math.copysign(1.0, value) == math.copysign(1.0, back)
    return None if same else _changed(path, value)


def _enums_differ(value: Any, back: Any, path: Path) -> Mismatch | None:
    return None if value is back else _changed(path, value)


def _decimals_differ(value: decimal.Decimal, back: decimal.Decimal, path: Path) -> Mismatch | None:
    return None if value.as_tuple() == back.as_tuple() else _changed(path, value)


def _mappings_differ(value: Any, back: Any, path: Path) -> Mismatch | None:
    """Mappings derived from dict, and what more than their members makes them up."""
    if getattr(value, "default_factory", None) is not getattr(back, "default_factory", None):
        return _changed(path, value)
    return _members_differ(value, back, path)


def _queues_differ(value: Any, back: Any, path: Path) -> Mismatch | None:
    return _changed(path, value) if value.maxlen != back.maxlen else _items_differ(value, back, path)


def _equality_differs(value: Any, back: Any, path: Path) -> Mismatch | None:
    try:
        same = value == back
    except Exception as error:  # noqa: BLE001  # the value's own code
        return Mismatch(path, value, f"comparing it raised {type_name(error)}")
    return None if same is True else _changed(path, value)


def _moments_differ(value: Any, back: Any, path: Path) -> Mismatch | None:
    # Not ``==``: between two zones Python calls times in a repeated hour unequal to everything (PEP 495), which would refuse a
    # correct result for an hour each autumn. ``fold`` itself is within the offset.
    same = value.utcoffset() == back.utcoffset() and (
        value.replace(tzinfo=None, fold=0) == back.replace(tzinfo=None, fold=0)
    )
    return None if same else _changed(path, value)


def _sets_differ(value: Any, back: Any, path: Path) -> Mismatch | None:
    if len(value) != len(back):
        return _changed(path, value)
    read = {member: member for member in back}
    for index, member in enumerate(value):
        if member not in read:
            return _changed((*path, index), member)
        found = difference(member, read[member], (*path, index))
        if found is not None:
            return found
    return None


def _models_differ(value: BaseModel, back: BaseModel, path: Path) -> Mismatch | None:
    states = (
        (_stated(value), _stated(back)),
        (value.__pydantic_extra__ or {}, back.__pydantic_extra__ or {}),
        (value.__pydantic_private__ or {}, back.__pydantic_private__ or {}),
    )
    return next((found for mine, read in states if (found := _by_name_differ(mine, read, value, path))), None)


def _fields_differ(names: tuple[str, ...], value: Any, back: Any, path: Path) -> Mismatch | None:
    if hasattr(value, "__dict__"):
        # Attributes that are no fields would be lost. Fields that live elsewhere (a slot of a base class) come on top.
        mine, read = _stated(value), _stated(back)
        if len(mine) != len(names):
            mine, read = _fields(names, value) | mine, _fields(names, back) | read
    else:
        mine, read = _fields(names, value), _fields(names, back)
    return _by_name_differ(mine, read, value, path)


def _fields(names: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _stated(value: Any) -> dict[str, Any]:
    """The instance's own attributes; cached properties are computed anew and belong to no state."""
    own: dict[str, Any] = value.__dict__
    cached = _cached_properties(type(value))  # type: ignore[arg-type]  # classes are hashable
    return own if cached.isdisjoint(own) else {name: item for name, item in own.items() if name not in cached}


@functools.lru_cache(maxsize=1024)
def _cached_properties(kind: type) -> frozenset[str]:
    return frozenset(
        name
        for base in kind.__mro__
        for name, item in vars(base).items()
        if isinstance(item, functools.cached_property)
    )


def _by_name_differ(mine: dict[str, Any], read: dict[str, Any], whole: Any, path: Path) -> Mismatch | None:
    if mine.keys() != read.keys():
        lost = min(mine.keys() ^ read.keys())
        return Mismatch((*path, lost), whole, "this attribute is not part of its declared fields and would be lost")
    return next((found for name in mine if (found := difference(mine[name], read[name], (*path, name)))), None)


# The first base class that fits; dataclasses come before them, anything else is compared by ``==``.
_COMPARING: Final[tuple[tuple[type, Comparing], ...]] = (
    (enum.Enum, _enums_differ),
    (float, _floats_differ),
    (dt.datetime, _moments_differ),
    (dt.time, _moments_differ),
    (decimal.Decimal, _decimals_differ),
    (BaseModel, _models_differ),
    (set, _sets_differ),
    (frozenset, _sets_differ),
    (Mapping, _mappings_differ),
    (deque, _queues_differ),
    (list, _items_differ),
    (tuple, _items_differ),
)


def follow(value: Any, location: Sequence[str | int]) -> tuple[Path, Any]:
    """Return the place in a value that a validation error's location means, and what is there.

    Locations also name the members of unions that were tried; what does not lead further is skipped.
    """
    path: Path = ()
    for part in location:
        inside = _inside(value)
        if inside is None:
            break
        for name, item in inside:
            if name == part:
                path, value = (*path, part), item
                break
    return path, value
