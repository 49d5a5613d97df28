"""Whatever operators and processes do, in whatever order: terminal states are final, and what was acknowledged stays (promises P2, P5, P6).

Hypothesis makes up the order. Two servers have a store, a journal and a desk each on one database. Their *executors* do by hand what an
engine does (claim, execute, write under the claim), so that each can stop anywhere: between an effect and its record, with or without
anybody noticing, and go on writing after it was taken for dead. The model is a dictionary of what was acknowledged; after each rule the
whole record is compared with it.

A database serves all examples; each has a workflow of its own. More of them:

    EXAMPLES=2000 python -m pytest tests/operations/test_state_machine.py --timeout 3600
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.operations.conftest import StoringEngine
from workflow_runs.authoring import Workflow, workflow
from workflow_runs.clock import Clock, this_process
from workflow_runs.errors import (
    AlreadyResumed,
    ClaimLost,
    IdempotencyKeyReused,
    Refusal,
    RunNotFinished,
)
from workflow_runs.journal import Journal
from workflow_runs.model.entries import (
    Claim,
    ClaimRuns,
    Heartbeat,
    RegisterExecutor,
    RunChanged,
    RunEnded,
    StepEnded,
    StepStarted,
    StepUndone,
)
from workflow_runs.model.records import ErrorRecord, Page, Run, RunFilter, Step, StepKey
from workflow_runs.model.states import (
    KEPT_STEP_STATES,
    STEP_TRANSITIONS,
    EffectClass,
    Origin,
    RunState,
    RunStatus,
    StepKind,
    StepState,
    is_finished,
    may_follow,
)
from workflow_runs.operations.desk import Desk
from workflow_runs.operations.registry import WorkflowRunnerRegistry, workflow_runner
from workflow_runs.store.opening import open_store

STEPS = ("reserve", "charge", "mail")
SERVERS = 2
LEASES_S = (1_000.0, 0.001)  # never over, over at once
KEYS = ("a", "b")
RUNS_MAX = 6  # few, so that much happens to each
STANDING = (RunStatus.RUNNING, RunStatus.SUCCEEDED)
OPEN = (StepState.RUNNING, StepState.UNKNOWN)
FAILED = (StepState.FAILED,)

places, which = st.integers(0, SERVERS - 1), st.integers(0, RUNS_MAX)

_examples = itertools.count()


class Server:
    """One process's way to the database, as far as the database can see."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.store = open_store(url, clock=self.clock)
        self.journal = Journal(self.store, clock=self.clock)
        self.engine = StoringEngine(self.journal, self.clock)
        self.desk: Desk

    def open_for(self, definition: Workflow) -> None:
        registry = WorkflowRunnerRegistry([workflow_runner(definition, self.engine)])
        self.desk = Desk(self.store, self.journal, registry, self.engine, clock=self.clock)

    def write(self, entry: Any) -> Any:
        return self.journal.submit(entry).result(60)

    def close(self) -> None:
        self.journal.close()
        self.store.close()


@dataclass(eq=False)
class Executor:
    """A process that executes. A *zombie* was taken for dead and does not know it."""

    server: Server
    claim: Claim
    jobs: list[str] = field(default_factory=list)


@dataclass
class Known:
    """What is known of a run: everything here was acknowledged, or read from the record and may only go on from there."""

    run: Run
    steps: dict[tuple[StepKey, int], StepState] = field(default_factory=dict)
    outputs: dict[tuple[StepKey, int], str | None] = field(default_factory=dict)


def _do_nothing(run: Any, given: Any = None) -> None:
    """Never executed: executors do what it would."""


class Machine(RuleBasedStateMachine):
    """One example: a workflow, its runs, and an executor on each server that comes and goes."""

    servers: list[Server]  # of the test
    seen: Counter[str]  # what happened in any example

    @initialize()
    def begin(self) -> None:
        self.name = f"shop-{next(_examples)}"
        definition = workflow(self.name, idempotency="safe", version="v1")(_do_nothing)
        for server in self.servers:
            server.open_for(definition)
        self.known: dict[str, Known] = {}
        self.keys: dict[str, tuple[str, str]] = {}  # key: the input it was used with, and the run
        self.acknowledged: dict[
            tuple[str, str], str
        ] = {}  # run and step: the output that an executor was told to be durable
        self.undone: set[str] = set()  # chains of which something was undone
        self.numbers = itertools.count()
        self.executors = [self._registered(place, LEASES_S[0]) for place in range(SERVERS)]
        self.zombies: list[Executor] = []
        self.is_over = False
        for number in range(3):
            self.servers[0].desk.trigger(self.name, str(number))
        self.look()
        # A failure, and a resume of it that has failed as well.
        self.work_on(0, 2, fails=True, dies=None)
        self.resume(0, 0)
        self.executors[0].jobs.reverse()
        self._take_up(0).jobs.reverse()
        self.work_on(0, 1, fails=True, dies=None)

    # --- what may happen: few rules, since Hypothesis leaves some out of each example -------------------------------

    @rule(
        act=st.sampled_from(("trigger", "resume", "resume", "rerun", "cancel")),
        server=places,
        which=which,
        key=st.none() | st.sampled_from(KEYS),
        given=st.sampled_from("12"),
    )
    def operate(self, act: str, server: int, which: int, key: str | None, given: str) -> None:
        """An operator, or a program, acts on one of the servers."""
        if act == "trigger":
            self.trigger(server, key, given)
        else:
            getattr(self, act)(server, which)

    @rule(
        place=places,
        count=st.integers(1, len(STEPS) + 1),
        how=st.sampled_from(("well", "well", "fails", "before", "after", "compensates")),
    )
    def execute(self, place: int, count: int, how: str) -> None:
        """A process goes on with a run."""
        if how == "compensates":
            self.compensate(place)
        else:
            self.work_on(place, count, fails=how == "fails", dies=how if how in {"before", "after"} else None)

    @rule(
        act=st.sampled_from(("crash", "relieve", "wake", "late_words", "hear_of_cancels", "hand_back")),
        place=places,
        again=st.booleans(),
        lease_s=st.sampled_from(LEASES_S),
    )
    def disturb(self, act: str, place: int, again: bool, lease_s: float) -> None:
        """Something happens to a process."""
        if act == "crash":
            self.crash(place, again, lease_s)
        elif act == "wake":
            self.wake()
        else:
            getattr(self, act)(place)

    # --- operators ------------------------------------------------------------------------------------------------

    def trigger(self, server: int, key: str | None, given: str) -> None:
        if len(self.known) >= RUNS_MAX:
            return
        first = self.keys.get(key or "")
        try:
            run_id = self.servers[server].desk.trigger(self.name, given, idempotency_key=key).run_id
        except IdempotencyKeyReused:
            assert first is not None
            assert first[0] != given
            self.seen["key with other input"] += 1
            return
        assert first is None or first == (given, run_id), "one key is one run"
        if key is not None:
            self.keys[key] = (given, run_id)

    def resume(self, server: int, which: int) -> None:
        before = self._one(which)
        chain = [each.run for each in self.known.values() if each.run.chain_run_id == before.chain_run_id]
        standing = {run.id for run in chain if run.status in STANDING and run.id != before.id}
        try:
            self.servers[server].desk.resume(before.id, actor="ada")
        except AlreadyResumed as refusal:
            assert refusal.details["runId"] in standing
            self.seen["already resumed"] += 1
        except Refusal:
            # Not failed; or nothing in it that failed; or what came before is open or undone.
            why = (before.chain_run_id in self.undone, self._has(before.id, OPEN), not self._has(before.id, FAILED))
            assert before.status is not RunStatus.FAILED or any(why)
        else:
            assert before.status is RunStatus.FAILED
            assert standing == set()
            self.seen["resumed"] += 1

    def rerun(self, server: int, which: int) -> None:
        before = self._one(which)
        if len(self.known) >= RUNS_MAX:
            return
        try:
            self.servers[server].desk.rerun(before.id)
        except RunNotFinished:
            assert not is_finished(before.state)
        else:
            assert is_finished(before.state)

    def cancel(self, server: int, which: int) -> None:
        before = self._one(which)
        try:
            self.servers[server].desk.cancel(before.id, actor="ada")
        except Refusal:
            assert is_finished(before.state)
        else:
            assert not is_finished(before.state)

    def _one(self, which: int) -> Run:
        return self.known[sorted(self.known)[which % len(self.known)]].run  # oldest first

    def _has(self, run_id: str, states: Collection[StepState]) -> bool:
        return bool(set(states) & set(self.known[run_id].steps.values()))

    # --- executors ------------------------------------------------------------------------------------------------

    def crash(self, place: int, again: bool, lease_s: float) -> None:
        """A process dies and another one starts, under the same name or not. Nobody else need have noticed."""
        self.executors[place] = self._registered(place, lease_s, self.executors[place].claim.owner if again else None)

    def relieve(self, place: int) -> None:
        """Somebody takes the other process for dead, rightly or not, and takes up what it has; it becomes a zombie."""
        other = self.executors[1 - place]
        had = set(self._take_up(place, scope=this_process().scope).jobs)
        if had & set(other.jobs):
            self.zombies.append(other)
            self.executors[1 - place] = self._registered(1 - place, LEASES_S[0])

    def wake(self) -> None:
        """A zombie goes on writing, and nothing of it is taken."""
        zombie = self.zombies.pop() if self.zombies else Executor(self.servers[0], Claim("nobody", 1))
        for run_id in zombie.jobs:
            at = zombie.server.clock.now_millis()
            step = self._step(run_id, zombie, STEPS[0], 9)
            error = ErrorRecord("late")
            end = RunEnded(run_id, RunState.FAILED, at, error=error, claim=zombie.claim)
            change = RunChanged(run_id, RunState.QUEUED, at, zombie.claim, release=True)
            for entry in (
                step,
                StepEnded(*step, StepState.SUCCEEDED, Origin.EXECUTED, '"late"', None, at, 0),
                end,
                change,
            ):
                with pytest.raises(ClaimLost):
                    zombie.server.write(entry)
                self.seen["zombie refused"] += 1

    def late_words(self, place: int) -> None:
        """Somebody who needs no claim says once more, and differently, how runs and attempts ended that have."""
        server = self.servers[place]
        at = server.clock.now_millis()
        for run_id, known in list(self.known.items()):
            for (step, number), state in known.steps.items():
                if state is not StepState.RUNNING:
                    what = (StepKind.STEP, EffectClass.IDEMPOTENT, "digest", at, StepState.SUCCEEDED, Origin.EXECUTED)
                    late = StepEnded(
                        run_id, None, step, number, STEPS.index(step.name) + 1, *what, '"late"', None, at, 0
                    )
                    server.write(late)
            if is_finished(known.run.state):
                other = RunState.FAILED if known.run.state is RunState.SUCCEEDED else RunState.SUCCEEDED
                assert not server.write(RunEnded(run_id, other, at, '"late"')).changed
                assert server.write(RunChanged(run_id, RunState.RUNNING, at)) is False
                self.seen["late word"] += 1

    def work_on(self, place: int, count: int, fails: bool, dies: str | None) -> None:
        """Some steps of the oldest job, the last of which may fail, or be the last thing that the process does: with its start alone on
        record, or with its end, of which it did not hear.
        """
        executor = self._take_up(place)
        if not executor.jobs:
            return
        run_id, claim, clock = executor.jobs[0], executor.claim, executor.server.clock
        if not self._writes(executor, RunChanged(run_id, RunState.RUNNING, clock.now_millis(), claim)):
            return
        for last in range(count - 1, -1, -1):
            steps = executor.server.store.get_steps(run_id)
            kept = {step.step.name for step in steps if step.state in KEPT_STEP_STATES}
            left = [name for name in STEPS if name not in kept]
            if not left:
                executor.jobs.pop(0)
                self._writes(executor, RunEnded(run_id, RunState.SUCCEEDED, clock.now_millis(), '"done"', claim=claim))
                return
            attempt = 1 + max((step.last.number for step in steps if step.step.name == left[0]), default=0)
            started = self._step(run_id, executor, left[0], attempt)
            if not last and dies == "before":
                self._writes(executor, started)
            elif not self._ends(executor, started, fails=fails and not last):
                return
            if not last and dies:
                self.crash(place, again=bool(attempt % 2), lease_s=LEASES_S[0])

    def _ends(self, executor: Executor, started: StepStarted, *, fails: bool) -> bool:
        """Have a step's effect and record its end; return whether the run goes on."""
        at = executor.server.clock.now_millis()
        run_id, name = started.run_id, started.step.name
        done = [line for line in self._line(run_id) if (line, name) in self.acknowledged]
        assert done == [], "what was acknowledged is not done again"
        if fails:
            error = ErrorRecord(f"{name} failed", step_name=name)
            ended = StepEnded(*started, StepState.FAILED, Origin.EXECUTED, None, error, at, 0)
            if self._writes(executor, ended):
                executor.jobs.pop(0)
                self._writes(executor, RunEnded(run_id, RunState.FAILED, at, error=error, claim=executor.claim))
            return False
        output = f'"{name} {next(self.numbers)}"'
        ended = StepEnded(*started, StepState.SUCCEEDED, Origin.EXECUTED, output, None, at, 0)
        if not self._writes(executor, ended):
            return False
        self.acknowledged[run_id, name] = output
        return True

    def compensate(self, place: int) -> None:
        executor = self._take_up(place)
        if not executor.jobs:
            return
        run_id, claim, clock = executor.jobs[0], executor.claim, executor.server.clock
        done = [step for step in executor.server.store.get_steps(run_id) if step.state in KEPT_STEP_STATES]
        for state in (RunState.RUNNING, RunState.COMPENSATING) if done else ():
            if not self._writes(executor, RunChanged(run_id, state, clock.now_millis(), claim)):
                return
        executor.jobs.pop(0)
        chain = self.known[run_id].run.chain_run_id
        for step in reversed(done):
            self.undone.add(chain)
            places = [(line, step.step.name) for line in self._line(run_id)]
            kept = {place: self.acknowledged.pop(place) for place in places if place in self.acknowledged}
            how = (step.step, step.last.number, StepState.COMPENSATED, None)
            if not self._writes(executor, StepUndone(run_id, claim, *how, clock.now_millis())):
                self.acknowledged |= kept
                return
        if done:
            end = RunEnded(run_id, RunState.COMPENSATED, clock.now_millis(), error=ErrorRecord("undone"), claim=claim)
            self._writes(executor, end)

    def hear_of_cancels(self, place: int) -> None:
        executor = self.executors[place]
        try:
            beat = executor.server.write(Heartbeat(executor.claim))
        except ClaimLost:
            self._replace(executor)
            return
        for run_id, reason in beat.cancel_requested:
            at, error = executor.server.clock.now_millis(), ErrorRecord(reason or "Cancelled")
            self._writes(executor, RunEnded(run_id, RunState.CANCELLED, at, error=error, claim=executor.claim))
            executor.jobs = [job for job in executor.jobs if job != run_id]

    def hand_back(self, place: int) -> None:
        executor = self.executors[place]
        if executor.jobs:
            run_id, at = executor.jobs.pop(0), executor.server.clock.now_millis()
            self._writes(executor, RunChanged(run_id, RunState.QUEUED, at, executor.claim, release=True))

    # --- what executors do in common ------------------------------------------------------------------------------

    def _registered(self, place: int, lease_s: float, name: str | None = None) -> Executor:
        server = self.servers[place]
        name = name or f"{self.name}-{next(self.numbers)}"
        claim = server.write(RegisterExecutor(name, lease_s, this_process().scope, 2**30, "1"))
        return Executor(server, claim)

    def _take_up(self, place: int, scope: str = "") -> Executor:
        """Take up what nobody executes; an executor that finds its claim gone comes back under another name first.

        With the scope of this machine it sees that no process has the number of the other one.
        """
        executor = self.executors[place]
        try:
            taken = executor.server.write(ClaimRuns(executor.claim, (self.name,), 10, scope))
        except ClaimLost:
            executor = self._replace(executor)
            taken = executor.server.write(ClaimRuns(executor.claim, (self.name,), 10, scope))
        executor.jobs += [run.run_id for run in taken]
        self.seen["recovered"] += sum(run.recovered for run in taken)
        return executor

    def _replace(self, executor: Executor) -> Executor:
        self.seen["claim lost"] += 1
        place = self.executors.index(executor)
        self.executors[place] = self._registered(place, LEASES_S[0])
        return self.executors[place]

    def _step(self, run_id: str, executor: Executor, name: str, attempt: int) -> StepStarted:
        place = (StepKey(name, "", 1), attempt, STEPS.index(name) + 1)
        what = (StepKind.STEP, EffectClass.IDEMPOTENT, "digest", executor.server.clock.now_millis())
        return StepStarted(run_id, executor.claim, *place, *what)

    def _writes(self, executor: Executor, entry: Any) -> bool:
        """Write under a claim; False if it is not the executor's any more, or the run has ended."""
        try:
            outcome = executor.server.write(entry)
        except ClaimLost:
            self._replace(executor)
            return False
        if outcome is False or getattr(outcome, "changed", True) is False:
            executor.jobs = [job for job in executor.jobs if job != entry.run_id]
            return False
        if not isinstance(entry, StepStarted | StepEnded):
            self.look()
        return True

    # --- the record -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Compare all of it once more."""
        self.is_over = True
        self.look()

    @invariant()
    def look(self) -> None:
        """Compare the whole record with what is known, and know what it says now."""
        self.seen["looks"] += 1
        if not hasattr(self, "known"):
            return
        store = self.servers[0].store
        found = store.list_runs(
            RunFilter(workflow_names=(self.name,)), Page(limit=200), payloads=True, total=False
        ).runs
        runs = {run.id: run for run in found}
        assert set(self.known) <= set(runs), "no run is lost"
        for run_id, run in runs.items():
            before = self.known.get(run_id)
            if before is not None:
                check_run(before.run, run)
                if is_finished(before.run.state) and not self.is_over:
                    continue  # its steps are compared at the end
            steps = store.get_steps(run_id)
            check_steps(before, steps)
            if run.state is RunState.SUCCEEDED:
                assert {step.step.name for step in steps if step.state in KEPT_STEP_STATES} == set(STEPS)
            if before is None or before.run.state is not run.state:
                self.seen[run.state] += 1
            known = self.known[run_id] = Known(run)
            for step in steps:
                for attempt in step.attempts:
                    known.steps[step.step, attempt.number] = attempt.state
                    known.outputs[step.step, attempt.number] = attempt.output
        chains: dict[str, list[Run]] = {}
        for run in runs.values():
            chains.setdefault(run.chain_run_id, []).append(run)
        for chain, members in chains.items():
            standing = [run.id for run in members if run.status in STANDING]
            assert len(standing) <= 1, f"two of the chain {chain} go on or succeeded: {standing}"
        self._check_acknowledged()

    def _check_acknowledged(self) -> None:
        for (run_id, name), output in self.acknowledged.items():
            known = self.known[run_id]
            kept = {known.outputs[place] for place, state in known.steps.items() if state in KEPT_STEP_STATES}
            assert output in kept, f"{name} of {run_id} was acknowledged and is gone"

    def _line(self, run_id: str | None) -> Iterator[str]:
        """The run, what it resumes, and so on: what a resume keeps. A resume of something older does not know what a later one did."""
        chain = self.known[run_id].run.chain_run_id if run_id else None
        while run_id is not None and self.known[run_id].run.chain_run_id == chain:
            yield run_id
            run_id = self.known[run_id].run.parent_run_id


def check_run(before: Run, after: Run) -> None:
    """A run goes on by the table, and what has ended stays as it is."""
    if is_finished(before.state):
        ends = ("state", "result", "error", "completed_at", "duration_ms")
        assert [getattr(after, name) for name in ends] == [getattr(before, name) for name in ends]
    else:
        assert after.state is before.state or may_follow(before.state, after.state), f"{before.state} to {after.state}"
    fixed = ("input", "parent_run_id", "root_run_id", "chain_run_id", "started_at", "tags", "idempotency_key")
    assert [getattr(after, name) for name in fixed] == [getattr(before, name) for name in fixed]


def check_steps(before: Known | None, steps: tuple[Step, ...]) -> None:
    """An attempt goes on by the table, and an output stays what it is."""
    if before is None:
        return
    found = {(step.step, attempt.number): attempt for step in steps for attempt in step.attempts}
    assert set(before.steps) <= set(found), "no attempt is lost"
    for place, state in before.steps.items():
        now = found[place]
        assert now.state is state or now.state in STEP_TRANSITIONS[state], f"{place}: {state} to {now.state}"
        if state in KEPT_STEP_STATES:
            assert now.output == before.outputs[place]


@pytest.fixture
def servers(database_url: str) -> Any:
    store = open_store(database_url, clock=Clock())
    store.migrate()
    store.close()
    made = [Server(database_url) for _ in range(SERVERS)]
    yield made
    for server in made:
        server.close()


# What has to happen in the examples, or they show nothing.
HAPPENS = {"running", "succeeded", "failed", "resumed", "recovered", "zombie refused", "late word"}


def test_terminal_states_are_final_and_nothing_acknowledged_is_lost_or_done_again(servers, database_url):
    is_sqlite = database_url.startswith("sqlite")
    asked = int(os.environ.get("EXAMPLES", "0"))
    untimed = settings(
        max_examples=asked or (25 if is_sqlite else 6),
        stateful_step_count=30,
        deadline=None,
        derandomize=not asked,
        phases=(Phase.generate, Phase.shrink) if asked else (Phase.generate,),  # shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )
    seen: Counter[str] = Counter()
    run_state_machine_as_test(type("Machine", (Machine,), {"servers": servers, "seen": seen}), settings=untimed)
    assert not (HAPPENS if is_sqlite else set()) - seen.keys(), seen
    logging.getLogger(__name__).info("%s", dict(seen))
