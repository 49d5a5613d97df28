"""Who watches hears of every change: of this process at once, of another within a second; and of nothing twice over a cut."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from workflow_runs import WorkflowRuns, workflow
from workflow_runs.clock import Clock
from workflow_runs.errors import InvalidQuery
from workflow_runs.journal import Journal
from workflow_runs.model.entries import (
    CancelRun,
    ClaimRuns,
    RegisterExecutor,
    RunChanged,
    RunEnded,
    StartRun,
    StepEnded,
)
from workflow_runs.model.records import StepKey
from workflow_runs.model.requests import Action
from workflow_runs.model.states import EffectClass, Origin, RunState, StepKind, StepState
from workflow_runs.operations.changes import RUNS_MAX, Changes, NoticeKind
from workflow_runs.store.opening import open_store

DEADLINE_S = 30.0
NEVER_S = 3600.0  # a poll that does not come in this test: what is heard was told by the observer, or by a first look


class Ear:
    """A watch that is waited at."""

    def __init__(self, changes, *run_ids, **options):
        self.rung = threading.Event()
        self.rings = 0
        self.watch = changes.watch(run_ids, wake=self._ring, **options)
        assert self.watch is not None
        self.heard = []

    def _ring(self):
        self.rings += 1
        self.rung.set()

    def until(self, is_heard):
        """Listen until a notice is as asked; return it."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.rung.clear()
            taken = self.watch.take()
            self.heard += taken
            for notice in taken:
                if is_heard(notice):
                    return notice
            assert self.rung.wait(deadline - time.monotonic()), f"not heard; what was: {self.heard}"

    def until_looked_at(self):
        """Wait for the first look at all runs."""
        wait_until(lambda: not self.watch.fresh)
        self.watch.take()


def wait_until(is_so):
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not is_so():
        assert time.monotonic() < deadline
        pause.wait(0.002)


def of(run_id):
    return lambda notice: notice.run_id == run_id


def is_new(notice):
    return notice.kind is NoticeKind.NEW


def is_reset(notice):
    return notice.kind is NoticeKind.RESET


@pytest.fixture
def here(shop):
    """Changes of the process that writes, by its observer alone."""
    changes = Changes(shop.store, shop.clock, poll_s=NEVER_S)
    shop.journal.add_observer(changes.observe)
    yield changes
    changes.close()


@pytest.fixture
def elsewhere(shop, database_url):
    """Changes of a process that only reads: another store on the same database, and no journal."""
    store = open_store(database_url, clock=shop.clock)
    changes = Changes(store, shop.clock, poll_s=0.01)
    yield changes
    changes.close()
    store.close()


@pytest.fixture
def old(shop):
    """Makes a run that has ended an hour ago, as far as its record says."""

    def make():
        run_id = shop.live()
        ended_ms = shop.clock.now_millis() - 3_600_000
        shop.journal.submit(RunEnded(run_id, RunState.SUCCEEDED, ended_ms)).result()
        return run_id

    return make


# --- this process ----------------------------------------------------------------------------------------------------


def test_what_this_process_commits_is_told_right_after(shop, here):
    run_id, other_id = shop.live(), shop.live()
    ear = Ear(here, run_id, last=here.position())
    ear.until_looked_at()
    shop.step(other_id, 1, "reserve")
    shop.step(run_id, 1, "reserve")
    notice = ear.until(of(run_id))
    assert (notice.kind, notice.state, notice.step) == (NoticeKind.RUN, RunState.RUNNING, StepKey("reserve"))
    shop.end(run_id)
    assert ear.until(of(run_id)).state is RunState.FAILED
    assert {each.run_id for each in ear.heard} == {run_id}


def test_each_kind_of_entry_about_a_run_is_told(shop, here):
    run_id = shop.live()
    ear = Ear(here, run_id, last=here.position())
    ear.until_looked_at()
    shop.journal.submit(RunChanged(run_id, RunState.WAITING, shop.clock.now_millis())).result()
    assert ear.until(of(run_id)).state is RunState.WAITING
    action = Action("cancel", actor="ada")
    shop.journal.submit(CancelRun(run_id, action, shop.clock.new_audit_id(), shop.clock.now_millis())).result()
    ear.until(of(run_id))


def test_a_run_hears_of_those_made_from_it(shop, here):
    failed_id = shop.failed()
    ear = Ear(here, failed_id, last=here.position())
    ear.until_looked_at()
    shop.desk.resume(failed_id)
    assert ear.until(of(failed_id)).state is RunState.FAILED


def test_many_changes_of_one_run_are_one_notice_and_one_waking(shop, here):
    run_id = shop.live()
    ear = Ear(here, run_id, last=here.position())
    ear.until_looked_at()
    rings = ear.rings
    for number in range(1, 31):
        shop.step(run_id, number, f"step-{number}")
    shop.end(run_id, RunState.SUCCEEDED)
    wait_until(lambda: ear.watch.pending[run_id].state is RunState.SUCCEEDED)
    assert [(each.state, each.step) for each in ear.watch.take()] == [(RunState.SUCCEEDED, None)]
    assert ear.rings == rings + 1


def test_nothing_is_noted_before_somebody_asks(shop, here):
    shop.failed()
    assert not here._log
    position = here.position()
    run_id = shop.failed()
    assert Ear(here, run_id, last=position).until(lambda notice: bool(notice.id)).run_id == run_id


def test_who_never_takes_costs_no_more_than_one_notice_a_run(shop, here):
    run_id = shop.live()
    ear = Ear(here, run_id, last=here.position())
    ear.until_looked_at()
    for number in range(1, 51):
        shop.step(run_id, number, f"step-{number}")
    assert ear.rung.wait(DEADLINE_S)
    assert list(ear.watch.pending) == [run_id]


# --- other processes -------------------------------------------------------------------------------------------------


def test_what_another_process_writes_is_told(shop, elsewhere):
    run_id = shop.live()
    ear = Ear(elsewhere, run_id, last=elsewhere.position())
    ear.until_looked_at()
    shop.step(run_id, 1, "reserve")
    notice = ear.until(of(run_id))
    assert (notice.state, notice.step) == (RunState.RUNNING, StepKey("reserve"))
    shop.step(run_id, 2, "charge", StepState.FAILED)
    assert ear.until(of(run_id)).step == StepKey("charge")
    shop.end(run_id)
    assert ear.until(lambda notice: notice.state is RunState.FAILED).step is None
    shop.desk.resume(run_id)
    ear.until(of(run_id))


def test_another_process_is_heard_within_about_a_second(shop, database_url):
    store = open_store(database_url, clock=shop.clock)
    changes = Changes(store, shop.clock)  # with the pause that is the default
    run_id = shop.live()
    ear = Ear(changes, run_id, last=changes.position())
    ear.until_looked_at()
    took = []
    for number in range(1, 4):
        began = time.monotonic()
        shop.step(run_id, number, f"step-{number}")
        ear.until(of(run_id))
        took.append(time.monotonic() - began)
    changes.close()
    store.close()
    assert min(took) < 1.2  # one of three, on a machine that is busy


def test_a_run_that_does_not_exist_yet_is_told_of_when_it_does(shop, elsewhere):
    run_id = shop.clock.new_run_id()
    ear = Ear(elsewhere, run_id, last=elsewhere.position())
    ear.until_looked_at()
    shop.journal.submit(StartRun(run_id, shop.request())).result()
    assert ear.until(of(run_id)).state is RunState.QUEUED


def test_new_runs_are_noticed_by_those_who_want_to_hear_of_them(shop, here, elsewhere):
    run_id = shop.live()
    ears = [Ear(changes, new_runs=True, last=changes.position()) for changes in (here, elsewhere)]
    deaf = Ear(elsewhere, run_id, last=elsewhere.position())
    for ear in ears:
        ear.until(is_new)  # at first: one may have begun before the first look
    deaf.until_looked_at()
    shop.live()
    for ear in ears:
        ear.until(is_new)
    assert not any(is_new(notice) for notice in (*deaf.heard, *deaf.watch.take()))


@pytest.fixture
def both(shop):
    """Changes of a process that writes, which looks for the writes of others too."""
    changes = Changes(shop.store, shop.clock, poll_s=0.01)
    shop.journal.add_observer(changes.observe)
    yield changes
    changes.close()


def under_claim(shop, journal, name):
    """Start a run under a claim; return its id and what a step of it looks like."""
    claim = journal.submit(RegisterExecutor(name, 60.0, "elsewhere", 1, "1")).result()
    run_id = (
        journal.submit(StartRun(shop.clock.new_run_id(), shop.request(), RunState.RUNNING, claim=claim)).result().run_id
    )

    def step(number):
        head = (run_id, claim, StepKey(f"step-{number}"), 1, number, StepKind.STEP, EffectClass.PURE, None, 1)
        return StepEnded(*head, StepState.SUCCEEDED, Origin.EXECUTED, "1", None, 2, 1)

    return run_id, step


def write(shop, *entries):
    for entry in entries:
        shop.journal.submit(entry).result()


def test_what_only_this_process_can_have_written_is_told_once(shop, both):
    run_id, step = under_claim(shop, shop.journal, "mine")
    ear = Ear(both, run_id, last=both.position())
    ear.until_looked_at()
    for number in range(1, 4):
        shop.journal.submit(step(number)).result()
        ear.until(of(run_id))
        wait_until(lambda number=number: both._known[run_id].mark.steps == number)
    assert [notice.step.name for notice in (*ear.heard, *ear.watch.take())] == ["step-1", "step-2", "step-3"]


def test_what_another_process_does_to_a_run_of_ours_is_told(shop, both, database_url):
    run_id, step = under_claim(shop, shop.journal, "mine")
    ear = Ear(both, run_id, last=both.position())
    ear.until_looked_at()
    write(shop, step(2))
    ear.until(of(run_id))
    wait_until(lambda: both._known[run_id].mark.steps == 2)
    others = Journal(open_store(database_url, clock=shop.clock), clock=shop.clock)
    action = Action("cancel", actor="ada")
    others.submit(CancelRun(run_id, action, shop.clock.new_audit_id(), shop.clock.now_millis())).result()
    ear.until(of(run_id))
    # The claim passes on: from here on the run is the other's.
    claim = others.submit(RegisterExecutor("mine", 60.0, "elsewhere", 1, "1")).result()
    others.submit(ClaimRuns(claim, ("checkout",), 10)).result()
    ear.until(of(run_id))
    others.submit(step(1)._replace(claim=claim)).result()
    assert ear.until(of(run_id)).step == StepKey("step-2")  # the one that began last
    others.close()


def test_what_may_not_be_seen_and_what_is_not_there_is_not_visible(shop, here):
    checkout, payout = shop.live(), shop.live("payout")
    assert here.visible([checkout, payout, "no such run"], {"payout"}.__contains__) == (payout,)


# --- between a page and its stream -----------------------------------------------------------------------------------


def test_a_change_of_this_process_between_page_and_watch_is_told(shop, here, old):
    changed, quiet = old(), old()
    position = here.position()
    shop.journal.submit(CancelRun(changed, Action("cancel"), shop.clock.new_audit_id(), 1)).result()
    ear = Ear(here, changed, quiet, last=position)
    assert ear.until(of(changed)).id
    ear.until_looked_at()
    assert [notice.run_id for notice in (*ear.heard, *ear.watch.take())] == [changed]


def test_a_change_of_another_process_between_page_and_first_look_is_told(shop, elsewhere, old):
    live, quiet = shop.live(), old()
    position = elsewhere.position()
    shop.end(live)
    ear = Ear(elsewhere, live, quiet, last=position)
    notice = ear.until(of(live))
    assert (notice.id, notice.state) == ("", RunState.FAILED)
    ear.until_looked_at()
    assert not ear.watch.take()
    assert [each.run_id for each in ear.heard] == [live]


def test_who_comes_while_others_watch_hears_of_what_was_looked_at_since_the_page(shop, elsewhere):
    run_id = shop.live()
    position = elsewhere.position()
    shop.step(run_id, 1, "reserve")
    first = Ear(elsewhere, run_id, last=elsewhere.position())
    first.until_looked_at()
    assert Ear(elsewhere, run_id, last=position).until(of(run_id)).step == StepKey("reserve")


def test_who_comes_after_the_look_hears_of_nothing_old(shop, elsewhere):
    run_id = shop.live()
    first = Ear(elsewhere, run_id, last=elsewhere.position())
    first.until_looked_at()
    second = Ear(elsewhere, run_id, last=elsewhere.position())
    shop.step(run_id, 1, "reserve")
    second.until(of(run_id))
    assert [each.step for each in second.heard] == [StepKey("reserve")]


# --- after a cut -----------------------------------------------------------------------------------------------------


def test_after_a_cut_exactly_what_was_missed_is_told(shop, here):
    runs = [under_claim(shop, shop.journal, f"mine-{number}") for number in range(5)]
    ids = [run_id for run_id, _ in runs]
    ear = Ear(here, *ids, last=here.position())
    ear.until_looked_at()
    write(shop, runs[0][1](1))
    last = ear.until(of(ids[0])).id
    ear.watch.close()
    write(shop, runs[3][1](1), runs[1][1](1), runs[3][1](2))
    shop.step(shop.live(), 1, "reserve")  # watched by nobody
    again = Ear(here, *ids, last=last)
    again.until(of(ids[3]))
    wait_until(lambda: not here._unknown)  # and was looked at again
    told = (*again.heard, *again.watch.take())
    assert [(each.run_id, each.step.name) for each in told] == [(ids[1], "step-1"), (ids[3], "step-2")]
    numbers = [int(last.rpartition("-")[2]), *(each.number for each in told)]
    assert numbers == sorted(set(numbers))


def test_after_a_cut_what_another_process_changed_meanwhile_is_told_and_no_more(shop, elsewhere):
    changed, quiet = shop.live(), shop.live()
    ear = Ear(elsewhere, changed, quiet, last=elsewhere.position())
    ear.until_looked_at()
    last = ear.watch.position()
    ear.watch.close()
    assert last is not None
    shop.step(changed, 1, "reserve")
    again = Ear(elsewhere, changed, quiet, last=last)
    assert again.until(of(changed)).id
    shop.step(quiet, 1, "charge")
    again.until(of(quiet))
    assert [(each.run_id, each.step.name) for each in again.heard] == [(changed, "reserve"), (quiet, "charge")]


def test_a_position_stands_still_while_something_is_not_taken(shop, here):
    run_id = shop.live()
    ear = Ear(here, run_id, last=here.position())
    ear.until_looked_at()
    assert ear.watch.position() is not None
    shop.step(run_id, 1, "reserve")
    assert ear.rung.wait(DEADLINE_S)
    assert ear.watch.position() is None
    (notice,) = ear.watch.take()
    after = ear.watch.position()
    assert after is not None
    assert int(after.rpartition("-")[2]) > notice.number


@pytest.mark.parametrize("last", [None, "", "0123456789abcdef-1", "-", "x-1-1", "-" * 300])
def test_a_position_that_is_not_of_this_process_gives_one_reset(shop, here, last):
    run_id = shop.live()
    ear = Ear(here, run_id, last=last)
    reset = ear.until(is_reset)
    assert [each.kind for each in ear.heard] == [NoticeKind.RESET]
    shop.step(run_id, 1, "reserve")
    ear.until(of(run_id))
    again = Ear(here, run_id, last=reset.id)
    assert not any(is_reset(notice) for notice in (*again.heard, *again.watch.take()))


@pytest.mark.parametrize("number", ["1", "-1", "x", "٣", "9" * 19, "9" * 30, ""])
def test_a_number_that_was_never_given_gives_a_reset(sqlite_shop, number):
    changes = sqlite_shop.desk.changes
    changes._advance()
    epoch = changes.position().rpartition("-")[0]
    if number == "1":
        changes._forgotten = 2
    Ear(changes, sqlite_shop.live(), last=f"{epoch}-{number}").until(is_reset)
    changes.close()


def test_a_position_from_before_what_the_log_remembers_gives_a_reset(shop):
    changes = Changes(shop.store, shop.clock, poll_s=NEVER_S, log_max=2)
    shop.journal.add_observer(changes.observe)
    run_id = shop.live()
    position = changes.position()
    for _ in range(3):
        shop.live()
    assert len(changes._log) == 2
    Ear(changes, run_id, last=position).until(is_reset)
    changes.close()


def test_a_reset_is_told_only_after_the_first_look(shop, elsewhere, away):
    run_id = shop.live()
    with away():
        ear = Ear(elsewhere, run_id)
        wait_until(lambda: elsewhere._failed_in_a_row >= 2)
        assert not ear.watch.take()
    ear.until(is_reset)


# --- the thread ------------------------------------------------------------------------------------------------------


@pytest.fixture
def away(shop, database_url):
    """A context in which the database cannot be asked: its table of runs has another name."""

    @contextmanager
    def outage():
        engine = sa.create_engine(database_url)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE workflow_runs RENAME TO away")
        yield
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO workflow_runs")
        engine.dispose()

    return outage


def test_the_thread_is_there_only_while_somebody_watches(shop, elsewhere):
    assert elsewhere._thread is None
    elsewhere.position()
    assert elsewhere._thread is None
    ears = [Ear(elsewhere, shop.live()) for _ in range(2)]
    thread = elsewhere._thread
    assert thread.daemon
    ears[0].watch.close()
    ears[1].until(is_reset)
    assert thread.is_alive()
    ears[1].watch.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert (elsewhere._thread, elsewhere.watching, elsewhere._by_run) == (None, 0, {})
    Ear(elsewhere, shop.live()).until(is_reset)


def test_an_outage_is_survived_and_said_once(shop, elsewhere, away, caplog):
    run_id = shop.live()
    ear = Ear(elsewhere, run_id, last=elsewhere.position())
    ear.until_looked_at()
    with caplog.at_level(logging.INFO, "workflow_runs.operations.changes"):
        with away():
            wait_until(lambda: elsewhere._failed_in_a_row >= 4)
        shop.step(run_id, 1, "reserve")
        ear.until(of(run_id))
    said = [record.levelname for record in caplog.records if record.name == "workflow_runs.operations.changes"]
    assert said == ["WARNING", "INFO"]


def test_pauses_grow_while_the_database_is_away_and_are_bounded(sqlite_shop):
    changes = Changes(sqlite_shop.store, sqlite_shop.clock, poll_s=1.0)
    pauses = []
    for _ in range(40):
        changes._postpone(ValueError("away"))
        pauses.append(changes._retry_at - sqlite_shop.clock.monotonic())
    assert 0.4 < pauses[0] <= 1.0
    assert 7.4 < pauses[-1] <= 15.0


def test_a_slow_database_is_asked_less_often(shop, elsewhere, monkeypatch):
    run_id = shop.live()
    elsewhere._poll_s = 0.0
    Ear(elsewhere, run_id).until(is_reset)
    # The clock of Changes alone is put forward by a second at each reading: every look seems to take one.
    readings = iter(range(1, 10**9))
    monkeypatch.setattr(elsewhere, "_now", lambda: 1e9 + next(readings))
    wait_until(lambda: elsewhere._due_at > 1e9)
    assert elsewhere._due_at - next(readings) - 1e9 > 5


def test_close_ends_every_watch_and_the_thread(shop, elsewhere):
    ear = Ear(elsewhere, shop.live(), last=elsewhere.position())
    ear.until_looked_at()
    thread = elsewhere._thread
    ear.rung.clear()
    elsewhere.close()
    assert ear.rung.wait(DEADLINE_S)
    assert ear.watch.is_over
    assert not thread.is_alive()
    assert elsewhere.watch(["x"]) is None
    elsewhere.close()
    ear.watch.close()
    ear.watch.close()


def test_closing_the_application_ends_every_watch(database_url):
    with WorkflowRuns(database_url, migrate=True) as runs:
        ear = Ear(runs.desk.changes, "wfrn_x")
        ear.until(is_reset)
        thread = runs.desk.changes._thread
    assert ear.watch.is_over
    assert not thread.is_alive()


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_more_runs_than_a_page_has_are_refused(sqlite_shop):
    changes = sqlite_shop.desk.changes
    with pytest.raises(InvalidQuery):
        changes.watch([str(number) for number in range(RUNS_MAX + 1)])
    watch = changes.watch([str(number % RUNS_MAX) for number in range(2 * RUNS_MAX)])
    assert watch is not None
    watch.close()
    assert changes.watching == 0


def test_no_more_watch_than_may(sqlite_shop):
    changes = sqlite_shop.desk.changes
    watches = [changes.watch([], watches_max=3) for _ in range(3)]
    assert all(watches)
    assert changes.watch([], watches_max=3) is None
    watches[1].close()
    assert changes.watch([], watches_max=3) is not None
    changes.close()


def test_runs_that_nobody_watches_any_more_are_forgotten_in_time(sqlite_shop, monkeypatch):
    monkeypatch.setattr("workflow_runs.operations.changes._LEFT_MAX", 3)
    changes = sqlite_shop.desk.changes
    for _ in range(6):
        ear = Ear(changes, sqlite_shop.live())
        ear.until(is_reset)
        ear.watch.close()
    assert len(changes._known) == len(changes._left) == 3
    changes.close()


# --- processes -------------------------------------------------------------------------------------------------------


@workflow("two-steps", idempotency="safe")
def two_steps(run, input):
    run.step("first", lambda: 1)
    return run.step("second", lambda: 2)


WORKER = """
import sys
from workflow_runs import WorkflowRuns, workflow

@workflow("two-steps", idempotency="safe")
def two_steps(run, input):
    run.step("first", lambda: 1)
    return run.step("second", lambda: 2)

with WorkflowRuns(sys.argv[1], [two_steps], migrate=False) as runs:
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def worker(database_url):
    """A process of its own that executes runs of ``two-steps``."""
    with WorkflowRuns(database_url, [two_steps], execute=False, migrate=True) as runs:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        yield runs
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_run_that_a_second_process_executes_is_followed_to_its_end(worker):
    changes = worker.desk.changes
    list_ear = Ear(changes, new_runs=True, last=changes.position())
    list_ear.until(is_new)
    position = changes.position()
    run_id = worker.trigger("two-steps", {})
    list_ear.until(is_new)
    ended = Ear(changes, run_id, last=position).until(lambda notice: notice.state is RunState.SUCCEEDED)
    assert ended.run_id == run_id


def test_two_applications_on_one_database_hear_each_other(database_url):
    with (
        WorkflowRuns(database_url, [two_steps], execute=False, migrate=True) as reading,
        WorkflowRuns(database_url, [two_steps]) as executing,
    ):
        ear = Ear(reading.desk.changes, new_runs=True, last=reading.desk.changes.position())
        ear.until(is_new)
        position = reading.desk.changes.position()
        run_id = executing.trigger(two_steps, {})
        ear.until(is_new)
        page = Ear(reading.desk.changes, run_id, last=position)
        page.until(lambda notice: notice.state is RunState.SUCCEEDED)


def run_process(program, url):
    options = ["-W", "ignore::DeprecationWarning"]  # of forks with threads, which is what is tested
    return subprocess.run(
        [sys.executable, *options, "-c", program, url], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_interpreter_ends_while_somebody_watches(sqlite_url):
    program = """
import sys
from workflow_runs import WorkflowRuns
runs = WorkflowRuns(sys.argv[1])
runs.start()
assert runs.desk.changes.watch(["wfrn_x"]) is not None
print("watching")
"""
    ended = run_process(program, sqlite_url)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "watching\n", "")


def test_a_forked_child_has_positions_and_watches_of_its_own(sqlite_url):
    program = """
import os, sys, threading
from workflow_runs import WorkflowRuns
runs = WorkflowRuns(sys.argv[1], execute=False)
runs.start()
changes = runs.desk.changes
looked = threading.Event()
watch = changes.watch(["wfrn_x"], wake=looked.set)
assert looked.wait(30)
position = changes.position()
child = os.fork()
rung = threading.Event()
if child == 0:
    assert changes.watching == 0
    assert changes.position().partition("-")[0] != position.partition("-")[0]
    mine = changes.watch(["wfrn_x"], last=position, wake=rung.set)
    assert rung.wait(30)
    assert [notice.kind for notice in mine.take()] == ["reset"]
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert changes.watching == 1
runs.close()
"""
    ended = run_process(program, sqlite_url)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_positions_of_one_clock_tell_when_they_were_taken(sqlite_shop):
    class Still(Clock):
        at = 5.0

        def monotonic(self):
            return self.at

    clock = Still()
    changes = Changes(sqlite_shop.store, clock)
    first, second = changes.position(), changes.position()
    clock.at += timedelta(seconds=2).total_seconds()
    third = changes.position()
    numbers = [int(position.rpartition("-")[2]) for position in (first, second, third)]
    assert numbers == [1, 2, 2_000_000]
