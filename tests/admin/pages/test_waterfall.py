"""The chart of a run's steps."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from workflow_runs.admin.pages.waterfall import Bar, chart
from workflow_runs.model.records import Attempt, ErrorRecord, Run, Step, StepKey
from workflow_runs.model.states import (
    RUN_STATUS,
    EffectClass,
    Origin,
    RecordingMode,
    RunState,
    StepKind,
    StepState,
)

BEGIN = datetime(2026, 11, 22, 0, 14, 7, tzinfo=UTC)
ID = "wfrn_01m81srpafe07vg00hcm7rdwd5"
ERROR = ErrorRecord("503 Service Unavailable")


def at(seconds):
    return BEGIN + timedelta(seconds=seconds)


def make_run(state=RunState.FAILED, end=None, begin=0.0):
    return Run(
        id=ID,
        workflow_name="checkout",
        definition="checkout",
        trigger="api",
        correlation_id=None,
        tags=(),
        state=state,
        status=RUN_STATUS[state],
        input=None,
        result=None,
        error=None,
        fingerprint=None,
        parent_run_id=None,
        root_run_id=ID,
        chain_run_id=ID,
        triggered_by_user_id=None,
        idempotency_key=None,
        resume_from=None,
        mode=RecordingMode.JOURNAL,
        has_gap=False,
        code_version="v1",
        started_at=BEGIN,
        execution_started_at=at(begin),
        completed_at=None if end is None else at(end),
        updated_at=BEGIN,
        duration_ms=None,
        cancel_requested_at=None,
        claim_owner=None,
        resumed_by_run_id=None,
    )


def make_step(number, *tries, effect=EffectClass.READ, origin=Origin.EXECUTED, kind=StepKind.STEP):
    """A step; each try is (state, begin, end) in seconds, no end while it runs."""
    attempts = tuple(
        Attempt(
            number=count,
            state=state,
            origin=origin,
            output=None,
            error=ERROR if state is StepState.FAILED else None,
            started_at=at(begin),
            ended_at=None if end is None else at(end),
            duration_ms=None if end is None else round((end - begin) * 1_000),
        )
        for count, (state, begin, end) in enumerate(tries, 1)
    )
    return Step(ID, StepKey(f"step_{number}"), number, kind, effect, None, attempts)


OK, FAILED, RUNNING = StepState.SUCCEEDED, StepState.FAILED, StepState.RUNNING
# The run of the visual target.
CHECKOUT = (
    make_step(1, (OK, 0, 0.118)),
    make_step(2, (OK, 0.12, 0.42), effect=EffectClass.COMPENSATABLE),
    make_step(3, (OK, 0.42, 1.03), effect=EffectClass.UNSAFE),
    make_step(4, (FAILED, 1.03, 4.2), (FAILED, 4.7, 7.4), (FAILED, 8.4, 11.4), effect=EffectClass.UNSAFE),
)


def drawn(steps, run=None, now=20.0, **options):
    return chart(run or make_run(end=11.4), steps, at(now), **options)


def share(text):
    return float(text.removesuffix("%"))


# --- rows and bars ---


def test_bars_stand_where_their_attempts_were():
    row = drawn(CHECKOUT).rows[3]
    assert row.bars == (Bar("try", "8.583%", "26.417%"), Bar("try", "39.167%", "22.5%"), Bar("bad", "70%", "25%"))
    assert (row.mark.x, row.mark.dx) == ("95%", -19)
    assert (row.took, row.attempts, row.word, row.css, row.icon, row.has_error) == (
        "10.4 s",
        3,
        "Failed",
        "bad",
        "bad",
        True,
    )


def test_rows_say_what_an_operator_must_think_of():
    rows = drawn(CHECKOUT, target=StepKey("step_4")).rows
    assert [row.effect for row in rows] == ["", "can be undone", "unsafe", "unsafe"]
    assert [row.is_target for row in rows] == [False, False, False, True]
    assert [row.label for row in rows] == ["step_1", "step_2", "step_3", "step_4"]
    assert drawn(CHECKOUT).counts == (("succeeded", 3), ("failed", 1))


def test_steps_are_in_order_and_readings_of_the_clock_are_no_steps():
    reading = make_step(2, (OK, 0, 0), kind=StepKind.NOW)
    shown = drawn([CHECKOUT[2], reading, CHECKOUT[0]])
    assert [(row.number, row.sequence) for row in shown.rows] == [(1, 1), (2, 3)]
    assert shown.total_steps == 2


def test_a_short_bar_can_be_seen_and_none_leaves_the_chart():
    rows = drawn([make_step(1, (OK, 0, 0.001)), make_step(2, (OK, 12, 12))], make_run(RunState.SUCCEEDED, 12)).rows
    assert rows[0].bars == (Bar("ok", "0%", "0.4%"),)
    assert rows[1].bars == (Bar("ok", "99.6%", "0.4%"),)


def test_a_mark_stands_behind_its_bar_where_there_is_room():
    mark = drawn([make_step(1, (FAILED, 0, 1)), make_step(2, (OK, 1, 10))]).rows[0].mark
    assert (mark.x, mark.dx) == ("8.333%", 5)


def test_what_is_kept_is_hollow_and_took_no_time():
    kept = make_step(1, (StepState.SKIPPED, -60, -60), origin=Origin.SEEDED)
    row, other = drawn([kept, make_step(2, (OK, 1, 2))], make_run(RunState.SUCCEEDED, 2)).rows
    assert (row.word, row.icon, row.origin) == ("Kept", "seed", "kept from another run")
    assert (row.bars, row.took, row.took_ms, row.depth) == ((Bar("seed", "0%", "2%"),), "—", None, 0)
    assert other.bars == (Bar("ok", "50%", "50%"),)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (StepState.CANCELLED, "off"),
        (StepState.UNKNOWN, "unknown"),
        (StepState.COMPENSATED, "comp"),
        (StepState.COMPENSATION_FAILED, "bad"),
    ],
)
def test_the_last_bar_says_how_the_step_ended(state, kind):
    assert drawn([make_step(1, (state, 0, 1))]).rows[0].bars[-1].kind == kind


def test_a_running_step_s_bar_goes_to_now():
    step = make_step(1, (FAILED, 0, 1), (RUNNING, 2, None))
    (row,) = drawn([step], make_run(RunState.RUNNING), now=10).rows
    assert row.bars == (Bar("try", "0%", "10%"), Bar("run", "20%", "80%"))
    assert (row.took, row.is_running) == ("10.0 s", True)


def test_a_step_that_its_process_left_open_ended_nobody_knows_how():
    (row,) = drawn([make_step(1, (RUNNING, 2, None))], make_run(RunState.LOST, 10)).rows
    assert (row.bars[0].kind, row.took, row.is_running) == ("unknown", "—", False)
    (row,) = drawn([make_step(1, (RUNNING, 0, None), (OK, 3, 4))], make_run(RunState.SUCCEEDED, 10)).rows
    assert row.bars == (Bar("unknown", "0%", "30%"), Bar("ok", "30%", "10%"))
    (row,) = drawn([make_step(1, (RUNNING, 0, None), (RUNNING, 3, None))], make_run(RunState.RUNNING), now=10).rows
    assert row.bars == (Bar("unknown", "0%", "30%"), Bar("run", "30%", "70%"))


def test_a_wait_for_the_next_attempt_is_drawn():
    (row,) = drawn([make_step(1, (FAILED, 0, 4))], make_run(RunState.RETRYING), now=10).rows
    assert row.bars == (Bar("bad", "0%", "40%"), Bar("wait", "40%", "60%"))
    assert row.mark is None


def test_a_clock_that_was_set_back_leaves_a_bar_where_the_attempt_began():
    steps = [make_step(1, (FAILED, 5, 3), (OK, 6, 4)), make_step(2, (OK, 6, 10))]
    row, other = drawn(steps, make_run(RunState.SUCCEEDED, 10)).rows
    assert row.bars == (Bar("try", "50%", "0.4%"), Bar("ok", "60%", "0.4%"))
    assert (row.took_ms, other.depth) == (1_000, 0)


def test_many_attempts_are_drawn_as_forty_bars():
    tries = [(FAILED, second, second + 0.5) for second in range(1_000)]
    (row,) = drawn([make_step(1, *tries)], make_run(end=1_000)).rows
    assert (len(row.bars), row.attempts) == (41, 1_000)
    assert (row.bars[0].kind, share(row.bars[0].x)) == ("try", 0)
    assert share(row.bars[0].width) > 75


def test_steps_that_overlap_are_indented():
    steps = [make_step(1, (OK, 0, 5)), make_step(2, (OK, 1, 3)), make_step(3, (OK, 4, 6)), make_step(4, (OK, 6, 7))]
    assert [row.depth for row in drawn(steps).rows] == [0, 1, 1, 0]


def test_planned_steps_that_are_not_recorded_follow():
    shown = drawn(CHECKOUT, planned=["step_4", "send_confirmation", "publish_event"])
    assert [(row.number, row.label, row.word, row.sequence, row.note) for row in shown.rows[4:]] == [
        (5, "send_confirmation", "Not reached", None, "not reached"),
        (6, "publish_event", "Not reached", None, "not reached"),
    ]
    assert shown.counts[-1] == ("not reached", 2)
    assert shown.total_steps == 4


def test_a_run_without_steps_has_an_axis():
    shown = drawn([], make_run(RunState.QUEUED), now=0)
    assert (shown.rows, [tick.text for tick in shown.ticks]) == ((), ["0", "1 ms"])


# --- the axis ---


def test_ticks_are_round_times():
    ticks = drawn(CHECKOUT).ticks
    assert [tick.text for tick in ticks] == ["0", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s"]
    assert [(tick.x, tick.anchor, tick.dx, tick.has_line) for tick in (ticks[0], ticks[1], ticks[-1])] == [
        ("0%", "start", 8, False),
        ("16.667%", "middle", 0, True),
        ("100%", "end", -8, False),
    ]


@pytest.mark.parametrize(
    ("end", "texts"),
    [
        (0.003, ["0", "1 ms", "2 ms", "3 ms"]),
        (1.3, ["0", "200 ms", "400 ms", "600 ms", "800 ms", "1.0 s", "1.2 s", "1.4 s"]),
        (95, ["0", "15 s", "30 s", "45 s", "1 m", "1 m 15 s", "1 m 30 s", "1 m 45 s"]),
        (3 * 3600, ["0", "30 m", "1 h", "1 h 30 m", "2 h", "2 h 30 m", "3 h"]),
        (60 * 3600, ["0", "12 h", "1 d", "1 d 12 h", "2 d", "2 d 12 h"]),
    ],
)
def test_ticks_fit_what_they_measure(end, texts):
    assert [tick.text for tick in drawn([make_step(1, (OK, 0, end))], make_run(end=end)).ticks] == texts


def test_time_in_the_queue_is_not_on_the_axis():
    shown = drawn([make_step(1, (OK, 600, 601))], make_run(RunState.SUCCEEDED, 602, begin=600))
    assert shown.rows[0].bars == (Bar("ok", "0%", "50%"),)


def test_a_run_that_waits_for_a_person_does_not_grow():
    steps = [make_step(1, (StepState.UNKNOWN, 0, 10))]
    assert drawn(steps, make_run(RunState.UNKNOWN), now=300_000).rows[0].bars == (Bar("unknown", "0%", "100%"),)


IDLE = (make_step(1, (OK, 0, 1)), make_step(2, (OK, 3_601, 3_602)), make_step(3, (OK, 3_602, 3_604)))


def test_a_squeezed_axis_leaves_idle_time_out():
    real, squeezed = (drawn(IDLE, make_run(RunState.SUCCEEDED, 3_604), squeeze=squeeze) for squeeze in (False, True))
    assert (real.can_squeeze, real.is_squeezed, real.gaps) == (True, False, ())
    assert share(real.rows[0].bars[0].width) == 0.4
    assert (squeezed.can_squeeze, squeezed.is_squeezed) == (True, True)
    assert [share(row.bars[0].width) for row in squeezed.rows] == pytest.approx([24.038, 24.038, 48.077], abs=0.01)
    assert [gap.text for gap in squeezed.gaps] == ["1 h 00 m without work"]
    assert share(squeezed.gaps[0].x) == pytest.approx(24.038, abs=0.01)
    assert [tick.text for tick in squeezed.ticks] == ["0", "1 h 00 m"]


def test_a_run_without_idle_time_cannot_be_squeezed():
    steps = [make_step(number, (OK, number, number + 1)) for number in range(8)]
    shown = drawn(steps, make_run(RunState.SUCCEEDED, 8.1), squeeze=True)
    assert (shown.can_squeeze, shown.is_squeezed) == (False, False)


# --- many steps ---


def many(count, **states):
    """So many steps of a second each; ``s300=FAILED`` says otherwise of the one with that sequence."""
    return [make_step(number, (states.get(f"s{number}", OK), number, number + 1)) for number in range(1, count + 1)]


def test_two_hundred_steps_are_shown_without_a_window():
    shown = drawn(many(200))
    assert (shown.window, shown.strip, len(shown.rows)) == (None, (), 200)


@pytest.mark.parametrize(
    ("states", "options", "first"),
    [
        ({}, {}, 1),
        ({"s300": FAILED}, {}, 250),
        ({"s10": FAILED, "s300": FAILED}, {}, 250),
        ({"s300": RUNNING}, {}, 250),
        ({"s300": FAILED}, {"around": 130}, 80),
        ({"s300": FAILED}, {"around": 9_999}, 401),
        ({"s300": FAILED}, {"around": -5}, 1),
        ({"s300": FAILED}, {"first": 7}, 7),
        ({"s300": FAILED}, {"first": 10**9}, 401),
        ({"s300": FAILED}, {"target": StepKey("step_100")}, 50),
    ],
)
def test_of_more_a_window_is_shown_around_what_matters(states, options, first):
    shown = drawn(many(500, **states), **options)
    assert (shown.window.first, shown.window.last, shown.window.total) == (first, first + 99, 500)
    assert [row.number for row in shown.rows] == list(range(first, first + 100))


def test_windows_lead_to_each_other():
    steps, seen, first = many(250), [], 1
    while first is not None:
        shown = drawn(steps, first=first)
        seen += [row.number for row in shown.rows]
        first = shown.window.next
    assert sorted(set(seen)) == list(range(1, 251))
    assert (drawn(steps, first=1).window.previous, drawn(steps, first=151).window.previous) == (None, 51)
    assert drawn(steps, first=60).window.previous == 1


def test_a_window_has_its_own_part_of_the_time():
    shown = drawn(many(500, s300=FAILED), make_run(end=501))
    assert (shown.ticks[0].text, shown.ticks[-1].text) == ("4 m", "6 m")
    assert share(shown.rows[0].bars[0].width) > 0.8


def test_the_strip_stands_for_all_and_shows_the_worst():
    strip = drawn(many(1_000, s3=FAILED, s4=RUNNING)).strip
    assert len(strip) == 200
    assert (strip[0].css, strip[0].word, strip[0].first, strip[0].last, strip[0].sequence) == ("bad", "Failed", 1, 5, 3)
    assert strip[-1].last == 1_000
    assert {cell.css for cell in strip[1:]} == {"ok"}


def test_ten_thousand_steps_are_drawn_at_once():
    steps, run = many(10_000, s5000=FAILED), make_run(end=10_001)
    begin = time.process_time()
    shown = drawn(steps, run)
    assert time.process_time() - begin < 0.5  # a tenth of that on any machine
    assert len(shown.rows) == 100


# --- whatever is recorded ---

STATES = st.sampled_from(StepState)
MOMENTS = st.integers(-10_000_000, 10_000_000).map(lambda ms: ms / 1_000)
TRIES = st.tuples(STATES, MOMENTS, st.none() | MOMENTS)
STEPS = st.lists(
    st.builds(
        lambda number, tries, origin, kind: make_step(number, *tries, origin=origin, kind=kind),
        st.integers(0, 50),
        st.lists(TRIES, min_size=1, max_size=5),
        st.sampled_from(Origin),
        st.sampled_from(StepKind),
    ),
    max_size=12,
)


@given(STEPS, st.sampled_from(RunState), st.none() | MOMENTS, MOMENTS, st.booleans(), st.integers(1, 30))
def test_no_record_breaks_the_chart(steps, state, end, now, squeeze, repeated):
    shown = chart(make_run(state, end), steps * repeated, at(now), squeeze=squeeze)
    assert len(shown.rows) <= 200
    for row in shown.rows:
        assert row.took_ms is None or row.took_ms >= 0
        for bar in row.bars:
            assert share(bar.width) >= 0.4
            assert 0 <= share(bar.x) <= 100 - share(bar.width) + 0.001
    assert 1 <= len(shown.ticks) <= 10
    assert all(0 <= share(tick.x) <= 100 for tick in shown.ticks)
    assert all(share(gap.x) + share(gap.width) <= 100.01 for gap in shown.gaps)
    assert sum(number for _, number in shown.counts) == shown.total_steps


def test_the_ends_of_the_calendar_can_be_drawn():
    run = replace(make_run(RunState.RUNNING), started_at=datetime.min.replace(tzinfo=UTC), execution_started_at=None)
    shown = chart(run, CHECKOUT, datetime.max.replace(tzinfo=UTC))
    assert len(shown.rows) == 4
