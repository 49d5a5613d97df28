"""Recorded JSON read for showing: nothing of it is lost."""

import json

import pytest
from hypothesis import given, strategies as st

from workflow_runs.model.exact import TEXT_CHARACTERS_MAX, Digits, Members, quoted, read_exactly, scalar, step, summary


@pytest.mark.parametrize(
    "digits", ["1.10", "1e5", "1E+5", "-0.0", "1.0000000000000000000001", "NaN", "1" * 5_000, "12345678901234567890"]
)
def test_numbers_keep_their_digits(digits):
    assert scalar(read_exactly(digits)) == digits


def test_a_number_is_no_text():
    number, text, whole = read_exactly('[1.5, "1.5", 1]')
    assert (type(number), type(text), type(whole)) == (Digits, str, int)


def test_members_keep_order_and_duplicates():
    assert read_exactly('{"b":1,"a":2,"b":3}') == Members([("b", 1), ("a", 2), ("b", 3)])


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nul", '{"a":1,}', "\ufeff1", "1" * 5_000 + "x", "[1]]"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        read_exactly(text)


def test_a_text_out_of_all_proportion_is_not_read():
    with pytest.raises(ValueError, match="longer"):
        read_exactly(" " * TEXT_CHARACTERS_MAX + "1")


@given(st.text(st.characters(codec=None)))
def test_every_text_can_be_quoted_and_encoded(text):
    assert json.loads(quoted(text).encode()) == json.loads(json.dumps(text))


@pytest.mark.parametrize(
    ("part", "written"),
    [
        ("name", ".name"),
        (0, "[0]"),
        ("first name", '["first name"]'),
        ('a"b', '["a\\"b"]'),
        ("", '[""]'),
        ("größe", ".größe"),
    ],
)
def test_a_path_goes_on_as_python_writes_it(part, written):
    assert step(part) == written


def test_a_container_is_summed_up():
    shown = [summary(read_exactly(text)) for text in ("[]", "{}", "[1]", '{"a":1,"b":2}')]
    assert shown == ["[]", "{}", "[ 1 item ]", "{ 2 keys }"]
