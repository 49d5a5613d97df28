"""What a page costs: at most 40 kB gzipped, 12 kB of it script, in at most 6 requests."""

import gzip

import pytest

from tests.browser.catalogue import VIEWS
from tests.browser.opening import open_view

BYTES_MAX = 40_000
SCRIPT_BYTES_MAX = 12_000
REQUESTS_MAX = 6

WEIGHED = [view for view in VIEWS if view.way is None and view.who == "operator" and view.status == 200]


def weight(content: bytes) -> int:
    return len(gzip.compress(content, 6))


@pytest.mark.parametrize("view", WEIGHED, ids=lambda view: view.name)
def test_a_page_is_light(view, desk, empty_desk, new_context, watch):
    page = open_view(view, empty_desk if view.is_empty else desk, new_context, watch)
    page.wait_for_load_state("load")
    loaded = [answer for answer in watch.responses if not answer.url.startswith("data:")]
    sizes = {answer.url: weight(answer.body()) for answer in loaded if "/events" not in answer.url}
    assert len(loaded) <= REQUESTS_MAX, [answer.url for answer in loaded]
    assert sum(sizes.values()) <= BYTES_MAX, sizes
    assert sum(size for url, size in sizes.items() if url.endswith(".js")) <= SCRIPT_BYTES_MAX, sizes
