"""Every link of the pages, made in one place from where the pages are mounted. Paths without a host: they are right behind any proxy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

Values = Mapping[str, str | int | None]


def safe_url(text: str) -> str | None:
    """Return an address that comes from data or settings if it may stand in a link: http and https only.

    Source: Argo CD GHSA-h98r-wv3h-fr38, a stored ``javascript:`` link.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    is_plain = text.isprintable() and not any(character.isspace() for character in text)
    return text if is_plain and parts.scheme in {"http", "https"} and parts.netloc else None


def filled(template: str, value: str) -> str | None:
    """Return a link template of the settings with ``{value}`` filled in, percent-encoded; None where that gives no link."""
    return safe_url(template.replace("{value}", quote(value, safe="")))


@dataclass(frozen=True, slots=True)
class Links:
    """Where everything is. ``base`` is where the pages are mounted, as the browser sees it; empty at a host's root."""

    base: str
    version: str  # of the static files: part of their path, so that they may be cached for ever

    def overview(self) -> str:
        """The first page."""
        return f"{self.base}/"

    def runs(self, q: str | None = None, **values: str | int | None) -> str:
        """The list of runs; ``q`` None is the list's own default."""
        return self._to("runs", {"q": q, **values})

    def run(self, run_id: str, **values: str | int | None) -> str:
        """A run's page."""
        return self._to(f"runs/{_segment(run_id)}", values)

    def export(self, run_id: str) -> str:
        """The whole record of a run as JSON."""
        return self._to(f"runs/{_segment(run_id)}.json", {})

    def act(self, kind: str, run_id: str, **values: str | int | None) -> str:
        """The plan page of resume, rerun or cancel."""
        return self._to(f"runs/{_segment(run_id)}/{kind}", values)

    def step(self, run_id: str, sequence: int, **values: str | int | None) -> str:
        """What is shown of one step."""
        return self._to(f"runs/{_segment(run_id)}/steps/{sequence}", values)

    def payload(self, run_id: str, part: str, **values: str | int | None) -> str:
        """A payload as it was recorded: ``input``, ``result``, or ``output`` with ``step``."""
        return self._to(f"runs/{_segment(run_id)}/payload/{part}", values)

    def compare(self, run_id: str, **values: str | int | None) -> str:
        """A run beside another one."""
        return self._to(f"runs/{_segment(run_id)}/compare", values)

    def compare_two(self) -> str:
        """Where two chosen runs are compared."""
        return self._to("compare", {})

    def workflows(self) -> str:
        """The list of workflows."""
        return self._to("workflows", {})

    def workflow(self, name: str) -> str:
        """A workflow's page."""
        return self._to(f"workflows/{_segment(name)}", {})

    def start(self, name: str, **values: str | int | None) -> str:
        """The form that starts a run."""
        return self._to(f"workflows/{_segment(name)}/run", values)

    def jump(self) -> str:
        """Where a pasted id or business key leads on."""
        return self._to("jump", {})

    def rows(self) -> str:
        """Rows of the list by their ids."""
        return self._to("rows", {})

    def events(self, values: list[tuple[str, str]]) -> str:
        """The stream of what happens."""
        return f"{self.base}/events?{urlencode(values)}"

    def static(self, file: str) -> str:
        """A file of the package."""
        return f"{self.base}/static/{self.version}/{file}"

    def _to(self, path: str, values: Values) -> str:
        given = {name: str(value) for name, value in values.items() if value is not None}
        query = f"?{urlencode(given)}" if given else ""
        return f"{self.base}/{path}{query}"


def _segment(text: str) -> str:
    return quote(text, safe="")
