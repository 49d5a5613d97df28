"""Entries as lines: what is written comes back equal, and nothing else comes back at all."""

import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from workflow_runs.model.entries import Claim, GapNoted, RunEnded, StartRun, StepEnded, StepStarted
from workflow_runs.model.entry_lines import from_line, to_line
from workflow_runs.model.records import ErrorRecord, StepKey
from workflow_runs.model.requests import Action, RunRequest, Seed
from workflow_runs.model.states import EffectClass, Origin, RecordingMode, RunState, StepKind, StepState

RUN = "wfrn_01jz0000000000000000000000"
AT = 1_700_000_000_000

REQUEST = RunRequest(
    "check out",
    "checkout",
    '{"id":7,"text":"line\\nbreak"}',
    "cron",
    correlation_id="c1",
    tags=("a:1", "ünïcode", ""),
    triggered_by_user_id="kim",
    parent_run_id="elsewhere",
    resume_from=StepKey("charge", "k", 2),
)
START = StartRun(RUN, REQUEST, RunState.RUNNING, RecordingMode.OBSERVE)
STARTED = StepStarted(
    RUN, None, StepKey("charge", "k", 2), 1, 3, StepKind.STEP, EffectClass.UNSAFE, None, started_ms=AT
)
ERROR = ErrorRecord("no\nroute", "E1", "OSError", "charge", "at a.py:1", ErrorRecord("beneath"), "0123456789abcdef")
FAILED = StepEnded(*STARTED, StepState.FAILED, Origin.EXECUTED, None, ERROR, AT + 5, 5)
ENTRIES = [
    START,
    replace(START, request=RunRequest("a", "a")),
    STARTED,
    StepEnded(*STARTED, StepState.SUCCEEDED, Origin.EXECUTED, '"done"', None, AT, 0),
    FAILED,
    RunEnded(RUN, RunState.SUCCEEDED, AT, "[1,2]"),
    RunEnded(RUN, RunState.FAILED, AT, error=ERROR),
    GapNoted(RUN),
]


def line_of(value):
    data = json.dumps(value).encode()
    return b"%08x %08x %b\n" % (len(data), zlib.crc32(data), data)


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=[f"{number}-{type(entry).__name__}" for number, entry in enumerate(ENTRIES)]
)
def test_an_entry_comes_back_equal_and_of_the_same_kinds(entry):
    line = to_line(entry)
    assert line.count(b"\n") == 1
    assert from_line(line) == entry
    assert repr(from_line(line)) == repr(entry)


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=200))
def test_any_text_that_is_kept_comes_back(text):
    entry = STARTED._replace(step=StepKey(text, text))
    assert from_line(to_line(entry)) == entry


@pytest.mark.parametrize(
    "entry",
    [
        replace(START, claim=Claim("e", 1)),
        replace(START, mode=RecordingMode.JOURNAL),
        replace(START, state=RunState.QUEUED),
        replace(START, request=replace(REQUEST, action=Action("resume"))),
        replace(START, request=replace(REQUEST, seeds=(Seed(StepKey("a"), 1, None),))),
        STARTED._replace(claim=Claim("e", 1)),
        STARTED._replace(step=StepKey("\ud800")),
    ],
    ids=["claim", "mode", "state", "action", "seeds", "claim of a step", "surrogate"],
)
def test_what_an_observed_run_does_not_make_is_not_written(entry):
    with pytest.raises(ValueError):
        to_line(entry)


@pytest.mark.parametrize("cut", [1, 2, 9, 40])
def test_a_torn_line_is_none(cut):
    with pytest.raises(ValueError):
        from_line(to_line(FAILED)[:-cut])


@given(st.data())
def test_a_changed_byte_is_noticed(data):
    line = bytearray(to_line(FAILED))
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        from_line(bytes(line))


ENDED = json.loads(to_line(FAILED)[18:])


def changed(place, value):
    return [*ENDED[:place], value, *ENDED[place + 1 :]]


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        ["gap"],
        ["gap", RUN, RUN],
        ["gap", "wfrn_short"],
        ["gap", "other_01jz0000000000000000000000"],
        ["gap", None],
        ["claim-runs", RUN],
        [["gap"], RUN],
        ["end", RUN, "running", AT, None, None],
        ["end", RUN, "exploded", AT, None, None],
        ["end", RUN, "failed", AT, "{no json", None],
        ["end", RUN, "failed", -1, None, None],
        ["end", RUN, "failed", True, None, None],
        ["end", RUN, "failed", 2**70, None, None],
        ["end", RUN, "failed", AT, None, ["only"]],
        ["start", RUN, "n" * 201, "n", "manual", None, [], None, None, None, None],
        ["start", RUN, "n\x00", "n", "manual", None, [], None, None, None, None],
        ["start", RUN, "n", "n", "manual", None, "tags", None, None, None, None],
        ["start", RUN, "n", "n", "manual", None, ["t"] * 51, None, None, None, None],
        ["start", RUN, "n", "n", "manual", None, [], None, None, None, ["only"]],
        changed(6, "timer"),
        changed(7, "harmless"),
        changed(10, "running"),
        changed(11, "guessed"),
        ENDED[:-1],
    ],
    ids=repr,
)
def test_what_is_no_entry_is_none_however_whole_its_line_is(value):
    assert from_line(line_of(ENDED)) == FAILED
    with pytest.raises(ValueError):
        from_line(line_of(value))


def test_an_error_of_endless_causes_is_none():
    error = None
    for _ in range(500):
        error = ["m", None, None, None, None, error, None]
    with pytest.raises(ValueError):
        from_line(line_of(["end", RUN, "failed", AT, None, error]))
