"""A short fingerprint of a step's arguments: equal arguments have equal digests, in every process and on every run.

It notices that a resumed workflow asks a step for something else than what is recorded, and is a part of the effect key. An argument
that has no JSON form (a session, a client) counts by the name of its type: what it holds differs from process to process.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import json
import uuid
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from pydantic import BaseModel

_DIGEST_BYTES = 10
_DEPTH_MAX = 60

_TEXTS = (dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID)


def digest(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> str:
    """Return 20 hexadecimal characters for the arguments of one step call. Raises nothing, whatever the arguments are."""
    given: Any = [args, kwargs] if kwargs else [args]
    try:
        text = (None if kwargs else _of_scalars(args)) or _ENCODER.encode(given)
    except Exception:  # noqa: BLE001  # mixed keys, a cycle, too deep, a property that raises: the patient way
        text = _ENCODER.encode(_patient(given, _DEPTH_MAX))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _of_scalars(args: tuple[Any, ...]) -> str | None:
    """Return what the encoder would write for texts and integers, which most arguments are, in a third of its time; else None."""
    parts = []
    for value in args:
        if type(value) is str:
            parts.append(encode_basestring_ascii(value))
        elif type(value) is int:
            parts.append(int.__repr__(value))
        else:
            return None
    return f"[[{','.join(parts)}]]"


def _stand_in(value: Any) -> Any:
    """Return what a value that JSON does not have counts as."""
    name = _type_name(value)
    if isinstance(value, _TEXTS):
        return [name, str(value)]
    if isinstance(value, enum.Enum):
        return [name, value.name]
    if isinstance(value, bytes | bytearray):
        return [name, value.hex()]
    if isinstance(value, set | frozenset):
        # Sorted by their text: the order of a set differs from process to process.
        return [name, *sorted(_ENCODER.encode(member) for member in value)]
    if isinstance(value, BaseModel):
        return [name, dict(value.__dict__)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [name, {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}]
    if isinstance(value, Mapping):
        return [name, dict(value)]
    return [name]


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_stand_in)


def _patient(value: Any, depth: int) -> Any:
    """Return a JSON value for anything; parts that cannot be read, and those below ``depth``, count by their type."""
    if depth == 0:
        return [_type_name(value)]
    try:
        if value is None or type(value) in (str, bool, float):
            return value
        if type(value) is int:
            return value if value.bit_length() < 10_000 else hex(value)
        if isinstance(value, dict):
            return sorted(
                ([_patient(key, depth - 1), _patient(item, depth - 1)] for key, item in value.items()),
                key=_ENCODER.encode,
            )
        if isinstance(value, list | tuple):
            return [_patient(item, depth - 1) for item in value]
        if isinstance(value, set | frozenset):
            return sorted((_patient(item, depth - 1) for item in value), key=_ENCODER.encode)
        stand_in = _stand_in(value)
        return stand_in if len(stand_in) == 1 else [stand_in[0], _patient(stand_in[1], depth - 1)]
    except Exception:  # noqa: BLE001  # the argument's own code
        return [_type_name(value)]


def _type_name(value: Any) -> str:
    kind = type(value)
    return f"{type.__getattribute__(kind, '__module__')}.{type.__getattribute__(kind, '__qualname__')}"
