"""Engines at work: a store, a journal and a local engine together, and a way to wait for what they do."""

from __future__ import annotations

import threading

import pytest

from workflow_runs.clock import Clock
from workflow_runs.engines.local import LocalEngine
from workflow_runs.journal import Journal
from workflow_runs.model.requests import RunRequest
from workflow_runs.settings import EngineSettings
from workflow_runs.store.opening import open_store

WAIT_S = 60.0  # a deadline, never waited for


class House:
    """One process's engine. Several on one database are several processes to each other."""

    def __init__(self, url, workflows, *, name=None, clock=None, loop=None, launch=True, **settings):
        self.clock = clock or Clock()
        self.store = open_store(url, clock=self.clock)
        self.store.migrate()
        self.journal = Journal(self.store, clock=self.clock)
        self.journal.add_observer(self._after_commit)
        self.changed = threading.Condition()
        settings = EngineSettings(**{"poll_s": 0.05, **settings})
        self.engine = LocalEngine(workflows, self.store, self.journal, name=name, settings=settings, clock=self.clock)
        if launch:
            self.engine.launch(loop)

    def _after_commit(self, entries):
        with self.changed:
            self.changed.notify_all()

    def start(self, name, input=None, **request):
        return self.engine.start(RunRequest(name, name, input, **request)).run_id

    def until(self, condition):
        """Wait until what ``condition`` returns is true, and return it. Other processes' commits are seen by looking now and then."""
        deadline = self.clock.monotonic() + WAIT_S
        with self.changed:
            while not (found := condition()):
                assert self.clock.monotonic() < deadline, "waited in vain"
                self.changed.wait(0.05)
        return found

    def until_state(self, run_id, *states):
        def arrived():
            run = self.store.get_run(run_id)
            return run if run is not None and run.state in states else None

        return self.until(arrived)

    def ended(self, run_id):
        return self.until_state(
            run_id, "succeeded", "failed", "cancelled", "compensated", "compensation_failed", "lost"
        )

    def states(self, run_id):
        steps = self.store.get_steps(run_id)
        return {step.step.label(): [str(attempt.state) for attempt in step.attempts] for step in steps}

    def close(self, drain_s=None):
        self.engine.close(drain_s)
        self.journal.close()
        self.store.close()


@pytest.fixture
def open_house(database_url):
    """Return a function that opens a house on the test's database; all are closed in the end."""
    houses = []

    def open_one(*workflows, url=database_url, **options):
        house = House(url, workflows, **options)
        houses.append(house)
        return house

    yield open_one
    for house in houses:
        house.close(drain_s=5)
