"""A time axis in per cent: real, or squeezed so that idle time takes next to no room.

A squeezed axis is a row of pieces, each drawn at one scale: work as long as it was, idle time cut down to an allowance. Rejected: a
logarithmic axis, on which the same second is long at the beginning and short at the end, so that no two bars can be compared.

Positions are texts with their sign, at most three decimals: what SVG attributes take, since the pages' policy allows no style attributes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .formats import duration

_TICKS_MAX: Final = 7  # intervals
_TICK_APART: Final = 12.0  # per cent, on a squeezed axis
_GAP_SHARE: Final = 0.04  # of the busy time, for one gap of a squeezed axis
_GAPS_SHARE: Final = 0.5  # and for all of them

_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_STEPS: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(_SECOND * many for many in (1, 2, 5, 10, 15, 30)),
    *(_MINUTE * many for many in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * many for many in (1, 2, 3, 6, 12)),
    *(_DAY * many for many in (1, 2, 5, 7, 14, 30, 60, 100, 200, 500)),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis: ``<text x="{x}" text-anchor="{anchor}" dx="{dx}">{text}</text>``; inner ones have a grid line."""

    x: str  # "16.667%", the sign included
    text: str
    anchor: Literal["start", "middle", "end"]
    dx: int
    has_line: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Time that a squeezed axis leaves out."""

    x: str
    width: str
    text: str  # "4 h 12 m without work"


def percent(share: float) -> str:
    """Return a share as SVG takes it: ``16.667%``."""
    return f"{share:.3f}".rstrip("0").rstrip(".") + "%"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the time that is drawn at one scale: from ``begin`` to ``end``, ``at`` and ``length`` on the axis."""

    begin: float
    end: float
    at: float
    length: float
    is_gap: bool = False


class Axis:
    """Where on the chart a time stands, from 0 to 100. ``length`` and ``left_out`` are milliseconds, drawn and not."""

    def __init__(self, pieces: Sequence[_Piece], tick_ms: int | None) -> None:
        self._pieces = pieces
        self._begins = [piece.begin for piece in pieces]
        self._tick_ms = tick_ms  # None: squeezed
        self.length = pieces[-1].at + pieces[-1].length
        self.left_out = sum(piece.end - piece.begin - piece.length for piece in pieces if piece.is_gap)

    def share(self, time: float) -> float:
        """Return where a time stands, in per cent."""
        piece = self._pieces[max(0, bisect_right(self._begins, time) - 1)]
        extent = piece.end - piece.begin
        inside = min(1.0, max(0.0, (time - piece.begin) / extent)) if extent > 0 else 0.0
        return min(100.0, 100 * (piece.at + inside * piece.length) / self.length)

    def ticks(self) -> tuple[Tick, ...]:
        """Return the times that are written on the axis."""
        if self._tick_ms is None:
            return self._uneven_ticks()
        begin, end, every = round(self._begins[0]), round(self._pieces[-1].end), self._tick_ms
        return tuple(_tick(self.share(time), _tick_text(time, every)) for time in range(begin, end + 1, every))

    def _uneven_ticks(self) -> tuple[Tick, ...]:
        ticks: list[Tick] = []
        last = -_TICK_APART
        for piece in self._pieces:
            share = self.share(piece.begin)
            if not piece.is_gap and last + _TICK_APART <= share < 100 - _TICK_APART / 2:
                ticks.append(_tick(share, duration(piece.begin) if piece.begin >= 1 else "0"))
                last = share
        return tuple(ticks)

    def gaps(self) -> tuple[Gap, ...]:
        """Return the times that are left out."""
        return tuple(
            Gap(
                percent(self.share(piece.begin)),
                percent(100 * piece.length / self.length),
                f"{duration(piece.end - piece.begin)} without work",
            )
            for piece in self._pieces
            if piece.is_gap
        )


def axes(work: Iterable[tuple[int, int]], begin: int | None, end: int | None) -> tuple[Axis, Axis]:
    """Return the real and the squeezed axis over some work.

    Args:
        work: From when to when something executed, in milliseconds, in any order, overlaps and all.
        begin: Where the axis begins, at the latest; default: with the work.
        end: Where it ends, at the earliest; default: with the work.
    """
    busy = _without_overlaps(work)
    low = begin if begin is not None else (busy[0][0] if busy else 0)
    high = max([end or 0, low + 1, *(last for _, last in busy)])
    every = next((step for step in _STEPS if (high - low) / step <= _TICKS_MAX), -(-(high - low) // _TICKS_MAX))
    first, last = low // every * every, -(-high // every) * every
    real = Axis([_Piece(first, last, 0, last - first)], every)
    return real, Axis(_squeezed(busy, low, high), None)


def _without_overlaps(work: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(work):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _squeezed(busy: Sequence[tuple[int, int]], low: int, high: int) -> list[_Piece]:
    """The time from ``low`` to ``high`` in pieces: work as it is, what is idle for longer than the allowance cut down to it."""
    total = sum(end - begin for begin, end in busy)
    allowed = max(1.0, total * min(_GAP_SHARE, _GAPS_SHARE / (len(busy) + 1)))
    pieces: list[_Piece] = []
    at, reached = 0.0, low
    for begin, end in [*busy, (high, high)]:
        idle = begin - reached
        if idle > 0:
            pieces.append(_Piece(reached, begin, at, min(idle, allowed), is_gap=idle > allowed))
            at += min(idle, allowed)
        if end > begin or not pieces:
            pieces.append(_Piece(begin, end, at, end - begin))
            at += end - begin
        reached = max(reached, end)
    return pieces if at > 0 else [_Piece(low, low + 1, 0, 1)]


def _tick(share: float, text: str) -> Tick:
    if share < 4:
        return Tick(percent(share), text, "start", 8, has_line=share > 0)
    if share > 96:
        return Tick(percent(share), text, "end", -8, has_line=share < 100)
    return Tick(percent(share), text, "middle", 0, has_line=True)


def _tick_text(time: int, every: int) -> str:
    """A round time: ``0``, ``200 ms``, ``1.2 s``, ``2 s``, ``1 m 30 s``, ``4 h``, ``2 d 12 h``."""
    if time == 0:
        return "0"
    if time < _SECOND:
        return f"{time} ms"
    whole, ms = divmod(time, _SECOND)
    digits = 0 if every >= _SECOND else 1 if every >= 100 else 2 if every >= 10 else 3
    days, hours, minutes, seconds = whole // 86_400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    parts = [f"{days:,} d" if days else "", f"{hours} h" if hours else "", f"{minutes} m" if minutes else ""]
    if every < _MINUTE and (seconds or ms or time < _MINUTE):
        parts.append(f"{seconds + ms / _SECOND:.{digits}f} s")
    return " ".join(part for part in parts if part)
