"""Recorded stacks as frames: the application's open, the libraries' folded, the innermost first, as they are shown.

What is read is the text that ``model.failures`` writes, and printed tracebacks, which look much the same. Paths in it are relative to the
folder that a module was imported from, so a library is told by the first name in its path: the standard library's, an installed
module's, or one that lies in ``site-packages``. Whose code is the application's the caller knows better, and is believed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from .formats import plural

_TEXT_CHARACTERS_MAX: Final = 200_000
_FRAME: Final = re.compile(r'\s{2,8}File "(.*)", line (\d{1,9}), in (.*)')
_CODE: Final = re.compile(r"\s{4,12}(.*)")
_CARETS: Final = re.compile(r"[\s~^]+")
_LEFT_OUT: Final = re.compile(r"\s*\.\.\. (\d{1,9}) frames \.\.\.")
_CUT: Final = re.compile(r"\[(\d{1,9}) characters cut\]")
_INSTALLED: Final = re.compile(r"(?:^|/)(?:site|dist)-packages/")
_STANDARD: Final = re.compile(r"(?:^|/)lib/python\d[\d.]*/")
_US: Final = __name__.partition(".")[0]
_HEADING: Final = "Traceback (most recent call last):"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. ``code`` is the line that was executing, empty if the record has none."""

    file: str
    line: int
    function: str
    code: str
    is_hit: bool = False  # the application's innermost frame


@dataclass(frozen=True, slots=True)
class FrameGroup:
    """Neighbouring frames of one kind, innermost first; or, with a ``note`` and no frames, a place where some are missing."""

    is_library: bool  # fold it
    frames: tuple[Frame, ...]
    names: tuple[str, ...] = ()  # of the libraries in it: "httpx", "anyio"
    note: str = ""  # "23 frames left out", "4,000 characters cut"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, and what stood beside its frames: notes, the members of an exception group."""

    groups: tuple[FrameGroup, ...]
    extras: tuple[str, ...]
    is_raw: bool = False  # of another format: ``extras`` are its lines


def fold(stack: str | None, *, app: Collection[str] = (), libraries: Collection[str] = ()) -> Stack:
    """Return the stack for showing. Raises nothing, whatever the text is.

    Args:
        stack: As recorded.
        app: First names of the application's modules (``travel``). Default: the outermost frame's, where the recorded part begins with
            the workflow's own code.
        libraries: First names of installed modules. Asking for them reads the disk, which is up to the caller.
    """
    entries, extras = _read((stack or "")[:_TEXT_CHARACTERS_MAX].split("\n") if stack else [])
    frames = [entry for entry in entries if isinstance(entry, Frame)]
    if not frames:
        return Stack((), tuple(extras), is_raw=bool(extras))
    own = frozenset(app) or frozenset({_first_name(frames[0].file)})
    names = [None if isinstance(entry, str) else _library(entry.file, own, libraries) for entry in entries]
    if all(name is not None for entry, name in zip(entries, names, strict=True) if isinstance(entry, Frame)):
        names = [None] * len(entries)  # library code alone: then that is what there is to see
    else:
        _mark_hit(entries, names)
    entries.reverse()
    names.reverse()
    return Stack(tuple(_groups(zip(entries, names, strict=True))), tuple(extras))


def _mark_hit(entries: list[Frame | str], names: list[str | None]) -> None:
    for at in reversed(range(len(entries))):
        entry = entries[at]
        if isinstance(entry, Frame) and names[at] is None:
            entries[at] = replace(entry, is_hit=True)
            return


def _groups(entries: Iterable[tuple[Frame | str, str | None]]) -> Iterable[FrameGroup]:
    for (is_note, is_library), members in groupby(
        entries, lambda pair: (isinstance(pair[0], str), pair[1] is not None)
    ):
        found = list(members)
        if is_note:
            yield from (FrameGroup(is_library=False, frames=(), note=str(entry)) for entry, _ in found)
            continue
        frames = tuple(entry for entry, _ in found if isinstance(entry, Frame))
        names = tuple(dict.fromkeys(name for _, name in found if name is not None))
        yield FrameGroup(is_library, frames, names)


# --- reading ---------------------------------------------------------------------------------------------------------


def _read(lines: list[str]) -> tuple[list[Frame | str], list[str]]:
    """Frames and notes in the order of the text, and the lines that are neither."""
    entries: list[Frame | str] = []
    extras: list[str] = []
    is_beginning_lost = False
    for line in lines:
        last = entries[-1] if entries else None
        note = _note(line)
        if (head := _FRAME.fullmatch(line)) is not None:
            entries.append(Frame(head[1], int(head[2]), head[3], ""))
            is_beginning_lost = False
        elif note:
            entries.append(note)
            is_beginning_lost = not extras and len(entries) == 1
        elif isinstance(last, Frame) and not extras and (code := _CODE.fullmatch(line)) is not None:
            if not last.code and not _CARETS.fullmatch(line):
                entries[-1] = replace(last, code=code[1])
        elif (
            line.strip() and line != _HEADING and not is_beginning_lost
        ):  # the rest of a frame that was cut says nothing
            extras.append(line)
    return entries, extras


def _note(line: str) -> str:
    if (left_out := _LEFT_OUT.fullmatch(line)) is not None:
        return f"{plural(int(left_out[1]), 'frame')} left out"
    if (cut := _CUT.fullmatch(line)) is not None:
        return f"{plural(int(cut[1]), 'character')} cut"
    return ""


def _library(file: str, own: Collection[str], libraries: Collection[str]) -> str | None:
    """The name of the library that a file belongs to, or None if it is the application's."""
    path = file.replace("\\", "/")
    for place, name in ((_INSTALLED, ""), (_STANDARD, "Python")):
        if (found := place.search(path)) is not None:
            return name or _first_name(path[found.end() :])
    first = _first_name(path)
    if first in own:
        return None
    if first in sys.stdlib_module_names or path.startswith("<frozen "):
        return "Python"
    return first if first == _US or first in libraries else None


def _first_name(file: str) -> str:
    return file.replace("\\", "/").partition("/")[0].removesuffix(".py")
