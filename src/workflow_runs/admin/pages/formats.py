"""Values as the pages write them: durations, sizes, counts, times, and other people's text made harmless to read.

English, and the same on every machine: no locale is asked. Nothing here raises for a value of the declared type.

Text from outside may hold characters that reorder or hide what stands around them (bidirectional controls, zero-width characters,
escapes, private use): one booking key could read as another. ``visible`` and ``plain`` write each as an escape. Rejected: CSS
isolation alone, which keeps the neighbours in order and still shows ``gpj.exe`` as ``exe.jpg``; and dropping such characters, which
shows two different keys as one. Letters of right-to-left scripts are left alone, hence templates put recorded text into ``<bdi>`` as well.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple

NOTHING: Final = "\N{EM DASH}"  # in place of a value that there is not

_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS: Final = ("kB", "MB", "GB", "TB")


# --- numbers ---------------------------------------------------------------------------------------------------------


def duration(ms: float | None) -> str:
    """Return a duration in its two largest units: ``118 ms``, ``2.4 s``, ``3 m 02 s``, ``4 h 12 m``, ``3 d 4 h``."""
    if ms is None or not math.isfinite(ms):
        return NOTHING
    whole = max(0, round(ms))
    if whole < _SECOND:
        return f"{whole} ms"
    if whole < _MINUTE - 50:  # what would round to 60.0 s is a minute
        return f"{whole / _SECOND:.1f} s"
    seconds = (whole + 500) // _SECOND
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02} s"
    minutes = (seconds + 30) // 60
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} m"
    hours = (minutes + 30) // 60
    return f"{hours // 24:,} d {hours % 24} h"


def size(bytes_: int | None) -> str:
    """Return a size in decimal units: ``212 B``, ``1.2 kB``, ``14 MB``."""
    if bytes_ is None:
        return NOTHING
    if bytes_ < 1_000:
        return f"{max(0, bytes_)} B"
    value, unit = bytes_ / 1_000, 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1_000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if value < 9.95 else f"{value:,.0f} {_UNITS[unit]}"


def count(number: int | None) -> str:
    """Return a count with its thousands apart: ``18,402``."""
    return NOTHING if number is None else f"{number:,}"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 step``, ``18,402 steps``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# --- times -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: ``<time datetime="{utc_iso}" title="{long}">{short}</time>``."""

    utc_iso: str  # "2026-11-22T00:14:07Z"
    short: str  # "02:14:07" today, "21 Nov 02:14" this year, "22 Nov 2025 02:14"
    long: str  # "22 Nov 2026 02:14:07 EET, 2026-11-22T00:14:07Z"


def moment(at: datetime, now: datetime, zone: tzinfo = UTC) -> Moment:
    """Return a time as people in ``zone`` read it at ``now``."""
    local, today = _in_zone(at, zone), _in_zone(now, zone)
    iso = utc_text(at)
    day = f"{local.day} {_MONTHS[local.month - 1]}"
    clock = f"{local.hour:02}:{local.minute:02}"
    to_the_second = f"{clock}:{local.second:02}"
    if local.date() == today.date():
        short = to_the_second
    elif local.year == today.year:
        short = f"{day} {clock}"
    else:
        short = f"{day} {local.year} {clock}"
    return Moment(iso, short, f"{day} {local.year} {to_the_second} {local.tzname() or ''}, {iso}")


def utc_text(at: datetime) -> str:
    """Return a time as links and attributes have it: ``2026-11-22T00:14:07Z``."""
    utc = _in_zone(at, UTC)
    return f"{utc.year:04}-{utc.month:02}-{utc.day:02}T{utc.hour:02}:{utc.minute:02}:{utc.second:02}Z"


def _in_zone(at: datetime, zone: tzinfo) -> datetime:
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    try:
        return aware.astimezone(zone)
    except (OverflowError, ValueError):  # the first and the last day of the calendar; damaged rows have seen both
        return aware


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago something was, in its largest unit: ``just now``, ``12 s ago``, ``3 days ago``; ``in 5 min`` if it is to come."""
    elapsed = (_in_zone(now, UTC) - _in_zone(at, UTC)).total_seconds()
    seconds = int(abs(elapsed))
    if seconds < 2:
        return "just now"
    if seconds < 60:
        text = f"{seconds} s"
    elif seconds < 3600:
        text = f"{seconds // 60} min"
    elif seconds < 2 * 86_400:
        text = f"{seconds // 3600} h"
    else:
        text = f"{seconds // 86_400:,} days"
    return f"{text} ago" if elapsed > 0 else f"in {text}"


# --- text from outside -----------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A part of a text; ``is_mark`` if it stands for what cannot be shown: ``<span class="ctl">{text}</span>``."""

    text: str
    is_mark: bool = False


# Controls, formats (bidirectional ones, zero widths, tags), halves of pairs, private use, not assigned, separators of lines and paragraphs.
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and marks that are drawn as nothing: fillers of Hangul, Khmer's inherent vowels, the joiner of graphemes, the blank of Braille,
# Mongolian and supplementary variation selectors.
_DRAWN_AS_NOTHING: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\ufe00-\ufe0d\U000e0100-\U000e01ef]"
)
# More marks on one letter than any script puts there: they would be drawn over the lines above and below.
_STACKED_MAX: Final = 4
_NOT_PLAIN: Final = re.compile(r"[^ -~]")
_SHORT_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

TEXT_CHARACTERS_MAX: Final = 4_000


def visible(text: str, characters_max: int = TEXT_CHARACTERS_MAX, *, lines: bool = False) -> tuple[Piece, ...]:
    """Return a text in pieces, what cannot be seen as marks, what is over the bound counted in a last mark.

    Args:
        text: Any text; lone surrogates too, which no response could be encoded with.
        characters_max: How much of it is shown.
        lines: Leave line feeds and tabs as they are, for texts in a ``pre``.
    """
    shown = text[:characters_max]
    pieces = [Piece(shown)] if shown and shown.isascii() and shown.isprintable() else _pieces(shown, lines=lines)
    if len(text) > characters_max:
        pieces.append(
            Piece(f"\N{HORIZONTAL ELLIPSIS} {plural(len(text) - characters_max, 'more character')}", is_mark=True)
        )
    return tuple(pieces)


def plain(text: str, characters_max: int = TEXT_CHARACTERS_MAX, *, lines: bool = False) -> str:
    """Return the same as one text, for places that take no elements: attributes, titles, copied words."""
    if len(text) <= characters_max and text.isascii() and text.isprintable():
        return text
    return "".join(piece.text for piece in visible(text, characters_max, lines=lines))


def json_visible(text: str) -> str:
    """Return JSON text with what cannot be seen in it as JSON escapes: the same JSON, with nothing hidden."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _json_escape(piece.text) if piece.is_mark else piece.text for piece in _raw_pieces(text, lines=False)
    )


def _pieces(text: str, *, lines: bool) -> list[Piece]:
    return [
        Piece(_escape(piece.text), is_mark=True) if piece.is_mark else piece for piece in _raw_pieces(text, lines=lines)
    ]


def _raw_pieces(text: str, *, lines: bool) -> list[Piece]:
    """The text, cut at each run of hidden characters, these not yet escaped."""
    pieces: list[Piece] = []
    end = 0  # of what is in pieces
    stacked, last_stacked = 0, -2
    for match in _NOT_PLAIN.finditer(text):
        at, character = match.start(), match.group()
        category = unicodedata.category(character)
        if category in {"Mn", "Me"}:
            stacked, last_stacked = (stacked + 1 if at == last_stacked + 1 else 1), at
        else:
            stacked = 0
        if stacked <= _STACKED_MAX and not _is_hidden(character, category, lines=lines):
            continue
        if pieces and end == at:
            pieces[-1] = Piece(pieces[-1].text + character, is_mark=True)
        else:
            if end < at:
                pieces.append(Piece(text[end:at]))
            pieces.append(Piece(character, is_mark=True))
        end = at + 1
    if end < len(text):
        pieces.append(Piece(text[end:]))
    return pieces


def _is_hidden(character: str, category: str, *, lines: bool) -> bool:
    if lines and character in "\n\t":
        return False
    return category in _HIDDEN_CATEGORIES or _DRAWN_AS_NOTHING.match(character) is not None


def _escape(text: str) -> str:
    return "".join(_SHORT_ESCAPES.get(character) or _escaped(ord(character)) for character in text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
