"""Every page, dialog and state of the desk, with the way to it: what axe, the screenshots and the lints walk through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from playwright.sync_api import Page, expect

from tests.browser.seeding import HOSTILE_NAME, Shop

Way = Callable[[Page], None]


@dataclass(frozen=True)
class View:
    """``path`` is relative to the desk, ``{id}`` in it the id of the shop's run ``run``. ``way`` is what is clicked or pressed there."""

    name: str
    path: str
    run: str | None = None
    way: Way | None = None
    who: str = "operator"
    status: int = 200
    is_empty: bool = False  # of the shop that has no runs

    def address(self, shop: Shop) -> str:
        """The path, filled in."""
        return self.path if self.run is None else self.path.replace("{id}", shop.ids[self.run])


def press(key: str, dialog: str) -> Way:
    """Press a key and see a dialog."""

    def way(page: Page) -> None:
        page.keyboard.press(key)
        expect(page.locator(f"dialog#{dialog}")).to_be_visible()

    return way


def runs(q: str) -> str:
    """Path of the list with a query."""
    return f"runs?{urlencode({'q': q})}"


_RUNS = (
    "uninvoiced",
    "succeeded",
    "unsure charge",
    "guard refuses",
    "guard raises",
    "drifted",
    "unregistered",
    "retried and parallel",
    "resumed",
    "resumed parent",
    "compensated",
    "unknown",
    "cancelled",
    "running",
    "stuck",
    "observed",
    "250 steps",
    "5000 steps",
    "hostile",
    "hostile observed",
)
_RESUMES = (
    "uninvoiced",
    "unsure charge",
    "guard allows",
    "guard refuses",
    "guard raises",
    "drifted",
    "unregistered",
    "resumed parent",
    "hostile",
    "250 steps",
    "unknown",
)

VIEWS: tuple[View, ...] = (
    View("overview", ""),
    View("overview-empty", "", is_empty=True),
    View("runs", "runs"),
    View("runs-empty", "runs", is_empty=True),
    View("runs-failed", runs("status:failed since:24h")),
    View("runs-stuck", runs("is:stuck")),
    View("runs-no-match", runs("key:nothing-has-this status:failed")),
    View("runs-unknown-field", runs("stauts:failed")),
    View("runs-error-text", runs("error:503")),
    View("runs-blind", runs("status:failed since:2h"), who="blind"),
    *(View(f"run-{name.replace(' ', '-')}", "runs/{id}", run=name) for name in _RUNS),
    View("run-blind", "runs/{id}", run="uninvoiced", who="blind"),
    View("run-reader", "runs/{id}", run="uninvoiced", who="reader"),
    View("run-step-error", "runs/{id}?step=3&tab=error", run="uninvoiced"),
    View("run-step-output", "runs/{id}?step=2&tab=output", run="uninvoiced"),
    View("run-step-hostile", "runs/{id}?step=1&tab=output", run="hostile"),
    View("run-step-huge", "runs/{id}?step=2&tab=output", run="hostile"),
    View("compare", "runs/{id}/compare", run="uninvoiced"),
    *(View(f"resume-{name.replace(' ', '-')}", "runs/{id}/resume", run=name) for name in _RESUMES),
    View("resume-from-charge", "runs/{id}/resume?from=charge", run="uninvoiced"),
    View("resume-reader", "runs/{id}/resume", run="uninvoiced", who="reader"),
    View("rerun-unsafe", "runs/{id}/rerun", run="succeeded"),
    View("rerun-safe", "runs/{id}/rerun", run="retried and parallel"),
    View("rerun-resume-only", "runs/{id}/rerun", run="resume only"),
    View("rerun-hostile", "runs/{id}/rerun", run="hostile"),
    View("cancel-running", "runs/{id}/cancel", run="running"),
    View("cancel-ended", "runs/{id}/cancel", run="succeeded"),
    View("workflows", "workflows"),
    View("workflows-empty", "workflows", is_empty=True),
    View("workflow", "workflows/checkout-finalize"),
    View("workflow-unregistered", "workflows/legacy-invoicing"),
    View("workflow-hostile", f"workflows/{quote(HOSTILE_NAME, safe='')}"),
    View("start", "workflows/checkout-finalize/run"),
    View("start-hostile", f"workflows/{quote(HOSTILE_NAME, safe='')}/run"),
    View("no-such-page", "nowhere", status=404),
    View("no-such-run", "runs/wfrn_00000000000000000000000000", status=404),
    View("not-allowed", "runs", who="nothing", status=403),
    View("not-logged-in", "runs", who="nobody", status=401),
    View("dialog-resume", "runs/{id}", run="uninvoiced", way=press("r", "dialog")),
    View("dialog-resume-unsure", "runs/{id}", run="unsure charge", way=press("r", "dialog")),
    View("dialog-rerun", "runs/{id}", run="succeeded", way=press("Shift+R", "dialog")),
    View("dialog-cancel", "runs/{id}", run="running", way=press("c", "dialog")),
    View("dialog-keys", "runs", way=press("?", "keys")),
    View("dialog-jump", "runs", way=press("Control+k", "jump")),
)
