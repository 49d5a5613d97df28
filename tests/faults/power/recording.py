"""What a process wrote, and what of it a disk may hold after a power cut.

``recorder.c`` records each write, truncation, removal, renaming and sync below a folder. A ``Disk`` plays the record up to some point and
then loses power: what was synced is there, and of what was not yet synced any part may be. Sectors of 512 bytes are written whole or
not at all; writes after the last sync may reach the disk in any order. A name that was made or removed is certain once the folder was
synced.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
IMAGES = ("none", "torn", "half", "all")  # of what was not yet synced

_HEAD = struct.Struct("=IIQQ")


class Op(NamedTuple):
    """One call: ``w``rite, ``a``ppend, ``t``runcate, ``s``ync, ``u``nlink, ``r``ename."""

    kind: str
    path: str
    offset: int
    data: bytes


def compiler() -> str | None:
    """Return a C compiler, or None on a machine that has none."""
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> Path:
    """Compile the recorder."""
    made = folder / "recorder.so"
    found = compiler()
    assert found is not None, "the recorder needs a C compiler"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run([found, "-shared", "-fPIC", "-O2", "-o", made, source, "-ldl", "-lpthread"], check=True)
    return made


def read(log: Path) -> list[Op]:
    """Return the record of a process that may have been killed while it wrote the last of it."""
    return list(_ops(log.read_bytes()))


def _ops(data: bytes) -> Iterator[Op]:
    at = 0
    while at + _HEAD.size <= len(data):
        kind, path_length, offset, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        end = at + path_length + length
        if end > len(data):
            return
        yield Op(chr(kind), data[at : at + path_length].decode(), offset, data[at + path_length : end])
        at = end


@dataclass(slots=True)
class _File:
    content: bytearray
    pending: list[Op] = field(default_factory=list)
    is_named: bool = True  # the folder was synced since it was made
    is_gone: bool = False  # removed, and the folder not yet synced


class Disk:
    """The files of a folder. ``play`` operations in order, and ``cut`` whenever you like: a cut changes nothing here."""

    def __init__(self, folder: Path) -> None:
        self._files = {str(file): _File(bytearray(file.read_bytes())) for file in folder.iterdir()}

    def play(self, op: Op) -> None:
        """Let the operation happen."""
        if op.kind == "s":
            self._sync(op.path)
        elif op.kind == "u":
            if (gone := self._files.get(op.path)) is not None:
                gone.is_gone = True
        elif op.kind == "r":
            raise AssertionError("nothing of ours renames")
        else:
            file = self._files.get(op.path)
            if file is None or file.is_gone:
                file = self._files[op.path] = _File(bytearray(), is_named=False)
            file.pending.append(op)

    def _sync(self, path: str) -> None:
        file = self._files.get(path)
        if file is not None:
            for op in file.pending:
                _apply(file.content, op)
            file.pending.clear()
            return
        for name in [name for name in self._files if name.rpartition("/")[0] == path]:  # a folder
            self._files[name].is_named = True
            if self._files[name].is_gone:
                del self._files[name]

    def cut(self, into: Path, image: str, chance: random.Random) -> None:
        """Write what the disk holds after a power cut now."""
        for path, file in self._files.items():
            if not file.is_named and (image == "none" or (image == "half" and chance.random() < 0.5)):
                continue
            if file.is_gone and (image == "all" or (image == "half" and chance.random() < 0.5)):
                continue
            content = bytearray(file.content)
            for op in _survivors(file.pending, image, chance):
                _apply(content, op)
            (into / path.rpartition("/")[2]).write_bytes(content)


def _survivors(pending: Sequence[Op], image: str, chance: random.Random) -> Iterator[Op]:
    if image == "all":
        yield from pending
    elif image == "torn":
        yield from pending[:-1]
        if pending:
            last = pending[-1]
            kept = SECTOR * chance.randint(0, len(last.data) // SECTOR)
            yield last._replace(data=last.data[:kept])
    elif image == "half":
        for op in pending:
            if op.kind == "t":
                if chance.random() < 0.5:
                    yield op
                continue
            for begin in range(0, len(op.data), SECTOR):
                if chance.random() < 0.5:
                    yield op._replace(offset=op.offset + begin, data=op.data[begin : begin + SECTOR])


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "t":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    if not op.data:
        return
    end = op.offset + len(op.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[op.offset : end] = op.data
