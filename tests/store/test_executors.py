"""Who may write a run: claims, fences, heartbeats and taking over from the dead."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workflow_runs.clock import this_process
from workflow_runs.errors import ClaimLost, StoreUnavailable
from workflow_runs.model.entries import Beat, Claim, ClaimedRun, Heartbeat
from workflow_runs.model.states import RecordingMode, RunState

DEADLINE_S = 120.0


def owner_of(record, run_id):
    return record.sql("SELECT claim_owner, claim_epoch FROM workflow_runs WHERE id = ?", run_id)[0]


def let_lease_run_out(record, claim):
    """As if the owner had been silent for a day, by the clock that the database goes by."""
    record.sql("UPDATE workflow_run_executors SET heartbeat_ms = heartbeat_ms - 86400000 WHERE name = ?", claim.owner)


# --- claims -----------------------------------------------------------------------------------------------------------


def test_registering_again_raises_the_epoch(record):
    assert [record.registered("a"), record.registered("b"), record.registered("a")] == [
        Claim("a", 1),
        Claim("b", 1),
        Claim("a", 2),
    ]


def test_nothing_is_written_under_a_claim_that_was_lost(record):
    old = record.registered()
    run_id = record.started(claim=old, state=RunState.RUNNING)
    record.write(record.step_started(run_id, "a", claim=old))
    record.registered()
    outcomes = record.apply(
        record.step_ended(run_id, "a", claim=old),
        record.step_started(run_id, "b", claim=old),
        record.step_ended(run_id, "b", claim=old),
        record.change(run_id, RunState.WAITING, claim=old),
        record.end(run_id, claim=old),
        record.start(claim=old),
        Heartbeat(old),
        record.claim_runs(old),
    )
    assert [type(outcome) for outcome in outcomes] == [ClaimLost] * 8
    assert record.ids() == [run_id]
    assert record.store.get_run(run_id).state is RunState.RUNNING
    assert [step.state for step in record.store.get_steps(run_id)] == ["running"]


def test_lost_claim_does_not_disturb_its_neighbours_in_the_batch(record):
    old, run_id = record.registered(), record.started()
    new, other = record.registered(), record.started()
    outcomes = record.apply(
        record.step_ended(run_id, "a", claim=old),
        record.step_ended(other, "b", claim=new),
        record.step_ended(other, "c"),
        record.change(other, RunState.RUNNING),
    )
    assert isinstance(outcomes[0], ClaimLost)
    assert outcomes[1:] == [None, None, True]
    assert [step.step.name for step in record.store.get_steps(other)] == ["b", "c"]


def test_claim_lost_within_a_batch_is_lost_for_what_follows(record):
    old = record.registered()
    run_id = record.started()
    again = record.registered("other")
    record.sql("UPDATE workflow_runs SET claim_owner = ?, claim_epoch = ? WHERE id = ?", *old, run_id)
    let_lease_run_out(record, old)
    outcomes = record.apply(
        record.step_ended(run_id, "before", claim=old),
        record.claim_runs(again),
        record.step_ended(run_id, "after", claim=old),
    )
    assert outcomes[0] is None
    assert outcomes[1] == (ClaimedRun(run_id, "checkout", recovered=True),)
    assert isinstance(outcomes[2], ClaimLost)


def test_other_owners_run_is_not_written_even_under_a_good_claim(record):
    mine, theirs = record.registered("mine"), record.registered("theirs")
    run_id = record.started(claim=theirs, state=RunState.RUNNING)
    for entry in (record.change(run_id, RunState.WAITING, claim=mine), record.end(run_id, claim=mine)):
        with pytest.raises(ClaimLost):
            record.write(entry)
    assert record.store.get_run(run_id).state is RunState.RUNNING


def test_released_run_belongs_to_nobody(record):
    claim = record.registered()
    run_id = record.started(claim=claim, state=RunState.RUNNING)
    release = record.change(run_id, RunState.QUEUED, claim=claim, release=True)
    assert record.apply(release) == record.apply(release) == [True]
    assert owner_of(record, run_id) == (None, None)
    assert record.store.get_run(run_id).state is RunState.QUEUED


# --- taking over ------------------------------------------------------------------------------------------------------


def test_queued_runs_are_claimed_oldest_first(record):
    claim = record.registered()
    ids = [record.started(workflow_name=name, definition=name) for name in ("a", "b", "a", "b", "c")]
    taken = record.write(record.claim_runs(claim, "a", "b", limit=3))
    assert taken == tuple(
        ClaimedRun(run_id, name, recovered=False) for run_id, name in zip(ids[:3], "aba", strict=True)
    )
    assert record.write(record.claim_runs(claim, "a", "b")) == (ClaimedRun(ids[3], "b", recovered=False),)
    assert owner_of(record, ids[0]) == claim
    assert owner_of(record, ids[4]) == (None, None)


def test_definition_decides_who_may_execute_and_not_the_name(record):
    run_id = record.started(workflow_name="orphan", definition="checkout")
    (taken,) = record.write(record.claim_runs(record.registered()))
    assert taken == ClaimedRun(run_id, "checkout", recovered=False)


def test_observed_runs_are_nobodys_to_execute(record):
    record.started(mode=RecordingMode.OBSERVE)
    assert record.write(record.claim_runs(record.registered())) == ()


@pytest.mark.parametrize("state", [RunState.UNKNOWN, RunState.PAUSED])
def test_runs_that_wait_for_a_person_are_not_taken(record, state):
    dead, claim = record.registered("dead"), record.registered()
    run_id = record.started(claim=dead, state=RunState.RUNNING)
    record.write(record.change(run_id, state, claim=dead))
    let_lease_run_out(record, dead)
    assert record.write(record.claim_runs(claim)) == ()


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, RunState.RETRYING, RunState.WAITING])
def test_runs_of_an_owner_that_fell_silent_are_recovered(record, state):
    dead, claim = record.registered("dead"), record.registered()
    run_id = record.started(claim=dead, state=RunState.RUNNING)
    record.write(record.change(run_id, state, claim=dead))
    let_lease_run_out(record, dead)
    assert record.write(record.claim_runs(claim)) == (ClaimedRun(run_id, "checkout", recovered=True),)
    assert owner_of(record, run_id) == claim
    assert record.store.get_run(run_id).state is state


def test_owner_whose_runs_were_taken_is_fenced(record):
    dead, claim = record.registered("dead"), record.registered()
    run_id = record.started(claim=dead, state=RunState.RUNNING)
    let_lease_run_out(record, dead)
    record.write(record.claim_runs(claim))
    for entry in (record.step_ended(run_id, claim=dead), record.end(run_id, claim=dead), Heartbeat(dead)):
        with pytest.raises(ClaimLost):
            record.write(entry)
    assert record.write(record.end(run_id, claim=claim)).changed


def test_living_owner_keeps_its_runs(record):
    living, claim = record.registered("living"), record.registered()
    record.started(claim=living, state=RunState.RUNNING)
    assert record.write(record.claim_runs(claim)) == ()
    record.write(Heartbeat(living))


def test_own_runs_are_not_taken_again(record):
    claim = record.registered()
    record.started(claim=claim, state=RunState.RUNNING)
    let_lease_run_out(record, claim)
    assert record.write(record.claim_runs(claim)) == ()


def test_restart_under_the_same_name_takes_its_own_runs_at_once(record):
    run_id = record.started(claim=record.registered(), state=RunState.RUNNING)
    (taken,) = record.write(record.claim_runs(record.registered()))
    assert taken == ClaimedRun(run_id, "checkout", recovered=True)


def test_silent_owner_from_whom_nothing_can_be_taken_is_left_alone(record):
    slow, claim = record.registered("slow"), record.registered()
    record.started(claim=slow, state=RunState.RUNNING, definition="other")
    let_lease_run_out(record, slow)
    assert record.write(record.claim_runs(claim, "checkout")) == ()
    record.write(Heartbeat(slow))


def test_neighbours_whose_process_is_gone_lose_their_runs_before_their_lease(record):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    here = this_process()
    try:
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        there = {"scope": here.scope, "pid": process.pid, "pid_started": started}
        elsewhere = record.registered("other-machine", pid=process.pid)
        living = record.registered("self", scope=here.scope, pid=here.pid, pid_started=here.started)
        dead, idle, claim = record.registered("dead", **there), record.registered("idle", **there), record.registered()
        run_id = record.started(claim=dead, state=RunState.RUNNING)
        assert record.write(record.claim_runs(claim, scope=here.scope)) == ()
    finally:
        process.kill()
        process.wait()
    assert record.write(record.claim_runs(claim)) == ()
    (taken,) = record.write(record.claim_runs(claim, scope=here.scope))
    assert taken == ClaimedRun(run_id, "checkout", recovered=True)
    for lost in (dead, idle):
        with pytest.raises(ClaimLost):
            record.write(Heartbeat(lost))
    for owner in (elsewhere, living):
        record.write(Heartbeat(owner))


def test_many_claimers_at_once_share_the_runs(new_record):
    records = [new_record() for _ in range(4)]
    ids = {records[0].started() for _ in range(40)}
    claims = [record.registered(f"worker-{number}") for number, record in enumerate(records)]
    gate = threading.Barrier(4)
    taken = [[] for _ in records]

    def work(number):
        gate.wait(DEADLINE_S)
        while sum(map(len, taken)) < 40:
            for _ in range(3):
                found = records[number].write(records[number].claim_runs(claims[number], limit=7))
                taken[number] += [run.run_id for run in found]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(run_id for each in taken for run_id in each) == sorted(ids)


def test_claiming_again_after_a_lost_answer_gives_the_same_runs(record):
    claim = record.registered()
    first = record.started()
    entry = record.claim_runs(claim, limit=2)
    commit_and_lose_the_answer(record, [entry])
    later = record.started()
    runs = record.write(record.claim_runs(claim))
    assert [run.run_id for run in runs] == [first, later]
    assert record.write(record.claim_runs(claim)) == ()


def commit_and_lose_the_answer(record, entries):
    """Apply entries, and have the connection fail between the commit and the answer."""
    writer = record.writer

    class Lost(OSError):
        pass

    attempt = writer._attempt

    def lose(batch):
        attempt(batch)
        raise Lost

    writer._attempt = lose
    with contextlib.suppress(StoreUnavailable):
        writer.apply(entries)
        raise AssertionError("the answer was to be lost")
    del writer._attempt


# --- heartbeats -------------------------------------------------------------------------------------------------------


def test_heartbeat_keeps_the_lease(record):
    living, claim = record.registered("living"), record.registered()
    record.started(claim=living, state=RunState.RUNNING)
    let_lease_run_out(record, living)
    assert record.write(Heartbeat(living)) == Beat(())
    assert record.write(record.claim_runs(claim)) == ()


def test_heartbeat_tells_which_runs_are_to_be_cancelled(record):
    claim = record.registered()
    first, second, third = (record.started(claim=claim, state=RunState.RUNNING) for _ in range(3))
    record.write(record.cancel(third, "a reason"))
    record.write(record.cancel(first))
    assert record.write(Heartbeat(claim)) == Beat(((first, None), (third, "a reason")))
    record.write(record.end(first, RunState.CANCELLED, claim=claim))
    assert record.write(Heartbeat(claim)) == Beat(((third, "a reason"),))
    assert record.store.get_run(second).cancel_requested_at is None


class TestOnSqlite:
    """SQLite has no clock of its own: the machine's says who is alive, within one boot."""

    @pytest.fixture
    def database_url(self, sqlite_url):
        return sqlite_url

    def test_lease_runs_out_by_the_machines_clock(self, record):
        dead, claim = record.registered("dead", lease_s=30), record.registered()
        record.started(claim=dead)
        record.clock.ahead_s = 29
        record.write(Heartbeat(claim))
        assert record.write(record.claim_runs(claim)) == ()
        record.clock.ahead_s = 31
        assert len(record.write(record.claim_runs(claim))) == 1

    def test_wall_clock_decides_nothing(self, record):
        living, claim = record.registered("living"), record.registered()
        record.started(claim=living)
        record.clock.at_ms += 86_400_000
        assert record.write(record.claim_runs(claim)) == ()

    def test_no_owner_survives_a_boot(self, record):
        dead = record.registered("dead", lease_s=10**6)
        record.started(claim=dead)
        record.clock.boot = "boot-2"
        assert len(record.write(record.claim_runs(record.registered()))) == 1


class TestOnPostgres:
    """PostgreSQL's clock says who is alive, and who is in the middle of writing is."""

    @pytest.fixture
    def database_url(self, postgres_url):
        return postgres_url

    def test_machines_clock_decides_nothing(self, record):
        living, claim = record.registered("living"), record.registered()
        record.started(claim=living)
        record.clock.ahead_s, record.clock.boot = 10**6, "boot-2"
        assert record.write(record.claim_runs(claim)) == ()

    def test_owner_in_the_middle_of_a_batch_is_not_fenced(self, new_record):
        busy, idle = new_record(), new_record()
        owner, claim = busy.registered("owner"), idle.registered()
        run_id = busy.started(claim=owner, state=RunState.RUNNING)
        let_lease_run_out(busy, owner)
        with busy.writer._transaction():
            assert busy.writer._applier().holds(owner)
            assert idle.write(idle.claim_runs(claim)) == ()
        (taken,) = idle.write(idle.claim_runs(claim))
        assert taken.run_id == run_id


def test_fork_reads_on_connections_of_its_own(record):
    run_id = record.started()
    record.store.get_run(run_id)
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if record.store.get_run(run_id).id == run_id else 1
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert record.store.get_run(run_id).id == run_id
