"""Recorded JSON as lines that fold: drawn by the server, read without a script, bounded whatever is recorded.

What is shown is chosen level by level, so that one long array does not hide the keys that come after it. The result is a flat list of lines
and no tree: templates draw it with one loop, and no nesting of the data becomes a nesting of calls.

All texts of a line are ready to be printed (the template escapes them for HTML): what would be invisible, or reorder what stands
around it, is written as a JSON escape, which leaves the JSON what it was.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

from ...model.display import MARK
from ...model.exact import (
    PATH_CHARACTERS_MAX,
    Members,
    holding,
    is_container,
    quoted,
    read_exactly,
    scalar,
    step,
    summary,
)
from .formats import count, json_visible, plain, plural

Css = Literal["", "j-s", "j-n", "j-l", "j-r"]

LINES_MAX: Final = 400
BYTES_MAX: Final = 64_000
DEPTH_MAX: Final = 60

_FIRST_CHILDREN: Final = 50  # of a container, before its neighbours get their share
_OPEN_LINES: Final = 60  # about a screen: what would be further down starts folded
_STRING_MAX: Final = 500
_KEY_MAX: Final = 200
_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"

# What common redactors leave behind: pydantic's secrets, structlog's and Sentry's words.
_REDACTED: Final = re.compile(r"\*{3,}|[\[<(]?(?:redacted|filtered|masked)[\]>)]?", re.IGNORECASE)
_REDACTED_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Line:
    """One line. ``open`` and ``close`` come in pairs and make the nesting: a ``<details>`` and its end."""

    kind: Literal["open", "close", "value", "more"]
    text: str  # open: "{" or "["; close: "}" or "]"; value: JSON; more: "900 more items"
    key: str | None = None  # quoted: '"name"'; None in arrays and at the root
    css: Css = ""  # of a value: string, number, literal or summed up, redacted or not recorded
    path: str = ""  # "$.rooms[0].name"; empty when it is too long to be copied
    note: str = ""  # open: "2 items"; cut string: "12,034 characters"; not recorded: why
    comma: bool = False  # after a value or a close
    is_open: bool = False  # of an open: unfolded at first


@dataclass(frozen=True, slots=True)
class JsonView:
    """What a page draws of one payload."""

    lines: tuple[Line, ...]
    size_bytes: int
    is_absent: bool = False  # nothing is recorded
    is_cut: bool = False  # not all of it is shown
    is_unreadable: bool = False  # no JSON, or nested too deep: the lines are raw text (values without a class)
    redacted: int = 0  # values shown that were redacted before they were recorded
    missing: int = 0  # marks shown of values that had no JSON form


def view(
    text: str | None, *, lines_max: int = LINES_MAX, bytes_max: int = BYTES_MAX, depth_max: int = DEPTH_MAX
) -> JsonView:
    """Return the view of a recorded text. Raises nothing, whatever the text is.

    Args:
        text: As recorded; None is nothing.
        lines_max: About how many lines are shown.
        bytes_max: About how many characters.
        depth_max: From here on containers are summed up in a line.
    """
    if text is None:
        return JsonView((), 0, is_absent=True)
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    try:
        value = read_exactly(text)
    except ValueError:
        lines = _raw_lines(text, lines_max, bytes_max)
        is_cut = sum(len(line.text) + 1 for line in lines) < len(text)
        return JsonView(lines, size, is_cut=is_cut, is_unreadable=True)
    drawing = _Drawing(lines_max, bytes_max, depth_max)
    return drawing.of(value, size)


def _raw_lines(text: str, lines_max: int, bytes_max: int) -> tuple[Line, ...]:
    lines = text[:bytes_max].split("\n", lines_max)[:lines_max]
    return tuple(Line("value", plain(line, _STRING_MAX)) for line in lines)


@dataclass(slots=True)
class _Node:
    value: Any
    key: str | None
    path: str
    depth: int
    text: str
    css: Css
    note: str
    is_last: bool = True
    children: list[_Node] = field(default_factory=list)
    is_open: bool = False


class _Drawing:
    """One view: first which values it shows, level by level, then its lines."""

    def __init__(self, lines_max: int, bytes_max: int, depth_max: int) -> None:
        self._lines_left = lines_max
        self._bytes_left = bytes_max
        self._depth_max = depth_max
        self._open_lines = 0
        self._is_cut = False
        self._redacted = self._missing = 0

    def of(self, value: Any, size_bytes: int) -> JsonView:
        """Return the view of a value that was read."""
        root = self._node(value, None, "$", 0)
        self._choose(root)
        lines = tuple(self._lines(root))
        return JsonView(lines, size_bytes, is_cut=self._is_cut, redacted=self._redacted, missing=self._missing)

    # --- choosing ---

    def _choose(self, root: _Node) -> None:
        """Give each container its first children, all of one level before any of the next; then the rest as far as it goes."""
        fresh, started = deque([root] if self._unfolds(root) else []), deque[_Node]()
        while (fresh or started) and self._has_room():
            is_fresh = bool(fresh)
            node = (fresh or started).popleft()
            added = self._add_children(node, _FIRST_CHILDREN if is_fresh else len(node.value))
            if is_fresh:
                node.is_open = node is root or self._open_lines + len(added) <= _OPEN_LINES
                self._open_lines += len(added) if node.is_open else 0
            fresh.extend(child for child in added if self._unfolds(child))
            if len(node.children) < len(node.value):
                started.append(node)

    def _unfolds(self, node: _Node) -> bool:
        # A container that became a value (empty, a mark) has a class.
        return is_container(node.value) and not node.css and node.depth < self._depth_max

    def _add_children(self, node: _Node, children_max: int) -> list[_Node]:
        begin, added = len(node.children), []
        for index, item in enumerate(islice(node.value, begin, begin + children_max), begin):
            if not self._has_room():
                break
            added.append(self._child(node, index, item))
        node.children += added
        return added

    def _child(self, parent: _Node, index: int, item: Any) -> _Node:
        key, value = item if isinstance(parent.value, Members) else (None, item)
        node = self._node(value, key, _grown(parent.path, index if key is None else key), parent.depth + 1)
        node.is_last = index == len(parent.value) - 1
        return node

    def _node(self, value: Any, key: str | None, path: str, depth: int) -> _Node:
        text, css, note = self._drawn(value)
        shown_key = None if key is None else self._key(key)
        self._lines_left -= 1 if css else 2
        self._bytes_left -= len(text) + len(shown_key or "") + len(path)
        return _Node(value, shown_key, path, depth, text, css, note)

    def _has_room(self) -> bool:
        return self._lines_left > 0 and self._bytes_left > 0

    # --- drawing ---

    def _drawn(self, value: Any) -> tuple[str, Css, str]:
        """Text, class and note of a value; a container that unfolds has no class."""
        if is_container(value):
            mark = _mark(value)
            if mark is not None:
                self._missing += 1
                return mark
            return ("", "", "") if value else (summary(value), "j-l", "")
        if type(value) is str:
            if len(value) <= _REDACTED_MAX and _REDACTED.fullmatch(value):
                self._redacted += 1
                return "redacted", "j-r", ""
            return self._string(value)
        if value is None or isinstance(value, bool):
            return scalar(value), "j-l", ""
        return self._number(scalar(value))

    def _string(self, value: str) -> tuple[str, Css, str]:
        if len(value) <= _STRING_MAX:
            return json_visible(quoted(value)), "j-s", ""
        self._is_cut = True
        return json_visible(quoted(value[:_STRING_MAX])) + _ELLIPSIS, "j-s", f"{count(len(value))} characters"

    def _key(self, key: str) -> str:
        if len(key) <= _KEY_MAX:
            return json_visible(quoted(key))
        self._is_cut = True
        return json_visible(quoted(key[:_KEY_MAX])) + _ELLIPSIS

    def _number(self, digits: str) -> tuple[str, Css, str]:
        if len(digits) <= _STRING_MAX:
            return digits, "j-n", ""
        self._is_cut = True
        return digits[:_STRING_MAX] + _ELLIPSIS, "j-n", f"{count(len(digits))} digits"

    # --- lines ---

    def _lines(self, root: _Node) -> Iterator[Line]:
        """The lines in order; the stack is our own."""
        stack: list[tuple[_Node, Iterator[_Node]]] = []
        yield self._first_line(root)
        if root.children:
            stack.append((root, iter(root.children)))
        while stack:
            node, children = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                yield from self._last_lines(node)
                continue
            yield self._first_line(child)
            if child.children:
                stack.append((child, iter(child.children)))

    def _first_line(self, node: _Node) -> Line:
        if not node.css and not node.children:  # a container that there was no room to unfold
            self._is_cut = True
            return Line("value", summary(node.value), node.key, "j-l", node.path, comma=not node.is_last)
        if node.css:
            return Line("value", node.text, node.key, node.css, node.path, node.note, not node.is_last)
        left = "{" if isinstance(node.value, Members) else "["
        return Line("open", left, node.key, path=node.path, note=holding(node.value), is_open=node.is_open)

    def _last_lines(self, node: _Node) -> Iterator[Line]:
        more = len(node.value) - len(node.children)
        if more:
            self._is_cut = True
            noun = "key" if isinstance(node.value, Members) else "item"
            yield Line("more", plural(more, f"more {noun}"))
        yield Line("close", "}" if isinstance(node.value, Members) else "]", comma=not node.is_last)


def _mark(value: Any) -> tuple[str, Css, str] | None:
    """How ``model.display``'s mark of a value without a JSON form is drawn, or None for anything else."""
    if not isinstance(value, Members) or not 0 < len(value) <= 2:
        return None
    members = dict(value)
    kind, reason = members.get(MARK), members.get("reason", "")
    if type(kind) is not str or type(reason) is not str or members.keys() - {MARK, "reason"}:
        return None
    return f"{plain(kind, _KEY_MAX)}, not recorded", "j-r", plain(reason, _STRING_MAX)


def _grown(path: str, part: str | int) -> str:
    """The path of a child; empty once it is too long, and for all that is beneath."""
    if not path or (isinstance(part, str) and len(part) > PATH_CHARACTERS_MAX):
        return ""
    whole = path + json_visible(step(part))
    return whole if len(whole) <= PATH_CHARACTERS_MAX else ""
