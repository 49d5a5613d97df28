"""Recorded JSON as lines: whole where it is small, bounded where it is not, and never anything hidden."""

import json
import time
import unicodedata

import pytest
from hypothesis import given, strategies as st

from workflow_runs.admin.pages.jsonview import Line, view
from workflow_runs.model.display import show

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def rebuilt(lines):
    """The JSON text that the lines show."""
    return "".join((f"{line.key}:" if line.key else "") + line.text + ("," if line.comma else "") for line in lines)


def balanced(lines):
    depth = 0
    for line in lines:
        depth += {"open": 1, "close": -1}.get(line.kind, 0)
        assert depth >= 0
    return depth == 0


# --- small ---


def test_a_value_is_shown_line_by_line():
    assert view('{"id":"bk_4821","rooms":[1.50,null]}').lines == (
        Line("open", "{", path="$", note="2 keys", is_open=True),
        Line("value", '"bk_4821"', '"id"', "j-s", "$.id", comma=True),
        Line("open", "[", '"rooms"', path="$.rooms", note="2 items", is_open=True),
        Line("value", "1.50", None, "j-n", "$.rooms[0]", comma=True),
        Line("value", "null", None, "j-l", "$.rooms[1]"),
        Line("close", "]"),
        Line("close", "}"),
    )


@given(VALUES)
def test_a_small_value_is_shown_whole(value):
    text = json.dumps(value)
    shown = view(text)
    if not shown.is_cut and not shown.redacted and not shown.missing:
        assert json.loads(rebuilt(shown.lines)) == json.loads(text)
    assert balanced(shown.lines)


@pytest.mark.parametrize("text", ["[]", "{}", "1", '"x"', "true", '{"a":{}}', '[[],[{"a":[]}]]'])
def test_any_value_may_be_the_whole(text):
    assert rebuilt(view(text).lines) == text


def test_duplicate_keys_are_all_shown():
    assert rebuilt(view('{"a":1,"a":2}').lines) == '{"a":1,"a":2}'


def test_nothing_recorded_is_absent():
    shown = view(None)
    assert (shown.is_absent, shown.lines, shown.size_bytes) == (True, (), 0)


def test_the_size_is_counted_in_bytes():
    assert (view('"abc"').size_bytes, view('"ä€"').size_bytes) == (5, 7)


@pytest.mark.parametrize("text", ["{", "", "not json\nat all", "[" * 100_000, "\ud800", '{"a":1}}'])
def test_what_is_no_json_is_shown_as_text(text):
    shown = view(text)
    assert shown.is_unreadable
    assert "".join(line.text for line in shown.lines).startswith(text[:1].replace("\ud800", "\\ud800"))
    assert all(line.css == "" for line in shown.lines)
    assert len(shown.lines) <= 400


# --- marks ---


@pytest.mark.parametrize("text", ["[redacted]", "***", "**********", "<REDACTED>", "[Filtered]"])
def test_a_redacted_value_is_marked(text):
    shown = view(json.dumps({"card": text}))
    assert (shown.redacted, shown.lines[1].css, shown.lines[1].text) == (1, "j-r", "redacted")


@pytest.mark.parametrize("text", ["**", "a redacted report", "*** stars ***", "", "r"])
def test_other_texts_are_not(text):
    assert view(json.dumps(text)).redacted == 0


def test_a_value_without_json_form_is_marked():
    shown = view(show({"session": object(), "n": 1}).text)
    assert shown.missing == 1
    assert shown.lines[1] == Line("value", "object, not recorded", '"session"', "j-r", "$.session", comma=True)


@pytest.mark.parametrize(
    "text", ['{"$unserializable":1}', '{"$unserializable":"A","b":1}', '{"$unserializable":"A","reason":[]}', "{}"]
)
def test_what_only_looks_like_a_mark_is_shown_as_it_is(text):
    assert (view(text).missing, rebuilt(view(text).lines)) == (0, text)


# --- hostile ---


def test_no_text_reorders_or_hides():
    shown = view(json.dumps({"exe\u202egpj": "a\u200b\x7f\U000e0041"}, ensure_ascii=False))
    assert shown.lines[1].key == r'"exe\u202egpj"'
    assert shown.lines[1].text == r'"a\u200b\u007f\udb40\udc41"'
    assert shown.lines[1].path == r'$["exe\u202egpj"]'


@given(st.text(st.characters(codec=None)))
def test_no_text_makes_it_raise(text):
    for shown in (view(text), view(json.dumps(text)), view(json.dumps({text: [text]}, ensure_ascii=False))):
        for line in shown.lines:
            printed = f"{line.key}{line.text}{line.path}{line.note}"
            printed.encode()
            assert not [found for found in printed if unicodedata.category(found) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


def test_deep_values_are_summed_up_where_it_gets_too_deep():
    shown = view('{"a":' * 100 + "1" + "}" * 100, depth_max=60)
    assert balanced(shown.lines)
    assert shown.is_cut
    assert [line.text for line in shown.lines if line.kind == "value"] == ["{ 1 key }"]
    assert sum(line.kind == "open" for line in shown.lines) == 60


def test_a_path_too_long_to_copy_is_left_out_and_so_are_those_beneath():
    shown = view('{"' + "k" * 990 + '":{"deep":{"deeper":{"x":1}}}}')
    paths = [line.path for line in shown.lines if line.kind != "close"]
    assert len(paths[1]) == 992
    assert paths[2:] == [f"{paths[1]}.deep", "", ""]


def test_long_texts_and_numbers_are_cut_and_say_how_long_they_are():
    shown = view(json.dumps(["x" * 12_034]) + " ")
    assert (shown.lines[1].text, shown.lines[1].note) == ('"' + "x" * 500 + '"…', "12,034 characters")
    assert shown.is_cut
    assert view("1" * 5_000).lines[0].note == "5,000 digits"


# --- large ---


def test_a_long_array_does_not_hide_what_follows():
    shown = view(json.dumps({"rows": list(range(10_000)), "status": "ok"}))
    assert any(line.key == '"status"' for line in shown.lines)
    assert [line.text for line in shown.lines if line.kind == "more"] == [f"{10_000 - 395:,} more items"]
    assert shown.is_cut


def test_neighbours_share_the_room():
    shown = view(json.dumps({"a": list(range(10_000)), "b": list(range(10_000))}))
    assert min(sum(line.path.startswith(f"$.{name}[") for line in shown.lines) for name in "ab") >= 50
    assert 400 <= len(shown.lines) <= 404  # what one leaves, the other takes


def test_every_level_is_shown_before_the_next():
    shown = view(json.dumps([{"id": number, "inner": {"x": [number] * 50}} for number in range(40)]))
    assert sum(line.path.endswith(".id") for line in shown.lines) == 40
    assert 300 < len(shown.lines) < 450
    assert balanced(shown.lines)


def test_a_small_value_is_unfolded_and_a_large_one_only_about_a_screen():
    small = view(json.dumps({"guest": {"name": "x"}, "rooms": [{}, {"n": [1]}]}))
    assert all(line.is_open for line in small.lines if line.kind == "open")
    large = view(json.dumps([list(range(10)) for _ in range(40)]))
    assert [line.is_open for line in large.lines if line.kind == "open"][:6] == [True, True, True, False, False, False]


def test_few_characters_are_shown_of_long_texts():
    shown = view(json.dumps(["x" * 499] * 390), bytes_max=64_000)
    assert sum(len(line.text) for line in shown.lines) < 65_000
    assert shown.lines[-2].kind == "more"


@pytest.mark.parametrize("item", ["1", "1.5", "[]", "{}", '"a"', '{"a":1}', "[1,{}]"])
def test_a_megabyte_takes_bounded_work(item):
    text = "[" + f"{item}," * (1_000_000 // (len(item) + 1)) + "1]"
    begin = time.process_time()
    shown = view(text)
    assert time.process_time() - begin < 1.5  # a tenth of that on any machine
    assert len(shown.lines) < 700
