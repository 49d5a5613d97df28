"""Values as the pages write them, and other people's text made harmless."""

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from workflow_runs.admin.pages.formats import (
    NOTHING,
    Piece,
    ago,
    count,
    duration,
    json_visible,
    moment,
    plain,
    plural,
    size,
    visible,
)
from workflow_runs.model.exact import quoted

NOW = datetime(2026, 11, 22, 6, 54, tzinfo=UTC)
ANY_TEXT = st.text(st.characters(codec=None))  # lone surrogates too
HIDDEN = (
    "\x00",
    "\x1b",
    "\x7f",
    "\x85",
    "\xad",
    "\u200b",
    "\u200f",
    "\u202e",
    "\u2066",
    "\u2069",
    "\u2028",
    "\ufeff",
    "\ue000",
)


# --- numbers and times ---


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (118, "118 ms"),
        (999.6, "1.0 s"),
        (2_400, "2.4 s"),
        (59_949, "59.9 s"),
        (59_950, "1 m 00 s"),
        (182_000, "3 m 02 s"),
        (3_599_499, "59 m 59 s"),
        (3_599_500, "1 h 00 m"),
        (15_120_000, "4 h 12 m"),
        (273_600_000, "3 d 4 h"),
        (-5, "0 ms"),
        (float("nan"), NOTHING),
        (None, NOTHING),
    ],
)
def test_a_duration_has_its_two_largest_units(ms, text):
    assert duration(ms) == text


@given(st.integers(0, 10**12))
def test_no_unit_of_a_duration_is_full(ms):
    assert not re.search(r"\b(1000 ms|60\.0 s|60 s|60 m|24 h)", duration(ms))


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_234, "1.2 kB"),
        (9_960, "10 kB"),
        (999_600, "1.0 MB"),
        (14_000_000, "14 MB"),
        (None, NOTHING),
    ],
)
def test_a_size_is_decimal(bytes_, text):
    assert size(bytes_) == text


def test_counts_have_their_thousands_apart():
    assert (count(18_402), count(0), count(None)) == ("18,402", "0", NOTHING)
    assert (plural(1, "step"), plural(2_000, "step"), plural(0, "entry", "entries")) == (
        "1 step",
        "2,000 steps",
        "0 entries",
    )


@pytest.mark.parametrize(
    ("at", "short"),
    [
        (datetime(2026, 11, 22, 0, 14, 7, tzinfo=UTC), "02:14:07"),
        (datetime(2026, 11, 21, 22, 0, 1, tzinfo=UTC), "00:00:01"),  # today in the reader's zone
        (datetime(2026, 11, 21, 21, 59, 59, tzinfo=UTC), "21 Nov 23:59"),
        (datetime(2025, 11, 22, 0, 14, 7, tzinfo=UTC), "22 Nov 2025 02:14"),
    ],
)
def test_a_moment_is_as_long_as_it_must_be(at, short):
    assert moment(at, NOW, ZoneInfo("Europe/Bucharest")).short == short


def test_a_moment_names_its_zone_and_utc():
    shown = moment(datetime(2026, 11, 22, 0, 14, 7, 999, tzinfo=UTC), NOW, ZoneInfo("Europe/Bucharest"))
    assert shown.utc_iso == "2026-11-22T00:14:07Z"
    assert shown.long == "22 Nov 2026 02:14:07 EET, 2026-11-22T00:14:07Z"


@given(st.datetimes(timezones=st.sampled_from([UTC, None, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Midway")])))
def test_every_time_can_be_written(at):
    for zone in (UTC, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Midway")):
        assert moment(at, NOW, zone).short
    assert ago(at, NOW)


def test_the_ends_of_the_calendar_can_be_written():
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert moment(first, last, ZoneInfo("Pacific/Midway")).utc_iso == "0001-01-01T00:00:00Z"
    assert moment(last, first, ZoneInfo("Pacific/Kiritimati")).utc_iso == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "just now"),
        (12, "12 s ago"),
        (200, "3 min ago"),
        (7_300, "2 h ago"),
        (300_000, "3 days ago"),
        (-300, "in 5 min"),
    ],
)
def test_how_long_ago_is_said_in_one_unit(seconds, text):
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


# --- text from outside ---


@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_cannot_be_seen_is_a_mark(hidden):
    before, mark, after = visible(f"exe{hidden}gpj")
    assert (before, after) == (Piece("exe"), Piece("gpj"))
    assert mark.is_mark
    assert mark.text.startswith("\\")
    assert hidden not in mark.text


def test_marks_are_written_as_python_writes_them():
    assert plain("\n\x1b\u202e\U000e0041") == r"\n\x1b\u202e\U000e0041"


def test_line_feeds_and_tabs_stay_where_lines_are_shown():
    assert visible("a\n\tb\r", lines=True) == (Piece("a\n\tb"), Piece("\\r", is_mark=True))


@pytest.mark.parametrize("text", ["Größe 東京", "שלום", "Ђорђе", "e\u0301", "1\u00a0840,50 €", "☎\ufe0f", "हिन्दी"])
def test_words_of_every_script_are_left_alone(text):
    assert visible(text) == (Piece(text),)


def test_marks_piled_upon_a_letter_do_not_reach_other_lines():
    assert plain("z" + "\u0301" * 9) == "z" + "\u0301" * 4 + r"\u0301" * 5


def test_a_long_text_is_cut_and_says_so():
    assert visible("a" * 1_010, 10) == (Piece("a" * 10), Piece("… 1,000 more characters", is_mark=True))
    assert visible("a" * 10, 10) == (Piece("a" * 10),)


@given(ANY_TEXT)
def test_no_text_hides_anything(text):
    shown = plain(text)
    shown.encode()
    assert not [found for found in shown if unicodedata.category(found) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]
    assert shown == "".join(piece.text for piece in visible(text))


@given(ANY_TEXT)
def test_visible_json_is_the_same_json(text):
    shown = json_visible(quoted(text))
    shown.encode()
    assert json.loads(shown) == json.loads(quoted(text)) == json.loads(json.dumps(text))
    assert not [found for found in shown if unicodedata.category(found) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]
