"""The command line: ``workflow-runs migrate``."""

from __future__ import annotations

import os
from typing import Annotated, NoReturn

import typer

from .clock import Clock
from .errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from .store.base import Store
from .store.opening import open_store

_URL_VARIABLE = "WORKFLOW_RUNS_DATABASE_URL"

EXIT_FAILED = 1  # the command could not do it
EXIT_USAGE = 2  # it was called wrongly

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The operator's desk for business workflows.")

DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", help=f"sqlite:///FILE or postgresql+psycopg://...; default: ${_URL_VARIABLE}."),
]


@app.callback()
def workflow_runs() -> None:
    """The operator's desk for business workflows."""


@app.command()
def migrate(
    database_url: DatabaseUrl = None,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when the schema is not current.")
    ] = False,
) -> None:
    """Create or upgrade the schema. Safe to run from several machines at once, and again after it was killed."""
    store = _open(database_url)
    try:
        if not check:
            store.migrate()
        store.check_ready()
    except (StoreUnavailable, SchemaMismatch) as error:
        _fail(str(error), EXIT_FAILED)
    finally:
        store.close()
    typer.echo(f"{store.url}: the schema is current.")


def _open(database_url: str | None) -> Store:
    url = database_url or os.environ.get(_URL_VARIABLE)
    if not url:
        _fail(f"give --database-url or set {_URL_VARIABLE}", EXIT_USAGE)
    try:
        return open_store(url, clock=Clock())
    except ConfigurationError as error:
        _fail(str(error), EXIT_USAGE)


def _fail(message: str, status: int) -> NoReturn:
    typer.echo(f"workflow-runs: {message}", err=True)
    raise typer.Exit(status)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="workflow-runs")
