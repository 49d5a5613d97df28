"""Hypothesis without its deadline: how long an example takes on a busy machine says nothing about what it shows. And a seeded site."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.admin.pages.site import Client, Site, opened, seeded_site

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site that all tests of a worker share that only look, on SQLite."""
    with opened(seeded_site(f"sqlite:///{tmp_path_factory.mktemp('site') / 'runs.db'}")) as made:
        yield made


@pytest.fixture(scope="session")
def busy_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One more of them, for tests that make runs: as many as they like."""
    with opened(seeded_site(f"sqlite:///{tmp_path_factory.mktemp('busy') / 'runs.db'}")) as made:
        yield made


@pytest.fixture
def ada(site: Site) -> Client:
    """A client that may do everything."""
    return site.client()
