"""Coroutine workflows on one event loop."""

import asyncio

from bench.contenders.ours import serve_async


def serve(url: str) -> None:
    """Answer rounds."""
    asyncio.run(serve_async(url))
