"""Values and their JSON text: what a step returned, what a run was given.

Everything recorded is JSON text, and a value is recorded only if it comes back equal: ``Codec.encode`` decodes what it wrote and
compares type and value, all the way down. What would not come back is refused where it arises, with the place and the type,
instead of surprising the resume months later (fault E14 of the original).

* A *declared* type (an annotation) decides how values travel: dataclasses, pydantic models, typed dicts, enums, dates, decimals,
  UUIDs, bytes (base64), sets and tuples, through pydantic. A pydantic model keeps its own configuration, for bytes too.
* Without a declared type only JSON's own values pass: exact ``dict`` with ``str`` keys, ``list``, ``str``, ``int``, finite
  ``float``, ``bool``, ``None``. Guessing (a tuple read back as a list) was rejected: a first run and a resume would differ.

Two deliberate equalities: an ``int`` where ``float`` is declared becomes the equal float, as annotations have it; and aware
times are equal with equal wall time and offset, since the name of a zone is not part of an instant.

No input or output here, and nothing is ever unpickled or imported by a name found in data. Strings from outside are the business of
``jsontext``, whose names are given on here for those who deal in payloads.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import (
    SchemaSerializer,
    SchemaValidator,
    ValidationError,
    core_schema,
    from_json,
    to_json as to_bytes,
)

from ..errors import CannotEncode, ConfigurationError, InvalidInput
from ..settings import Limits
from .digests import digest
from .equality import Mismatch, difference, follow, is_plain, plain_flaw, type_name, unencodable
from .jsontext import (
    RawJson,
    canonical,
    check_json,
    dump,
    parse_strict,
    place,
    to_json,
)

__all__ = [
    "Codec",
    "RawJson",
    "canonical",
    "check_json",
    "codec_for",
    "digest",
    "dump",
    "input_codec",
    "parse_strict",
    "return_codec",
    "to_json",
]

_OUTPUT_BYTES_MAX = Limits().output_bytes_max
_DIGITS_MAX = Limits().json_integer_digits_max
_ANNOTATE = (
    "declare its type in an annotation; undeclared, only dict, list, str, int, float, bool and None come back equal"
)

# Declared, and yet no more than JSON: the fast walk does, and only the outermost type is to be checked.
_ROOTS: tuple[tuple[Any, type], ...] = (
    (dict, dict),
    (dict[str, Any], dict),
    (dict[str, object], dict),
    (list, list),
    (list[Any], list),
    (list[object], list),
)
_UNDECLARED = (Any, None, types.NoneType, object, inspect.Parameter.empty, typing.NoReturn, typing.Never)

# Where the text of a validation error may repeat the value it is about; elsewhere it names only what was expected.
_ECHOING = frozenset(
    {"value_error", "assertion_error", "union_tag_invalid", "bytes_invalid_encoding", "mapping_type", "iteration_error"}
)
_KNOWN_ERRORS = frozenset(typing.get_args(core_schema.ErrorType)) - _ECHOING

_KEPT_CODEC = "__workflow_runs_codec__"


class Codec:
    """Turns values of one type into JSON text and back; safe to share between threads.

    Args:
        type_: The declared type; ``Any``, ``object`` and None (also as in ``-> None``) count as not declared.
        advice: What a refused undeclared value is told.
        bytes_max: Bound on the text, in bytes of UTF-8.

    Raises:
        ConfigurationError: pydantic knows no JSON form for the type.
    """

    __slots__ = ("_advice", "_bytes_max", "_root", "_serializer", "_validator", "type")

    def __init__(self, type_: Any = Any, *, advice: str = _ANNOTATE, bytes_max: int = _OUTPUT_BYTES_MAX) -> None:
        self.type = type_
        self._advice = advice
        self._bytes_max = bytes_max
        self._root: type | None = next((root for known, root in _ROOTS if type_ == known), None)
        self._serializer: SchemaSerializer | None = None
        self._validator: SchemaValidator | None = None
        if self._root is None and not any(type_ is known for known in _UNDECLARED):
            self._serializer, self._validator = _compiled(type_)

    @property
    def is_declared(self) -> bool:
        """Whether more than "some JSON value" is known."""
        return self._validator is not None or self._root is not None

    def schema(self) -> dict[str, Any] | None:
        """Return the JSON Schema (2020-12) of the declared type; None where nothing is declared, or the type has none."""
        if not self.is_declared:
            return None
        try:
            return TypeAdapter(self.type).json_schema()
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            return None  # a custom type that travels as JSON and cannot say how

    def encode(self, value: Any, where: str) -> str:
        """Return the value as JSON text; ``where`` says whose value it is (``step "charge" output``).

        Raises:
            CannotEncode: the value would not come back equal, or its text is too large. No other exception, whatever the value does.
        """
        return self.roundtrip(value, where)[0]

    def decode(self, text: str, where: str = "input") -> Any:
        """Return the value of a text that ``encode`` wrote, or of an input that ``validate_input`` passed.

        Raises:
            InvalidInput: the text is not (or, after a deployment, no longer) of the declared type; ``where`` begins its ``field``.
        """
        try:
            if self._validator is not None:
                return self._validator.validate_json(text, by_alias=True, by_name=True)
            value = from_json(text, allow_inf_nan=False)
        except ValidationError as error:
            raise _invalid(error, where) from None
        except ValueError:
            raise InvalidInput(f"{where} is not JSON.", field=where) from None
        if self._root is not None and type(value) is not self._root:
            raise InvalidInput(f"{where} is not a JSON {'object' if self._root is dict else 'array'}.", field=where)
        return value

    def roundtrip(self, value: Any, where: str) -> tuple[str, Any]:
        """Return the text and the value that will be read from it, which shares nothing with the one given.

        Raises:
            CannotEncode: as ``encode``.
        """
        try:
            data, back = self._plain(value) if self._validator is None else self._declared(value)
        except Mismatch as found:
            raise CannotEncode(where, _rooted(found.path), found.type_name, found.reason) from None
        except Exception as error:
            # A property, __eq__ or validator of the value's own raised, or a dict changed while it was read.
            raise CannotEncode(where, "$", type_name(value), f"reading it raised {type_name(error)}") from error
        return data.decode(), back

    def validate_input(self, text: str | None) -> None:
        """Check that a text is an input of the declared type; None is no input, which reads as ``null``.

        Raises:
            InvalidInput: it is not; ``field`` is the place (``input.items[2]``), and no value is repeated.
        """
        self.decode("null" if text is None else text)

    def _plain(self, value: Any) -> tuple[bytes, Any]:
        if self._root is not None and type(value) is not self._root:
            raise Mismatch((), value, f"{self._root.__name__} is declared")
        if is_plain(value, self._bytes_max):
            try:
                data = to_bytes(value)
                self._check_size(value, data)
                return data, from_json(data)
            except ValueError:
                pass  # a lone surrogate, or an integer that no parser takes: said below, with its place
        raise plain_flaw(value, self._advice, self._bytes_max, _DIGITS_MAX)

    def _declared(self, value: Any) -> tuple[bytes, Any]:
        assert self._serializer is not None
        assert self._validator is not None
        try:
            # By name and not by alias: an alias that only one direction knows would lose the field. Warnings about unexpected
            # types say less than the comparison below, and nothing about the place.
            data = self._serializer.to_json(value, by_alias=False, round_trip=True, warnings=False)
        except Exception as error:
            found = unencodable(value, self._bytes_max)
            raise found or Mismatch((), value, f"writing it as JSON raised {type_name(error)}") from error
        self._check_size(value, data)
        try:
            back = self._validator.validate_json(data, by_alias=True, by_name=True)
        except ValidationError as error:
            errors = error.errors(include_input=False, include_url=False, include_context=False)
            path, item = follow(value, errors[0]["loc"])
            raise Mismatch(path, item, "the declared type does not take it back") from None
        found = difference(value, back, ())
        if found is not None:
            raise found
        return data, back

    def _check_size(self, value: Any, data: bytes) -> None:
        if len(data) > self._bytes_max:
            raise Mismatch((), value, f"{len(data)} bytes as JSON, more than the {self._bytes_max} that are kept")


def _rooted(path: tuple[str | int, ...]) -> str:
    inside = place(path)
    return f"${inside}" if not inside or inside.startswith("[") else f"$.{inside}"


def _invalid(error: ValidationError, where: str) -> InvalidInput:
    """Return an error that names the place and what was expected there, and repeats nothing that was sent."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    first = errors[0]
    inside = place(first["loc"])
    field = where if not inside else f"{where}{inside}" if inside.startswith("[") else f"{where}.{inside}"
    expected = first["msg"] if first["type"] in _KNOWN_ERRORS else "It was refused by its validator"
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidInput(f"{field}: {expected}.{more}", field=field)


# --- from types to codecs --------------------------------------------------------------------------------------------


def _compiled(type_: Any) -> tuple[SchemaSerializer, SchemaValidator]:
    try:
        schema = TypeAdapter(type_).core_schema
        marked = _with_base64(schema)
        config = core_schema.CoreConfig(ser_json_bytes="base64", val_json_bytes="base64")
        return SchemaSerializer(marked, config), SchemaValidator(marked, config)
    except (PydanticUserError, NameError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f"{type_!r:.200} cannot be recorded as JSON: {str(error).splitlines()[0]:.300}"
        ) from error


def _with_base64(schema: Any) -> Any:
    """Return the schema with bytes as base64 in plain dataclasses and typed dicts, which have no configuration of their own to say so.

    Classes that pydantic made are left alone: they bring their own serialiser.
    """
    if isinstance(schema, list):
        return [_with_base64(item) for item in schema]
    if isinstance(schema, tuple):
        return tuple(_with_base64(item) for item in schema)
    if (
        not isinstance(schema, dict)
        or schema.get("type") == "model"
        or hasattr(schema.get("cls"), "__pydantic_serializer__")
    ):
        return schema
    marked = {key: item if key in {"cls", "metadata", "config"} else _with_base64(item) for key, item in schema.items()}
    if schema.get("type") in {"dataclass", "typed-dict"}:
        own = schema.get("config") or {}
        marked["config"] = {"ser_json_bytes": "base64", "val_json_bytes": "base64", **own}
    return marked


@functools.lru_cache(maxsize=1024)
def _cached(type_: Any, spelling: str) -> Codec:  # noqa: ARG001  # ``A | B == B | A``, but they try in another order
    return Codec(type_)


def codec_for(type_: Any) -> Codec:
    """Return the codec of a type, made once per type.

    Raises:
        ConfigurationError: pydantic knows no JSON form for the type.
    """
    try:
        return _cached(type_, repr(type_))
    except TypeError:  # not hashable: an Annotated with a list in it
        return Codec(type_)


def input_codec(annotation: Any) -> Codec:
    """Return the codec of a workflow's input from the parameter's annotation, resolved; ``Parameter.empty`` is not declared.

    Raises:
        ConfigurationError: the annotation is an unresolved string, or has no JSON form.
    """
    if isinstance(annotation, str):
        raise ConfigurationError(
            f"the annotation {annotation!r} cannot be resolved; define the type where the module sees it"
        )
    return codec_for(annotation)


def return_codec(fn: Callable[..., Any]) -> Codec:
    """Return the codec of what a function returns, or what its coroutine does; kept on the function.

    A return annotation that cannot be resolved or has no JSON form counts as not declared, and a value that is refused for it
    says so: a step may be any function, written by people who never heard of us. Raises nothing.
    """
    target = _underlying(fn)
    if isinstance(target, type):
        return _of_return(target, target)  # a class makes its own instances
    annotation = getattr(target, "__annotations__", _NO_ANNOTATIONS).get("return", Any)
    if annotation is Any:
        return _PLAIN
    kept = getattr(target, _KEPT_CODEC, None)
    if kept is not None and kept[0] is annotation:
        return typing.cast(Codec, kept[1])
    codec = _of_return(target, annotation)
    with contextlib.suppress(AttributeError, TypeError):  # what takes no attributes is resolved each time
        setattr(target, _KEPT_CODEC, (annotation, codec))
    return codec


_PLAIN = Codec()
_NO_ANNOTATIONS: types.MappingProxyType[str, Any] = types.MappingProxyType({})


def _underlying(fn: Any) -> Any:
    """The function behind partials, bound methods and callable objects."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, types.MethodType):
        return fn.__func__
    if isinstance(fn, type | types.FunctionType | types.BuiltinFunctionType):
        return fn
    wrapped = getattr(fn, "__wrapped__", None)  # of a cache, of a workflow
    if isinstance(wrapped, types.FunctionType):
        return wrapped
    call = getattr(type(fn), "__call__", fn)  # noqa: B004  # the function itself is wanted
    return call if isinstance(call, types.FunctionType) else fn


def _of_return(target: Any, annotation: Any) -> Codec:
    try:
        if isinstance(annotation, str):
            annotation = _resolved(target, annotation)
        if typing.get_origin(annotation) in {Awaitable, Coroutine}:
            annotation = typing.get_args(annotation)[-1]
        return codec_for(annotation)
    except Exception as error:  # noqa: BLE001  # an annotation is other people's code
        reason = str(error).splitlines()[0][:200] if str(error) else type_name(error)
        return Codec(advice=f"{_ANNOTATE} (the annotation of what is returned does not count: {reason})")


def _resolved(target: Any, annotation: str) -> Any:
    """Evaluate the return annotation alone: those of the parameters may name what only a type checker imports."""
    holder = types.SimpleNamespace(__annotations__={"return": annotation})
    scope = getattr(inspect.unwrap(target), "__globals__", {})
    return typing.get_type_hints(holder, globalns=scope, include_extras=True)["return"]
