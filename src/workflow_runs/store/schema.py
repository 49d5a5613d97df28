"""What the two sides of the store agree on. Imports nothing heavy: the side that writes does without SQLAlchemy (0.35 s, 16 MiB)."""

from __future__ import annotations

from bisect import bisect_right

from ..errors import SchemaMismatch

SCHEMA_REVISION = "0003"  # the newest migration; a test compares it with the folder
VERSION_TABLE = "workflow_runs_schema"
FIND_REVISION = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608  # our constant

MIGRATE_HINT = "run `workflow-runs migrate`, or let the application migrate at its start"

# Conditions of partial indexes. SQLite uses such an index only where the query repeats the condition literally, PostgreSQL likewise
# once a plan is generic. ``x IS NOT NULL`` alone follows from an equality and need not be repeated.
NOT_SUCCEEDED = "state <> 'succeeded'"
UNCLAIMED = "completed_at IS NULL AND claim_owner IS NULL AND mode = 'journal'"
CLAIMED = "completed_at IS NULL AND claim_owner IS NOT NULL"
DERIVED = "parent_run_id IS NOT NULL"  # reruns and resumes
RESUMED = "resumed_by_run_id IS NOT NULL"

ERROR_MESSAGE_MAX = 500  # characters of an error that the list shows; the whole error stands with the payload

# Upper bounds of the classes that ``duration_class`` counts. A filter by duration walks one index range per class and compares exactly
# only in the first and the last of them, so that slow runs are found without reading the others.
DURATION_CLASSES_MS = (100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 86_400_000)


def duration_class(duration_ms: int) -> int:
    """Return the class of a duration, 0 for the shortest."""
    return bisect_right(DURATION_CLASSES_MS, duration_ms)


def missing() -> SchemaMismatch:
    """Return the refusal of a database whose schema is missing or older."""
    return SchemaMismatch(
        f"The database does not have schema {SCHEMA_REVISION}, which this version needs: {MIGRATE_HINT}."
    )


def newer() -> SchemaMismatch:
    """Return the refusal of a database that a newer version has migrated."""
    return SchemaMismatch(
        f"The database has a newer schema than {SCHEMA_REVISION}, the newest that this version knows: upgrade the package."
    )
