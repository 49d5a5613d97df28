"""What Alembic runs: the migrations, on the connection and in the transaction that ``migrating.upgrade`` has opened."""

from __future__ import annotations

from alembic import context

from workflow_runs.store.schema import VERSION_TABLE
from workflow_runs.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
