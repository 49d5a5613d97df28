"""The files of a spool: lines appended in order, read in order, deleted when what they hold is committed elsewhere.

A spool belongs to one process, its *owner*, and consists of a lock file and numbered segments, all in one folder:

    1a2b3c4d5e6f7081.lock            held with flock while the owner lives; says which database the lines are for
    1a2b3c4d5e6f7081.000001.spool    a segment: lines (``model.entry_lines``)

The kernel lets go of the lock when the owner dies, however it dies, so whoever gets it may deliver what is left. The lock file is
made first and deleted last. A spool is delivered in segments so that its size is that of what waits, not of all that ever waited.

Whoever can write into the folder can make records, and whoever can read it sees payloads: folders are made with mode 0700, files with
0600, and a folder or file of somebody else's is not used.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from ..model.entry_lines import LINE_BYTES_MAX

_FORMAT: Final = 1
_SEGMENTS: Final = 8  # of a full spool
_LOCK_BYTES_MAX: Final = 10_000
_STATE: Final = (".local", "state", "workflow-runs")  # below the home folder
_LOCK_NAME: Final = re.compile(r"([0-9a-f]{16})\.lock")


def default_folder(database: str) -> str | None:
    """Return where the spool of a database lies unless told otherwise; None where there is no place for it.

    SQLite: beside the file. PostgreSQL: below the user's state folder, named by a digest of the URL, in which no password is.
    """
    scheme, _, path = database.partition(":///")
    if scheme == "sqlite":
        return f"{path}-spool"
    if not database.startswith("postgresql"):
        return None
    home = os.path.expanduser("~")
    name = hashlib.blake2b(database.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return os.path.join(home, *_STATE, name) if os.path.isdir(home) else None


class Spool:
    """One owner's files. Used by one thread at a time. Every method may raise ``OSError``.

    Args:
        folder: Where they lie.
        owner: The first part of their names.
        lock: Descriptor of the lock file, locked.
        numbers: Of the segments that exist, in order.
        bytes_max: Bound on what waits.
    """

    def __init__(self, folder: str, owner: str, lock: int, numbers: Sequence[int] = (), bytes_max: int = 0) -> None:
        self._folder = folder
        self._owner = owner
        self._lock: int | None = lock
        self._bytes_max = bytes_max
        self._numbers = list(numbers)
        self._sizes = {number: os.stat(self._path(number)).st_size for number in self._numbers}
        self._next_number = max(self._numbers, default=0) + 1
        self._out: int | None = None  # the last segment, while it is being appended to
        self._in: BinaryIO | None = None  # the first one, while it is being read
        self._is_read = True  # nothing is left to be read in the last segment

    # --- making and finding -----------------------------------------------------------------------------------------

    @classmethod
    def make(cls, folder: str, database: str, bytes_max: int) -> Spool:
        """Make an empty spool of this process. The folder is made too, but not the folder that it lies in."""
        _make_folder(folder)
        owner = secrets.token_hex(8)
        path = os.path.join(folder, f"{owner}.new")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            # Locked before it has the name under which it is looked for.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(lock, json.dumps({"format": _FORMAT, "database": database, "pid": os.getpid()}).encode())
            os.fsync(lock)
            os.rename(path, os.path.join(folder, f"{owner}.lock"))
            _sync_folder(folder)
        except BaseException:
            os.close(lock)
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        return cls(folder, owner, lock, bytes_max=bytes_max)

    @classmethod
    def abandoned(cls, folder: str, database: str) -> Iterator[Spool]:
        """Yield the spools for a database whose owners are gone, locked: they are this process's now."""
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return
        _check_private(os.stat(folder))
        for name in names:
            found = _LOCK_NAME.fullmatch(name)
            lock = _lock_if_free(os.path.join(folder, name), database) if found else None
            if found and lock is not None:
                segment = re.compile(rf"{found[1]}\.(\d{{6}})\.spool")
                # Listed anew: the owner may have written until a moment ago.
                numbers = sorted(int(match[1]) for match in map(segment.fullmatch, os.listdir(folder)) if match)
                spool = cls(folder, found[1], lock, numbers)
                spool._is_read = not numbers
                yield spool

    # --- writing ----------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of what waits, and of what was read in the segments that are not deleted yet."""
        return sum(self._sizes.values())

    def has_room(self, count: int) -> bool:
        """Whether so many bytes may be appended."""
        return self.size + count <= self._bytes_max

    def append(self, lines: bytes) -> None:
        """Append whole lines; they are on the disk when this returns. When it raises, nothing is appended."""
        if self._out is None or self._sizes[self._numbers[-1]] >= self._bytes_max // _SEGMENTS:
            self._begin_segment()
        assert self._out is not None
        number = self._numbers[-1]
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(self._out, rest) :]
            os.fsync(self._out)
        except OSError:
            # A torn line would cut off what is appended behind it.
            os.ftruncate(self._out, self._sizes[number])
            raise
        self._sizes[number] += len(lines)
        self._is_read = False

    def _begin_segment(self) -> None:
        number = self._next_number
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
        out = os.open(self._path(number), flags, 0o600)
        self._next_number += 1
        self._close_out()
        self._out = out
        self._numbers.append(number)
        self._sizes[number] = 0
        _sync_folder(self._folder)

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def is_read(self) -> bool:
        """Whether everything that was appended has been read."""
        return self._is_read

    def read(self, lines_max: int, bytes_max: int) -> list[bytes]:
        """Return the next lines, of one segment; the last may be torn, where the machine died while it was written."""
        if self._is_read:
            return []
        if self._in is None:
            descriptor = os.open(self._path(self._numbers[0]), os.O_RDONLY | os.O_NOFOLLOW)
            self._in = os.fdopen(descriptor, "rb")
            _check_private(os.fstat(descriptor))
        lines: list[bytes] = []
        size = 0
        while len(lines) < lines_max and size < bytes_max and (line := self._in.readline(LINE_BYTES_MAX)):
            lines.append(line)
            size += len(line)
        if len(self._numbers) == 1 and self._in.tell() >= self._sizes[self._numbers[0]]:
            self._is_read = True
        return lines

    def forget_read(self) -> None:
        """Delete the segments of which everything was read; to be called when it is committed."""
        if self._in is not None and self._in.tell() >= self._sizes[self._numbers[0]]:
            self._in.close()
            self._in = None
            number = self._numbers[0]
            if len(self._numbers) == 1:
                self._close_out()
            os.unlink(self._path(number))
            del self._numbers[0], self._sizes[number]

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the files. What is empty is deleted; what is not is the next process's."""
        if not self._numbers:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, f"{self._owner}.lock"))
        self.abandon()

    def abandon(self) -> None:
        """Close this process's descriptors and nothing else; a forked child has its parent's, whose lock stays."""
        if self._in is not None:
            self._in.close()
            self._in = None
        self._close_out()
        lock, self._lock = self._lock, None
        if lock is not None:  # once: by the second time the number may be another file's
            with contextlib.suppress(OSError):
                os.close(lock)

    def _close_out(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            os.close(out)

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, f"{self._owner}.{number:06}.spool")


def _make_folder(folder: str) -> None:
    """Make the folder, if it is missing, and refuse one into which others can write.

    The folder of a database that is missing is not made: it may be where a disk is to be mounted.
    """
    if folder.startswith(os.path.join(os.path.expanduser("~"), *_STATE, "")):
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    _check_private(os.stat(folder))


def _check_private(status: os.stat_result) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("a folder or file of the spool is another user's, or others can write to it")


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_if_free(path: str, database: str) -> int | None:
    """Return the locked descriptor of a spool whose owner is gone and that is for the database, or None."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None  # delivered and deleted meanwhile, or not ours
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(lock)
        _check_private(status)
        head: Any = json.loads(os.read(lock, _LOCK_BYTES_MAX))
        if status.st_nlink == 1 and (head["format"], head["database"]) == (_FORMAT, database):
            return lock
    except (OSError, ValueError, KeyError, TypeError):
        pass  # its owner lives, or it is none of ours
    os.close(lock)
    return None
