"""The list: every filter gives what a look at each run would give, in pages that hold still."""

import random
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from workflow_runs.clock import run_id_millis
from workflow_runs.model.entries import RunEnded
from workflow_runs.model.records import ErrorRecord, Page, RunFilter
from workflow_runs.model.states import RUN_STATUS, RunState, RunStatus, is_finished, may_follow
from workflow_runs.store import finding

RUNS = 160
NAMES, TAGS, USERS = ("checkout", "refund", "rebook"), ("eu", "us", "a,b", 'q"'), ("ada", "bob")
TRIGGERS = ("api", "manual", "nightly")
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
                **lineage,
            )
        )
        ids.append(run_id)
        state = dice.choice(list(RunState))
        if is_finished(state):
            if not may_follow(RunState.RUNNING, state):
                state = RunState.FAILED
            failed = RUN_STATUS[state] is RunStatus.FAILED
            error = ErrorRecord("no", fingerprint=dice.choice(["f1", "f2"])) if failed else None
            took = int(dice.lognormvariate(9, 4))
            entries.append(RunEnded(run_id, state, run_id_millis(run_id) + took, error=error))
        elif state is not RunState.RUNNING:
            entries.append(record.change(run_id, state))
    record.apply(*entries)
    record.runs = [record.store.get_run(run_id, payloads=False) for run_id in reversed(ids)]
    return record


def id_at(millis, dice):
    number = (millis << 80) | (7 << 76) | (2 << 62) | dice.getrandbits(60)
    return "wfrn_" + "".join("0123456789abcdefghjkmnpqrstvwxyz"[(number >> shift) & 31] for shift in range(125, -1, -5))


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
    }
    # Few conditions at a time: with all of them nothing is ever found.
    return st.lists(st.sampled_from(sorted(some)), max_size=3, unique=True).flatmap(
        lambda names: st.builds(RunFilter, **{name: some[name] for name in names})
    )


def test_any_filter_gives_what_a_look_at_each_run_would(filled):
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(where=filters(filled), limit=st.integers(1, 60), offset=st.sampled_from([0, 0, 1, 30, 400]))
    def check(where, limit, offset):
        found = filled.store.list_runs(where, Page(limit, offset), payloads=False)
        ids = expected(filled, where)
        shown = ids[offset : offset + limit]
        assert [run.id for run in found.runs] == shown
        assert (found.total, found.total_capped) == (len(ids), False)
        assert found.next_after == (shown[-1] if offset + limit < len(ids) else None)

    check()


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


def test_filter_by_very_many_names_is_answered(filled):
    names = tuple(f"name-{number}" for number in range(600))
    assert filled.ids(workflow_names=names) == []
    assert filled.ids(workflow_names=(*names, "checkout")) == expected(filled, RunFilter(workflow_names=("checkout",)))
    both = RunFilter(workflow_names=("checkout",), statuses=(RunStatus.FAILED,))
    assert filled.ids(workflow_names=(*names, "checkout"), statuses=(RunStatus.FAILED,)) == expected(filled, both)


def test_list_of_an_empty_database_is_empty(record):
    page = record.store.list_runs(RunFilter(), Page(), payloads=True)
    assert (page.runs, page.total, page.total_capped, page.next_after) == ((), 0, False, None)
