"""What a host may say about the pages: names, colours, times, links, and how they are kept up to date."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ...errors import ConfigurationError
from .links import filled

Live = Literal["stream", "poll", "off"]
EnvironmentClass = Literal["bad", "wait", "ok", "off"]

_COLOUR: Final = re.compile(r"#[0-9A-Fa-f]{6}", re.ASCII)
_TOKEN: Final = re.compile(r"[a-z][a-z0-9-]{0,30}", re.ASCII)
_ORIGIN: Final = re.compile(r"'none'|'self'|https?://[A-Za-z0-9.:*\[\]-]+", re.ASCII)
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)


@dataclass(frozen=True)
class PageSettings:
    """How the pages look and behave.

    Args:
        title: Stands at the top left and in each page's title; the company's or the product's name.
        environment: A badge beside it, such as ``PROD``. None: none.
        environment_class: The badge's colour: ``bad`` (red), ``wait`` (amber), ``ok`` (green), ``off`` (grey).
        time_zone: Name of the zone in which times are shown (``Europe/Bucharest``); the page says which.
        secret: Signs plan tokens; at least 32 bytes. Default: random for this process, which is right for one process; where several
            serve the pages behind one address, give all of them the same, or a plan shown by one is shown again by the next.
        external_prefix: Where the browser sees the pages, if a proxy cuts off part of the path and does not say so in ``root_path``.
        tag_links: For tags written ``name:value``: an address with ``{value}`` in it, by name. A trace id that is recorded as a tag
            leads to the tracing system this way: ``{"trace": "https://tempo.example/trace/{value}"}``.
        key_link: The same for the business key (correlation id).
        colours: Replaces colour tokens of the style sheet: name to (light, dark), each ``#rrggbb``.
        templates: Folder with templates that replace or extend ours (``{% extends "ours/base.html" %}``).
        frame_ancestors: Who may show the pages in a frame: origins, or ``'self'``. Default: nobody.
        live: ``stream`` (server-sent events), ``poll`` (a conditional request every 5 s: for WSGI, where a stream would occupy a
            worker), ``off``.
        streams_max: Streams that this process holds open at once.
        stuck_after_s: A live run that started longer ago and waits for nothing is called stuck.
        guard_timeout_s: A page does not wait longer for a guard of the host; the verdict then says that it did not answer.
        login_url: Where somebody who is not logged in is sent to; None: the page says 401.
        strict: Undefined names in templates are errors: for tests.

    Raises:
        ConfigurationError: a value means nothing.
    """

    title: str = "Workflow runs"
    environment: str | None = None
    environment_class: EnvironmentClass = "bad"
    time_zone: str = "UTC"
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    external_prefix: str | None = None
    tag_links: Mapping[str, str] = field(default_factory=dict)
    key_link: str | None = None
    colours: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    templates: str | Path | None = None
    frame_ancestors: tuple[str, ...] = ("'none'",)
    live: Live = "stream"
    streams_max: int = 200
    stuck_after_s: int = 900
    guard_timeout_s: float = 2.0
    login_url: str | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Check what would otherwise show on a page, or not at all."""
        secret: object = self.secret
        if not isinstance(secret, bytes) or len(secret) < 32:
            raise ConfigurationError("PageSettings.secret has at least 32 bytes, from secrets.token_bytes(32)")
        if self.external_prefix is not None and not _PREFIX.fullmatch(self.external_prefix):
            raise ConfigurationError("PageSettings.external_prefix looks like /ops/desk, without a slash at its end")
        for name, template in (*self.tag_links.items(), ("key_link", self.key_link or "https://x/{value}")):
            if "{value}" not in template or filled(template, "x") is None:
                raise ConfigurationError(f"PageSettings: the link of {name!r} is an http address with {{value}} in it")
        for name, pair in self.colours.items():
            given: Sequence[str] = pair
            if not _TOKEN.fullmatch(name) or len(given) != 2 or not all(map(_COLOUR.fullmatch, given)):
                raise ConfigurationError(f"PageSettings.colours[{name!r}] is (light, dark), each written #rrggbb")
        # One text, iterated, is no list of origins either: its letters are none.
        if not self.frame_ancestors or not all(map(_ORIGIN.fullmatch, self.frame_ancestors)):
            raise ConfigurationError(
                "PageSettings.frame_ancestors is a tuple of origins, or of 'self' or 'none' in quotes"
            )
        for name, words in (("live", get_args(Live)), ("environment_class", get_args(EnvironmentClass))):
            if getattr(self, name) not in words:
                raise ConfigurationError(f"PageSettings.{name} is one of {', '.join(words)}")
        if not (self.guard_timeout_s > 0 and self.stuck_after_s > 0 and self.streams_max >= 0):
            raise ConfigurationError(
                "PageSettings: guard_timeout_s and stuck_after_s are positive, streams_max is not negative"
            )
        if self.templates is not None and not Path(self.templates).is_dir():
            raise ConfigurationError(f"PageSettings.templates: there is no folder {str(self.templates)!r}")
        _ = self.zone

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: it is a folder of zones
            raise ConfigurationError(f"PageSettings.time_zone: no zone is called {self.time_zone!r}") from error

    @cached_property
    def content_security_policy(self) -> str:
        """What the browser is told to allow: our own files and nothing else; no inline script or style anywhere."""
        return (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
            f"form-action 'self'; base-uri 'none'; frame-ancestors {' '.join(self.frame_ancestors)}"
        )
