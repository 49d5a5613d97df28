"""Equal arguments, equal digests: in every process, after every journey through the record."""

import dataclasses
import datetime as dt
import decimal
import os
import subprocess
import sys
import uuid

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from workflow_runs.model.digests import digest
from workflow_runs.model.payloads import codec_for


@dataclasses.dataclass
class Order:
    id: str
    lines: list[decimal.Decimal]


class Card(BaseModel):
    since: dt.date


class Session:
    pass


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(plain)
def test_equal_arguments_have_equal_digests(value):
    assert digest((value,)) == digest((value,))
    assert len(digest((value,))) == 20


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_members_does_not_count(value):
    assert digest((value,)) == digest((dict(reversed(value.items())),))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a",), ("b",)),
        ((1,), (1, 2)),
        ((1,), (True,)),
        ((1,), ("1",)),
        (([],), ({},)),
        ((Order("a", []),), (Order("b", []),)),
        ((dt.date(2026, 1, 1),), (dt.date(2026, 1, 2),)),
        ((dt.date(2026, 1, 1),), ("2026-01-01",)),
        ((decimal.Decimal("1.0"),), (decimal.Decimal("1.00"),)),
        ((b"a",), (b"b",)),
        ((uuid.UUID(int=1),), (uuid.UUID(int=2),)),
        (({1, 2},), ({1, 3},)),
        ((Card(since=dt.date(2026, 1, 1)),), (Card(since=dt.date(2026, 1, 2)),)),
        ((Session(),), (object(),)),
        (({1: {"a"}},), ({1: {"b"}},)),
    ],
)
def test_different_arguments_have_different_digests(one, other):
    assert digest(one) != digest(other)


def test_keyword_arguments_count():
    assert digest((1,), {"a": 1}) != digest((1,), {"a": 2}) != digest((1,))
    assert digest((1,), {}) == digest((1,))


def test_what_has_no_json_form_counts_by_its_type():
    assert digest((Session(), 1)) == digest((Session(), 1))
    assert digest((lambda: 1,)) == digest((lambda: 2,))


def test_generators_are_not_consumed():
    rows = (row for row in range(2))
    digest((rows,))
    assert list(rows) == [0, 1]


def test_a_recorded_argument_has_the_digest_of_the_one_that_was_recorded():
    order = Order("a", [decimal.Decimal("1.10")])
    assert digest((codec_for(Order).roundtrip(order, "x")[1],)) == digest((order,))


def test_nothing_is_raised_whatever_the_arguments_are():
    class Trap:
        def __getattribute__(self, name):
            raise RuntimeError("no")

    within = []
    within.append(within)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (Trap(), within, deep, 10**5000, {1: 2, "a": 3}, "\ud800", float("nan"), {(1, 2): Trap()}):
        assert len(digest((value,))) == 20


def test_digests_are_the_same_in_another_process():
    script = "from workflow_runs.model.digests import digest; print(digest(({'b', 'a', 'c'}, {'x': frozenset('xyz')}), {'k': 1.5}))"
    env = {**os.environ, "PYTHONHASHSEED": "77"}
    answer = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == digest(({"b", "a", "c"}, {"x": frozenset("xyz")}), {"k": 1.5})
