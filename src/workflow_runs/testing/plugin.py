"""The pytest plugin: fixtures for tests of workflows. It loads nothing before one of them is asked for.

Registered as ``workflow_runs.testing.plugin``; switch it off with ``-p no:workflow_runs.testing.plugin``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .. import testing

if TYPE_CHECKING:
    from .effects import EffectLedger
    from .proofs import CrashReport, ResumeReport


@pytest.fixture
def prove_survives_crashes(tmp_path: Path) -> Callable[..., CrashReport]:
    """``workflow_runs.testing.prove_survives_crashes`` in the test's own folder: ``prove_survives_crashes(workflow, input)``."""
    return functools.partial(testing.prove_survives_crashes, folder=tmp_path)


@pytest.fixture
def prove_resumes_from_each_step(tmp_path: Path) -> Callable[..., ResumeReport]:
    """``workflow_runs.testing.prove_resumes_from_each_step`` in the test's own folder."""
    return functools.partial(testing.prove_resumes_from_each_step, folder=tmp_path)


@pytest.fixture
def effect_ledger(tmp_path: Path) -> EffectLedger:
    """A ledger in the test's own folder: steps ``record`` their deeds in it, also in processes that are killed."""
    return testing.EffectLedger(tmp_path / "effects")
