"""Recorded JSON read for showing and comparing: nothing of it is lost on the way, and no text makes reading it fail in a new way.

Not for executing: what workflows get comes from ``payloads``. Here numbers keep the digits they were written with (``1.10`` stays so),
members keep their order and duplicates, and a broken text is a ``ValueError`` and nothing else.

One megabyte is read in 20 ms as it usually looks, in 150 ms at its worst (a megabyte of empty objects). A tokeniser of our own
that stops early was rejected: what it saves it loses as soon as a large value has to be skipped to reach the next key.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

TEXT_CHARACTERS_MAX: Final = 8_000_000  # longer texts are not read: eight times what is kept by default
PATH_CHARACTERS_MAX: Final = 1_000

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Digits(str):
    """A number that is no plain integer, as it was written. A ``str``, so look at the type before comparing it with one."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """An object's members, in order, duplicates kept. A ``list``, so look at the type before taking it for an array."""

    __slots__ = ()


def read_exactly(text: str) -> Any:
    """Return the value of a JSON text: None, bool, int, ``Digits``, str, list, ``Members``.

    Raises:
        ValueError: it is no JSON, longer than what is read, or nested deeper than the interpreter takes.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ValueError(f"longer than {TEXT_CHARACTERS_MAX} characters")
    try:
        return _read(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:  # an integer of more digits than the interpreter turns into an int
        return _read(text, Digits)


def _read(text: str, integer: type[Digits] | None = None) -> Any:
    # Integers are left to the parser, which is five times faster at them and as exact.
    return json.loads(text, object_pairs_hook=Members, parse_int=integer, parse_float=Digits, parse_constant=Digits)


def is_container(value: Any) -> bool:
    """Return whether the value is an array or object."""
    return isinstance(value, list)


def quoted(text: str) -> str:
    """Return a text as JSON, letters of all scripts as they are, lone surrogates as escapes: it can be encoded."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))


def scalar(value: Any) -> str:
    """Return what is no container as JSON text."""
    if isinstance(value, Digits):
        return str.__str__(value)
    if isinstance(value, str):
        return quoted(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def summary(value: list[Any]) -> str:
    """Return what a container holds, in brackets: ``{ 12 keys }``, ``[ 1 item ]``, ``[]``."""
    is_object = isinstance(value, Members)
    left, right = "{}" if is_object else "[]"
    return f"{left} {holding(value)} {right}" if value else left + right


def holding(value: list[Any], count: int | None = None) -> str:
    """Return how many members or items a container has: ``12 keys``, ``1 item``."""
    number = len(value) if count is None else count
    noun = "key" if isinstance(value, Members) else "item"
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def step(part: str | int) -> str:
    """Return how a path goes on to a member or item: ``.name``, ``["first name"]``, ``[0]``."""
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if part.isidentifier() else f"[{quoted(part)}]"
