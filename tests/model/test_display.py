"""Values of observed runs as JSON for people: whatever they are, something true is recorded."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import uuid

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, SecretStr

from workflow_runs.model.display import show


class Colour(enum.Enum):
    RED = "red"


class Status(enum.StrEnum):
    OPEN = "open"


@dataclasses.dataclass
class Line:
    sku: str
    price: decimal.Decimal


class Card(BaseModel):
    number: SecretStr
    since: dt.date


def shown(value):
    text, is_whole = show(value)
    return json.loads(text), is_whole


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_values_are_shown_as_they_are(value):
    text, is_whole = show(value)
    if is_whole:
        assert json.loads(text) == value
    else:
        assert "\\ud" in json.dumps(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00+00:00"),
        (dt.timedelta(hours=1), "PT1H"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "RED"),
        (Status.OPEN, "open"),
        (b"\xff", "_w=="),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        ((1, {2}), [1, [2]]),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "tuple": "c"}),
        (Line("a", decimal.Decimal(1)), {"sku": "a", "price": "1"}),
        (float("nan"), "NaN"),
        ([float("-inf")], ["-Infinity"]),
        ({"when": dt.date(2026, 1, 2), "text": "a\x00b"}, {"when": "2026-01-02", "text": "a\x00b"}),
    ],
)
def test_rich_values_become_readable_json(value, expected):
    assert shown(value) == (expected, True)


def test_what_has_no_json_form_leaves_a_mark_and_the_rest_stays():
    value, is_whole = shown({"ok": 1, "session": object(), "rows": (row for row in range(3))})
    assert value == {"ok": 1, "session": {"$unserializable": "object"}, "rows": {"$unserializable": "generator"}}
    assert not is_whole


def test_lazy_values_are_not_consumed():
    rows = iter([1, 2])
    show(rows)
    show({"rows": rows})
    assert list(rows) == [1, 2]


def test_secrets_of_models_stay_hidden():
    text, is_whole = show(Card(number=SecretStr("4111"), since=dt.date(2026, 1, 1)))
    assert "4111" not in text
    assert not is_whole


def test_half_a_surrogate_pair_is_replaced():
    assert shown("a\ud800") == ("a\ufffd", False)


def test_integers_that_nobody_can_print_leave_a_mark():
    assert shown([10**5000])[0] == [{"$unserializable": "int", "reason": "too many digits"}]


def test_values_within_themselves_are_cut_off():
    value = {}
    value["self"] = value
    text, is_whole = show(value)
    assert "within itself" in text
    assert not is_whole


@pytest.mark.parametrize(
    "large",
    ["x" * 1_000_001, "ü" * 999_000, [7] * 600_000, ["x" * 1_000] * 1_000, dict.fromkeys(range(80000), "x" * 10)],
    ids=["text", "bytes", "numbers", "texts", "members"],
)
def test_a_large_value_leaves_the_bound_that_it_exceeds(large):
    value, is_whole = shown(large)
    assert value["$unserializable"] == type(large).__name__
    assert "1000000" in value["reason"]
    assert not is_whole


def test_a_large_value_is_not_read_to_its_end():
    read = []

    class Parts(list):
        def __iter__(self):
            for number in range(1_000_000):
                read.append(number)
                yield "x" * 1_000

    value, _ = shown(Parts())
    assert value["$unserializable"] == "Parts"
    assert len(read) < 1_100


def test_a_value_of_just_the_size_that_is_kept_is_whole():
    for value in ("x" * 99_998, (1,) * 49_998 + (12,), ("x" * 99_996,), {dt.date(2026, 1, 2): "x" * 99_983}):
        text, is_whole = show(value, bytes_max=100_000)
        assert (len(text), is_whole) == (100_000, True)


def test_a_value_that_doubles_at_each_level_does_not_take_for_ever():
    value = [object()]
    for _ in range(60):
        value = [value, value]
    text, is_whole = show(value, bytes_max=10_000)
    assert len(text) < 200
    assert not is_whole


def test_a_value_that_raises_when_read_leaves_the_class_of_what_it_raised():
    class Trap(dict):
        def items(self):
            raise KeyError("secret")

    value, is_whole = shown([Trap(a=1)])
    assert value == [{"$unserializable": "Trap", "reason": "reading it raised KeyError"}]
    assert not is_whole


def test_keys_that_become_one_text_are_noticed():
    assert shown({1: "a", "1": "b"}) == ({"1": "b"}, False)
