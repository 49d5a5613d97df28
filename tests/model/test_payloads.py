"""The codec: what comes back equal is recorded, everything else is refused with its place and type."""

import datetime as dt
import decimal
import enum
import functools
import inspect
import math
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Awaitable, Hashable, Iterable
from dataclasses import InitVar, dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict  # that of typing is refused by pydantic before Python 3.12

from workflow_runs.errors import CannotEncode, ConfigurationError, InvalidInput
from workflow_runs.model.payloads import Codec, codec_for, input_codec, return_codec
from workflow_runs.model.states import EffectClass


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclass
class Line:
    sku: str
    count: int
    price: decimal.Decimal
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Order:
    id: uuid.UUID
    lines: tuple[Line, ...] = ()
    raw: bytes = b""
    tags: frozenset[str] = frozenset()
    colour: Colour = Colour.RED


class Address(BaseModel):
    street: str
    since: dt.date
    previous: "Address | None" = None


class Point(NamedTuple):
    x: int
    y: float


class Person(TypedDict):
    name: str
    photo: bytes


# --- plain JSON ------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers() | st.integers(-(10**4000), 10**4000)
floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def same(one, other):
    """Equal in type and content, minus zero included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and (not isinstance(one, float) or math.copysign(1, one) == math.copysign(1, other))


def is_hashable(value):
    return isinstance(value, Hashable)


def refused(type_, value):
    with pytest.raises(CannotEncode) as caught:
        Codec(type_).encode(value, 'step "charge" output')
    assert caught.value.where == 'step "charge" output'
    return caught.value


@given(plain)
def test_json_values_come_back_equal_without_a_declaration(value):
    text, back = Codec().roundtrip(value, "x")
    assert same(back, value)
    assert same(Codec().decode(text), value)


def test_nul_in_a_text_is_recorded_as_an_escape():
    text = Codec().encode("a\x00b", "x")
    assert "\x00" not in text
    assert Codec().decode(text) == "a\x00b"


UNDECLARED = [
    ({"items": [1, {"price": (1, 2)}]}, "$.items[1].price", "tuple"),
    ({"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "$.at", "datetime"),
    ([1, {2}], "$[1]", "set"),
    ({"a": {1: "x"}}, "$.a", "int"),
    (float("nan"), "$", "float"),
    ([0.0, float("inf")], "$[1]", "float"),
    ({"a": "\ud800"}, "$.a", "str"),
    ({"\udfff": 1}, '$["\\udfff"]', "str"),
    ([10**4300], "$[0]", "int"),
    (EffectClass.PURE, "$", "EffectClass"),
    (OrderedDict(a=1), "$", "OrderedDict"),
    ({"": object()}, '$[""]', "object"),
    (decimal.Decimal(1), "$", "Decimal"),
    (b"x", "$", "bytes"),
    (iter([]), "$", "list_iterator"),
]


def numbered(cases):
    """Ids that are unique, whatever the values are like when shown."""
    return [f"{number} {case[-1]} at {case[-2]}" for number, case in enumerate(cases)]


@pytest.mark.parametrize(("value", "path", "type_name"), UNDECLARED, ids=numbered(UNDECLARED))
def test_undeclared_values_that_would_change_are_refused_with_their_place(value, path, type_name):
    error = refused(Any, value)
    assert (error.path, error.type_name) == (path, type_name)


def test_refusal_of_an_undeclared_value_says_what_to_do():
    assert "annotation" in str(refused(Any, (1, 2)))


def test_bool_and_int_are_told_apart():
    _, back = Codec().roundtrip([True, 1, 0, False], "x")
    assert [type(item) for item in back] == [bool, int, int, bool]


def test_a_list_within_itself_is_refused():
    value = []
    value.append(value)
    assert "within itself" in refused(Any, value).reason


def test_a_list_that_doubles_at_each_level_is_refused_without_being_written():
    value = [0]
    for _ in range(60):
        value = [value, value]
    assert "larger" in refused(Any, value).reason


@pytest.mark.parametrize("depth", [100, 190])
def test_what_the_door_admits_can_be_wrapped_and_recorded(depth):
    value = functools.reduce(lambda inner, _: [inner], range(depth), 0)
    assert Codec().roundtrip(value, "x")[1] == value


@pytest.mark.parametrize("depth", [201, 400, 5_000])
def test_deeper_values_are_refused(depth):
    value = functools.reduce(lambda inner, _: {"a": inner}, range(depth), 0)
    assert "deep" in refused(Any, value).reason


def test_a_text_that_is_too_large_is_refused_by_its_size():
    codec = Codec(bytes_max=10)
    assert codec.encode("12345678", "x") == '"12345678"'
    with pytest.raises(CannotEncode, match="11 bytes"):
        codec.encode("123456789", "x")


def test_the_value_that_comes_back_shares_nothing_with_the_one_given():
    value = {"items": [1]}
    back = Codec().roundtrip(value, "x")[1]
    value["items"].append(2)
    assert back == {"items": [1]}


# --- declared types --------------------------------------------------------------------------------------------------

zones = st.sampled_from([None, dt.UTC, ZoneInfo("Europe/Berlin"), dt.timezone(dt.timedelta(hours=-3, minutes=-30))])
moments = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(min_value=dt.datetime(1950, 1, 1), max_value=dt.datetime(2100, 1, 1)),  # noqa: DTZ001
    zones,
    st.sampled_from([0, 1]),
)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
orders = st.builds(
    Order,
    st.uuids(),
    st.lists(st.builds(Line, texts, st.integers(), decimals, st.none() | moments), max_size=3).map(tuple),
    st.binary(max_size=30),
    st.frozensets(texts, max_size=3),
    st.sampled_from(Colour),
)
DECLARED = [
    (dt.datetime, moments),
    (dt.date, st.dates()),
    (dt.time, st.times()),
    (dt.timedelta, st.timedeltas(dt.timedelta(days=-9_000), dt.timedelta(days=9_000))),
    (decimal.Decimal, decimals),
    (uuid.UUID, st.uuids()),
    (bytes, st.binary()),
    (Colour, st.sampled_from(Colour)),
    (EffectClass, st.sampled_from(EffectClass)),
    (set[int], st.sets(st.integers())),
    (frozenset[bytes], st.frozensets(st.binary())),
    (tuple[int, str], st.tuples(st.integers(), texts)),
    (tuple[dt.date, ...], st.lists(st.dates()).map(tuple)),
    (list[decimal.Decimal | None], st.lists(st.none() | decimals)),
    (dict[int, bytes], st.dictionaries(st.integers(), st.binary())),
    (dict[dt.date, list[str]], st.dictionaries(st.dates(), st.lists(texts))),
    (Point, st.builds(Point, st.integers(), floats)),
    (Person, st.fixed_dictionaries({"name": texts, "photo": st.binary()})),
    (Order, orders),
    (list[Order], st.lists(orders, max_size=2)),
    (Address, st.builds(Address, street=texts, since=st.dates(), previous=st.none())),
    (int | str, st.integers() | texts),
    (dict, st.dictionaries(texts, plain, max_size=3)),
    (list[Any], st.lists(plain, max_size=3)),
    (dict[str, Any], st.dictionaries(texts, plain, max_size=3)),
]


@pytest.mark.parametrize(("type_", "strategy"), DECLARED, ids=[str(type_) for type_, _ in DECLARED])
@given(data=st.data())
@settings(max_examples=25)
def test_declared_values_come_back_equal(type_, strategy, data):
    value = data.draw(strategy)
    codec = codec_for(type_)
    text, back = codec.roundtrip(value, "x")
    assert back == value
    assert type(back) is type(value)
    assert codec.decode(text) == back
    assert codec.encode(back, "x") == codec.encode(codec.decode(text), "x")


def test_decimals_keep_their_zeros():
    assert str(Codec(decimal.Decimal).roundtrip(decimal.Decimal("1.100"), "x")[1]) == "1.100"


def test_an_hour_that_occurs_twice_is_recorded():
    for fold in (0, 1):
        twice = dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
        back = Codec(dt.datetime).roundtrip(twice, "x")[1]
        assert back.utcoffset() == twice.utcoffset()
        assert back.timestamp() == twice.timestamp()


def test_an_int_where_a_float_is_declared_becomes_the_equal_float():
    back = Codec(float).roundtrip(3, "x")[1]
    assert (back, type(back)) == (3.0, float)


@pytest.mark.parametrize("value", [2**53 + 1, True, "3"])
def test_what_is_no_equal_float_is_refused_where_a_float_is_declared(value):
    refused(float, value)


def test_bytes_that_are_no_text_survive_in_plain_dataclasses_and_typed_dicts():
    value = {"name": "x", "photo": b"\xff\x00\xfe"}
    assert Codec(list[Person]).roundtrip([value], "x")[1] == [value]


def test_a_model_says_itself_how_its_bytes_travel():
    class Quiet(BaseModel):
        raw: bytes

    class Saying(Quiet):
        model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    assert Codec(Saying).roundtrip(Saying(raw=b"\xff"), "x")[1].raw == b"\xff"
    assert refused(Quiet, Quiet(raw=b"\xff")).type_name == "Quiet"


def test_a_recursive_model_comes_back():
    value = Address(street="b", since=dt.date(2026, 1, 1), previous=Address(street="a", since=dt.date(2020, 1, 1)))
    assert Codec(Address).roundtrip(value, "x")[1] == value


def test_aliases_and_computed_fields_do_not_stand_in_the_way():
    class Price(BaseModel):
        model_config = ConfigDict(extra="forbid")
        net: int = Field(serialization_alias="netOut", validation_alias="netIn")

        @computed_field
        @property
        def gross(self) -> int:
            return self.net * 2

    price = Price(netIn=3)
    assert Codec(Price).roundtrip(price, "x")[1] == price
    assert Codec(Price).decode('{"netIn": 3}') == price


@dataclass
class Tagged(Line):
    tag: str = "x"


@dataclass
class Loose:
    a: int


@dataclass
class Growing:
    a: int
    factor: InitVar[int] = 2

    def __post_init__(self, factor):
        self.a *= factor


def test_an_attribute_that_is_no_field_is_refused_with_its_name():
    value = Loose(1)
    value.extra = "lost"
    assert refused(Loose, value).path == "$.extra"


def test_a_dataclass_without_eq_is_compared_by_its_fields():
    @dataclass(eq=False)
    class Bare:
        a: int

    assert Codec(Bare).roundtrip(Bare(3), "x")[1].a == 3


def test_a_cached_property_is_no_part_of_the_value():
    @dataclass
    class Lazy:
        a: int

        @functools.cached_property
        def double(self):
            return self.a * 2

    value = Lazy(2)
    assert value.double == 4
    assert Codec(Lazy).roundtrip(value, "x")[1] == Lazy(2)


class Hidden(BaseModel):
    a: int
    _secret: int = 0


def changed_private():
    value = Hidden(a=1)
    value._secret = 5
    return value


class Raising:
    def __eq__(self, other):
        raise RuntimeError("no")

    def __hash__(self):
        return 1

    def __repr__(self):
        raise RuntimeError("no")


class Angry(dict):
    def items(self):
        raise RuntimeError("no")


CHANGED = [
    (Line, Tagged("a", 1, decimal.Decimal(1)), "$", "Tagged"),
    (list[Line], [Line("a", 1, decimal.Decimal("NaN"))], "$[0].price", "Decimal"),
    (list[Line], [Line("a", "1", decimal.Decimal(1))], "$[0].count", "str"),
    (Line, {"sku": "a"}, "$", "dict"),
    (Line, None, "$", "NoneType"),
    (dict[str, float], {"a": float("nan")}, "$.a", "float"),
    (dict[str, Any], {"a": (1,)}, "$.a", "tuple"),
    (list[Any], [dt.date(2026, 1, 1)], "$[0]", "date"),
    (dict[str, list[Any]], {"a": [(1,)]}, "$.a[0]", "tuple"),
    (dict, OrderedDict(a=1), "$", "OrderedDict"),
    (list[int], (1, 2), "$", "tuple"),
    (set[int], frozenset({1}), "$", "frozenset"),
    (list[int], [True], "$[0]", "bool"),
    (int, 1.0, "$", "float"),
    (str, "\ud800", "$", "str"),
    (list[str], ["a", "\ud800"], "$[1]", "str"),
    (bytes, bytearray(b"x"), "$", "bytearray"),
    (Iterable[int], (number for number in range(3)), "$", "generator"),
    (Hidden, changed_private(), "$._secret", "int"),
    (Literal["a"], "b", "$", "str"),
    (dict[str, object], {"a": object()}, "$.a", "object"),
    (list[object], [Raising()], "$[0]", "Raising"),
    (dict[str, Any], Angry(a=1), "$", "Angry"),
    (dict[str, list[Any]], {"a": [Raising()]}, "$.a[0]", "Raising"),
    (tuple[int, ...], Point(1, 2.0), "$", "Point"),
    (defaultdict[str, list[int]], defaultdict(set), "$", "defaultdict"),
    (Growing, Growing(1), "$.a", "int"),
]


@pytest.mark.parametrize(("type_", "value", "path", "type_name"), CHANGED, ids=numbered(CHANGED))
def test_what_would_not_come_back_is_refused_with_place_and_type(type_, value, path, type_name):
    error = refused(type_, value)
    assert (error.path, error.type_name) == (path, type_name)


def test_declared_values_within_themselves_are_refused():
    @dataclass
    class Node:
        next: "Any" = None

    node = Node()
    node.next = node
    refused(Node, node)
    nodes: list[Any] = []
    nodes.append(nodes)
    refused(list[list[Any]], nodes)


def test_a_custom_class_without_a_schema_is_refused_when_the_codec_is_made():
    with pytest.raises(ConfigurationError, match="Raising"):
        Codec(Raising)


def test_no_value_makes_the_codec_raise_anything_else():
    class Worst:
        def __getattribute__(self, name):
            raise RuntimeError("no")

    for type_ in (Any, Line, dict[str, Any], int | None, list[list[Any]]):
        refused(type_, Worst())


odd = plain | st.dates() | st.binary() | st.builds(object) | st.floats() | st.text() | st.just(Colour.RED)


@given(
    st.recursive(
        odd, lambda inner: st.lists(inner) | st.dictionaries(odd.filter(is_hashable), inner) | inner.map(lambda x: (x,))
    )
)
def test_a_value_comes_back_equal_or_is_refused_and_nothing_else_happens(value):
    for codec in (Codec(), Codec(list[object]), Codec(dict[str, Any] | list[Any])):
        try:
            text, back = codec.roundtrip(value, "x")
        except CannotEncode as error:
            assert error.path[0] == "$"
        else:
            assert same(back, value)
            assert same(codec.decode(text), value)


def test_values_that_raise_when_read_are_refused_with_the_class_of_what_they_raised():
    @dataclass
    class Trap:
        a: int

        def __getattribute__(self, name):
            if name == "a":
                raise KeyError("secret")
            return object.__getattribute__(self, name)

    trap = object.__new__(Trap)
    error = refused(Trap, trap)
    assert "secret" not in str(error)


# --- input -----------------------------------------------------------------------------------------------------------


def test_an_input_of_the_declared_type_passes():
    codec = input_codec(list[Line])
    codec.validate_input('[{"sku": "a", "count": 1, "price": "1.10"}]')
    assert codec.decode('[{"sku": "a", "count": 1, "price": "1.10"}]') == [Line("a", 1, decimal.Decimal("1.10"))]


def test_an_invalid_input_is_refused_with_its_field_and_without_its_value():
    with pytest.raises(InvalidInput) as caught:
        input_codec(list[Line]).validate_input('[{"sku": "a", "count": "s3cret", "price": "1"}]')
    assert caught.value.field == "input[0].count"
    assert "s3cret" not in str(caught.value)


def refuse(pin):
    raise ValueError(f"{pin} is wrong")


class Picky(BaseModel):
    pin: Annotated[str, AfterValidator(refuse)]


def test_what_a_validator_says_is_not_repeated():
    with pytest.raises(InvalidInput) as caught:
        input_codec(Picky).validate_input('{"pin": "s3cret"}')
    assert caught.value.field == "input.pin"
    assert "s3cret" not in str(caught.value)


def test_a_missing_input_reads_as_null():
    input_codec(int | None).validate_input(None)
    with pytest.raises(InvalidInput):
        input_codec(int).validate_input(None)


@pytest.mark.parametrize(("type_", "text"), [(dict, "[]"), (list, "{}"), (dict[str, Any], "3")])
def test_the_outermost_type_of_plain_json_is_checked(type_, text):
    with pytest.raises(InvalidInput):
        input_codec(type_).validate_input(text)


def test_undeclared_input_may_be_any_json():
    input_codec(inspect.Parameter.empty).validate_input("[1, null]")


def test_an_unresolved_annotation_of_an_input_is_a_mistake_in_the_program():
    with pytest.raises(ConfigurationError, match="Missing"):
        input_codec("Missing")


# --- from functions --------------------------------------------------------------------------------------------------

T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    value: T


def plain_function():
    return 1


def typed() -> Order: ...


async def coroutine() -> tuple[int, ...]: ...


def waits() -> Awaitable[Line]: ...


def quoted() -> "dict[str, Line]": ...


def unresolvable() -> "NotImported": ...  # noqa: F821


def unencodable() -> Raising: ...


def nothing() -> None: ...


class Service:
    def charge(self) -> Line: ...

    def __call__(self) -> Point: ...


RETURNING = {
    "a type": (typed, Order),
    "of a coroutine function": (coroutine, tuple[int, ...]),
    "an awaitable": (waits, Line),
    "a quoted type": (quoted, dict[str, Line]),
    "of a method": (Service().charge, Line),
    "of a callable object": (Service(), Point),
    "of a partial": (functools.partial(typed), Order),
    "of a wrapper": (functools.wraps(typed)(lambda: None), Order),
    "of a cache": (functools.cache(typed), Order),
    "of a class": (Line, Line),
}


@pytest.mark.parametrize(("fn", "type_"), RETURNING.values(), ids=RETURNING.keys())
def test_the_return_annotation_is_the_declaration(fn, type_):
    assert return_codec(fn).type == type_
    assert return_codec(fn) is return_codec(fn)


@pytest.mark.parametrize("fn", [plain_function, nothing, print, lambda: 1, len])
def test_a_function_without_a_telling_annotation_returns_plain_json(fn):
    assert not return_codec(fn).is_declared


@pytest.mark.parametrize(("fn", "name"), [(unresolvable, "NotImported"), (unencodable, "Raising")])
def test_an_annotation_that_does_not_count_is_named_in_the_refusal(fn, name):
    codec = return_codec(fn)
    assert codec.roundtrip({"a": 1}, "x")[1] == {"a": 1}
    with pytest.raises(CannotEncode, match=name):
        codec.encode((1, 2), "x")


def test_codecs_are_made_once_per_type():
    assert codec_for(dict[str, Line]) is codec_for(dict[str, Line])
    assert codec_for(Box[int]).decode('{"value": 3}') == Box[int](value=3)


def test_unions_in_another_order_have_codecs_of_their_own():
    first, second = namedtuple("First", "a"), namedtuple("Second", "a")  # noqa: PYI024
    assert codec_for(first | second) is not codec_for(second | first)
