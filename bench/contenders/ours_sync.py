"""Plain functions, each run in a thread."""

from bench.contenders.ours import serve_sync as serve

__all__ = ["serve"]
