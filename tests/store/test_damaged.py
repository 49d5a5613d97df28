"""Rows that somebody damaged past the store: they are shown as what can still be read, and harm no other."""

import pytest

from workflow_runs.clock import this_process
from workflow_runs.model.records import ErrorRecord, Page, RunFilter
from workflow_runs.model.states import RunState, RunStatus, StepState


@pytest.fixture
def three(record):
    """Three finished runs; tests damage the one in the middle."""
    ids = []
    for number in range(3):
        run_id = record.started(state=RunState.RUNNING, input=f"{number}", tags=("a",), correlation_id="c")
        record.write(record.step_ended(run_id, "first", sequence=1))
        record.write(record.step_ended(run_id, "second", sequence=2))
        error = ErrorRecord("no", stack="a stack", fingerprint="f")
        record.write(record.end(run_id, RunState.FAILED, result='"r"', error=error))
        ids.append(run_id)
    record.three = ids
    return record


def damage(record, assignment, *values, table="workflow_runs", where=""):
    key = "id" if table == "workflow_runs" else "run_id"
    record.sql(f"UPDATE {table} SET {assignment} WHERE {key} = ?{where}", *values, record.three[1])


def damaged_run(record):
    """The damaged run, after seeing that the list is whole and its neighbours are what they were."""
    for payloads in (True, False):
        page = record.store.list_runs(RunFilter(), Page(), payloads=payloads)
        assert [run.id for run in page.runs] == record.three[::-1]
        assert page.runs[0].unreadable == page.runs[2].unreadable == ()
    full = record.store.list_runs(RunFilter(), Page(), payloads=True).runs[1]
    assert full == record.store.get_run(record.three[1])
    return full


@pytest.mark.parametrize("field", ["input", "result"])
@pytest.mark.parametrize("text", ["{", "", "NaN", "[1,]", "not json"])
def test_payload_that_is_no_json_is_named(three, field, text):
    damage(three, f"{field} = ?", text, table="workflow_run_payloads")
    run = damaged_run(three)
    assert (getattr(run, field), run.unreadable) == (None, (field,))
    assert three.store.get_run(run.id, payloads=False).unreadable == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"message": 1}', "null"])
def test_error_that_is_damaged_reads_as_its_summary(three, text):
    damage(three, "error = ?", text, table="workflow_run_payloads")
    run = damaged_run(three)
    assert (run.error.message, run.error.stack, run.unreadable) == ("no", None, ("error",))


@pytest.mark.parametrize("text", ["{", "1", "[1]", '["a", null]', '"a"', ""])
def test_tags_that_are_no_list_of_texts_are_named(three, text):
    damage(three, "tags = ?", text)
    run = damaged_run(three)
    assert (run.tags, run.unreadable) == ((), ("tags",))


def test_ended_run_of_no_known_state_is_lost(three):
    damage(three, "state = 'paid'")
    run = damaged_run(three)
    assert (run.state, run.status, run.unreadable) == (RunState.LOST, RunStatus.FAILED, ("state",))


def test_negative_duration_is_named(three):
    damage(three, "duration_ms = -1")
    run = damaged_run(three)
    assert (run.duration_ms, run.unreadable) == (None, ("duration_ms",))


def test_mode_that_is_not_known_is_named(three):
    damage(three, "mode = 'other'")
    assert damaged_run(three).unreadable == ("mode",)


def test_time_out_of_range_is_named(three):
    damage(three, "completed_at = 9000000000000000000, execution_started_at = -9000000000000000000")
    run = damaged_run(three)
    assert (run.completed_at, run.execution_started_at) == (None, None)
    assert set(run.unreadable) == {"completed_at", "execution_started_at"}


def test_run_under_an_id_that_is_none_is_shown(three):
    three.sql("UPDATE workflow_runs SET id = 'wfrn_damaged' WHERE id = ?", three.three[1])
    page = three.store.list_runs(RunFilter(), Page(), payloads=True)
    (run,) = [run for run in page.runs if run.unreadable]
    assert (run.id, run.unreadable, len(page.runs)) == ("wfrn_damaged", ("started_at",), 3)


@pytest.mark.parametrize("assignment", ["state = 'paid'", "output = '{'", "output = ''"])
def test_step_that_is_damaged_is_unknown_and_keeps_its_place(three, assignment):
    damage(three, assignment, table="workflow_run_steps", where=" AND name = 'first'")
    first, second = three.store.get_steps(three.three[1])
    assert (first.step.name, first.state, first.last.error.code) == ("first", StepState.UNKNOWN, "unreadable")
    assert (second.state, second.last.output) == (StepState.SUCCEEDED, '"done"')


def test_damaged_words_of_a_step_read_as_what_promises_least(three):
    damage(
        three,
        "kind = 'x', effect = 'x', origin = 'x', error = '{'",
        table="workflow_run_steps",
        where=" AND name = 'first'",
    )
    first, _ = three.store.get_steps(three.three[1])
    assert (first.kind, first.effect, first.last.origin, first.last.error) == ("step", "unsafe", "executed", None)


def test_runs_go_on_beside_a_damaged_one(three):
    damage(three, "state = 'paid', tags = '{', claim_owner = 'x'")
    run_id = three.started()
    (taken,) = three.write(three.claim_runs(three.registered()))
    assert taken.run_id == run_id
    assert three.ids(tags=("a",)) == three.ids(correlation_id="c") == three.three[::-1]
    assert (
        three.apply(three.change(three.three[1], RunState.RUNNING), three.end(run_id, RunState.CANCELLED))[0] is False
    )


def test_executor_whose_epoch_was_made_the_largest_comes_back(record):
    here = this_process().scope
    first = record.registered("worker", scope=here, pid=2**30)  # no process has that number
    run_id = record.started(state=RunState.RUNNING, claim=first)
    record.sql("UPDATE workflow_run_executors SET epoch = ? WHERE name = 'worker'", 2**63 - 1)
    record.sql("UPDATE workflow_runs SET claim_epoch = ? WHERE id = ?", 2**63 - 1, run_id)
    (taken,) = record.write(record.claim_runs(record.registered("other"), scope=here))
    assert taken.run_id == run_id
    again = record.registered("worker")
    assert type(again.epoch) is int
    record.started(claim=again)


def test_run_ends_though_its_figures_cannot_be_added_to(record):
    first, second = (record.started(state=RunState.RUNNING) for _ in range(2))
    record.write(record.end(first))
    record.sql("UPDATE workflow_run_rollup SET succeeded = ?", 2**31 - 1)
    assert record.write(record.end(second)).changed
    assert record.store.get_run(second).state is RunState.SUCCEEDED
    assert not record.write(record.end(second, RunState.FAILED)).changed


class TestOnSqlite:
    """SQLite keeps anything in any column."""

    @pytest.fixture
    def database_url(self, sqlite_url):
        return sqlite_url

    NOT_NULL = ("workflow_name", "definition", "trigger", "tags", "state", "mode", "updated_at")

    @pytest.mark.parametrize("value", [b"\xff\xfe", "text", 1.5, b"", 2**62])
    def test_values_of_other_types_are_named_or_read(self, three, value):
        columns = [row[1] for row in three.sql("PRAGMA table_info(workflow_runs)")]
        for column in columns:
            if column == "id":
                continue
            (before,) = three.sql(f"SELECT {column} FROM workflow_runs WHERE id = ?", three.three[1])[0]
            damage(three, f"{column} = ?", value)
            run = damaged_run(three)
            if isinstance(value, bytes) and column in {"workflow_name", "trigger", "correlation_id"}:
                assert column in run.unreadable
            damage(three, f"{column} = ?", before)
        assert damaged_run(three).unreadable == ()

    @pytest.mark.parametrize("field", ["input", "result", "error"])
    def test_payload_that_is_no_text_is_named(self, three, field):
        damage(three, f"{field} = CAST(? AS TEXT)", b"\xff", table="workflow_run_payloads")
        assert damaged_run(three).unreadable == (field,)

    @pytest.mark.parametrize("value", [b"\xff\xfe", "text", 1.5])
    def test_steps_of_other_types_are_read(self, three, value):
        columns = [row[1] for row in three.sql("PRAGMA table_info(workflow_run_steps)")]
        for column in columns:
            if column in {"run_id", "name", "key", "occurrence", "attempt"}:
                continue
            (before,) = three.sql(
                f"SELECT {column} FROM workflow_run_steps WHERE run_id = ? AND name = 'first'", three.three[1]
            )[0]
            damage(three, f"{column} = ?", value, table="workflow_run_steps", where=" AND name = 'first'")
            assert {step.step.name for step in three.store.get_steps(three.three[1])} == {"first", "second"}
            damage(three, f"{column} = ?", before, table="workflow_run_steps", where=" AND name = 'first'")

    def test_live_run_of_no_known_state_waits_for_a_person(self, record):
        run_id = record.started(state=RunState.RUNNING)
        record.sql("UPDATE workflow_runs SET state = 'paid' WHERE id = ?", run_id)
        run = record.store.get_run(run_id)
        assert (run.state, run.status, run.unreadable) == (RunState.UNKNOWN, RunStatus.RUNNING, ("state",))
