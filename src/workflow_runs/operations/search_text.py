"""The text of a query: cut into terms and written again, and the durations and times that stand in it.

What is written is read as the same term: ``canonical`` quotes where it has to. Knows no field but for the words that quotes take the
meaning from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

DURATION_MS_MAX: Final = 2**53 - 1

# A quoted section runs to its closing quote or, without one, to the end. Possessive: read once, however many quotes there are.
_TERM = re.compile(r'(?:"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[^\s"]++)++', re.DOTALL)
_PIECE = re.compile(r'"(?P<quoted>(?:[^"\\]++|\\.)*+)(?P<close>"?)|(?P<plain>[^",]++)|(?P<comma>,)', re.DOTALL)
_FIELD = re.compile(r'([^\s":]+):')
_ESCAPE = re.compile(r'\\(["\\])')
_NEEDS_QUOTES = re.compile(r'[\s",]')
_BARE_NEEDS_QUOTES = re.compile(r'[\s":]|\A-')

# Words that mean more than themselves, unless they are quoted.
WORDS: Final = {"by": ("me",), "trigger": ("resume", "rerun")}

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_AMOUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|[smhdw])", re.ASCII)
_AMOUNTS = re.compile(rf"(?:{_AMOUNT.pattern})+", re.ASCII)
_BOUND = re.compile(r"(>=|<=|>|<)(.+)", re.DOTALL)
_HOUR = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME = re.compile(
    rf"{_DATE.pattern}[Tt ][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.,][0-9]{{1,9}})?)?([Zz]|[+-][0-9]{{2}}:?[0-9]{{2}})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One of the alternatives in a term."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """A term as it stands in the text. A bare word has no field and one part."""

    negated: bool
    field: str
    parts: tuple[Part, ...]
    is_open: bool = False  # a quote in it is not closed

    @property
    def value(self) -> str:
        """What stands after the field, without quotes."""
        return ",".join(part.text for part in self.parts)


def split(text: str) -> list[Token]:
    """Return the terms. Empty quotes are none."""
    tokens = (_token(match[0]) for match in _TERM.finditer(text))
    return [token for token in tokens if token.field or token.value]


def _token(raw: str) -> Token:
    negated = len(raw) > 1 and raw.startswith("-")
    rest = raw[negated:]
    found = _FIELD.match(rest)
    if found is None:
        pieces = list(_PIECE.finditer(rest))
        text = "".join(_text(piece) for piece in pieces)
        return Token(negated, "", (Part(text, quoted=rest.startswith('"')),), any(map(_is_open, pieces)))
    name, dot, path = found[1].partition(".")
    pieces = list(_PIECE.finditer(rest, found.end()))
    return Token(negated, name.lower() + dot + path, tuple(_parts(pieces)), any(map(_is_open, pieces)))


def _parts(pieces: list[re.Match[str]]) -> list[Part]:
    parts: list[Part] = []
    begins = True
    for piece in pieces:
        if piece["comma"]:
            begins = True
            continue
        before = Part("") if begins else parts.pop()
        parts.append(Part(before.text + _text(piece), before.quoted or piece["quoted"] is not None))
        begins = False
    return parts


def _text(piece: re.Match[str]) -> str:
    return piece[0] if piece["quoted"] is None else _ESCAPE.sub(r"\1", piece["quoted"])


def _is_open(piece: re.Match[str]) -> bool:
    return piece["quoted"] is not None and not piece["close"]


def canonical(token: Token) -> str:
    """Return the text of a term, quoted where it would be read as something else."""
    sign = "-" if token.negated else ""
    if not token.field:
        text = token.value
        return sign + (_quote(text) if not text or _BARE_NEEDS_QUOTES.search(text) else text)
    return f"{sign}{token.field}:{','.join(_written(token.field, part) for part in token.parts)}"


def _written(field: str, part: Part) -> str:
    is_word = part.quoted and part.text.lower() in WORDS.get(field, ())
    return _quote(part.text) if is_word or not part.text or _NEEDS_QUOTES.search(part.text) else part.text


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- durations and times ----------------------------------------------------------------------------------------------


def read_duration(text: str) -> int | None:
    """Return the milliseconds of ``90s``, ``1m30s``, ``1.5h``; None for any other text."""
    if not _AMOUNTS.fullmatch(text.lower()):
        return None
    amounts = _AMOUNT.findall(text.lower())
    return min(round(sum(float(number) * _UNITS_MS[unit] for number, unit in amounts)), DURATION_MS_MAX)


def read_range(text: str) -> tuple[int | None, int | None] | None:
    """Return the shortest and the longest duration of ``>30s``, ``<=2m``, ``1s..5s``, both inclusive; None for any other text."""
    if ".." in text:
        shortest, _, longest = text.partition("..")
        bounds = read_duration(shortest) if shortest else None, read_duration(longest) if longest else None
        understood = [(bound is None) == (not said) for bound, said in zip(bounds, (shortest, longest), strict=True)]
        return bounds if all(understood) and (shortest or longest) else None
    found = _BOUND.fullmatch(text)
    limit = read_duration(found[2].strip()) if found else None
    if found is None or limit is None:
        return None
    match found[1]:
        case ">":
            return limit + 1, None
        case ">=":
            return limit, None
        case "<":
            return None, limit - 1
        case _:
            return None, limit


def read_moment(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    """Return the time of an age (``24h``), a date, a time of day or both, in UTC; None for any other text.

    Rounded up to whole milliseconds: runs have no finer times, and so "from" and "before" stay exact.
    """
    try:
        moment = _moment(text, now, zone)
        if moment is None:
            return None
        moment = moment.astimezone(UTC)
        return moment + timedelta(microseconds=-moment.microsecond % 1000)
    except (ValueError, OverflowError):
        return None


def _moment(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    age_ms = read_duration(text)
    if age_ms is not None:
        return now - timedelta(milliseconds=age_ms)
    today = now.astimezone(zone).date()
    word = text.lower()
    if word in {"today", "yesterday"}:
        return datetime.combine(today - timedelta(days=word == "yesterday"), time(), zone)
    if _HOUR.fullmatch(text):
        return datetime.combine(today, time.fromisoformat(text), zone)
    if _DATE.fullmatch(text) or _TIME.fullmatch(text):
        moment = datetime.fromisoformat(text.upper())
        return moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return None
