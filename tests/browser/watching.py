"""What a browser did while nobody asked: requests, console, errors; and how often somebody clicked.

The counter is put into the page by the test. It lives in ``sessionStorage``, which outlasts the navigation that a click begins.
A click that the keyboard made (Enter on a link) is not counted as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response

CLICK_COUNTER = """
addEventListener('click', (event) => {
  if (event.isTrusted && event.detail > 0) sessionStorage.clicks = Number(sessionStorage.clicks || 0) + 1;
}, true);
addEventListener('keydown', (event) => {
  if (event.isTrusted) sessionStorage.keys = (sessionStorage.keys || '') + event.key + ' ';
}, true);
addEventListener('securitypolicyviolation', (event) => console.error('CSP ' + event.violatedDirective + ' ' + event.blockedURI));
"""


def clicks(page: Page) -> int:
    """How often a pointer clicked in this tab."""
    return int(page.evaluate("() => Number(sessionStorage.clicks || 0)"))


@dataclass
class Watch:
    """What happened in the watched contexts."""

    requests: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    _expected: list[re.Pattern[str]] = field(default_factory=list)

    def follow(self, context: BrowserContext) -> None:
        context.on("request", self._on_request)
        context.on("response", lambda answer: self.responses.append(answer))  # noqa: PLW0108  # Playwright marks what it is given
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.said.append(f"uncaught: {error.error}"))
        context.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

    def expect(self, pattern: str) -> None:
        """Say that the console will complain, and rightly so."""
        self._expected.append(re.compile(pattern))

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.said.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    @property
    def hosts(self) -> set[str]:
        """Who was asked for anything."""
        return {
            urlsplit(url).hostname or "" for url in self.requests if not url.startswith(("data:", "about:", "blob:"))
        }

    def check(self) -> None:
        """Fail for anything that was not expected."""
        foreign = self.hosts - {"127.0.0.1"}
        assert not foreign, f"other hosts were asked: {foreign}"
        surprising = [text for text in self.said if not any(pattern.search(text) for pattern in self._expected)]
        assert not surprising, f"the browser said: {surprising}"
        assert not self.dialogs, f"a script opened a dialog: {self.dialogs}"
