"""The list: every filter gives what a look at each run would give, in pages that hold still."""

import itertools
import json
import random
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from workflow_runs.clock import run_id_millis
from workflow_runs.model.entries import RunEnded
from workflow_runs.model.records import Choice, ErrorRecord, Page, RunField, RunFilter, RunKind, StepKey
from workflow_runs.model.states import RunState, RunStatus, is_finished, may_follow
from workflow_runs.operations.search import FIELDS, parse_query
from workflow_runs.store import finding

RUNS = 160
NAMES, TAGS, USERS = ("checkout", "refund", "rebook"), ("eu", "us", "a,b", 'q"'), ("ada", "bob")
TRIGGERS = ("api", "manual", "nightly")
MESSAGES = (
    "card declined",
    "Card DECLINED: 50%",
    "a_b",
    "axb",
    "C:\\temp",
    "Überweisung",
    "überweisung",
    "İ",
    'it\'s "x"',
)
CODE_VERSIONS = ("v1", "v2", None)
INPUTS = (
    None,
    "null",
    "42",
    '"42"',
    '{"id":42,"name":"Ann, Lee","ok":true,"none":null}',
    '{"id":"42","name":"ann, lee","ok":"true","none":"null"}',
    '{"id":42.0,"name":"\\u0041nn, Lee","ok":1}',
    '{"id":1e3,"rooms":[{"id":"a"},{"id":"b"}]}',
    '{"id":[42],"rooms":{"0":{"id":"a"},"x-y":"ü"}}',
    '{"id":{"id":42},"rooms":[[7,8],"[]"],"größe":"\\u00fc"}',
    '{"id":42',  # damaged, as are the next two
    "",
    '{"id":42,"x":NaN}',
)
MINUTE = 60_000


@pytest.fixture
def filled(record):
    """A record of runs that differ in everything that a filter can ask for."""
    dice = random.Random(7)
    entries, ids = [], []
    start = record.clock.now_millis() - 200 * MINUTE
    for number in range(RUNS):
        run_id = id_at(start + number * MINUTE, dice)
        lineage = {}
        if ids and dice.random() < 0.3:
            parent = dice.choice(ids)
            lineage = {"parent_run_id": parent, "root_run_id": dice.choice([parent, ids[0]])}
        entries.append(
            record.start(
                run_id,
                workflow_name=dice.choice(NAMES),
                trigger=dice.choice(TRIGGERS),
                correlation_id=dice.choice([None, "c-1", "c-2"]),
                tags=tuple(dice.sample(TAGS, dice.randrange(4))),
                triggered_by_user_id=dice.choice([None, *USERS]),
                state=RunState.RUNNING,
                resume_from=StepKey("charge") if lineage and dice.random() < 0.5 else None,
                code_version=dice.choice(CODE_VERSIONS),
                input=INPUTS[number % len(INPUTS)],
                **lineage,
            )
        )
        ids.append(run_id)
        state = dice.choice(list(RunState))
        if is_finished(state):
            if not may_follow(RunState.RUNNING, state):
                state = RunState.FAILED
            error = None
            if state is not RunState.SUCCEEDED:
                step = dice.choice(["charge", "book", None])
                error = ErrorRecord(dice.choice(MESSAGES), step_name=step, fingerprint=dice.choice(["f1", "f2"]))
            took = int(dice.lognormvariate(9, 4))
            entries.append(RunEnded(run_id, state, run_id_millis(run_id) + took, error=error))
        elif state is not RunState.RUNNING:
            entries.append(record.change(run_id, state))
    record.apply(*entries)
    failed = [run_id for run_id in ids if record.store.get_run(run_id).status is RunStatus.FAILED]
    for number, run_id in enumerate(failed[::3]):
        ids.append(id_at(start + (RUNS + number) * MINUTE, dice))
        record.write(record.resume(run_id, run_id=ids[-1], resume_from=StepKey("charge")))
    record.runs = [record.store.get_run(run_id) for run_id in reversed(ids)]
    return record


def id_at(millis, dice):
    number = (millis << 80) | (7 << 76) | (2 << 62) | dice.getrandbits(60)
    return "wfrn_" + "".join("0123456789abcdefghjkmnpqrstvwxyz"[(number >> shift) & 31] for shift in range(125, -1, -5))


def ascii_lower(text):
    return text.encode().lower().decode()


def scalar_at(text, path):
    """The scalar at a path of JSON as it is written there; a string without its quotes."""
    if text is None:
        return None
    value = json.loads(text, parse_int=str, parse_float=str)
    for segment in path:
        if isinstance(value, dict) and segment in value:
            value = value[segment]
        elif isinstance(value, list) and segment.isdigit() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return None
    return None if isinstance(value, dict | list) else value if isinstance(value, str) else json.dumps(value)


def is_chosen(choice, run):
    error = run.error if run.status in {RunStatus.FAILED, RunStatus.CANCELLED} else None
    match choice.field:
        case RunField.TAG:
            return not set(choice.values).isdisjoint(run.tags)
        case RunField.ERROR_STEP:
            return error is not None and error.step_name in choice.values
        case RunField.ERROR_TEXT:
            shown = ascii_lower(error.message) if error else ""
            return any(ascii_lower(value) in shown for value in choice.values) and error is not None
        case RunField.INPUT:
            return scalar_at(run.input, choice.path) in choice.values
        case field:
            return getattr(run, field) in choice.values


def kind_of(run):
    if run.parent_run_id is None:
        return RunKind.ROOT
    return RunKind.RERUN if run.resume_from is None else RunKind.RESUME


def matches(where, run):
    """What the filter means, said plainly."""
    wanted = (
        (where.correlation_id, run.correlation_id),
        (where.trigger, run.trigger),
        (where.triggered_by_user_id, run.triggered_by_user_id),
        (where.parent_run_id, run.parent_run_id),
        (where.root_run_id, run.root_run_id),
        (where.fingerprint, run.fingerprint),
    )
    took = run.duration_ms
    return (
        all(value is None or value == found for value, found in wanted)
        and (not where.workflow_names or run.workflow_name in where.workflow_names)
        and (not where.statuses or run.status in where.statuses)
        and (not where.states or run.state in where.states)
        and set(where.tags) <= set(run.tags)
        and (where.started_since is None or run.started_at >= where.started_since)
        and (where.started_until is None or run.started_at < where.started_until)
        and (where.duration_ms_min is None or (took is not None and took >= where.duration_ms_min))
        and (where.duration_ms_max is None or (took is not None and took <= where.duration_ms_max))
        and (not where.kinds or kind_of(run) in where.kinds)
        and (where.has_resume is None or where.has_resume == (run.resumed_by_run_id is not None))
        and (where.newer_than is None or run.id > where.newer_than)
        and all(is_chosen(choice, run) for choice in where.choices)
        and not any(matches(other, run) for other in where.excluded)
    )


def expected(record, where):
    return [run.id for run in record.runs if matches(where, run)]


def filters(record):
    ids = st.sampled_from([run.id for run in record.runs])
    times = st.integers(-1, RUNS + 1).map(lambda number: record.runs[-1].started_at + timedelta(minutes=number))
    durations = st.sampled_from([0, 50, 99, 100, 101, 999, 5_000, 10_000, 60_000, 10**6, 10**8])
    some = {
        "workflow_names": st.lists(st.sampled_from([*NAMES, "none"]), max_size=3).map(tuple),
        "statuses": st.lists(st.sampled_from(list(RunStatus)), max_size=3).map(tuple),
        "states": st.lists(st.sampled_from(list(RunState)), max_size=4).map(tuple),
        "tags": st.lists(st.sampled_from([*TAGS, "none"]), max_size=2).map(tuple),
        "correlation_id": st.sampled_from([None, "c-1", "none"]),
        "trigger": st.sampled_from([None, *TRIGGERS]),
        "triggered_by_user_id": st.sampled_from([None, "ada"]),
        "parent_run_id": st.none() | ids,
        "root_run_id": st.none() | ids | st.just(record.runs[-1].id),
        "fingerprint": st.sampled_from([None, "f1", "none"]),
        "started_since": st.none() | times,
        "started_until": st.none() | times,
        "duration_ms_min": st.none() | durations,
        "duration_ms_max": st.none() | durations,
        "kinds": st.lists(st.sampled_from(list(RunKind)), max_size=2).map(tuple),
        "has_resume": st.sampled_from([None, True, False]),
        "newer_than": st.none() | ids,
        "choices": st.lists(choices(ids), max_size=2).map(tuple),
    }

    # Few conditions at a time: with all of them nothing is ever found.
    def built(most, **more):
        return st.lists(st.sampled_from(sorted(some)), max_size=most, unique=True).flatmap(
            lambda names: st.builds(RunFilter, **{name: some[name] for name in names}, **more)
        )

    leaving_out = st.just(()) | st.lists(built(2), max_size=2).map(tuple)
    twice = built(1, excluded=built(1).map(lambda where: (where,))).map(lambda where: (where,))
    return built(3, excluded=leaving_out | twice)


def choices(ids):
    some = {
        RunField.WORKFLOW_NAME: st.sampled_from([*NAMES, "none"]),
        RunField.CORRELATION_ID: st.sampled_from(["c-1", "c-2", "none"]),
        RunField.TRIGGER: st.sampled_from(TRIGGERS),
        RunField.TRIGGERED_BY_USER_ID: st.sampled_from(USERS),
        RunField.PARENT_RUN_ID: ids,
        RunField.FINGERPRINT: st.sampled_from(["f1", "f2", "none"]),
        RunField.CODE_VERSION: st.sampled_from(["v1", "v2", "none"]),
        RunField.ERROR_STEP: st.sampled_from(["charge", "book", "none"]),
        RunField.TAG: st.sampled_from([*TAGS, "none"]),
        RunField.ERROR_TEXT: st.sampled_from(
            [*MESSAGES, "CARD declined", "50%", "%", "a_b", "\\", "ÜBERWEISUNG", "überweisung", "i", "'", '"', ""]
        ),
    }
    assert {*some, RunField.INPUT} == set(RunField)
    whole = [
        st.builds(Choice, st.just(field), st.lists(values, min_size=1, max_size=3).map(tuple))
        for field, values in some.items()
    ]
    paths = [
        "id",
        "name",
        "ok",
        "none",
        "rooms.0.id",
        "rooms.1.id",
        "rooms.0",
        "rooms.0.1",
        "rooms.x-y",
        "größe",
        "id.id",
    ]
    values = [
        "42",
        "42.0",
        "1e3",
        "1000.0",
        "Ann, Lee",
        "true",
        "1",
        "null",
        "a",
        "b",
        "8",
        "ü",
        "[]",
        "[42]",
        '{"id":42}',
    ]
    inside = st.builds(
        Choice,
        st.just(RunField.INPUT),
        st.lists(st.sampled_from(values), min_size=1, max_size=3).map(tuple),
        st.sampled_from(paths).map(lambda path: tuple(path.split("."))),
    )
    return st.one_of(*whole, inside)


def test_any_filter_gives_what_a_look_at_each_run_would(filled):
    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(where=filters(filled), limit=st.integers(1, 60), offset=st.sampled_from([0, 0, 1, 30, 400]))
    def check(where, limit, offset):
        found = filled.store.list_runs(where, Page(limit, offset), payloads=False)
        ids = expected(filled, where)
        shown = ids[offset : offset + limit]
        assert [run.id for run in found.runs] == shown
        assert (found.total, found.total_capped) == (len(ids), False)
        assert found.next_after == (shown[-1] if offset + limit < len(ids) else None)

    check()


def terms(record, now):
    """A term of each field of the query grammar, and what it says of a run."""
    parent = next(run.parent_run_id for run in record.runs if run.parent_run_id)
    middle = record.runs[RUNS // 2].started_at
    return {
        "status:failed": lambda run: run.status is RunStatus.FAILED,
        "status:LOST,running": lambda run: run.state is RunState.LOST or run.status is RunStatus.RUNNING,
        "status:succeeded": lambda run: run.status is RunStatus.SUCCEEDED,
        "workflow:checkout,refund": lambda run: run.workflow_name in {"checkout", "refund"},
        "key:c-1": lambda run: run.correlation_id == "c-1",
        "c-2": lambda run: run.correlation_id == "c-2",
        'tag:"a,b"': lambda run: "a,b" in run.tags,
        "tag:eu,us": lambda run: bool({"eu", "us"} & {*run.tags}),
        "step:charge": lambda run: run.error is not None and run.error.step_name == "charge",
        "error:declined": lambda run: run.error is not None and "declined" in run.error.message.lower(),
        "error:50%": lambda run: run.error is not None and "50%" in run.error.message,
        "error:a_b,c:": lambda run: run.error is not None and run.error.message in {"a_b", r"C:\temp"},
        "group:f1": lambda run: run.fingerprint == "f1",
        "by:me": lambda run: run.triggered_by_user_id == "ada",
        "by:bob,me": lambda run: run.triggered_by_user_id is not None,
        "trigger:nightly": lambda run: run.trigger == "nightly",
        "code:v1": lambda run: run.code_version == "v1",
        f"parent:{parent}": lambda run: run.parent_run_id == parent,
        f"since:{middle.isoformat()}": lambda run: run.started_at >= middle,
        f"from:{middle.isoformat()}": lambda run: run.started_at >= middle,
        f"to:{middle.isoformat()}": lambda run: run.started_at < middle,
        "took:>10s": lambda run: (run.duration_ms or 0) > 10_000,
        "took:50ms..1m": lambda run: run.duration_ms is not None and 50 <= run.duration_ms <= 60_000,
        "is:stuck": lambda run: (
            run.status is RunStatus.RUNNING
            and run.state not in {RunState.WAITING, RunState.PAUSED}
            and run.started_at < now - timedelta(minutes=100)
        ),
        "is:resume": lambda run: kind_of(run) is RunKind.RESUME,
        "is:rerun,resume": lambda run: kind_of(run) is not RunKind.ROOT,
        "is:root": lambda run: run.parent_run_id is None,
        "has:resume": lambda run: run.resumed_by_run_id is not None,
        "input.id:42": lambda run: scalar_at(run.input, ("id",)) == "42",
        "input.rooms.0.id:a": lambda run: scalar_at(run.input, ("rooms", "0", "id")) == "a",
    }


def test_terms_of_a_query_find_the_runs_that_they_say_and_negated_the_others(filled):
    now = filled.clock.now()
    shown = terms(filled, now)
    assert {text.partition(":")[0].partition(".")[0] for text in shown if ":" in text} == {
        name.partition(".")[0] for name in FIELDS
    }
    for text, says in shown.items():
        for query, meant in ((text, True), (f"-{text}", False)):
            search = parse_query(query, now, me="ada", stuck_after_s=100 * 60)
            assert search.problem is None
            found = filled.store.list_runs(search.where, Page(200), payloads=False)
            assert [run.id for run in found.runs] == [run.id for run in filled.runs if says(run) is meant], query
            assert 0 < found.total < len(filled.runs), query


def test_terms_of_a_query_hold_together(filled):
    now = filled.clock.now()
    pairs = list(itertools.combinations(terms(filled, now).items(), 2))
    for (one, says_one), (other, says_other) in random.Random(3).sample(pairs, 60):
        where = parse_query(f"{one} -{other}", now, me="ada", stuck_after_s=100 * 60).where
        assert filled.ids(**{name: getattr(where, name) for name in where.__slots__}) == [
            run.id for run in filled.runs if says_one(run) and not says_other(run)
        ], f"{one} -{other}"


@pytest.mark.parametrize(
    "where",
    [
        RunFilter(),
        RunFilter(statuses=(RunStatus.FAILED, RunStatus.RUNNING)),
        RunFilter(tags=("eu",)),
        RunFilter(workflow_names=("checkout", "refund"), statuses=(RunStatus.FAILED,)),
        RunFilter(duration_ms_min=1000),
    ],
)
def test_pages_by_cursor_and_by_offset_are_the_list_cut_up(filled, where):
    ids = expected(filled, where)
    by_cursor, after = [], None
    while True:
        page = filled.store.list_runs(where, Page(7, after=after), payloads=False)
        assert page.total == len(ids)
        by_cursor += [run.id for run in page.runs]
        after = page.next_after
        if after is None:
            break
    vars_of = {name: getattr(where, name) for name in where.__slots__}
    by_offset = [filled.ids(limit=7, offset=offset, **vars_of) for offset in range(0, len(ids), 7)]
    assert by_cursor == ids == [run_id for page in by_offset for run_id in page]


def test_pages_by_cursor_hold_still_while_runs_arrive(filled):
    first = filled.store.list_runs(RunFilter(), Page(10), payloads=False)
    for _ in range(5):
        filled.started()
    second = filled.ids(limit=10, after=first.next_after)
    assert [*(run.id for run in first.runs), *second] == [run.id for run in filled.runs[:20]]


def test_full_list_has_what_the_detail_has(filled):
    page = filled.store.list_runs(RunFilter(), Page(50), payloads=True)
    assert list(page.runs) == [filled.store.get_run(run.id) for run in filled.runs[:50]]


def test_summary_has_no_payload(record):
    run_id = record.started(input="1", state=RunState.RUNNING)
    record.write(record.end(run_id, result="2"))
    (summary,) = record.store.list_runs(RunFilter(), Page(), payloads=False).runs
    (full,) = record.store.list_runs(RunFilter(), Page(), payloads=True).runs
    assert (summary.input, summary.result, full.input, full.result) == (None, None, "1", "2")


def test_total_is_counted_so_far_and_no_further(filled, monkeypatch):
    monkeypatch.setattr(finding, "TOTAL_MAX", 10)
    monkeypatch.setattr("workflow_runs.store.reading.TOTAL_MAX", 10)
    for where, total in ((RunFilter(), 10), (RunFilter(statuses=(RunStatus.FAILED, RunStatus.RUNNING)), 10)):
        page = filled.store.list_runs(where, Page(20), payloads=False)
        assert (page.total, page.total_capped, len(page.runs)) == (total, True, 20)


def test_total_is_left_out_when_it_is_not_wanted(filled):
    assert filled.store.list_runs(RunFilter(), Page(), payloads=False, total=False).total == -1


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800", "none", "%", "'", ""])
def test_any_text_is_a_valid_question(filled, text):
    assert filled.store.get_run(text) is None
    assert filled.store.get_steps(text) == ()
    assert filled.store.get_audit(text) == ()
    assert filled.store.find_action(text, text) is None
    for field in ("correlation_id", "trigger", "triggered_by_user_id", "parent_run_id", "root_run_id", "fingerprint"):
        assert filled.ids(**{field: text}) == []
    assert filled.ids(tags=(text,)) == filled.ids(workflow_names=(text,)) == []
    filled.ids(after=text)


@pytest.mark.parametrize("text", ["\x00", "\ud800", "none", "%'", "$.x"])
def test_any_text_is_a_valid_choice(filled, text):
    everything = [run.id for run in filled.runs]
    for field in RunField:
        choice = Choice(field, (text,), ("id",))
        assert filled.ids(choices=(choice,)) == []
        assert filled.ids(excluded=(RunFilter(choices=(choice,)),)) == everything


def test_filter_by_very_many_names_is_answered(filled):
    names = tuple(f"name-{number}" for number in range(600))
    assert filled.ids(workflow_names=names) == []
    assert filled.ids(workflow_names=(*names, "checkout")) == expected(filled, RunFilter(workflow_names=("checkout",)))
    both = RunFilter(workflow_names=("checkout",), statuses=(RunStatus.FAILED,))
    assert filled.ids(workflow_names=(*names, "checkout"), statuses=(RunStatus.FAILED,)) == expected(filled, both)


def test_list_of_an_empty_database_is_empty(record):
    page = record.store.list_runs(RunFilter(), Page(), payloads=True)
    assert (page.runs, page.total, page.total_capped, page.next_after) == ((), 0, False, None)
