"""The judge sees what there is to see: each fault, made up, is counted."""

import time
from contextlib import closing
from sqlite3 import connect

import pytest

from tests.faults.book import Book, Verdict, check_file, repeats
from tests.faults.servers import Answer, Answers
from workflow_runs.testing.ledger import Call, Ledger


@pytest.fixture
def ledger():
    with Ledger().running() as ledger:
        yield ledger


def begun(step, at=0.0, key="k", pid=1):
    return Call(at, "/begin", key, step, "run", pid)


def test_a_step_that_begins_after_its_successor_was_completed_before():
    again = begun("s0", pid=2)
    assert repeats([begun("s0"), begun("s1"), again, begun("s1", pid=2)], {}) == [again]


def test_a_step_that_was_interrupted_may_begin_again():
    assert repeats([begun("s0"), begun("s1"), begun("s1", pid=2), begun("s0", key="other")], {}) == []


def test_a_step_that_was_seen_to_have_succeeded_may_not():
    again = begun("s0", at=2.0)
    assert repeats([begun("s0", at=0.5), again], {("k", "s0"): 1.0}) == [again]


def test_a_terminal_state_that_changes_is_counted(ledger):
    book = Book(ledger)
    for status in ("running", "succeeded", "succeeded", "failed"):
        book.saw([{"id": "r", "status": status, "durationMs": None}])
    assert book.verdict.faults == {"changed": 1}


def test_a_look_from_before_that_is_told_of_late_is_no_change(ledger):
    book = Book(ledger)
    asked_at = time.monotonic()
    book.saw([{"id": "r", "status": "succeeded", "durationMs": None}])
    book.saw([{"id": "r", "status": "running", "durationMs": None}], asked_at)
    assert book.verdict.faults == {}


def test_a_negative_duration_is_counted(ledger):
    book = Book(ledger)
    book.saw([{"id": "r", "status": "succeeded", "durationMs": -1}])
    assert book.verdict.faults == {"negative": 1}


class Shown:
    """A server that shows one run, as it is told to."""

    def __init__(self, **run):
        self.answers = Answers()
        given = {"steps": 1, "key": "k", "work_ms": 0}
        self.run = {"id": "r", "correlationId": "k", "parentRunId": None, "status": "succeeded", "input": given} | run
        self.run |= {"durationMs": 1, "state": self.run["status"], "result": self.run.get("result")}
        self.steps = [{"stepName": "s0", "status": "succeeded", "output": run.get("out"), "attempts": []}]
        self.listed = [self.run]

    def ask(self, method, path, body=None):
        told = self.listed if "view=summary" in path else {"run": self.run, "steps": self.steps}
        return Answer(200, {"data": told}, None, 0.0)


def effect(ledger):
    return {"i": 0, "nonce": ledger.answer("/effect", {"key": "k", "step": "s0"})[1]["nonce"]}


def test_a_run_as_it_should_be_is_no_fault(ledger):
    out = effect(ledger)
    book = Book(ledger)
    book.promised("r", "k", 1)
    assert book.judge(Shown(out=out, result={"outs": [out]})).faults == {}


@pytest.mark.parametrize(
    ("shown", "fault"),
    [
        ({"result": {"outs": []}}, "differing"),
        ({"out": {"i": 0, "nonce": "made up"}, "result": {"outs": [{"i": 0, "nonce": "made up"}]}}, "unproven"),
        ({"status": "running"}, "stuck"),
    ],
)
def test_a_run_that_is_not_as_it_should_be_is_counted(ledger, shown, fault):
    book = Book(ledger)
    assert book.judge(Shown(**{"out": effect(ledger)} | shown), peace_s=0).faults == {fault: 1}


def test_a_run_that_was_promised_and_is_not_there_is_lost(ledger):
    book = Book(ledger)
    book.promised("another", "k2", 1)
    out = effect(ledger)
    assert book.judge(Shown(out=out, result={"outs": [out]})).faults == {"lost": 1}


def test_an_effect_after_the_output_was_on_record_is_a_repeat(ledger):
    out = effect(ledger)
    effect(ledger)
    assert Book(ledger).judge(Shown(out=out, result={"outs": [out]})).faults == {"repeated": 1}


def test_two_runs_of_one_key_are_counted(ledger):
    out = effect(ledger)
    shown = Shown(out=out, result={"outs": [out]})
    shown.listed = [shown.run, shown.run | {"id": "r2"}]
    assert Book(ledger).judge(shown).faults == {"doubled": 1}


def test_a_damaged_file_is_counted(tmp_path):
    path = tmp_path / "a.db"
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,)] * 20)
        connection.commit()
        connection.execute("CREATE INDEX i ON t (a)")
        connection.commit()
    sound = Verdict()
    check_file(f"sqlite:///{path}", sound)
    assert sound.faults == {}
    with open(path, "r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)
    damaged = Verdict()
    check_file(f"sqlite:///{path}", damaged, whole=True)
    assert damaged.faults == {"damaged": 1}
