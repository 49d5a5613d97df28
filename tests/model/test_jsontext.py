"""The strict reader at the door, and writing without reading."""

import json
import math

import pytest
from hypothesis import example, given, strategies as st

from workflow_runs.errors import InvalidBody
from workflow_runs.model.jsontext import RawJson, canonical, check_json, clean, dump, parse_strict, place, to_json
from workflow_runs.settings import Limits

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**4299), 10**4299)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def refused(body):
    with pytest.raises(InvalidBody) as caught:
        parse_strict(body if isinstance(body, bytes) else body.encode())
    return caught.value


REFUSED = [
    ('{"a": 1, "a": 2}', "a"),
    ('{"input": {"x": [{"k": 1, "k": 1}]}}', "input.x[0].k"),
    ('{"a": 1, "\\u0061": 2}', "a"),
    ('{"input": NaN}', "input"),
    ('{"input": [1, Infinity]}', "input[1]"),
    ('{"input": {"n": -Infinity}}', "input.n"),
    ("NaN", "body"),
    ('{"input": 1e999}', "input"),
    ('{"input": [-1e400]}', "input[0]"),
    ('{"n": ' + "9" * 4301 + "}", "n"),
    ('{"n": -' + "9" * 4301 + "}", "n"),
    ('{"n": ' + "1" * 400 + ".5}", "n"),
    ('{"a": "x\\u0000y"}', "a"),
    ('{"a": "x\x00y"}', "a"),
    ('{"a": {"b\\u0000": 1}}', 'a["b\\u0000"]'),
    ('{"a": ["\\ud800"]}', "a[0]"),
    ('{"a": "\\uDFFF\\uD800"}', "a"),
    ('{"\\udc00": 1}', '["\\udc00"]'),
    (b'{"a": "\xed\xa0\x80"}', "a"),
    (b'{"a": [1, "\xff"]}', "a[1]"),
    (b'\xff\xfe{"a": 1}', "body"),
    (b'\xef\xbb\xbf{"a": 1}', "body"),
    ('{"a": 1} x', "body"),
    ("{} {}", "body"),
    ("", "body"),
    (" \n\t", "body"),
    ('{"a": tru}', "a"),
    ('{"a": [1, 2', "a[1]"),
    ('{"a": "x', "a"),
    ("{'a': 1}", "body"),
    ('{"a": 01}', "a"),
    ('{"a": {"b": 1,}}', "a"),
    ('{"a": "\t"}', "a"),
    ('{"a": "\\x"}', "a"),
    ('{"a": +1}', "a"),
    ("\xa0{}", "body"),
    ("[1,, 2]", "[1]"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED, ids=[f"{n} {body[:30]!r}" for n, (body, _) in enumerate(REFUSED)])
def test_what_cannot_be_kept_is_refused_with_its_field(body, field):
    assert refused(body).field == field


@pytest.mark.parametrize("value", ["s3cret", "\\ud800s3cret", "s3cret\\u0000"])
def test_a_refusal_never_repeats_the_value(value):
    assert "s3cret" not in str(refused(f'{{"a": "{value}", "a": "{value}"}}'))
    assert "s3cret" not in str(refused(f'{{"a": "{value}" {value}}}'))


@pytest.mark.parametrize("depth", [101, 2_000, 100_000])
@pytest.mark.parametrize("opening", ['{"a":', "["])
def test_deep_nesting_is_refused_without_exhausting_the_stack(depth, opening):
    closing = "}" if opening.startswith("{") else "]"
    error = refused(opening * depth + "1" + closing * depth)
    assert "100 levels" in str(error)
    assert len(error.field) < 310


def test_deep_nesting_that_is_never_closed_is_refused():
    assert "levels" in str(refused("[" * 500_000))


def test_a_hundred_levels_pass_and_brackets_in_texts_do_not_count():
    body = b"[" * 100 + b'"' + b"[{" * 300 + b'\\"[[["' + b"]" * 100
    value = parse_strict(body)
    assert to_json(value) == body.decode()


def test_many_brackets_side_by_side_pass():
    assert len(parse_strict(b"[" + b"[]," * 1_000 + b"{}]")) == 1_001


def test_a_body_of_escaped_quotes_without_an_end_is_refused_in_one_pass():
    assert refused(b"[" * 101 + b'"' + b'\\"' * 400_000).field is not None


def test_numbers_at_the_bounds_survive_exactly():
    body = "[" + "9" * 4300 + ",-" + "9" * 4300 + ",-0.0,1e+308,5e-324,1.7976931348623157e+308,0.1]"
    value = parse_strict(body.encode())
    assert to_json(value) == body
    assert math.copysign(1, value[2]) == -1


@given(plain)
def test_every_json_value_survives_the_door(value):
    again = parse_strict(to_json(value).encode())
    assert to_json(again) == to_json(value)
    assert again == value
    assert parse_strict(json.dumps(value).encode()) == value


json_like = st.lists(
    st.sampled_from([*'{}[],:" \\', "\\u0000", "\\ud800", "NaN", "1e999", "-0", '"a"', "12", "é", "\x00", "\ud800"])
).map("".join)


@given(st.binary() | json_like.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'{"a":\xff')
@example(b'"\\')
def test_any_bytes_give_a_value_or_a_definite_refusal(body):
    try:
        value = parse_strict(body)
    except InvalidBody as error:
        refusal = error
        assert refusal.field
        assert refusal.field.isascii()
    else:
        assert parse_strict(to_json(value).encode()) == value


def test_limits_are_those_given():
    parse_strict(b"[[12345]]")
    for body in (b"[[1]]", b"12345"):
        with pytest.raises(InvalidBody):
            parse_strict(body, Limits(json_depth_max=1, json_integer_digits_max=4))


def test_places_are_bounded_and_escaped():
    assert place(["a", 0, "b-c", "d e", "\x1b[31m"]) == 'a[0].b-c["d e"]["\\u001b[31m"]'
    assert len(place(["x" * 10_000])) < 100
    assert len(place(["key"] * 1_000)) < 310


# --- writing ---------------------------------------------------------------------------------------------------------


@given(plain)
def test_recorded_text_is_spliced_in_unread(value):
    text = to_json(value)
    assert dump({"input": RawJson(text), "n": [1, RawJson("null")]}) == f'{{"input":{text},"n":[1,null]}}'


def test_spliced_text_may_hold_anything():
    assert dump([RawJson('"NaN"'), RawJson("1.0"), "x"]) == '["NaN",1.0,"x"]'
    assert dump(RawJson("{}")) == "{}"


@pytest.mark.parametrize(
    "value", [float("nan"), [float("inf")], "\ud800", {"a": object()}], ids=["nan", "inf", "surrogate", "object"]
)
def test_what_is_no_json_is_not_written(value):
    with pytest.raises(ValueError):
        dump(value)


def test_texts_that_look_like_infinity_are_written():
    assert to_json(["NaN", {"Infinity": 1.5}]) == '["NaN",{"Infinity":1.5}]'


def test_canonical_text_does_not_depend_on_the_order_of_members():
    assert canonical({"b": 1, "a": [2]}) == canonical({"a": [2], "b": 1}) == '{"a":[2],"b":1}'


@pytest.mark.parametrize("text", ["", "{", "NaN", "[1,]", "[" * 250 + "]" * 250, "\x00", "1 2"])
def test_damaged_text_is_noticed(text):
    assert check_json(text) is None


def test_sound_text_is_returned_as_it_is():
    assert check_json('{"a" :  1.0}') == '{"a" :  1.0}'


def test_cleaning_replaces_what_no_database_keeps():
    assert clean("a\x00b\ud800c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"
