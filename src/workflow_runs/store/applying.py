"""What each kind of entry does to the database, one entry at a time: the meaning that ``model.entries`` promises.

The journal's common entries take shorter ways in ``writing`` and ``postgresql``. Those ways write the same rows (made
in ``entry_rows``), and fall back to this one whenever an entry turns out to be special.

A handler reads and locks first, and raises what refuses its entry before it writes anything: a batch needs no savepoint for it. (A
savepoint around each start of a run made it cost SQLite 140 us instead of 50: every page that changes is saved once more.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..clock import LeaseTime, ProcessIdentity, run_id_millis
from ..errors import (
    AlreadyResumed,
    ClaimLost,
    EntryRejected,
    IdempotencyKeyReused,
    NotFound,
    ResumeNotAllowed,
)
from ..model.entries import (
    ActionTaken,
    Beat,
    CancelRun,
    Claim,
    ClaimedRun,
    ClaimRuns,
    EndOutcome,
    Entry,
    GapNoted,
    Heartbeat,
    RegisterExecutor,
    RunChanged,
    RunEnded,
    RunStarted,
    StartRun,
    StepEnded,
    StepStarted,
    StepUndone,
)
from ..model.records import ErrorRecord, StepKey
from ..model.requests import Action, Seed, undone_elsewhere
from ..model.states import RecordingMode, RunState, is_finished
from . import statements as sql
from .entry_rows import (
    Row,
    audit_row,
    change_row,
    end_payload,
    end_row,
    error_text,
    rollup_place,
    run_row,
    seed_rows,
    started_audit_row,
    started_ms,
    step_row,
)
from .rollup import COUNT_COLUMNS, RollupKey, count

_STATES = frozenset(RunState)
_CANCELLED_AT_ONCE = frozenset({RunState.UNKNOWN, RunState.WAITING, RunState.PAUSED})


class Session(Protocol):
    """The writer's connection, with a transaction open on it."""

    def run(self, statement: str, parameters: Sequence[Any]) -> int:
        """Run a statement and return how many rows it wrote."""
        ...

    def run_all(self, statement: str, rows: Sequence[Row]) -> None:
        """Run a statement once for each row of parameters, without waiting for each answer."""
        ...

    def row(self, statement: str, parameters: Sequence[Any]) -> Row | None:
        """Return the first row, or None."""
        ...

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        """Return all rows."""
        ...

    def lease_time(self) -> LeaseTime:
        """Read the clock by which leases are judged on this database."""
        ...

    def unclaimed(self, definitions: Sequence[str], limit: int) -> list[Row]:
        """Return (id, definition) of the oldest runs that nobody owns, locked; up to ``limit`` of each definition."""
        ...


# What claims took in transactions whose commit may have been lost. Were it forgotten, the runs would belong to a living owner that never
# learns of them.
Taken = dict[Claim, tuple[ClaimedRun, ...]]


class EntryApplier:
    """Applies entries in the transaction that is open on its session. One object for one transaction."""

    def __init__(self, session: Session, taken: Taken) -> None:
        self._session = session
        self._taken = taken
        self._holding: dict[Claim, bool] = {}
        self._ended: dict[RollupKey, list[int]] = {}

    def apply(self, entry: Entry) -> object:
        """Apply one entry and return its outcome.

        Raises:
            Refusal: others were first, or the run's state forbids it.
            ClaimLost: the entry's claim has passed to another owner.
            EntryRejected: the entry asks for something that cannot be.
        """
        claim = getattr(entry, "claim", None)
        if claim is not None and not self.holds(claim):
            raise claim_lost(claim)
        return _HANDLERS[type(entry)](self, entry)

    def holds(self, claim: Claim) -> bool:
        """Return whether the claim is still the owner's; asked once per transaction, and then it stays so to the end."""
        holds = self._holding.get(claim)
        if holds is None:
            holds = self._holding[claim] = self._session.row(sql.CHECK_CLAIM, claim) is not None
        return holds

    # --- runs ---------------------------------------------------------------------------------------------------------

    def start_run(self, entry: StartRun) -> RunStarted:
        session, request, run_id = self._session, entry.request, entry.run_id
        action = request.action
        # All rows are made before the first is written: making one may refuse the entry.
        row = run_row(entry)
        seeds = seed_rows(entry)
        audit = None if action is None else started_audit_row(entry, action)
        if action is not None and is_disputed(action):
            if session.row(sql.RUN_HEAD, (run_id,)) is not None:
                return RunStarted(run_id, created=True)
            earlier = self._take_up(action, run_id, started_ms(run_id), request.seeds)
            if earlier is not None:
                return RunStarted(earlier, created=False)
        if not session.run(sql.INSERT_RUN, row):
            return RunStarted(run_id, created=True)  # its own first writing, whose answer got lost
        if request.input is not None:
            session.run(sql.INSERT_INPUT, (run_id, request.input))
        session.run_all(sql.INSERT_TAG, [(tag, run_id) for tag in dict.fromkeys(request.tags)])
        session.run_all(sql.SAVE_STEP, seeds)
        if audit is not None:
            session.run(sql.INSERT_AUDIT, audit)
        return RunStarted(run_id, created=True)

    def change_run(self, entry: RunChanged) -> bool:
        change_columns = change_row(entry)
        statement = sql.CHANGE_RUN[entry.state, entry.claim is not None, entry.release]
        if self._session.run(statement, (*change_columns, entry.run_id, *(entry.claim or ()))):
            return True
        return self.why_not_changed(entry)

    def why_not_changed(self, entry: RunChanged) -> bool:
        """Say what stood in the way of a change that changed no row."""
        head = self._session.row(sql.RUN_HEAD, (entry.run_id,))
        if head is None:
            raise EntryRejected("There is no such run to change.")
        state, completed_at, owner, epoch = head
        if completed_at is not None:
            return False
        if entry.claim is not None and (owner, epoch) != entry.claim:
            if entry.release and owner is None and state == entry.state:
                return True  # its own first writing gave the claim back
            raise claim_lost(entry.claim)
        raise EntryRejected(f"A run that is {state} cannot become {entry.state}.")

    def end_run(self, entry: RunEnded) -> EndOutcome:
        statement = sql.END_RUN[entry.state, entry.claim is not None]
        ended = self._session.row(statement, (*end_row(entry), entry.run_id, *(entry.claim or ())))
        if ended is None:
            return self.why_not_ended(entry)
        result, error = end_payload(entry)
        if result is not None or error is not None:
            self._session.run(sql.SAVE_END, (entry.run_id, result, error))
        self.note_ended(entry, ended[0])  # the last: whatever is raised before has ended nothing
        return EndOutcome(changed=True, state=entry.state)

    def note_ended(self, entry: RunEnded, workflow_name: object) -> None:
        """Remember a run that this transaction has ended, for ``count_ended``."""
        if not isinstance(workflow_name, str):
            return  # put there from outside, as bytes: it is nobody's name to count under
        half_hour, took = rollup_place(entry)
        counts = self._ended.setdefault(RollupKey(half_hour, workflow_name), [0] * len(COUNT_COLUMNS))
        count(counts, entry.state, took)

    def count_ended(self) -> None:
        """Add the runs that were ended to the rollup; the last thing that a transaction does.

        The rows are locked until the commit, so a transaction that goes on to wait for other locks could wait for one that waits for it.
        """
        for key in sorted(self._ended):
            self._session.run(sql.COUNT_ENDED, (*key, *self._ended[key]))

    def why_not_ended(self, entry: RunEnded) -> EndOutcome:
        """Say what stood in the way of an end that changed no row."""
        head = self._session.row(sql.RUN_HEAD, (entry.run_id,))
        if head is None:
            raise EntryRejected("There is no such run to end.")
        state, completed_at, owner, epoch = head
        if completed_at is not None:
            own = state == entry.state and completed_at == entry.at_ms  # its own first writing, whose answer got lost
            return EndOutcome(changed=own, state=_end_of(state))
        if entry.claim is not None and (owner, epoch) != entry.claim:
            raise claim_lost(entry.claim)
        raise EntryRejected(f"A run that is {state} cannot end as {entry.state}.")

    def note_gap(self, entry: GapNoted) -> None:
        self._session.run(sql.NOTE_GAP, (True, entry.run_id))

    def cancel_run(self, entry: CancelRun) -> EndOutcome:
        head = self._session.row(sql.LOCK_RUN_HEAD, (entry.run_id,))
        if head is None:
            raise NotFound("There is no such run.")
        state, completed_at, owner, epoch, mode, workflow_name = head
        if completed_at is not None:
            own = state == RunState.CANCELLED and completed_at == entry.at_ms
            return EndOutcome(changed=own, state=_end_of(state))
        self._session.run(
            sql.INSERT_AUDIT, audit_row(entry.action, entry.audit_id, entry.at_ms, workflow_name, entry.run_id)
        )
        self._session.run(sql.REQUEST_CANCEL, (entry.at_ms, entry.action.reason, entry.at_ms, entry.run_id))
        if state not in _STATES:
            self._session.run(sql.MEND_STATE, (entry.run_id,))
            state = RunState.UNKNOWN
        state = RunState(state)
        unowned = state is RunState.QUEUED and not self._is_owned(owner, epoch)
        # Nobody who observes a run hears of the wish, and the process that began it may be gone for ever.
        if state in _CANCELLED_AT_ONCE or unowned or mode == RecordingMode.OBSERVE:
            error = ErrorRecord(entry.action.reason or "Cancelled")
            self._session.run(sql.LEAVE_ATTEMPTS, (entry.at_ms, entry.at_ms, entry.at_ms, entry.run_id))
            return self.end_run(RunEnded(entry.run_id, RunState.CANCELLED, entry.at_ms, error=error))
        return EndOutcome(changed=True, state=state)

    def _is_owned(self, owner: str | None, epoch: int | None) -> bool:
        return owner is not None and self._session.row(sql.FIND_EXECUTOR, (owner,)) == (epoch,)

    # --- actions ------------------------------------------------------------------------------------------------------

    def take_action(self, entry: ActionTaken) -> None:
        # Under a key that another request took meanwhile, two handlers have made a run each. Both are on record; the key stays with the
        # first.
        self._take_up(entry.action, entry.run_id, entry.at_ms)
        row = audit_row(entry.action, entry.audit_id, entry.at_ms, entry.workflow_name, entry.run_id)
        self._session.run(sql.INSERT_AUDIT, row)

    def _take_up(self, action: Action, run_id: str, at_ms: int, seeds: Sequence[Seed] = ()) -> str | None:
        """Take the action's key and its claim on a failure for a run; or return the run that has the key, and take nothing."""
        earlier = self._run_of_key(action)
        if earlier is not None:
            return None if earlier == run_id else earlier
        failure = action.target_run_id if action.claims_failure else None
        if failure is not None:
            try:
                self._check_failure(failure, run_id, seeds)
            except AlreadyResumed:
                # By the same request, perhaps, which was made twice at once: while this one waited for the lock the other got through.
                earlier = self._run_of_key(action)
                if earlier is None:
                    raise
                return earlier
        key = action.idempotency
        if key is not None and not self._session.run(
            sql.INSERT_ACTION, (key.scope, key.key, run_id, key.request_hash, at_ms)
        ):
            return self._run_of_key(action)
        if failure is not None:
            self._session.run(sql.CLAIM_FAILURE, (run_id, failure))
        return None

    def _run_of_key(self, action: Action) -> str | None:
        """Return the run that was made under the action's key, if one was."""
        key = action.idempotency
        found = None if key is None else self._session.row(sql.FIND_ACTION, (key.scope, key.key))
        if key is None or found is None:
            return None
        run_id, request_hash = found
        if request_hash != key.request_hash:
            raise IdempotencyKeyReused("The idempotency key was used before with another request.")
        return str(run_id)

    def _check_failure(self, failed_run_id: str, child_run_id: str, seeds: Sequence[Seed]) -> None:
        """Return when a failed run may be resumed, and nobody else can begin to until the transaction ends.

        There is at most one unfinished or succeeded resume. The whole chain decides, not the parent alone: when a failure was resumed, the
        resume failed and was resumed in turn, then the last of them may be at work on the very step that a second resume of the first
        would execute again. And when a resume carried a step over, failed and undid it, the step is undone for all of them, although the
        failure that executed it has it on record as succeeded.
        """
        session = self._session
        found = session.row(sql.CHAIN_OF, (failed_run_id,))
        if found is None:
            raise NotFound("There is no such run to resume.")
        (chain,) = found
        if chain != failed_run_id:
            session.row(sql.LOCK_CHAIN, (chain,))
        failure = session.row(sql.LOCK_FAILURE, (failed_run_id,))
        assert failure is not None, "no run is deleted while it is resumed"
        state, resumed_by = failure
        if state not in sql.FAILED_STATES:
            raise ResumeNotAllowed("Only a failed run can be resumed.")
        if resumed_by is not None and resumed_by != child_run_id:
            # A resume that is recorded elsewhere cannot be seen to have failed: it counts as going on.
            stands = session.row(sql.IS_LIVE_OR_SUCCEEDED, (resumed_by,))
            if stands is None or stands[0]:
                raise AlreadyResumed("The failed run has been resumed already.", runId=resumed_by)
        other = session.row(sql.LIVE_OF_CHAIN, (chain, child_run_id))
        if other is not None:
            raise AlreadyResumed("The failed run has been resumed already.", runId=other[0])
        kept = {seed.step for seed in seeds}
        for *step, undone_by in session.rows(sql.UNDONE_OF_CHAIN, (chain,)) if kept else ():
            if StepKey(*step) in kept:
                raise undone_elsewhere(StepKey(*step), undone_by)

    # --- steps --------------------------------------------------------------------------------------------------------

    def save_step(self, entry: StepStarted | StepEnded) -> None:
        self._session.run(sql.SAVE_STEP, step_row(entry))

    def undo_step(self, entry: StepUndone) -> None:
        statement = sql.UNDO_STEP.get(entry.state)
        if statement is None:
            raise EntryRejected(f"Undoing a step does not leave it {entry.state}.")
        parameters = (entry.state.value, error_text(entry.error), entry.run_id, *entry.step, entry.attempt)
        if not self._session.run(statement, parameters):
            raise EntryRejected("Only a step that succeeded can be undone.")

    # --- executors ----------------------------------------------------------------------------------------------------

    def register(self, entry: RegisterExecutor) -> Claim:
        now = self._session.lease_time()
        row = self._session.row(
            sql.REGISTER,
            (
                entry.name,
                max(1, round(entry.lease_s * 1000)),
                _lease_ms(now),
                now.boot_id,
                entry.scope,
                entry.pid,
                entry.pid_started,
            ),
        )
        assert row is not None, "an upsert gives its row"
        claim = Claim(entry.name, row[0])
        self._forget(entry.name)
        self._holding[claim] = True
        return claim

    def beat(self, entry: Heartbeat) -> Beat:
        now = self._session.lease_time()
        self._session.run(sql.BEAT, (_lease_ms(now), now.boot_id, *entry.claim))
        wished = self._session.rows(sql.CANCEL_REQUESTS, entry.claim)
        return Beat(tuple((run_id, reason) for run_id, reason in wished))

    def claim_runs(self, entry: ClaimRuns) -> tuple[ClaimedRun, ...]:
        taken = self._taken_before(entry)
        limit = entry.limit - len(taken)
        found: list[ClaimedRun] = []
        if entry.definitions:
            for owner in self._owners_without_claim(entry):
                if limit > 0:
                    found += self._orphans_of(owner, entry, limit)
            if limit > 0:
                rows = self._session.unclaimed(entry.definitions, limit)
                found += [ClaimedRun(run_id, definition, recovered=False) for run_id, definition in rows]
        # A run under an id that is none could be executed and never end: its end has no place.
        found = sorted((run for run in found if _is_run_id(run.run_id)), key=_by_id)[: max(0, limit)]
        for run in found:
            self._session.run(sql.TAKE, (*entry.claim, run.run_id))
        runs = self._taken[entry.claim] = tuple(sorted((*taken, *found), key=_by_id))
        return runs

    def _taken_before(self, entry: ClaimRuns) -> tuple[ClaimedRun, ...]:
        """Return what the claim took in a transaction that nobody answered for and that was committed after all."""
        earlier = self._taken.get(entry.claim, ())
        if not earlier:
            return ()
        ids = [run.run_id for run in earlier]
        owned = {run_id for run_id, _ in self._session.rows(sql.owned_of(len(ids)), (*entry.claim, *ids))}
        return tuple(run for run in earlier if run.run_id in owned)

    def _owners_without_claim(self, entry: ClaimRuns) -> list[_Owner]:
        """Return the owners of live runs that are dead: fenced already, or to be fenced before anything is taken from them."""
        now = self._session.lease_time()
        owners: dict[Claim, Row] = {}
        for owner, epoch, *registered in self._session.rows(sql.OWNERS, ()):
            owners[Claim(owner, epoch)] = tuple(registered)
        dead = self._dead_neighbours(entry.scope)
        for claim in dead:
            if claim not in owners and claim.owner != entry.claim.owner:
                self._fence(claim)  # it owns nothing and its process is gone: nobody needs to look at it again
        judged = [
            self._judge(claim, registered, now, gone=claim in dead)
            for claim, registered in owners.items()
            if claim != entry.claim
        ]
        return [owner for owner in judged if owner is not None]

    def _dead_neighbours(self, scope: str) -> frozenset[Claim]:
        """Return the claims of executors on this machine whose process is gone, whatever their lease says.

        A number that is none, put there from outside, is nobody's.
        """
        return frozenset(
            Claim(name, epoch)
            for name, epoch, pid, started in self._session.rows(sql.NEIGHBOURS, (scope,))
            if type(pid) is not int or ProcessIdentity(scope, pid, started).is_alive() is False
        )

    def _judge(self, claim: Claim, registered: Row, now: LeaseTime, *, gone: bool) -> _Owner | None:
        if registered[0] != claim.epoch:
            return _Owner(claim, fenced=True)  # or never registered: nobody can write under the claim
        if not gone and not _has_expired(registered, now):
            return None
        # It looks dead. Look again under a lock, which is not to be had while the owner writes: then it lives.
        locked = self._session.row(sql.LOCK_EXECUTOR, (claim.owner,))
        if locked is None or (locked[0] == claim.epoch and not gone and not _has_expired(locked, now)):
            return None
        return _Owner(claim, fenced=locked[0] != claim.epoch)

    def _orphans_of(self, owner: _Owner, entry: ClaimRuns, limit: int) -> list[ClaimedRun]:
        rows = self._session.rows(sql.orphans(len(entry.definitions)), (*owner.claim, *entry.definitions, limit))
        if rows and not owner.fenced:
            # Only who can be relieved of something is fenced: an owner that was slow for a moment loses nothing for nothing.
            self._fence(owner.claim)
        return [ClaimedRun(run_id, definition, recovered=True) for run_id, definition in rows]

    def _fence(self, claim: Claim) -> None:
        self._session.run(sql.FENCE, claim)
        self._forget(claim.owner)

    def _forget(self, owner: str) -> None:
        for claim in self._holding:
            if claim.owner == owner:
                self._holding[claim] = False


@dataclass(frozen=True, slots=True)
class _Owner:
    claim: Claim
    fenced: bool


_HANDLERS: dict[type[Any], Callable[[EntryApplier, Any], object]] = {
    StartRun: EntryApplier.start_run,
    RunChanged: EntryApplier.change_run,
    RunEnded: EntryApplier.end_run,
    StepStarted: EntryApplier.save_step,
    StepEnded: EntryApplier.save_step,
    StepUndone: EntryApplier.undo_step,
    GapNoted: EntryApplier.note_gap,
    CancelRun: EntryApplier.cancel_run,
    ActionTaken: EntryApplier.take_action,
    RegisterExecutor: EntryApplier.register,
    Heartbeat: EntryApplier.beat,
    ClaimRuns: EntryApplier.claim_runs,
}


def is_disputed(action: Action) -> bool:
    """Return whether what others wrote can refuse the run that the action makes."""
    return action.idempotency is not None or action.claims_failure


def claim_lost(claim: Claim) -> ClaimLost:
    """Return the refusal of an entry whose claim has gone."""
    return ClaimLost(f"Executor {claim.owner!r} has lost its claim; another process may own its runs by now.")


def _has_expired(registered: Row, now: LeaseTime) -> bool:
    _, lease_ms, heartbeat_ms, boot_id = registered
    if type(heartbeat_ms) is not int or type(lease_ms) is not int:
        return True  # fenced, or damaged from outside: a living owner that loses its claim by that takes a new one
    return boot_id != now.boot_id or heartbeat_ms + lease_ms < _lease_ms(now)


def _lease_ms(time: LeaseTime) -> int:
    return int(time.seconds * 1000)


def _by_id(run: ClaimedRun) -> str:
    return run.run_id


# --- what somebody put into the database from outside -----------------------------------------------------------------


def _is_run_id(run_id: object) -> bool:
    try:
        return isinstance(run_id, str) and run_id_millis(run_id) >= 0
    except ValueError:
        return False


def _end_of(state: str) -> RunState:
    """Return how a run ended that says when it did; the reader shows it so, too."""
    return RunState(state) if state in _STATES and is_finished(RunState(state)) else RunState.LOST
