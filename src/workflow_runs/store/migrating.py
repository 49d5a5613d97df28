"""Bringing a database to the schema of this version.

The revisions lie in ``migrations``, inside the package. Alembic runs all that are missing in one transaction: a migration that was killed
has not happened, and is simply run again. The transaction begins with a lock, so processes that start together migrate once.
"""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from .database import Kind
from .faults import unavailable
from .schema import newer


def upgrade(kind: Kind) -> None:
    """Run the migrations that the database lacks.

    Raises:
        SchemaMismatch: a newer version of the package has migrated it.
        StoreUnavailable: it cannot be reached or written.
    """
    engine = sa.create_engine(f"{kind.dialect}://", creator=kind.connect_to_migrate, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(kind.begin_to_migrate)
            command.upgrade(configuration(connection), "head")
            connection.commit()
    except CommandError as error:
        raise newer() from error
    except sa.exc.DBAPIError as error:
        raise unavailable(kind.fault(error.orig)) from error
    finally:
        engine.dispose()


def configuration(connection: sa.Connection) -> Config:
    """Return Alembic's configuration for a connection; nothing is read from a file."""
    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
