"""Figures as bars: the geometry of histograms and spark lines. Values in, percentages and pixels out; a browser only paints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ...model import figures

HEIGHT: Final = 56  # px of a histogram
SPARK_HEIGHT: Final = 28
_HALF_HOUR: Final = timedelta(minutes=30)
_BARS: Final = 48
_BEGINNING: Final = datetime(1970, 1, 2, tzinfo=UTC)
_NARROW: Final = timedelta(hours=12)  # below it half hours would be too few bars


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of a bar, in pixels from the top."""

    css: str
    y: float
    h: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """One bar: its slot (``x``, ``w``) and the narrower bar within it (``x0``, ``w0``), in percent of the width."""

    since: datetime
    until: datetime
    succeeded: int
    failed: int
    other: int
    x: float
    w: float
    x0: float
    w0: float
    parts: tuple[Part, ...]
    href: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of time in equal slices."""

    since: datetime
    until: datetime
    bars: int


def range_of(since: datetime | None, until: datetime | None, now: datetime) -> Range:
    """Return the slices in which a list's histogram shows a stretch of time; default: the last day.

    Wide ones are cut at whole half hours of the calendar, where the rollup answers; narrow ones evenly. Of a wide one the first half hour
    may be left out, so that a day is 48 of them. There are no runs from before ``_BEGINNING``.
    """
    last = max(min(until, now) if until is not None else now, _BEGINNING)
    first = max(since, _BEGINNING) if since is not None and since < last else last - timedelta(days=1)
    width = last - first
    if width < _NARROW:
        seconds = -(-width // timedelta(seconds=_BARS))
        return Range(last - timedelta(seconds=seconds * _BARS), last, _BARS)
    end = last + (_BEGINNING - last) % _HALF_HOUR
    halves = -(-width // (_BARS * _HALF_HOUR))
    slice_ = halves * _HALF_HOUR
    count = min(_BARS, max(1, -(-(end - first) // slice_)))
    return Range(end - count * slice_, end, count)


def drawn(
    bars: Sequence[figures.Bar],
    bar_s: float,
    *,
    height: int = HEIGHT,
    href: Callable[[datetime, datetime], str] | None = None,
    label: Callable[[datetime], str] | None = None,
) -> tuple[Drawn, ...]:
    """Return the bars of a histogram, the highest as high as the picture."""
    most = max((bar.total for bar in bars), default=0)
    width = 100 / max(1, len(bars))
    result = []
    for place, bar in enumerate(bars):
        until = bar.since + timedelta(seconds=bar_s)
        result.append(
            Drawn(
                since=bar.since,
                until=until,
                succeeded=bar.succeeded,
                failed=bar.failed,
                other=bar.cancelled + bar.live,
                x=round(place * width, 3),
                w=round(width, 3),
                x0=round((place + 0.12) * width, 3),
                w0=round(0.76 * width, 3),
                parts=_parts(bar, most, height),
                href="" if href is None else href(bar.since, until),
                label="" if label is None else label(bar.since),
            )
        )
    return tuple(result)


def _parts(bar: figures.Bar, most: int, height: int) -> tuple[Part, ...]:
    # Failures stand on top: that is where the eye looks.
    counts = {"f-ok": bar.succeeded, "f-off": bar.cancelled, "f-run": bar.live, "f-bad": bar.failed}
    heights = {css: max(2.0, (height - 4) * number / most) for css, number in counts.items() if number}
    too_much = sum(heights.values()) - height
    if too_much > 0:  # a few beside very many: the small parts are seen, and the large one gives way
        heights[max(heights, key=heights.__getitem__)] -= too_much
    parts: list[Part] = []
    y = float(height)
    for css, tall in heights.items():
        y -= tall
        parts.append(Part(css, round(max(0.0, y), 1), round(tall - (0.8 if tall > 3 else 0), 1)))
    return tuple(parts)
