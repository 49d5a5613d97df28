# ruff: noqa: S608  # nothing here comes from outside: the texts are made of constants of this package
"""The statements that write, by hand: each has a name and a sentence. ``writing`` and ``applying`` call them, nothing else does.

Written once for both databases, with ``?`` for a parameter. ``Dialect`` turns a statement into what a driver takes: PostgreSQL
needs ``%s``, and row locks that SQLite does not have and does not need (its one writer holds the database from BEGIN on).

Every statement may be run again after a commit whose answer got lost: inserts do nothing on a conflict, updates name the states
they start from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..model.states import RUN_STATUS, STEP_TRANSITIONS, Origin, RunState, RunStatus, StepState, is_finished, may_follow
from .rollup import COUNT_COLUMNS
from .schema import CLAIMED

_FOR_UPDATE = " {for update}"
_FOR_SHARE = " {for share}"
_FOR_UPDATE_OR_SKIP = " {for update or skip}"
_SHARD = "{shard}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a statement of this module is said to one driver."""

    parameter: str
    for_update: str
    for_share: str
    for_update_or_skip: str
    shard: str  # an expression: which of the rollup's rows this connection counts in
    _said: dict[str, str] = field(default_factory=dict)

    def say(self, statement: str) -> str:
        """Return the statement in this dialect."""
        said = self._said.get(statement)
        if said is None:
            said = (
                statement.replace("?", self.parameter)
                .replace(_FOR_UPDATE, self.for_update)
                .replace(_FOR_SHARE, self.for_share)
                .replace(_FOR_UPDATE_OR_SKIP, self.for_update_or_skip)
                .replace(_SHARD, self.shard)
            )
            self._said[statement] = said
        return said


# States of a step whose effect is gone, or may be.
UNDONE_STATES = (StepState.COMPENSATED.value, StepState.COMPENSATION_FAILED.value)


def marks(count: int) -> str:
    """Return ``count`` parameters."""
    return ", ".join("?" * count)


def literals(values: Iterable[str]) -> str:
    """Return constants of ours as SQL."""
    return ", ".join(f"'{value}'" for value in sorted(values))


# --- rows, and the order in which their values are given --------------------------------------------------------------

RUN_COLUMNS = (
    "id",
    "workflow_name",
    "definition",
    "trigger",
    "correlation_id",
    "tags",
    "state",
    "mode",
    "has_gap",
    "parent_run_id",
    "root_run_id",
    "chain_run_id",
    "resume_from_step",
    "resume_from_key",
    "resume_from_occurrence",
    "triggered_by_user_id",
    "idempotency_key",
    "code_version",
    "execution_started_at",
    "updated_at",
    "claim_owner",
    "claim_epoch",
)
STEP_COLUMNS = (
    "run_id",
    "name",
    "key",
    "occurrence",
    "attempt",
    "sequence",
    "kind",
    "state",
    "origin",
    "effect",
    "input_digest",
    "output",
    "error",
    "started_at",
    "ended_at",
    "duration_ms",
)
AUDIT_COLUMNS = (
    "id",
    "at",
    "actor",
    "action",
    "workflow_name",
    "run_id",
    "target_run_id",
    "reason",
    "plan_hash",
    "request_id",
)

# A run is accepted; a second time it is left as it is.
INSERT_RUN = f"INSERT INTO workflow_runs ({', '.join(RUN_COLUMNS)}) VALUES ({marks(len(RUN_COLUMNS))}) ON CONFLICT (id) DO NOTHING"

# The input of a run.
INSERT_INPUT = "INSERT INTO workflow_run_payloads (run_id, input) VALUES (?, ?) ON CONFLICT (run_id) DO NOTHING"

# A tag by which the run is found.
INSERT_TAG = "INSERT INTO workflow_run_tags (tag, run_id) VALUES (?, ?) ON CONFLICT (tag, run_id) DO NOTHING"

# Who did what.
INSERT_AUDIT = (
    f"INSERT INTO workflow_run_audit ({', '.join(AUDIT_COLUMNS)}) VALUES ({marks(len(AUDIT_COLUMNS))}) "
    "ON CONFLICT (id) DO NOTHING"
)

# Which run an idempotency key made. Others who use the key at the same time wait here for the first to commit.
INSERT_ACTION = (
    "INSERT INTO workflow_run_actions (scope, key, run_id, request_hash, at) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (scope, key) DO NOTHING"
)
FIND_ACTION = "SELECT run_id, request_hash FROM workflow_run_actions WHERE scope = ? AND key = ?"

# What decides about a run.
RUN_HEAD = "SELECT state, completed_at, claim_owner, claim_epoch FROM workflow_runs WHERE id = ?"

# The same, and nobody else decides meanwhile.
LOCK_RUN_HEAD = (
    "SELECT state, completed_at, claim_owner, claim_epoch, mode, workflow_name FROM workflow_runs "
    f"WHERE id = ?{_FOR_UPDATE}"
)

# --- the claim on a failure -------------------------------------------------------------------------------------------

# The first run of the chain of resumes that a run belongs to. It never changes, so it is read before the locks.
CHAIN_OF = "SELECT coalesce(chain_run_id, id) FROM workflow_runs WHERE id = ?"

# All resumes within one chain pass here one after another, whichever of its failures they start from.
LOCK_CHAIN = f"SELECT id FROM workflow_runs WHERE id = ?{_FOR_UPDATE}"

# The failure that is to be resumed.
LOCK_FAILURE = f"SELECT state, resumed_by_run_id FROM workflow_runs WHERE id = ?{_FOR_UPDATE}"

# Whether a resume stands in the way of another: it is unfinished, or it succeeded.
IS_LIVE_OR_SUCCEEDED = "SELECT completed_at IS NULL OR state = 'succeeded' FROM workflow_runs WHERE id = ?"

# A resume of the same chain that stands in the way.
LIVE_OF_CHAIN = (
    "SELECT id FROM workflow_runs WHERE chain_run_id = ? AND id <> ? AND (completed_at IS NULL OR state = 'succeeded') "
    "ORDER BY id LIMIT 1"
)

# What resumes of the chain carried over and undid, or may have undone. What a run executed and undid itself is not among it: no other
# run keeps that.
UNDONE_OF_CHAIN = (
    "SELECT s.name, s.key, s.occurrence, s.run_id FROM workflow_runs AS r JOIN workflow_run_steps AS s ON s.run_id = r.id "
    f"WHERE r.chain_run_id = ? AND s.origin = '{Origin.SEEDED.value}' AND s.state IN ({literals(UNDONE_STATES)}) "
    "ORDER BY s.run_id"
)
CLAIM_FAILURE = "UPDATE workflow_runs SET resumed_by_run_id = ? WHERE id = ?"

FAILED_STATES = frozenset(state.value for state, status in RUN_STATUS.items() if status is RunStatus.FAILED)

# --- run states -------------------------------------------------------------------------------------------------------

_BY_OWNER = " AND claim_owner = ? AND claim_epoch = ?"


def states_before(state: RunState) -> frozenset[str]:
    """Return the states from which a run comes to ``state``; a live state may be said again, as a repeated write does."""
    before = {earlier.value for earlier in RunState if may_follow(earlier, state)}
    return frozenset(before if is_finished(state) else before | {state.value})


# A run goes on in another live state. The last parameter but the id is when it first executed, or NULL.
CHANGE_RUN = {
    (state, claimed, release): (
        "UPDATE workflow_runs SET state = ?, updated_at = ?, execution_started_at = coalesce(execution_started_at, ?)"
        + (", claim_owner = NULL, claim_epoch = NULL" if release else "")
        + f" WHERE id = ? AND completed_at IS NULL AND state IN ({literals(states_before(state))})"
        + (_BY_OWNER if claimed else "")
    )
    for state in RunState
    if not is_finished(state)
    for claimed in (False, True)
    for release in (False, True)
}

# A run ends, once; gives its workflow's name, for the rollup.
END_COLUMNS = (
    "state",
    "completed_at",
    "updated_at",
    "duration_ms",
    "duration_class",
    "error_message",
    "error_code",
    "error_step",
    "fingerprint",
)
END_RUN = {
    (state, claimed): (
        f"UPDATE workflow_runs SET {', '.join(f'{name} = ?' for name in END_COLUMNS)} "
        f"WHERE id = ? AND completed_at IS NULL AND state IN ({literals(states_before(state))})"
        + (_BY_OWNER if claimed else "")
        + " RETURNING workflow_name"
    )
    for state in RunState
    if is_finished(state)
    for claimed in (False, True)
}

# What a run ended with.
SAVE_END = (
    "INSERT INTO workflow_run_payloads (run_id, result, error) VALUES (?, ?, ?) "
    "ON CONFLICT (run_id) DO UPDATE SET result = excluded.result, error = excluded.error"
)

# So many more runs have ended. Every transaction does this last, and in the order of the key.
_ADDED = ", ".join(f"{name} = workflow_run_rollup.{name} + excluded.{name}" for name in COUNT_COLUMNS)
ROLLUP_CONFLICT = f"ON CONFLICT (half_hour, workflow_name, shard) DO UPDATE SET {_ADDED}"
INTO_ROLLUP = f"INSERT INTO workflow_run_rollup (half_hour, workflow_name, shard, {', '.join(COUNT_COLUMNS)})"
COUNT_ENDED = f"{INTO_ROLLUP} VALUES (?, ?, {_SHARD}, {marks(len(COUNT_COLUMNS))}) {ROLLUP_CONFLICT}"

# Somebody wants the run to end; whoever wished it first stays on record.
REQUEST_CANCEL = (
    "UPDATE workflow_runs SET cancel_requested_at = ?, cancel_reason = ?, updated_at = ? "
    "WHERE id = ? AND completed_at IS NULL AND cancel_requested_at IS NULL"
)

# A state that is none of ours, put there from outside, becomes the one that asks for a person.
MEND_STATE = f"UPDATE workflow_runs SET state = '{RunState.UNKNOWN.value}' WHERE id = ? AND completed_at IS NULL"
NOTE_GAP = "UPDATE workflow_runs SET has_gap = ? WHERE id = ?"

# --- steps ------------------------------------------------------------------------------------------------------------

# An attempt that has ended is left as it is; one that nobody knew the end of may still learn it.
STEP_CONFLICT = (
    "ON CONFLICT (run_id, name, key, occurrence, attempt) DO UPDATE SET state = excluded.state, origin = excluded.origin, "
    "output = excluded.output, error = excluded.error, ended_at = excluded.ended_at, duration_ms = excluded.duration_ms "
    "WHERE excluded.state <> 'running' AND (workflow_run_steps.state = 'running' "
    "OR (workflow_run_steps.state = 'unknown' AND excluded.state IN ('succeeded', 'failed')))"
)

# An attempt begins, or ends, or both at once.
SAVE_STEP = (
    f"INSERT INTO workflow_run_steps ({', '.join(STEP_COLUMNS)}) VALUES ({marks(len(STEP_COLUMNS))}) {STEP_CONFLICT}"
)

# A run ends whose process is gone or elsewhere: how an attempt that it left running ended nobody knows.
LEAVE_ATTEMPTS = (
    f"UPDATE workflow_run_steps SET state = '{StepState.UNKNOWN.value}', ended_at = ?, "
    "duration_ms = CASE WHEN ? > started_at THEN ? - started_at ELSE 0 END WHERE run_id = ? AND state = 'running'"
)

# What a step did is undone, or undoing it failed.
UNDO_STEP = {
    state: (
        "UPDATE workflow_run_steps SET state = ?, error = ? "
        "WHERE run_id = ? AND name = ? AND key = ? AND occurrence = ? AND attempt = ? AND state IN "
        f"({literals({state.value} | {before.value for before, after in STEP_TRANSITIONS.items() if state in after})})"
    )
    for state in (StepState.COMPENSATED, StepState.COMPENSATION_FAILED)
}

# --- executors and claims ---------------------------------------------------------------------------------------------


def _next_epoch(epoch: str) -> str:
    """Return what follows an epoch. Nobody counts to the largest number; one put there from outside must not stop all who fence."""
    return f"CASE WHEN {epoch} < {2**63 - 1} THEN {epoch} + 1 ELSE 1 END"


# A process announces itself; what its name owned before is fenced.
REGISTER = (
    "INSERT INTO workflow_run_executors (name, epoch, lease_ms, heartbeat_ms, boot_id, scope, pid, pid_started) "
    f"VALUES (?, 1, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET epoch = {_next_epoch('workflow_run_executors.epoch')}, "
    "lease_ms = excluded.lease_ms, heartbeat_ms = excluded.heartbeat_ms, boot_id = excluded.boot_id, "
    "scope = excluded.scope, pid = excluded.pid, pid_started = excluded.pid_started RETURNING epoch"
)

# A claim holds, and goes on holding until the transaction ends: who wants to fence it has to wait.
CHECK_CLAIM = f"SELECT 1 FROM workflow_run_executors WHERE name = ? AND epoch = ?{_FOR_SHARE}"

# The owner lives.
BEAT = "UPDATE workflow_run_executors SET heartbeat_ms = ?, boot_id = ? WHERE name = ? AND epoch = ?"
CANCEL_REQUESTS = (
    "SELECT id, cancel_reason FROM workflow_runs WHERE claim_owner = ? AND claim_epoch = ? "
    f"AND {CLAIMED} AND cancel_requested_at IS NOT NULL ORDER BY id"
)

# States in which an owned run is not taken over: it waits for a person. One that nobody owns is left alone when it waits, too.
WITH_A_PERSON = literals({RunState.UNKNOWN.value, RunState.PAUSED.value})
NOT_TO_BE_STARTED = literals({RunState.UNKNOWN.value, RunState.PAUSED.value, RunState.WAITING.value})

# Who owns live runs, and what is known of them.
OWNERS = (
    "SELECT o.claim_owner, o.claim_epoch, x.epoch, x.lease_ms, x.heartbeat_ms, x.boot_id "
    f"FROM (SELECT DISTINCT claim_owner, claim_epoch FROM workflow_runs WHERE {CLAIMED}) AS o "
    "LEFT JOIN workflow_run_executors AS x ON x.name = o.claim_owner"
)

# The executors that registered on this machine.
NEIGHBOURS = (
    "SELECT name, epoch, pid, pid_started FROM workflow_run_executors WHERE scope = ? AND heartbeat_ms IS NOT NULL"
)

# An owner, unless it is writing at this moment.
LOCK_EXECUTOR = (
    f"SELECT epoch, lease_ms, heartbeat_ms, boot_id FROM workflow_run_executors WHERE name = ?{_FOR_UPDATE_OR_SKIP}"
)
FIND_EXECUTOR = "SELECT epoch FROM workflow_run_executors WHERE name = ?"

# Nobody writes under the epoch any more.
FENCE = f"UPDATE workflow_run_executors SET epoch = {_next_epoch('epoch')}, heartbeat_ms = NULL WHERE name = ? AND epoch = ?"

TAKE = "UPDATE workflow_runs SET claim_owner = ?, claim_epoch = ? WHERE id = ?"


def orphans(definitions: int) -> str:
    """Return the statement for the oldest runs of an owner that has lost its claims; parameters: owner, epoch, definitions, limit."""
    return (
        f"SELECT id, definition FROM workflow_runs WHERE claim_owner = ? AND claim_epoch = ? AND {CLAIMED} "
        f"AND definition IN ({marks(definitions)}) AND state NOT IN ({WITH_A_PERSON}) "
        f"ORDER BY id LIMIT ?{_FOR_UPDATE_OR_SKIP}"
    )


def owned_of(count: int) -> str:
    """Return the statement that says which of ``count`` runs a claim owns; parameters: owner, epoch, ids."""
    return (
        "SELECT id, definition FROM workflow_runs WHERE claim_owner = ? AND claim_epoch = ? AND completed_at IS NULL "
        f"AND id IN ({marks(count)}) ORDER BY id"
    )
