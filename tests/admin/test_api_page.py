"""docs/api.md and the tables of the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from workflow_runs.admin import SCOPES
from workflow_runs.admin.query import LIST_PARAMETERS, REPEATABLE
from workflow_runs.admin.routes import OPERATIONS
from workflow_runs.admin.schemas import SCHEMAS
from workflow_runs.model.states import RunState
from workflow_runs.settings import Limits
from workflow_runs.wire import ERROR_CODES

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def section(title):
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n", 1)[1], flags=re.MULTILINE)[0]


def rows(title):
    """The cells of the rows of a section's table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def words(text):
    return set(re.findall(r"`([A-Za-z]+)`", text))


def test_routes():
    assert rows("Routes") == [
        (f"`{operation.method} {operation.path}`", f"`{operation.scope}`", str(operation.success), operation.summary)
        for operation in OPERATIONS
    ]


def test_scopes():
    assert rows("Scopes") == [(f"`{scope}`", meaning) for scope, meaning in SCOPES.items()]


def test_errors():
    assert rows("Errors") == [(f"`{code}`", str(entry.status), entry.meaning) for code, entry in ERROR_CODES.items()]


def test_list_parameters():
    listed = rows("Listing")
    assert [row[0] for row in listed] == [f"`{name}`" for name in LIST_PARAMETERS]
    assert {row[0].strip("`") for row in listed if row[2] != "no"} == REPEATABLE


def test_members():
    for title, schema in (("A run", "Run"), ("A step", "Step")):
        missing = set(SCHEMAS[f"WorkflowRuns{schema}"]["properties"]) - words(section(title))
        assert missing == set()
    plan = SCHEMAS["WorkflowRunsPlan"]["properties"]["data"]["properties"]
    assert set(re.findall(r"\w+", section("A plan"))) >= set(plan)


def test_states_and_limits():
    assert words(section("A run").replace("_", "")) >= {state.value.replace("_", "") for state in RunState}
    assert f"{Limits().body_bytes_max:,} bytes" in PAGE
    assert f"{Limits().total_max:,}" in PAGE
