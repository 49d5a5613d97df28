"""Templates into pages: the package's own Jinja2 environment, never the host's, and what every page is told.

Autoescape is on and nothing in the package turns it off (a test looks). Text from the record goes through ``visible``, which shows
control and bidi characters instead of obeying them.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader, PackageLoader, PrefixLoader, StrictUndefined
from jinja2.runtime import Undefined

from ...model.states import Idempotency
from ...operations.search import term_text
from . import formats, statuses
from .links import filled, safe_url
from .settings import PageSettings

_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_FILES: Final = ("wr.css", "wr.js", "icon.svg")
_COLOURS: Final = "colours.css"

POLICIES: Final[Mapping[Idempotency, str]] = {
    Idempotency.SAFE: "safe to rerun",
    Idempotency.UNSAFE: "unsafe to rerun",
    Idempotency.RESUME_ONLY: "resume only",
}


class StaticFiles:
    """The files that pages ask for, in memory: there are three, and together they are smaller than many a favicon."""

    def __init__(self, settings: PageSettings) -> None:
        folder = resources.files(__package__) / "static"
        self._files = {name: (folder / name).read_bytes() for name in _FILES}
        if settings.colours:
            self._files[_COLOURS] = _colours(settings.colours)
        self._packed = {name: gzip.compress(data, mtime=0) for name, data in self._files.items()}
        digest = hashlib.blake2b(b"\0".join(self._files.values()), digest_size=6)
        self.version = digest.hexdigest()

    @property
    def has_colours(self) -> bool:
        """Whether the host replaces colours."""
        return _COLOURS in self._files

    def find(self, name: str, *, packed: bool) -> tuple[bytes, str] | None:
        """Return a file, gzipped if ``packed``, and its content type; or None."""
        data = (self._packed if packed else self._files).get(name)
        return None if data is None else (data, _TYPES[name.rpartition(".")[2]])


class Renderer:
    """Renders templates. One for each mounted application; safe to use from any thread."""

    def __init__(self, settings: PageSettings) -> None:
        ours = PackageLoader("workflow_runs.admin.pages", "templates")
        loaders: list[BaseLoader] = [ours, PrefixLoader({"ours": ours})]
        if settings.templates is not None:
            loaders.insert(0, FileSystemLoader(settings.templates))
        self._environment = Environment(
            loader=ChoiceLoader(loaders),
            autoescape=True,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined if settings.strict else Undefined,
        )
        self._environment.globals.update(
            settings=settings,
            policies=POLICIES,
            run_look=statuses.run_look,
            step_look=statuses.step_look,
            term=term_text,
        )
        self._environment.filters.update(
            duration=formats.duration,
            size=formats.size,
            count=formats.count,
            visible=formats.visible,
            plain=formats.plain,
            safe_url=safe_url,
            tag_parts=tag_parts,
            tag_link=lambda tag: _tag_link(settings, tag),
            key_link=lambda key: None if settings.key_link is None else filled(settings.key_link, key),
        )

    def render(self, template: str, context: Mapping[str, Any]) -> bytes:
        """Return a page."""
        text = self._environment.get_template(template).render(context)
        # A lone surrogate in old records must not cost the whole page.
        return text.encode("utf-8", "replace")


def tag_parts(tag: str) -> tuple[str, str]:
    """Return a tag's name and value; ``urgent`` has no name."""
    name, colon, value = tag.partition(":")
    return (name, value) if colon and name and value else ("", tag)


def _tag_link(settings: PageSettings, tag: str) -> str | None:
    name, value = tag_parts(tag)
    template = settings.tag_links.get(name)
    return None if template is None else filled(template, value)


def _colours(colours: Mapping[str, tuple[str, str]]) -> bytes:
    lines = "".join(f"--{name}:light-dark({light},{dark});" for name, (light, dark) in sorted(colours.items()))
    return f"@layer host{{:root{{{lines}}}}}".encode()
