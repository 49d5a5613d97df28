"""An exception as a record: message, code, class, stack, causes, and a fingerprint that groups runs that failed alike.

``describe`` always gives a record. An exception is other people's code at its worst moment: its ``__str__`` may raise, its causes may
be a circle, its message a megabyte of bytes from somewhere. None of that may be the reason that a failure is not recorded.

Texts are cut at ``Limits.error_text_max`` and say so; NUL and lone surrogates, which no database keeps, become U+FFFD. Paths in stacks
are relative to the application: outsiders learn nothing of the machine, and equal failures on two machines look equal.
"""

from __future__ import annotations

import hashlib
import linecache
import re
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

import pydantic_core

from ..errors import StepFailed
from ..settings import Limits
from .equality import type_name
from .jsontext import clean, to_json
from .records import ErrorRecord

_LIMITS = Limits()
_CODE_CHARACTERS_MAX = 100
_FRAMES_FIRST = 10
_FRAMES_LAST = 30
_MEMBERS_MAX = 8  # of an exception group, and notes, that a stack lists
_PACKAGE = __name__.partition(".")[0]

# Read through the base class's own descriptors: a subclass may have redefined the attributes, to raise for instance.
_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_SUPPRESSED: Any = BaseException.__dict__["__suppress_context__"]
_TRACE: Any = BaseException.__dict__["__traceback__"]
_MEMBERS: Any = BaseExceptionGroup.__dict__["exceptions"]

_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")
# A word with a digit in it is an id, a number, a date or an address in memory, and differs from failure to failure.
_VARYING = re.compile(r"[\w-]*\d[\w-]*(?:[.,:/][\w-]*\d[\w-]*)*")
_FINGERPRINT_CHARACTERS = 500


def describe(
    failure: object, *, step_name: str | None = None, app_root: str | None = None, limits: Limits | None = None
) -> ErrorRecord:
    """Return the record of what went wrong. Raises nothing, whatever it is given.

    Args:
        failure: An exception; or what a caller had instead of one: a text, None, any object.
        step_name: The step that failed. Default: the one that a ``StepFailed`` among the explicit causes names.
        app_root: Folder to which paths are made relative. Default, and elsewhere: the folder that a module was imported from.
        limits: Bounds on texts and on the number of causes.
    """
    bounds = limits or _LIMITS
    if not isinstance(failure, BaseException):
        record = ErrorRecord(_message_of_object(failure, bounds), step_name=_clean_or_none(step_name))
        return replace(record, fingerprint=fingerprint(record))
    chain = list(_chain(failure, bounds.error_causes_max))
    named = step_name if step_name is not None else _step_in(chain)
    described: ErrorRecord | None = None
    for error in reversed(chain):
        described = _one(error, described, app_root, bounds)
    assert described is not None
    described = replace(described, step_name=_clean_or_none(named))
    return replace(described, fingerprint=fingerprint(described))


def fingerprint(record: ErrorRecord) -> str:
    """Return 16 hexadecimal characters that are equal for failures of one kind: same class, code and step, and the same message but
    for numbers, ids and addresses. Stacks do not count: every deployment moves lines.
    """
    varying = (record.message[:_FINGERPRINT_CHARACTERS], record.step_name or "")
    stable = [_VARYING.sub("#", _ADDRESS.sub("@", text)) for text in varying]
    kind = "\x1f".join((record.type_name or "", record.code or "", *stable))
    return hashlib.blake2b(kind.encode("utf-8", "replace"), digest_size=8).hexdigest()


# --- one exception ---------------------------------------------------------------------------------------------------


def _one(error: BaseException, cause: ErrorRecord | None, app_root: str | None, limits: Limits) -> ErrorRecord:
    if isinstance(error, StepFailed):
        # It stands for the step's own exception, in the process that saw it and on replay alike.
        stack = cause.stack if cause is not None else _stack(error, app_root, limits)
        beneath = cause.cause if cause is not None else None
        code, kind = _clean_or_none(error.error_code), clean(error.type_name)
        return ErrorRecord(_message(error, limits), code, kind, stack=stack, cause=beneath)
    return ErrorRecord(
        _message(error, limits), _code(error), _class_name(error), stack=_stack(error, app_root, limits), cause=cause
    )


def _message(error: BaseException, limits: Limits) -> str:
    try:
        text = str(error)
    except Exception as trouble:  # noqa: BLE001  # the exception's own code
        return f"{_class_name(error)} (its message could not be read: {type_name(trouble)})"
    return _bounded(text, limits) or _class_name(error)


def _message_of_object(failure: object, limits: Limits) -> str:
    if failure is None:
        return "No reason was given"
    if isinstance(failure, str):
        return _bounded(failure, limits) or "No reason was given"
    try:
        return _bounded(to_json(failure), limits)
    except Exception:  # noqa: BLE001  # not JSON: its type has to do
        return f"a {type_name(failure)}"


def _code(error: BaseException) -> str | None:
    try:
        code = getattr(error, "code", None)
        text = str(code.value) if isinstance(code, str) and hasattr(code, "value") else code
        return clean(text) if isinstance(text, str) and 0 < len(text) <= _CODE_CHARACTERS_MAX else None
    except Exception:  # noqa: BLE001  # a property that raises
        return None


def _class_name(error: BaseException) -> str:
    return clean(str(type.__getattribute__(type(error), "__name__"))[:200])


def _chain(error: BaseException, causes_max: int) -> Iterator[BaseException]:
    """The exception and its causes, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) <= causes_max:
        seen.add(id(current))
        yield current
        beneath: BaseException | None = _CAUSE.__get__(current)
        if beneath is None and not _SUPPRESSED.__get__(current):
            beneath = _CONTEXT.__get__(current)
        if beneath is None and isinstance(current, BaseExceptionGroup):
            beneath = next(iter(_members(current)), None)
        current = beneath


def _members(group: BaseExceptionGroup[Any]) -> tuple[BaseException, ...]:
    members: tuple[BaseException, ...] = _MEMBERS.__get__(group)
    return members


def _step_in(chain: list[BaseException]) -> str | None:
    """The step of the first ``StepFailed`` that is the error, or that each error before it names as its cause."""
    for error in chain:
        if isinstance(error, StepFailed):
            return error.step
        if _CAUSE.__get__(error) is None:
            return None
    return None


# --- stacks ----------------------------------------------------------------------------------------------------------


def _stack(error: BaseException, app_root: str | None, limits: Limits) -> str | None:
    try:
        lines = [*_frames(error, app_root), *_extras(error, limits)]
    except Exception:  # noqa: BLE001  # a source that cannot be decoded, notes that are no list
        return None
    if not lines:
        return None
    text = clean("\n".join(lines))
    over = len(text) - limits.error_text_max
    # The end says where it happened.
    return text if over <= 0 else f"[{over} characters cut]\n{text[over:]}"


def _frames(error: BaseException, app_root: str | None) -> list[str]:
    frames = list(_walk(_TRACE.__get__(error)))
    # How we came to call the user's code tells the user nothing.
    begin = next((index for index, (_, _, package) in enumerate(frames) if package != _PACKAGE), 0)
    frames = frames[begin:]
    if len(frames) > _FRAMES_FIRST + _FRAMES_LAST:
        between = [f"  ... {len(frames) - _FRAMES_FIRST - _FRAMES_LAST} frames ..."]
        shown = [frames[:_FRAMES_FIRST], frames[-_FRAMES_LAST:]]
    else:
        between, shown = [], [frames, []]
    first, last = ([_frame(*frame[:2], app_root) for frame in part] for part in shown)
    return [*first, *between, *last]


def _walk(trace: TracebackType | None) -> Iterator[tuple[TracebackType, int, str]]:
    while trace is not None:
        yield trace, trace.tb_lineno, str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        trace = trace.tb_next


def _frame(trace: TracebackType, line: int, app_root: str | None) -> str:
    code = trace.tb_frame.f_code
    # The source comes through the interpreter's own cache, as every printed traceback's does.
    source = linecache.getline(code.co_filename, line, trace.tb_frame.f_globals).strip()[:200]
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    head = f'  File "{_relative(code.co_filename, module, app_root)}", line {line}, in {code.co_qualname}'
    return f"{head}\n    {source}" if source else head


def _relative(path: str, module: str, app_root: str | None) -> str:
    folder = app_root.rstrip("/") + "/" if app_root else ""
    if folder and path.startswith(folder):
        return path[len(folder) :]
    inside = module.replace(".", "/")
    for ending in (f"{inside}.py", f"{inside}/__init__.py"):
        if path.endswith(f"/{ending}"):
            return ending
    return path.rpartition("/")[2]


def _extras(error: BaseException, limits: Limits) -> list[str]:
    """What a traceback has below its frames: notes, and the members of a group."""
    notes = getattr(error, "__notes__", None)
    lines = (
        [f"  note: {note[:500]}" for note in notes[:_MEMBERS_MAX] if isinstance(note, str)]
        if isinstance(notes, list)
        else []
    )
    if isinstance(error, BaseExceptionGroup):
        members = _members(error)
        for number, member in enumerate(members[:_MEMBERS_MAX], 1):
            lines.append(f"  [{number} of {len(members)}] {_class_name(member)}: {_message(member, limits)[:500]}")
    return lines


# --- texts -----------------------------------------------------------------------------------------------------------


def _bounded(text: str, limits: Limits) -> str:
    over = len(text) - limits.error_text_max
    return clean(text) if over <= 0 else f"{clean(text[: limits.error_text_max])} [{over} characters cut]"


def _clean_or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)


# --- as text in the database -----------------------------------------------------------------------------------------


def error_to_json(record: ErrorRecord) -> str:
    """Return the record as JSON text; fields that are None are left out."""
    return to_json(_as_dict(record))


def _as_dict(record: ErrorRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {"message": record.message}
    for name in _OPTIONAL:
        value = getattr(record, name)
        if value is not None:
            fields[name] = value
    if record.cause is not None:
        fields["cause"] = _as_dict(record.cause)
    return fields


def error_from_json(text: str) -> ErrorRecord | None:
    """Return the record of a text that ``error_to_json`` wrote; None when it is damaged, fields that are damaged read as None."""
    try:
        return _from_object(pydantic_core.from_json(text, allow_inf_nan=False))
    except ValueError:
        return None


def _from_object(value: Any) -> ErrorRecord | None:
    if not isinstance(value, dict) or not isinstance(value.get("message"), str):
        return None
    found = {name: value[name] for name in _OPTIONAL if isinstance(value.get(name), str)}
    return ErrorRecord(value["message"], cause=_from_object(value.get("cause")), **found)


_OPTIONAL = ("code", "type_name", "step_name", "stack", "fingerprint")
