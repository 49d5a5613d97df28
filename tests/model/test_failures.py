"""Exceptions as records: always one, bounded and clean, and alike for failures that are alike."""

import enum

import pytest
from hypothesis import given, strategies as st

from workflow_runs.errors import StepFailed
from workflow_runs.model.failures import describe, error_from_json, error_to_json, fingerprint
from workflow_runs.model.records import ErrorRecord
from workflow_runs.settings import Limits


class GatewayError(Exception):
    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


class Code(enum.StrEnum):
    REFUSED = "card_refused"


def raised(error):
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_an_exception_gives_message_class_code_and_stack():
    record = describe(raised(GatewayError("gateway refused", "card_refused")), step_name="capture")
    assert (record.message, record.type_name, record.code) == ("gateway refused", "GatewayError", "card_refused")
    assert record.step_name == "capture"
    assert "in raised\n    raise error" in record.stack


@pytest.mark.parametrize(
    ("code", "kept"),
    [(Code.REFUSED, "card_refused"), (404, None), ("", None), ("x" * 200, None), (None, None)],
)
def test_only_a_short_text_is_a_code(code, kept):
    assert describe(GatewayError("x", code)).code == kept


def test_paths_in_stacks_are_relative():
    stack = describe(raised(ValueError("x"))).stack
    assert "/" not in stack.partition('"')[2].partition('"')[0].removeprefix("tests/model/")
    assert 'File "failures' not in stack
    folder = __file__.rpartition("/tests/")[0]
    assert folder not in stack
    assert 'File "tests/model/test_failures.py"' in describe(raised(ValueError("x")), app_root=folder).stack


def test_an_exception_without_a_message_is_called_by_its_class():
    assert describe(ValueError()).message == "ValueError"


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("gateway refused", "gateway refused"),
        (None, "No reason was given"),
        ("", "No reason was given"),
        ({"why": "x"}, '{"why":"x"}'),
        (7, "7"),
        (object(), "a object"),
        (ValueError, "a type"),
    ],
)
def test_what_is_no_exception_gives_a_message_too(failure, message):
    record = describe(failure)
    assert record.message == message
    assert record.type_name is None
    assert record.fingerprint


def test_causes_are_kept_in_order():
    error = GatewayError("outer", "c")
    error.__cause__ = KeyError("inner")
    record = describe(error)
    assert record.cause.type_name == "KeyError"
    assert record.cause.cause is None


def test_what_was_being_handled_is_a_cause_unless_it_was_set_aside():
    error = GatewayError("outer")
    error.__context__ = KeyError("inner")
    assert describe(error).cause.type_name == "KeyError"
    error.__suppress_context__ = True
    assert describe(error).cause is None


def test_causes_in_a_circle_end():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    record = describe(one)
    assert record.cause.message == "other"
    assert record.cause.cause is None


def test_a_long_chain_of_causes_is_cut():
    error = ValueError("0")
    for number in range(1, 1_000):
        later = ValueError(str(number))
        later.__cause__ = error
        error = later
    record, depth = describe(error), 0
    while record.cause:
        record, depth = record.cause, depth + 1
    assert depth == Limits().error_causes_max


def test_a_group_of_a_thousand_names_the_first_few():
    group = raised(ExceptionGroup("many", [ValueError(f"number {number}") for number in range(1_000)]))
    record = describe(group)
    assert record.message == "many (1000 sub-exceptions)"
    assert "[8 of 1000] ValueError: number 7" in record.stack
    assert "number 8" not in record.stack
    assert record.cause.message == "number 0"


def test_deep_recursion_is_cut_in_the_middle():
    def dive():
        dive()

    with pytest.raises(RecursionError) as caught:
        dive()
    stack = describe(caught.value).stack
    assert "frames ..." in stack
    assert stack.count("in test_deep_recursion_is_cut_in_the_middle.<locals>.dive") < 50


def test_long_texts_are_cut_and_say_so():
    record = describe(GatewayError("x" * 1_000_000))
    assert record.message.endswith("[984000 characters cut]")
    assert len(record.message) < 16_100


def test_characters_that_no_database_keeps_are_replaced():
    record = describe(GatewayError("a\x00b\ud800c"), step_name="s\x00")
    assert record.message == "a\ufffdb\ufffdc"
    assert record.step_name == "s\ufffd"


def test_notes_are_part_of_the_stack():
    error = raised(ValueError("x"))
    error.add_note("while paying order 7")
    assert "note: while paying order 7" in describe(error).stack


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__

    @property
    def code(self):
        raise RuntimeError("no")

    @property
    def __cause__(self):
        raise RuntimeError("no")

    @property
    def __traceback__(self):
        raise RuntimeError("no")

    @property
    def __notes__(self):
        raise RuntimeError("no")


def test_an_exception_that_raises_when_read_is_recorded():
    record = describe(raised(Hostile()))
    assert record.type_name == "Hostile"
    assert "RuntimeError" in record.message


def test_a_message_of_a_class_of_its_own_becomes_a_text():
    class Text(str):
        __slots__ = ()

        def __str__(self):
            raise RuntimeError("no")

    class Odd(Exception):
        def __str__(self):
            return Text("odd")

    assert type(describe(Odd()).message) is str


# --- a failed step ---------------------------------------------------------------------------------------------------


def test_a_failed_step_is_described_as_its_own_exception():
    cause = raised(GatewayError("refused", "card_refused"))
    live = StepFailed("refused", step="charge", type_name="GatewayError", error_code="card_refused")
    live.__cause__ = cause
    replayed = StepFailed("refused", step="charge", type_name="GatewayError", error_code="card_refused")
    for error in (live, replayed):
        record = describe(error)
        assert (record.message, record.type_name, record.code) == ("refused", "GatewayError", "card_refused")
        assert record.step_name == "charge"
    assert (
        describe(live).fingerprint == describe(replayed).fingerprint == describe(cause, step_name="charge").fingerprint
    )


def test_an_error_raised_from_a_failed_step_names_the_step():
    error = ValueError("order is stuck")
    error.__cause__ = StepFailed("refused", step="charge", type_name="GatewayError", error_code=None)
    assert describe(error).step_name == "charge"


def test_an_error_raised_while_a_failed_step_was_handled_does_not():
    error = ValueError("something else")
    error.__context__ = StepFailed("refused", step="charge", type_name="GatewayError", error_code=None)
    assert describe(error).step_name is None


# --- fingerprints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 not found", "order 23456 not found"),
        ("<Order object at 0x7f11aa>", "<Order object at 0x55d0>"),
        ("run wfrn_01m81srpafe07vg00hcm7rdwd5 gone", "run wfrn_01m81srpb0e07vg00x66ebnf03 gone"),
        ("took 1.25 s", "took 13 s"),
        ("at 2026-01-02T03:04:05Z", "at 2025-11-12T13:14:15.123Z"),
        ("id 6f1c9a52-8d1c-4c4e-9d0a-0d1f9a1b2c3d", "id 00000000-0000-4000-8000-000000000000"),
        ("no account a@b.example", "no account someone.else@c.example"),
        ("1,234 of 5", "7 of 1,000,000"),
    ],
)
def test_numbers_ids_and_addresses_do_not_count(one, other):
    assert describe(ValueError(one)).fingerprint == describe(ValueError(other)).fingerprint


def test_class_code_step_and_wording_count():
    records = [
        describe(GatewayError("refused")),
        describe(ValueError("refused")),
        describe(GatewayError("refused", "c")),
        describe(GatewayError("refused"), step_name="s"),
        describe(GatewayError("timeout")),
    ]
    assert len({record.fingerprint for record in records}) == len(records)


def test_stacks_do_not_count():
    assert describe(raised(ValueError("x"))).fingerprint == describe(ValueError("x")).fingerprint


# --- as text ---------------------------------------------------------------------------------------------------------

records = st.builds(
    ErrorRecord,
    st.text(st.characters(exclude_categories=["Cs"])),
    *[st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)] * 4,
)


@given(records, records)
def test_records_come_back_equal(record, cause):
    record = ErrorRecord(record.message, record.code, record.type_name, record.step_name, record.stack, cause, "f")
    assert error_from_json(error_to_json(record)) == record


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"message": 3}', "null", "NaN"])
def test_damaged_text_gives_no_record(text):
    assert error_from_json(text) is None


def test_damaged_fields_read_as_none():
    assert error_from_json('{"message": "x", "code": 3, "stack": [], "cause": {"message": null}}') == ErrorRecord("x")


@given(st.text() | st.none() | st.binary() | st.integers() | st.builds(ValueError, st.text()))
def test_any_failure_gives_a_record_that_can_be_kept(failure):
    record = describe(failure)
    assert record.message
    assert error_from_json(error_to_json(record)) == record
    assert fingerprint(record) == record.fingerprint


def test_our_own_frames_above_the_users_code_are_left_out():
    def step():
        raise ValueError("x")

    driver = compile("step()", "driver.py", "exec")
    with pytest.raises(ValueError) as caught:
        exec(driver, {"__name__": "workflow_runs.execution.drive", "step": step})
    assert "driver.py" in describe(caught.value).stack
    as_driven = caught.value.with_traceback(caught.tb.tb_next)
    assert "driver.py" not in describe(as_driven).stack
    assert "in test_our_own_frames" in describe(as_driven).stack
