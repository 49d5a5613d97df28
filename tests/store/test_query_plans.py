"""How the databases answer: by an index, from its newest end, as far as a page reaches."""

import dataclasses
import itertools
import re
import sqlite3
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from workflow_runs.model.records import Choice, ErrorRecord, Page, RunField, RunFilter, RunKind
from workflow_runs.model.states import RunState, RunStatus
from workflow_runs.store import finding

SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)

FILTERS = {
    "nothing": {},
    "name": {"workflow_names": ("checkout",)},
    "names": {"workflow_names": ("checkout", "refund")},
    "failed": {"statuses": (RunStatus.FAILED,)},
    "running": {"statuses": (RunStatus.RUNNING,)},
    "succeeded": {"statuses": (RunStatus.SUCCEEDED,)},
    "two statuses": {"statuses": (RunStatus.FAILED, RunStatus.CANCELLED)},
    "state": {"states": (RunState.LOST,)},
    "name and status": {"workflow_names": ("checkout",), "statuses": (RunStatus.FAILED,)},
    "names and succeeded": {"workflow_names": ("checkout", "refund"), "statuses": (RunStatus.SUCCEEDED,)},
    "tag": {"tags": ("eu",)},
    "tags": {"tags": ("eu", "us")},
    "tag and status": {"tags": ("eu",), "statuses": (RunStatus.FAILED,)},
    "tag and time": {"tags": ("eu",), "started_since": SINCE},
    "correlation": {"correlation_id": "c-1"},
    "correlation and name": {"correlation_id": "c-1", "workflow_names": ("checkout",)},
    "trigger": {"trigger": "nightly"},
    "trigger and name": {"trigger": "api", "workflow_names": ("checkout",)},
    "user": {"triggered_by_user_id": "ada"},
    "parent": {"parent_run_id": "wfrn_p"},
    "root": {"root_run_id": "wfrn_r"},
    "fingerprint": {"fingerprint": "f1"},
    "time": {"started_since": SINCE, "started_until": UNTIL},
    "status and time": {"statuses": (RunStatus.FAILED,), "started_since": SINCE, "started_until": UNTIL},
    "slow": {"duration_ms_min": 60_000},
    "between": {"duration_ms_min": 1_000, "duration_ms_max": 30_000},
    "fast": {"duration_ms_max": 50},
    "derived": {"kinds": (RunKind.RERUN, RunKind.RESUME)},
    "resumes": {"kinds": (RunKind.RESUME,), "started_since": SINCE},
    "roots": {"kinds": (RunKind.ROOT,)},
    "resumes of a name": {"kinds": (RunKind.RESUME,), "workflow_names": ("checkout",)},
    "resumed": {"has_resume": True},
    "not resumed": {"has_resume": False, "statuses": (RunStatus.FAILED,)},
    "newer": {"newer_than": "wfrn_0"},
    "keys": {"choices": (Choice(RunField.CORRELATION_ID, ("c-1", "c-2")),)},
    "users": {"choices": (Choice(RunField.TRIGGERED_BY_USER_ID, ("ada", "bob")),)},
    "triggers": {"choices": (Choice(RunField.TRIGGER, ("nightly", "hourly")),)},
    "fingerprints": {"choices": (Choice(RunField.FINGERPRINT, ("f1", "f2")),)},
    "parents": {"choices": (Choice(RunField.PARENT_RUN_ID, ("wfrn_p", "wfrn_q")),)},
    "names twice": {
        "workflow_names": ("checkout", "refund"),
        "choices": (Choice(RunField.WORKFLOW_NAME, ("refund",)),),
    },
    "either tag": {"choices": (Choice(RunField.TAG, ("eu", "us")),)},
    "either tag and status": {"choices": (Choice(RunField.TAG, ("eu", "us")),), "statuses": (RunStatus.FAILED,)},
    "either tag and one": {"choices": (Choice(RunField.TAG, ("eu", "us")),), "tags": ("eu",)},
    "failing step": {"choices": (Choice(RunField.ERROR_STEP, ("charge",)),)},
    "failing steps": {"choices": (Choice(RunField.ERROR_STEP, ("charge", "book")),)},
    "error": {"choices": (Choice(RunField.ERROR_TEXT, ("declined",)),), "started_since": SINCE},
    "error of a name": {"choices": (Choice(RunField.ERROR_TEXT, ("no",)),), "workflow_names": ("checkout", "refund")},
    "code": {"choices": (Choice(RunField.CODE_VERSION, ("v1",)),), "started_since": SINCE},
    "input": {"choices": (Choice(RunField.INPUT, ("42",), ("rooms", "0", "id")),), "started_since": SINCE},
    "without a name": {"excluded": (RunFilter(workflow_names=("checkout",)),), "started_since": SINCE},
    "without a tag": {"excluded": (RunFilter(tags=("eu",)),), "started_since": SINCE},
    "failed without a name": {"excluded": (RunFilter(workflow_names=("checkout",)),), "statuses": (RunStatus.FAILED,)},
    "tag without a state": {"excluded": (RunFilter(states=(RunState.FAILED,)),), "tags": ("eu",)},
    "without an input": {
        "excluded": (RunFilter(choices=(Choice(RunField.INPUT, ("42",), ("id",)),)),),
        "statuses": (RunStatus.FAILED,),
    },
    "without what is stuck": {
        "excluded": (RunFilter(statuses=(RunStatus.RUNNING,), started_until=UNTIL),),
        "started_since": SINCE,
    },
}


def test_every_field_of_the_filter_is_asked_about():
    asked = {field for where in FILTERS.values() for field in where}
    assert asked == {field.name for field in dataclasses.fields(RunFilter)}
    chosen = {choice.field for where in FILTERS.values() for choice in where.get("choices", ())}
    assert chosen == set(RunField)


@pytest.fixture
def filled(record):
    """Enough runs, in enough variety, that a planner has a reason to choose."""
    entries = []
    for number in range(600):
        start = record.start(
            workflow_name=("checkout", "refund", "rebook")[number % 3],
            trigger=("api", "nightly")[number % 7 == 0],
            correlation_id=f"c-{number % 200}",
            triggered_by_user_id=("ada", "bob", "cy")[number % 3],
            tags=("eu", "us")[: number % 3],
            parent_run_id="wfrn_p" if number % 40 == 0 else None,
            input='{"id": 1}',
            state=RunState.RUNNING,
        )
        entries.append(start)
        if number % 50:
            state = RunState.FAILED if number % 20 == 0 else RunState.SUCCEEDED
            error = ErrorRecord("no", step_name="charge") if state is RunState.FAILED else None
            entries.append(record.end(start.run_id, state, after_ms=number * 200, error=error))
    record.apply(*entries)
    if record.url.startswith("postgresql"):
        record.sql("VACUUM ANALYZE")
    return record


def plans(record, where, page, *, total=False):
    """The statements that a list takes, each with the plan for it."""
    engine, asked = record.store._reading().engine, asked_of_list(record, where, page, total=total)
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # The table is small enough to be read whole; what is asked is whether there is another way.
            for way in ("enable_seqscan", "enable_bitmapscan"):
                connection.exec_driver_sql(f"SET {way} = off")
        found = [
            (statement, [row[-1] for row in connection.exec_driver_sql(explain + statement, parameters)])
            for statement, parameters in asked
        ]
        connection.invalidate()
    return found


def asked_of_list(record, where, page, *, total=False):
    """The statements that a list takes, each with its parameters."""
    engine, asked = record.store._reading().engine, []

    def note(connection, cursor, statement, parameters, context, executemany):
        asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        record.store.list_runs(RunFilter(**where), page, payloads=True, total=total)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    return asked


def is_bounded_on_sqlite(plan):
    return not any("TEMP B-TREE" in line or re.fullmatch(r"SCAN workflow_run\w+", line) for line in plan)


def is_bounded_on_postgres(plan):
    """No table is read whole, and nothing is sorted but single rows and what limits have cut to a page."""
    text = "\n".join(plan)
    sorts = [int(rows) for rows in re.findall(r"Sort  \(cost=\S+ rows=(\d+)", text)]
    return "Seq Scan" not in text and all(rows <= 51 * 8 for rows in sorts)


@pytest.mark.parametrize("page", [Page(50), Page(50, after="wfrn_7zzzzzzzzzzzzzzzzzzzzzzzzz"), Page(50, offset=20)])
def test_page_is_found_by_an_index_whatever_is_asked(filled, page):
    is_bounded = is_bounded_on_sqlite if filled.url.startswith("sqlite") else is_bounded_on_postgres
    for name, where in FILTERS.items():
        for statement, plan in plans(filled, where, page):
            assert is_bounded(plan), "\n".join([name, statement, *plan])


def test_payloads_are_read_of_the_runs_of_the_page_and_no_others(filled):
    reading = [statement for statement, _ in plans(filled, {}, Page(50)) if "payload" in statement]
    assert len(reading) == 1
    _, _, ids = reading[0].partition("WHERE workflow_runs.id IN (")
    assert max(ids.count("?"), ids.count("%(")) == 50


def test_total_is_counted_with_a_limit_whatever_is_asked(filled):
    for where in FILTERS.values():
        *_, (statement, _) = plans(filled, where, Page(1), total=True)
        assert statement.startswith("SELECT count(*)")
        assert re.search(r"LIMIT \S+( OFFSET \?)?\) AS \w+$", statement), statement


LEADS = {
    "name": "ix_workflow_runs_name",
    "failed": "ix_workflow_runs_state",
    "name and status": "ix_workflow_runs_name_state",
    "correlation": "ix_workflow_runs_correlation",
    "correlation and name": "ix_workflow_runs_correlation",
    "trigger": "ix_workflow_runs_trigger",
    "user": "ix_workflow_runs_user",
    "parent": "ix_workflow_runs_parent",
    "root": "ix_workflow_runs_root",
    "fingerprint": "ix_workflow_runs_fingerprint",
    "slow": "ix_workflow_runs_duration",
    "tag": "workflow_run_tags",
    "tag and status": "workflow_run_tags",
    "either tag": "workflow_run_tags",
    "derived": "ix_workflow_runs_derived",
    "resumes": "ix_workflow_runs_derived",
    "resumes of a name": "ix_workflow_runs_derived",
    "resumed": "ix_workflow_runs_resumed",
    "not resumed": "ix_workflow_runs_state",
    "keys": "ix_workflow_runs_correlation",
    "failing step": "ix_workflow_runs_error_step",
    "failing steps": "ix_workflow_runs_error_step",
    "error": "ix_workflow_runs_state",
    "error of a name": "ix_workflow_runs_name_state",
    "failed without a name": "ix_workflow_runs_state",
    "tag without a state": "workflow_run_tags",
}


def test_rarest_condition_leads(filled):
    for name, index in LEADS.items():
        (_, plan), *_ = plans(filled, FILTERS[name], Page(50))
        assert any(index in line for line in plan), "\n".join([name, *plan])


def test_of_two_tags_the_rarer_leads_whichever_comes_first(record, monkeypatch):
    """PostgreSQL knows it from its statistics. SQLite has none: counting a little tells it."""
    if not record.url.startswith("sqlite"):
        pytest.skip("its planner chooses")
    monkeypatch.setattr(finding, "_TAGGED_MAX", 20)
    record.apply(*(record.start(tags=("eu", "rare") if number == 0 else ("eu",)) for number in range(600)))
    for tags in (("eu", "rare"), ("rare", "eu")):
        (statement, parameters), *_ = (asked[:2] for asked in asked_of_list(record, {"tags": tags}, Page(50)))
        with sqlite3.connect(record.url.removeprefix("sqlite:///")) as connection:
            taken = itertools.count()
            connection.set_progress_handler(lambda: next(taken) < 0, 1)  # noqa: B023  # called before the next turn
            (found,) = connection.execute(statement, parameters).fetchall()
        assert [run.id for run in record.store.list_runs(RunFilter(tags=tags), Page(50), payloads=False).runs] == [
            found[0]
        ]
        assert next(taken) < 1_500  # instructions; led by the other tag it is 10 for each of 600 runs


def test_statement_is_made_once_for_all_pages_of_a_list(filled):
    """Putting it together and finding what was compiled of it costs as much as asking."""
    reader, where = filled.store._reading(), RunFilter(statuses=(RunStatus.FAILED,))
    before = reader._list_statements.cache_info().misses
    after, pages = None, 0
    while after is not None or pages == 0:
        found = filled.store.list_runs(where, Page(5, after=after), payloads=False, total=False)
        after, pages = found.next_after, pages + 1
    assert pages > 3
    assert reader._list_statements.cache_info().misses - before == 2  # the first page, and all that go on from one


def test_no_language_of_the_database_folds_other_letters_than_a_to_z(filled):
    """SQLite's lower() knows no others; that of PostgreSQL goes by the collation."""
    (statement, _), *_ = plans(filled, FILTERS["error"], Page(50))
    assert ('COLLATE "C"' in statement) == filled.url.startswith("postgresql"), statement


def test_undone_steps_are_found_by_the_chain(filled):
    reader, asked = filled.store._reading(), []
    sa.event.listen(reader.engine, "before_cursor_execute", lambda *event: asked.append(event[2:4]))
    reader.undone_of_chain("wfrn_c")
    ((statement, parameters),) = asked
    with reader.engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN " if reader.engine.dialect.name == "sqlite" else "EXPLAIN "
        plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
    assert "ix_workflow_runs_chain" in plan


def test_claiming_looks_at_live_runs_only(filled):
    claim = filled.registered()
    session = filled.writer._connected()
    seen = []
    explain = "EXPLAIN QUERY PLAN " if filled.url.startswith("sqlite") else "EXPLAIN "
    connection, execute = session.connection, session.connection.execute

    class Explained:
        """The connection, explaining what is asked of it before it is done."""

        def execute(self, statement, parameters=(), **options):
            if "workflow_runs" in statement and statement.startswith("SELECT"):
                seen.append([str(row[-1]) for row in execute(explain + statement, parameters)])
            return execute(statement, parameters, **options)

        def __getattr__(self, name):
            return getattr(connection, name)

    if filled.url.startswith("postgresql"):
        execute("SET enable_seqscan = off")
    session.connection = Explained()
    filled.apply(filled.claim_runs(claim, "checkout", "other"), filled.claim_runs(claim, "other"))
    assert len(seen) >= 2
    for plan in seen:
        text = "\n".join(plan)
        assert "ix_workflow_runs_claimed" in text or "ix_workflow_runs_unclaimed" in text, text
        assert "SCAN workflow_runs\n" not in text
        assert "Seq Scan on workflow_runs" not in text
