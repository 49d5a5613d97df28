"""Where two recorded JSON texts differ."""

import json
import time

import pytest
from hypothesis import given, strategies as st

from workflow_runs.model.differences import Difference, Differences, differences
from workflow_runs.model.exact import Digits

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def found(before, after):
    return [(item.kind, item.path) for item in differences(json.dumps(before), json.dumps(after)).items]


def test_each_place_is_named_by_its_path():
    before = {"id": 1, "rooms": [{"name": "A"}, {"name": "B"}], "note": "x"}
    after = {"rooms": [{"name": "A"}, {"name": "C"}, {}], "id": 1, "first name": None}
    assert found(before, after) == [
        ("changed", "$.rooms[1].name"),
        ("added", "$.rooms[2]"),
        ("removed", "$.note"),
        ("added", '$["first name"]'),
    ]


def test_the_values_stand_beside_it():
    (item,) = differences('{"total":1840.50}', '{"total":"1840.50"}').items
    assert item == Difference("$.total", "changed", "1840.50", '"1840.50"')


@pytest.mark.parametrize(
    ("before", "after"),
    [("1", "1.0"), ("true", "1"), ("0", "false"), ("null", '""'), ("[]", "{}"), ('"1.5"', "1.5"), ("1e2", "100.0")],
)
def test_what_python_calls_equal_may_differ(before, after):
    assert differences(before, after).items == (Difference("$", "changed", before, after),)


def test_the_order_of_members_and_blanks_do_not_matter():
    assert differences('{"a":1,"b":[2, 3]}', ' {"b":[2,3], "a":1}') == Differences(())


def test_of_duplicate_keys_the_last_counts():
    assert differences('{"a":1,"a":2}', '{"a":2}').items == ()


def test_nothing_recorded_is_no_null():
    assert differences(None, None) == Differences(())
    assert differences(None, "null").items == (Difference("$", "added", None, "null"),)
    assert differences('{"a":[1]}', None).items == (Difference("$", "removed", '{"a": [1]}', None),)


def test_a_text_that_is_no_json_is_named():
    assert differences("{", "1").unreadable == ("before",)
    assert differences("{", "]").unreadable == ("before", "after")
    assert differences("{", "{") == Differences(())


def test_long_values_are_summed_up_or_cut():
    big = {f"key {number}": number for number in range(100)}
    assert differences("1", json.dumps(big)).items[0].after == "{ 100 keys }"
    assert differences("1", json.dumps("x" * 5_000)).items[0].after == '"' + "x" * 200 + '"… 5,000 characters'
    assert differences("null", "1" * 4_000).items[0].after == "1" * 200 + "… 4,000 digits"


def test_only_so_many_are_listed():
    cut = differences(json.dumps([0] * 20), json.dumps([1] * 20), 10)
    assert (len(cut.items), cut.is_cut) == (10, True)
    whole = differences(json.dumps([0] * 10), json.dumps([1] * 10), 10)
    assert (len(whole.items), whole.is_cut) == (10, False)


def test_deep_values_are_walked_to_their_end():
    before, after = ('{"a":' * 190 + f"{end}" + "}" * 190 for end in (1, 2))
    (item,) = differences(before, after).items
    assert (item.path, item.before, item.after) == ("$" + ".a" * 190, "1", "2")


def test_the_beginning_of_a_very_long_path_is_left_out():
    before, after = (f'{{"{"k" * 900}":' * 9 + f'{{"last":{end}}}' + "}" * 9 for end in (1, 2))
    (item,) = differences(before, after).items
    assert item.path.startswith("…")
    assert item.path.endswith("k.last")
    assert len(item.path) < 1_001


def test_what_was_not_looked_at_is_not_called_equal():
    before = "[" + "1," * 400_000
    assert differences(before + "1]", before + "2]") == Differences((), is_cut=True)


@pytest.mark.parametrize("item", ["1", "1.5", "[]", "{}", '"a"', '{"a":1}'])
def test_a_megabyte_takes_bounded_work(item):
    before = "[" + f"{item}," * (1_000_000 // (len(item) + 1)) + "1]"
    begin = time.process_time()
    differences(before, before.replace("1]", "2]"))
    assert (
        time.process_time() - begin < 3
    )  # a fraction of that on any machine; without the bound of pairs it grows with the text


@given(st.text(), st.text())
def test_no_text_makes_it_raise(before, after):
    differences(before, after)


@given(VALUES)
def test_a_value_does_not_differ_from_itself(value):
    assert differences(json.dumps(value), json.dumps(value, indent=1)) == Differences(())


def same(one, two):
    """Equality that tells 1, 1.0 and True apart."""
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


@given(VALUES, VALUES)
def test_values_differ_if_something_is_found(before, after):
    shown = differences(json.dumps(before), json.dumps(after))
    assert bool(shown.items) == (not same(before, after))
    assert all(len(item.path) < 2_000 and len((item.before or "") + (item.after or "")) < 2_600 for item in shown.items)
    json.dumps([item.path for item in shown.items]).encode()


def test_digits_are_texts_of_their_own_kind():
    assert Digits("1.5") == "1.5"  # why types are looked at before values
