"""What went wrong in the original system and must not here, through the public API; named after the list of scenarios (R1 to R24).

Beside those below: R7 (kill -9 during step 2) in ``tests/faults/test_app`` and ``tests/engines/test_crashes``, R24 (and R6, R17, R18 of the
recorder) in ``tests/execution/test_recorder``, R1 and R3 to R6 once more in ``tests/operations``, where single rules are seen. Not
here yet, since what they are about is not: R10 (schedules), R12, R13 and R23 (waits), R14 (children).
"""

import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from workflow_runs import EngineSettings, Retry, Run, StepFailed, WorkflowRuns, workflow
from workflow_runs.admin import Principal, mount_workflow_runs_admin_routes
from workflow_runs.errors import AlreadyResumed, IncompletePriorStep, NotFound, Refusal
from workflow_runs.model.entries import StartRun
from workflow_runs.model.records import Page, RunFilter
from workflow_runs.model.requests import RunRequest
from workflow_runs.model.states import RunState

WAIT_S = 60.0


@workflow("plain", idempotency="safe")
def plain(run: Run, value: object = None) -> str:
    return run.step("say", lambda: "done")


@pytest.fixture
def make(database_url):
    """Make a started ``WorkflowRuns`` on a fresh database."""
    made = []

    def start(*workflows, **options):
        runs = WorkflowRuns(database_url, workflows=workflows, migrate=True, **options)
        made.append(runs)
        runs.start()
        return runs

    yield start
    for runs in made:
        runs.close()


@pytest.fixture
def client(make):
    app = Starlette()
    everything = Principal("ann", {"workflows:read", "workflows:read-payload", "workflows:trigger", "workflows:retry"})
    mount_workflow_runs_admin_routes(app, make(plain).desk, authorize=lambda request: everything)
    with TestClient(app) as client:
        yield client


class World:
    """What steps do outside: each effect is counted, and those that are to fail do so once."""

    def __init__(self, *failing):
        self.effects = Counter()
        self.failing = set(failing)

    def act(self, name):
        if name in self.failing:
            self.failing.remove(name)
            raise ConnectionError(f"{name} failed")
        self.effects[name] += 1
        return f"{name} {self.effects[name]}"

    def undo(self, output):
        self.effects[f"undo {output}"] += 1


def failed_and_resumed(runs, of):
    """Let a run fail, resume it, and return both as they ended."""
    failed = runs.wait(runs.trigger(of))
    resumed = runs.wait(runs.desk.resume(failed.id).run_id)
    return failed, resumed


def steps_of(runs, run):
    return {step.step.label(): (step.state, step.last.origin) for step in runs.store.get_steps(run.id)}


def all_at_once(*acts):
    """Call each in a thread, all at the same time; return what each gave or raised."""
    barrier = threading.Barrier(len(acts))

    def call(act):
        barrier.wait(WAIT_S)
        try:
            return act()
        except Refusal as refusal:
            return refusal

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(call, acts))


def test_r1_a_resume_executes_no_finished_step_again_however_long_the_names_are(make):
    """The original lost the order of the steps in a jsonb object, sorted by the length of its keys, and charged a card twice."""
    names = ["b", "a much longer name", "zz", "reserve the room", "x", "mail"]
    world = World("x")

    @workflow("named", idempotency="unsafe")
    def named(run: Run) -> list[str]:
        return [run.step(name, world.act, name) for name in names]

    runs = make(named)
    failed, resumed = failed_and_resumed(runs, named)
    assert (failed.state, failed.error.step_name, resumed.state) == ("failed", "x", "succeeded")
    assert world.effects == dict.fromkeys(names, 1)
    assert list(steps_of(runs, resumed)) == names


def test_r2_an_approval_before_the_failed_step_is_not_asked_again(make):
    """An approval is a step here, and the moment at which it was given a reading of the clock; both are kept. Signals come later."""
    world, seen = World("pay"), []

    @workflow("approved", idempotency="unsafe")
    def approved(run: Run) -> str:
        answer = run.step("ask for approval", world.act, "approve")
        seen.append((answer, run.now(), run.uuid()))
        return run.step("pay", world.act, "pay")

    runs = make(approved)
    _, resumed = failed_and_resumed(runs, approved)
    assert resumed.state == "succeeded"
    assert world.effects == {"approve": 1, "pay": 1}
    assert seen[0] == seen[1]


def test_r3_a_compensated_step_is_not_taken_for_done_and_not_undone_twice(make):
    world = World("pay")

    @workflow("undone", idempotency="unsafe")
    def undone(run: Run) -> str:
        run.step("reserve", world.act, "reserve", compensate=world.undo)
        return run.step("pay", world.act, "pay")

    runs = make(undone)
    failed = runs.wait(runs.trigger(undone))
    assert failed.state == "compensated"
    with pytest.raises(IncompletePriorStep) as refused:
        runs.desk.resume(failed.id)
    assert refused.value.details["stepName"] == "reserve"
    named = runs.wait(runs.desk.resume(failed.id, from_step="reserve").run_id)
    assert named.state == "succeeded"
    assert world.effects == {"reserve": 2, "undo reserve 1": 1, "pay": 1}


def test_r4_a_resume_holds_what_was_finished_and_nothing_else(make):
    """No seed for the target, none for what was never reached, and no number left out."""
    world = World("pay")

    @workflow("whole", idempotency="unsafe")
    def whole(run: Run) -> None:
        for name in ("a", "b", "pay", "c", "d"):
            run.step(name, world.act, name)

    runs = make(whole)
    failed, resumed = failed_and_resumed(runs, whole)
    assert list(steps_of(runs, failed)) == ["a", "b", "pay"]
    found = runs.store.get_steps(resumed.id)
    assert [(step.step.name, step.last.origin) for step in found] == [
        *(("a", "seeded"), ("b", "seeded"), ("pay", "executed"), ("c", "executed"), ("d", "executed"))
    ]
    assert [step.sequence for step in found] == [1, 2, 3, 4, 5]


def test_r5_neither_a_failure_that_was_retried_nor_one_that_was_caught_is_resumed_from(make):
    world = World("flaky", "optional", "pay")

    @workflow("caught", idempotency="unsafe")
    def caught(run: Run) -> None:
        run.step("flaky", world.act, "flaky", retry=Retry(attempts=2, first_delay_s=0.01))
        try:
            run.step("optional", world.act, "optional")
        except StepFailed:
            run.step("instead", world.act, "instead")
        run.step("pay", world.act, "pay")

    runs = make(caught)
    failed = runs.wait(runs.trigger(caught))
    assert failed.error.step_name == "pay"
    resumed = runs.desk.resume(failed.id)
    assert resumed.resume_from_step == "pay"
    assert runs.wait(resumed.run_id).state == "succeeded"
    assert {name: world.effects[name] for name in ("flaky", "instead", "pay")} == {"flaky": 1, "instead": 1, "pay": 1}


def test_r6_steps_of_one_name_in_a_loop_are_each_kept_as_what_they_are(make):
    world = World("ship 3")

    @workflow("looping", idempotency="unsafe")
    def looping(run: Run) -> list[str]:
        return [run.step("ship", world.act, f"ship {number}") for number in range(1, 5)]

    runs = make(looping)
    resumed = runs.desk.resume(runs.wait(runs.trigger(looping)).id)
    assert resumed.resume_from_step == "ship#3"
    assert runs.wait(resumed.run_id).result == '["ship 1 1","ship 2 1","ship 3 1","ship 4 1"]'
    assert set(world.effects.values()) == {1}


def test_r8_of_two_operators_who_act_at_once_one_is_heard(make):
    """Two signals to one wait were both taken in the original, and what followed ran twice. Waits come later; until then two people may
    resume, or cancel and resume, one run at the same moment, on two servers.
    """
    world = World()

    @workflow("paying", idempotency="unsafe")
    def paying(run: Run, number: int = 0) -> None:
        run.step("pay", world.act, f"pay {number}")

    one, two = make(paying, executor="one"), make(paying, executor="two")
    for number in range(5):
        world.failing.add(f"pay {number}")
        failed = one.wait(one.trigger(paying, number))
        told = all_at_once(
            *(partial(runs.desk.resume, failed.id, actor=actor) for runs, actor in ((one, "ada"), (two, "bob"))),
            partial(two.desk.cancel, failed.id),
        )
        assert [type(answer) for answer in told if isinstance(answer, Refusal)].count(AlreadyResumed) == 1
        (made,) = [answer.run_id for answer in told[:2] if not isinstance(answer, Refusal)]
        assert {answer.details["runId"] for answer in told[:2] if isinstance(answer, Refusal)} == {made}
        assert (one.wait(made).state, one.wait(failed.id).state) == ("succeeded", "failed")
    assert world.effects == {f"pay {number}": 1 for number in range(5)}


def test_r9_a_step_longer_than_the_lease_is_executed_on_one_server_only(make):
    """Two and a half leases long, beside a server that looks for work all the time, and executes some of its own."""
    world, started, lease_s = World(), threading.Event(), 1.0

    def work():
        started.set()
        threading.Event().wait(2.5 * lease_s)  # the work: nobody could tell it that it is to end
        return world.act("work")

    @workflow("slow", idempotency="unsafe")
    def slow(run: Run) -> str:
        return run.step("work", work)

    settings = EngineSettings(lease_s=lease_s, poll_s=0.02)
    one = make(slow, executor="one", engine_settings=settings)
    run_id = one.trigger(slow)
    assert started.wait(WAIT_S)
    two = make(slow, plain, executor="two", engine_settings=settings)
    assert two.wait(two.trigger(plain)).state == "succeeded"
    run = two.wait(run_id)
    assert (run.state, run.claim_owner, world.effects) == ("succeeded", "one", {"work": 1})
    (step,) = one.store.get_steps(run_id)
    assert len(step.attempts) == 1


def test_r15_a_run_that_waits_in_the_only_slot_keeps_no_trigger_waiting(make):
    """In the original a sleeping run kept its slot, and the next trigger hung. Limits of a workflow, and sleeps, come later: here the
    process executes one run at a time, which pauses before it tries again. The next is stored, shown as queued, and can be cancelled.
    """
    tried = threading.Event()

    def call():
        tried.set()
        raise ConnectionError("away")

    @workflow("pausing", idempotency="safe")
    def pausing(run: Run) -> None:
        run.step("call", call, retry=Retry(attempts=2, first_delay_s=WAIT_S, jitter=0))

    runs = make(pausing, plain, engine_settings=EngineSettings(runs_max=1, poll_s=0.02))
    first = runs.trigger(pausing)
    assert tried.wait(WAIT_S)
    second, third = runs.trigger(plain), runs.trigger(plain)
    assert [runs.store.get_run(run_id).state for run_id in (second, third)] == ["queued", "queued"]
    runs.desk.cancel(third)
    assert runs.wait(third).state == "cancelled"
    runs.desk.cancel(first)
    assert [runs.wait(run_id).state for run_id in (first, second)] == ["cancelled", "succeeded"]


def test_r11_pauses_between_attempts_are_as_long_as_the_policy_says(make):
    def never():
        raise ConnectionError("away")

    @workflow("retried", idempotency="safe")
    def retried(run: Run) -> None:
        run.step("call", never, retry=Retry(attempts=3, first_delay_s=0.05, factor=2, jitter=0))

    runs = make(retried)
    run = runs.wait(runs.trigger(retried))
    (step,) = runs.store.get_steps(run.id)
    pauses = [
        (after.started_at - before.ended_at).total_seconds()
        for before, after in zip(step.attempts, step.attempts[1:], strict=False)
    ]
    rounding = 0.002  # two times in milliseconds
    assert [attempt.number for attempt in step.attempts] == [1, 2, 3]
    assert [pause >= wanted - rounding for pause, wanted in zip(pauses, (0.05, 0.1), strict=True)] == [True, True]


class Outage:
    """Takes the database away in the midst of a step, and gives it back half a second later."""

    def __init__(self, url):
        self.url = url
        self.back = threading.Event()

    def begin(self):
        begin = self._lock if self.url.startswith("sqlite") else self._shut
        threading.Timer(0.5, begin()).start()

    def _lock(self):
        connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")

        def end():
            connection.close()
            self.back.set()

        return end

    def _shut(self):
        url = self.url.replace("+psycopg", "")
        name = url.partition("?")[0].rpartition("/")[2]
        server = psycopg.connect(url.replace(f"/{name}", "/postgres", 1), autocommit=True)
        server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

        def end():
            server.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
            server.close()
            self.back.set()

        return end


def test_r16_a_step_whose_database_went_away_before_its_end_is_executed_once_and_goes_on(make, database_url):
    outage = Outage(database_url)
    effects = []

    def charge():
        effects.append("charge")
        outage.begin()
        return "paid"

    @workflow("paying", idempotency="unsafe")
    def paying(run: Run) -> str:
        paid = run.step("charge", charge)
        return run.step("thank", lambda: f"thanks, {paid}")

    runs = make(paying)
    run = runs.wait(runs.trigger(paying))
    assert outage.back.is_set()
    assert (run.state, run.result, effects) == ("succeeded", '"thanks, paid"', ["charge"])
    assert [step.state for step in runs.store.get_steps(run.id)] == ["succeeded", "succeeded"]


class Unspeakable:
    """Has no JSON form, and no other."""

    def __repr__(self):
        raise ValueError("none of your business")

    __str__ = __reduce__ = __repr__


@pytest.mark.parametrize("where", ["step", "result"])
def test_r17_what_has_no_json_form_ends_the_run_as_failed(make, where):
    """In the original it ran for ever."""

    @workflow("unspeakable", idempotency="safe")
    def unspeakable(run: Run) -> object:
        return run.step("get", Unspeakable) if where == "step" else Unspeakable()

    runs = make(unspeakable)
    run = runs.wait(runs.trigger(unspeakable))
    assert (run.state, run.error.step_name) == ("failed", "get" if where == "step" else None)
    assert "Unspeakable" in run.error.message


def test_r18_a_run_that_has_failed_is_not_completed_afterwards(make):
    """Also not by another process, which knows nothing of it."""
    one, two = make(), make()
    first = one.begin("elsewhere", correlation_id="order-7")
    second = two.begin("elsewhere", correlation_id="order-7", reuse_running_run=True)
    assert second.run_id == first.run_id
    first.fail(ConnectionError("refused"))
    assert first.flush(WAIT_S)
    second.complete({"late": True})
    second.flush(WAIT_S)
    run = one.store.get_run(first.run_id)
    assert (run.state, run.result, run.error.message) == ("failed", None, "refused")


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "..%2f..%2frun.json", "a/b", "%00", "wfrn_", "'; drop table x"])
def test_r19_an_id_of_any_shape_is_looked_up_and_not_found(make, run_id):
    with pytest.raises(NotFound):
        make(plain).desk.get_run(run_id)


@pytest.mark.parametrize("path", ["..%2F..%2Fetc%2Fpasswd", "a%2Fb", "wfrn_x'%3B", "%F0%9F%A7%BE"])
def test_r19_an_id_of_any_shape_is_404_over_http(client, path):
    answer = client.get(f"/v1/admin/workflow-runs/{path}")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_r20_nobody_chooses_the_id_of_a_run(client):
    first = client.post("/v1/admin/workflows/plain/runs", json={"input": {}}).json()["data"]["runId"]
    answer = client.post("/v1/admin/workflows/plain/runs", json={"input": {"other": 1}, "runId": first})
    assert (answer.status_code, answer.json()["field"]) == (400, "runId")
    assert client.get("/v1/admin/workflow-runs").json()["total"] == 1
    assert client.get(f"/v1/admin/workflow-runs/{first}").json()["data"]["run"]["input"] == {}


def test_r21_twenty_thousand_runs_are_neither_sent_nor_read_at_once(make):
    """The original's list was 49 MB, the first event of its stream 45 MB, and its start touched every run.

    A page is a page, who watches is told what changes, and a process that starts claims what it can execute and no more: others' runs stay
    as they are. What it takes at a million runs is measured in ``bench``.
    """
    runs = make(plain)
    entries = [
        StartRun(runs.clock.new_run_id(), RunRequest("many", "elsewhere"), RunState.QUEUED) for _ in range(20_000)
    ]
    writer = runs.store.open_writer()
    for begin in range(0, len(entries), 1_000):
        assert all(outcome.created for outcome in writer.apply(entries[begin : begin + 1_000]))
    writer.close()
    app = Starlette()
    mount_workflow_runs_admin_routes(app, runs.desk, authorize=lambda request: Principal("ann", {"workflows:read"}))
    with TestClient(app) as client:
        answer = client.get("/v1/admin/workflow-runs?limit=200")
    assert (len(answer.json()["data"]), answer.json()["totalCapped"], len(answer.content) < 300_000) == (
        200,
        True,
        True,
    )

    with runs.desk.changes.watch([entries[0].run_id], new_runs=True, last=runs.desk.changes.position()) as watch:
        run_id = runs.trigger(plain)
        runs.wait(run_id)
        assert len(watch.take()) <= 2
    fresh = make(plain)
    assert fresh.wait(fresh.trigger(plain)).state == "succeeded"
    assert fresh.store.count_runs(RunFilter(states=(RunState.QUEUED,)), 50_000) == (20_000, False)


def test_r22_cursor_and_offset_walk_the_same_runs_once_to_the_deepest_page(make):
    runs = make()
    receipts = [
        runs.journal.submit(StartRun(runs.clock.new_run_id(), RunRequest("many", "many", tags=(f"t{number % 3}",))))
        for number in range(1_000)
    ]
    ids = sorted((receipt.result().run_id for receipt in receipts), reverse=True)

    by_cursor, after = [], None
    while page := runs.store.list_runs(RunFilter(), Page(limit=200, after=after), payloads=False):
        by_cursor += [run.id for run in page.runs]
        after = page.next_after
        if after is None:
            break
    by_offset = [
        run.id
        for offset in range(0, 1_000, 200)
        for run in runs.store.list_runs(RunFilter(), Page(limit=200, offset=offset), payloads=False).runs
    ]
    assert by_cursor == by_offset == ids
