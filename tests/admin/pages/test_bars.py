"""Histograms: the slices of a stretch of time, and the geometry of bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given, strategies as st

from workflow_runs.admin.pages.bars import HEIGHT, SPARK_HEIGHT, drawn, range_of
from workflow_runs.model.figures import Bar

NOW = datetime(2026, 11, 25, 3, 7, 11, 123000, UTC)
HALF_HOUR = timedelta(minutes=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAYS = st.floats(-3_000, 3_000).map(lambda days: NOW + timedelta(days=days))
HOURS = st.floats(-30, 3).map(lambda hours: NOW + timedelta(hours=hours))
TIMES = st.none() | DAYS | HOURS | st.datetimes(timezones=st.just(UTC))


@given(TIMES, TIMES)
@example(None, None)
@example(NOW - timedelta(hours=24), None)
@example(NOW - timedelta(hours=24, minutes=29), None)
@example(datetime.min.replace(tzinfo=UTC), None)
@example(None, datetime.min.replace(tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
def test_the_slices_cover_what_is_asked_for(since, until):
    found = range_of(since, until, NOW)
    slice_ = (found.until - found.since) / found.bars
    assert 1 <= found.bars <= 48
    last = min(until or NOW, NOW)
    if last > EPOCH + timedelta(days=2):
        assert found.until >= last
        first = (
            max(since, EPOCH + timedelta(days=1)) if since is not None and since < last else last - timedelta(days=1)
        )
        # Of a wide range the first half hour may be missing, so that its slices are whole half hours of which 48 make a day.
        wide = last - first >= timedelta(hours=12)
        assert found.since <= first + (HALF_HOUR if wide else timedelta(0))
        assert first - found.since < (slice_ if wide else timedelta(seconds=48))
        assert found.until - last < (HALF_HOUR if wide else slice_)
        if wide:
            assert (found.until - EPOCH) % HALF_HOUR == slice_ % HALF_HOUR == timedelta(0)


def test_a_day_is_48_half_hours():
    found = range_of(NOW - timedelta(days=1), None, NOW)
    assert (found.bars, found.until) == (48, NOW.replace(minute=30, second=0, microsecond=0))
    assert found.until - found.since == timedelta(days=1)


def test_slices_are_whole_half_hours_in_any_zone():
    nepal = timezone(timedelta(hours=5, minutes=45))
    found = range_of((NOW - timedelta(days=2)).astimezone(nepal), NOW.astimezone(nepal), NOW.astimezone(nepal))
    assert (found.until - EPOCH) % HALF_HOUR == timedelta(0)


COUNTS = st.integers(0, 10**9)
BARS = st.lists(st.builds(Bar, st.just(NOW), COUNTS, COUNTS, COUNTS, COUNTS), max_size=60)


@given(BARS, st.sampled_from([HEIGHT, SPARK_HEIGHT]))
@example([Bar(NOW, 0, 0, 0, 0)], HEIGHT)
@example([Bar(NOW, 10**9, 1, 1, 1), Bar(NOW, 0, 1, 0, 0)], SPARK_HEIGHT)
def test_bars_stay_within_the_picture_and_what_there_is_can_be_seen(bars, height):
    shown = drawn(bars, 1800, height=height)
    assert len(shown) == len(bars)
    for bar, counted in zip(shown, bars, strict=True):
        assert 0 <= bar.x <= bar.x0
        assert bar.x0 + bar.w0 <= bar.x + bar.w + 0.01 <= 100.02
        assert len(bar.parts) == sum(map(bool, (counted.succeeded, counted.cancelled, counted.live, counted.failed)))
        floor = float(height)
        for part in bar.parts:
            assert part.h >= 1
            assert 0 <= part.y <= floor - part.h + 0.11
            floor = part.y
        assert (bar.succeeded, bar.failed, bar.other) == (
            counted.succeeded,
            counted.failed,
            counted.cancelled + counted.live,
        )


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_the_highest_bar_is_as_high_as_the_picture(most, less):
    high, low = drawn([Bar(NOW, most + less, 0, 0, 0), Bar(NOW, less, 0, 0, 0)], 1800)
    assert high.parts[0].y == 4
    assert low.parts[0].y >= high.parts[0].y


def test_failures_stand_on_top():
    (bar,) = drawn([Bar(NOW, 5, 5, 5, 5)], 1800)
    assert [part.css for part in bar.parts] == ["f-ok", "f-off", "f-run", "f-bad"]
