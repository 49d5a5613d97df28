"""JSON as text: strict reading of what comes from outside, compact writing, splicing of text that is JSON already.

The reader answers every malformed body with one ``InvalidBody`` that names the place and never the value. It refuses more than
the grammar does, since each of these was once accepted somewhere and lost or broke something later: duplicate keys (the last
one wins, unseen), numbers that become infinite, integers no interpreter prints, NUL (PostgreSQL text cannot hold it), lone surrogates
(UTF-8 cannot), and nesting that exhausts the stack.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pydantic_core

from ..errors import InvalidBody
from ..settings import Limits

BODY = "body"  # the field that an error names when it is about the whole body

_PATH_CHARACTERS_MAX = 300
_KEY_CHARACTERS_MAX = 60
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

# A string runs to its closing quote or, unterminated, to the end of the text. Possessive: a body of a million escaped quotes
# is read once instead of once per quote.
_STRING = r'"(?:[^"\\]++|\\.)*+"?'
_STRINGS = re.compile(_STRING.encode(), re.DOTALL)
_TOKENS = re.compile(_STRING + r"|[\[\]{},:]", re.DOTALL)
_ESCAPED_FORBIDDEN = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_FORBIDDEN = re.compile("[\x00\ud800-\udfff]")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_RISE = bytes.maketrans(b"[{]}", b"\x02\x02\x00\x00")  # one more than the change of depth: bytes cannot be negative

Path = tuple[str | int, ...]


class RawJson:
    """Text that is JSON already: ``dump`` puts it into its place unread, so a recorded payload is shown as it was recorded.

    Not a dataclass: the serialiser would write one out by its fields.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"RawJson({len(self.text)} characters)"


def dump(value: Any) -> str:
    """Return compact JSON of dicts, lists, strings, numbers, booleans and None, with ``RawJson`` spliced in verbatim.

    Raises:
        ValueError: a string holds a lone surrogate, a number is not finite, or a value is of another type.
    """
    spliced: list[str] = []
    # Drawn anew for each call, so no text inside the value can be taken for a place to splice at.
    mark = secrets.token_hex(16)

    def take(item: Any) -> str:
        if type(item) is not RawJson:
            raise ValueError(f"{type(item).__name__} is no JSON value")
        spliced.append(item.text)
        return mark

    text = _written(value, take)
    if not spliced:
        return text
    gaps = text.split(f'"{mark}"')
    assert len(gaps) == len(spliced) + 1
    pieces = [gaps[0]]
    for raw, gap in zip(spliced, gaps[1:], strict=True):
        pieces += (raw, gap)
    return "".join(pieces)


def to_json(value: Any) -> str:
    """Return compact JSON of a JSON value, members in their order, each number exactly as it would be read again.

    Raises:
        ValueError: a string holds a lone surrogate, or a number is not finite.
    """
    return _written(value, None)


def canonical(value: Any) -> str:
    """Return JSON that is equal for equal JSON values: members sorted, ASCII only; for hashing, not for showing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def check_json(text: str) -> str | None:
    """Return the text if it is JSON that this package could have recorded, else None: a damaged row must not break a list."""
    try:
        pydantic_core.from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    return text


def clean(text: str) -> str:
    """Return an exact ``str`` with U+FFFD in place of NUL and lone surrogates, which no database keeps."""
    return _FORBIDDEN.sub("\ufffd", str.__str__(text))


def _written(value: Any, fallback: Any) -> str:
    data = pydantic_core.to_json(value, fallback=fallback)
    # The serialiser writes NaN and Infinity bare, which is not JSON. The bytes may also be part of a string: then they pass.
    if b"NaN" in data or b"Infinity" in data:
        pydantic_core.from_json(data, allow_inf_nan=False)
    return data.decode()


# --- places ----------------------------------------------------------------------------------------------------------


def place(path: Sequence[str | int]) -> str:
    """Return a path as people write it: ``items[2].price``. Keys are others' text: escaped and cut; empty for the root."""
    pieces: list[str] = []
    for part in path:
        if isinstance(part, int):
            pieces.append(f"[{part}]")
        elif len(part) <= _KEY_CHARACTERS_MAX and _PLAIN_KEY.fullmatch(part):
            pieces.append(f".{part}" if pieces else part)
        else:
            cut = part if len(part) <= _KEY_CHARACTERS_MAX else part[:_KEY_CHARACTERS_MAX] + "..."
            pieces.append(f"[{json.dumps(cut)}]")
    text = "".join(pieces)
    if len(text) <= _PATH_CHARACTERS_MAX:
        return text
    half = _PATH_CHARACTERS_MAX // 2
    return f"{text[:half]}...{text[-half:]}"


def _place_at(text: str, end: int, depth_max: int) -> str:
    """Return the place that a reader of malformed JSON has reached at an offset, or where it first goes too deep."""
    path: list[str | int | None] = []  # for each open container the key or index that is being read; None before a key
    string = ""
    for match in _TOKENS.finditer(text, 0, end):
        found = match.group()
        if found[0] == '"':
            string = found
        elif found == "{":
            path.append(None)
        elif found == "[":
            path.append(0)
        elif found in "]}":
            del path[-1:]
        elif path:
            here = path[-1]
            if found == ",":
                path[-1] = here + 1 if isinstance(here, int) else None
            elif not isinstance(here, int):
                path[-1] = _unquoted(string)
        if len(path) > depth_max:
            break
    return place([part for part in path if part is not None]) or BODY


def _unquoted(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token.strip('"')


# --- reading strictly ------------------------------------------------------------------------------------------------


class _Flaw:
    """Stands in the parsed value where something may not be; the place is found by walking to it, only when there is one."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


def parse_strict(data: bytes, limits: Limits | None = None) -> Any:
    """Parse a body from outside.

    Integers of up to ``json_integer_digits_max`` digits and every finite float come out exactly, and ``to_json`` writes them so.

    Raises:
        InvalidBody: the body is not JSON, or is JSON that cannot be kept (see the module); ``field`` is the place.
    """
    limits = limits or Limits()
    text = _text(data, limits)
    _check_depth(data, text, limits)
    reading = _Reading(limits.json_integer_digits_max)
    try:
        value = json.loads(
            text,
            object_pairs_hook=reading.object,
            parse_int=reading.integer,
            parse_float=reading.float,
            parse_constant=reading.constant,
        )
    except json.JSONDecodeError as error:
        where = _place_at(text, error.pos, limits.json_depth_max)
        raise InvalidBody(f"Not JSON: {error.msg.lower()}, character {error.pos}.", field=where) from None
    if reading.is_flawed or _ESCAPED_FORBIDDEN.search(text):
        _check_values(value, ())
    return value


def _text(data: bytes, limits: Limits) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise InvalidBody("The body begins with a byte order mark; send UTF-8 without one.", field=BODY)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        where = _place_at(before, len(before), limits.json_depth_max)
        raise InvalidBody(f"The body is not UTF-8: byte {error.start}.", field=where) from None
    if not text.strip(" \t\r\n"):
        raise InvalidBody("The body is empty; JSON is expected.", field=BODY)
    return text


def _check_depth(data: bytes, text: str, limits: Limits) -> None:
    """Refuse deep nesting before the recursive parser sees it. Costs two counts unless there are many brackets."""
    if data.count(b"[") + data.count(b"{") <= limits.json_depth_max:
        return
    changes = _STRINGS.sub(b"", data).translate(_RISE, _NO_BRACKET)
    if max(accumulate(map((-1).__add__, changes)), default=0) > limits.json_depth_max:
        where = _place_at(text, len(text), limits.json_depth_max)
        raise InvalidBody(f"Nested more than {limits.json_depth_max} levels deep.", field=where)


class _Reading:
    """The parser's hooks for one body. They leave a ``_Flaw`` behind instead of raising: a hook does not know its place."""

    def __init__(self, digits_max: int) -> None:
        self.is_flawed = False
        self._digits_max = digits_max

    def object(self, members: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(members)
        if len(value) != len(members):
            seen: set[str] = set()
            for key, _ in members:
                if key in seen:
                    value[key] = self._flaw("appears more than once")
                seen.add(key)
        return value

    def integer(self, digits: str) -> Any:
        if len(digits) - (digits[0] == "-") > self._digits_max:
            return self._flaw(f"is an integer of more than {self._digits_max} digits")
        return int(digits)

    def float(self, digits: str) -> Any:
        number = float(digits)
        return number if math.isfinite(number) else self._flaw("is a number out of range")

    def constant(self, _name: str) -> Any:
        return self._flaw("is not a number that JSON has")

    def _flaw(self, reason: str) -> _Flaw:
        self.is_flawed = True
        return _Flaw(reason)


def _check_values(value: Any, path: Path) -> None:
    """Raise for the first flaw. Recursion is bounded: the depth was checked before parsing."""
    if isinstance(value, _Flaw):
        raise InvalidBody(f"{place(path) or 'The body'} {value.reason}.", field=place(path) or BODY)
    if isinstance(value, str):
        found = _FORBIDDEN.search(value)
        if found:
            what = "the NUL character" if found.group() == "\x00" else "half of a surrogate pair"
            raise InvalidBody(f"{place(path) or 'The body'} contains {what}.", field=place(path) or BODY)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_values(key, (*path, key))
            _check_values(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_values(item, (*path, index))
