"""DBOS, plain functions called by threads."""

from dbos import DBOS

from bench.contenders.dbos_peer import five_steps_sync, launch
from bench.worker import PAYLOAD, serve_threads


def serve(url: str) -> None:
    """Answer rounds."""
    launch(url)
    serve_threads(lambda: five_steps_sync(PAYLOAD))
    DBOS.destroy()
