"""Bounds on what callers hand to the desk. Front doors check the shape of a body; these hold for callers in Python too."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ..errors import InvalidRequest
from ..settings import Limits


def is_line(text: object, length_max: int) -> bool:
    """Return whether a text has 1 to ``length_max`` characters, all fit for one line of a log and for either database."""
    if not isinstance(text, str) or not 1 <= len(text) <= length_max:
        return False
    if text.isascii():
        return text.isprintable()
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def check_line(text: object, field: str, length_max: int, complaint: type[InvalidRequest] = InvalidRequest) -> None:
    """Refuse what ``is_line`` does not take.

    Raises:
        InvalidRequest: of the class ``complaint``, naming the field.
    """
    if not is_line(text, length_max):
        raise complaint(f"{field} has to be a text of 1 to {length_max} characters, no control characters", field=field)


def check_tags(tags: Sequence[str], limits: Limits) -> None:
    """Refuse too many tags, and tags that are no line.

    Raises:
        InvalidRequest: naming the tag by its place.
    """
    if len(tags) > limits.tags_max:
        raise InvalidRequest(f"tags has to be a list of at most {limits.tags_max} texts", field="tags")
    for place, tag in enumerate(tags):
        check_line(tag, f"tags[{place}]", limits.tag_length_max)


def check_text(text: str | None, field: str, length_max: int, complaint: type[InvalidRequest]) -> None:
    """Refuse a text of several lines that is too long or that no database keeps (NUL, lone surrogates); None passes.

    Raises:
        InvalidRequest: of the class ``complaint``, naming the field.
    """
    if text is None:
        return
    if len(text) > length_max or any(character == "\x00" or "\ud800" <= character <= "\udfff" for character in text):
        raise complaint(f"{field} has at most {length_max} characters, no NUL, no lone surrogates", field=field)
