"""Any value as JSON that people can read: for observed runs, whose code goes on whatever the record can take.

Nothing is read back as what it was: dates become texts, tuples lists. What has no JSON form leaves a mark in its place,
``{"$unserializable": "Session"}``, so that a status is always written (fault A9) and nobody takes a gap for a value. Only types are
read that do nothing when read: generators, cursors and other lazy things are not touched.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import math
import re
import uuid
from collections import deque
from typing import Any, NamedTuple

import pydantic_core
from pydantic import BaseModel

from ..settings import Limits
from .equality import DEPTH_MAX, is_plain, type_name
from .jsontext import clean, to_json

MARK = "$unserializable"

_BYTES_MAX = Limits().output_bytes_max
_DIGITS_MAX = Limits().json_integer_digits_max
_INTEGER_END = 10**_DIGITS_MAX  # making it takes a tenth of a millisecond: not for each of a million integers

_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXTS = (decimal.Decimal, uuid.UUID)
_MOMENTS = (dt.date, dt.time)
_LISTS = (list, tuple, set, frozenset, deque)


class _TooLarge(Exception):  # no error: it leads out of a value that is not worth reading to its end
    """The value has more than may be kept."""


class Shown(NamedTuple):
    """JSON text; ``is_whole`` is False if a part of the value is missing from it."""

    text: str
    is_whole: bool


def show(value: Any, bytes_max: int = _BYTES_MAX) -> Shown:
    """Return the value as JSON text of at most ``bytes_max`` bytes. Raises nothing, whatever the value is."""
    if _is_too_large(value, bytes_max):
        return _too_large(value, bytes_max)
    try:
        if is_plain(value, bytes_max):
            text = to_json(value)
            if len(text) > bytes_max // 4 and len(text.encode()) > bytes_max:
                return _too_large(value, bytes_max)
            if len(text) > _DIGITS_MAX:
                pydantic_core.from_json(text)  # an integer of too many digits is JSON, and no parser takes it
            return Shown(text, is_whole=True)
    except Exception:  # noqa: BLE001, S110  # a lone surrogate, a dict that changes meanwhile: the patient way
        pass
    drawing = _Drawing(bytes_max)
    try:
        text = to_json(drawing.draw(value, 0))
    except _TooLarge:
        return _too_large(value, bytes_max)
    except Exception as error:  # noqa: BLE001  # the value's own code
        return Shown(to_json(_mark(value, f"reading it raised {type_name(error)}")), is_whole=False)
    size = len(text.encode())
    if size > bytes_max:
        reason = f"{size} bytes as JSON, more than the {bytes_max} that are kept"
        return Shown(to_json(_mark(value, reason)), is_whole=False)
    return Shown(text, drawing.is_whole)


def _is_too_large(value: Any, bytes_max: int) -> bool:
    """Whether a value of an exact type is, at one look."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) > bytes_max
    return (kind is list or kind is dict or kind is tuple) and 2 * len(value) > bytes_max + 2


def _too_large(value: Any, bytes_max: int) -> Shown:
    return Shown(to_json(_mark(value, f"more than the {bytes_max} bytes as JSON that are kept")), is_whole=False)


def _mark(value: Any, reason: str | None = None) -> dict[str, str]:
    mark = {MARK: clean(type_name(value))}
    return mark if reason is None else {**mark, "reason": clean(reason)}


class _Drawing:
    """One value on its way to JSON."""

    def __init__(self, bytes_max: int) -> None:
        self.is_whole = True
        self._items_left = bytes_max
        self._bytes_left = bytes_max  # each item takes two at the least, itself and what parts it from the next

    def draw(self, value: Any, depth: int) -> Any:
        try:
            return self._drawn(value, depth)
        except _TooLarge:
            raise
        except Exception as error:  # noqa: BLE001  # the value's own code: a mark in its place, the rest is kept
            return self._missing(value, f"reading it raised {type_name(error)}")

    def _drawn(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return self._scalar(value)
        self._items_left -= 1
        if depth >= DEPTH_MAX - 1 or self._items_left < 0:
            return self._missing(value, "nested too deep, within itself, or too large")
        if _is_too_large(value, max(0, self._bytes_left)):
            raise _TooLarge
        if isinstance(value, dict):
            return self._members(value.items(), depth)
        if isinstance(value, _LISTS):
            return [self.draw(item, depth + 1) for item in value]
        if isinstance(value, BaseModel):
            return self._members([*value.__dict__.items(), *(value.__pydantic_extra__ or {}).items()], depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return self._members([(name, getattr(value, name)) for name in names if hasattr(value, name)], depth)
        text = _text_of(value)
        return self._missing(value) if text is None else self._scalar(text)

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return self._scalar(value.value)
        self._items_left -= 1
        self._take(str.__len__(value) + 2 if isinstance(value, str) else 2)
        if isinstance(value, str):
            text = _SURROGATE.sub("\ufffd", str.__str__(value))
            self.is_whole = self.is_whole and text == value
            return text
        if isinstance(value, float) and not math.isfinite(value):
            return self._scalar("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value) if -_INTEGER_END < value < _INTEGER_END else self._missing(value, "too many digits")
        return float(value) if isinstance(value, float) else value

    def _take(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < -2:  # the last item is followed by nothing
            raise _TooLarge

    def _members(self, members: Any, depth: int) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for key, item in members:
            name = self._scalar(key if isinstance(key, str) else _key_text(key))
            if name in drawn:
                self.is_whole = False
            drawn[name] = self.draw(item, depth + 1)
        return drawn

    def _missing(self, value: Any, reason: str | None = None) -> dict[str, str]:
        self.is_whole = False
        self._take(len(MARK))
        return _mark(value, reason)


def _text_of(value: Any) -> str | None:
    if isinstance(value, _MOMENTS):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return str(value.name)
    if isinstance(value, dt.timedelta):
        return str(pydantic_core.to_jsonable_python(value))
    if isinstance(value, bytes | bytearray):
        return base64.urlsafe_b64encode(value).decode()
    if isinstance(value, _TEXTS):
        return str(value)
    path = getattr(type(value), "__fspath__", None)
    return str(path(value)) if callable(path) else None


def _key_text(key: Any) -> str:
    if key is None or isinstance(key, bool | int | float):
        return str(key)
    return _text_of(key) or type_name(key)
