"""What the outside world saw: every call that reached it, one JSON line each, and the answers it gave.

The examples stand or fall by this file. A record that says "charged once" proves little if the same program wrote it, so the fake
providers write down what *they* were asked, as a bank would, and the story is checked against their books.

A provider honours idempotency keys: a second call under the same key has no second effect and gets the first answer. It is written
down all the same, marked ``repeated``: the examples want to see that such calls do not even happen.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Answer = dict[str, Any]


class EffectLedger:
    """An append-only file of effects; safe to use from threads.

    Args:
        path: The file; it is made if it does not exist, and read if it does, so that the books outlive the process.
        synced: Wait for the disk after each line, as a bank does. Without, a line survives the process but not a power cut.
    """

    def __init__(self, path: str | Path, *, synced: bool = True) -> None:
        self.path = Path(path)
        self._synced = synced
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._effects: Counter[tuple[str, str]] = Counter()
        self._repeated = 0
        self._file = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        for line in self.path.read_text("utf-8").splitlines():
            self._count(json.loads(line))

    def call(self, effect: str, subject: str, key: str, answer: Callable[[], Answer]) -> Answer:
        """Have an effect once per ``key`` and return its answer, the first one when the key was used before.

        ``effect`` says what was done (``charge``), ``subject`` to what (``order-7``). ``answer`` is called under the lock and must
        not call the ledger.
        """
        with self._lock:
            known = self._answers.get(key)
            line = {
                "effect": effect,
                "subject": subject,
                "key": key,
                "repeated": known is not None,
                "answer": answer() if known is None else known,
            }
            os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")
            if self._synced:
                os.fsync(self._file)
            self._count(line)
            return self._answers[key]

    def find(self, key: str) -> Answer | None:
        """Return the answer that was given under a key, or None: what a provider's "look up by reference" does."""
        with self._lock:
            return self._answers.get(key)

    def effects(self) -> Counter[tuple[str, str]]:
        """Return how often each (effect, subject) happened."""
        with self._lock:
            return Counter(self._effects)

    def count(self, effect: str) -> int:
        """Return how often an effect happened, over all subjects."""
        with self._lock:
            return sum(count for (name, _), count in self._effects.items() if name == effect)

    @property
    def repeated(self) -> int:
        """How many calls came a second time under a key that was used."""
        with self._lock:
            return self._repeated

    def _count(self, line: dict[str, Any]) -> None:
        if line["repeated"]:
            self._repeated += 1
        else:
            self._answers[line["key"]] = line["answer"]
            self._effects[line["effect"], line["subject"]] += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
