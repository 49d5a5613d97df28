"""DBOS, coroutine workflows."""

import asyncio

from dbos import DBOS

from bench.contenders.dbos_peer import five_steps_async, launch
from bench.worker import PAYLOAD, serve_coroutines


def serve(url: str) -> None:
    """Answer rounds."""

    async def main() -> None:
        launch(url)
        await serve_coroutines(lambda: five_steps_async(PAYLOAD))
        DBOS.destroy()

    asyncio.run(main())
