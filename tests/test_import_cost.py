"""``import workflow_runs`` is next to free: who only writes workflows, or only mounts the desk, pays for nothing else."""

import json
import subprocess
import sys

HEAVY = {
    "alembic",
    "fastapi",
    "jinja2",
    "psycopg",
    "pydantic",
    "pydantic_core",
    "sqlalchemy",
    "starlette",
    "typer",
    "uvicorn",
}


def loaded_by(statement):
    """The top-level modules that a fresh interpreter has loaded after the statement."""
    program = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_importing_the_package_loads_no_heavy_library():
    assert not loaded_by("import workflow_runs") & HEAVY


def test_the_pytest_plugin_loads_nothing_of_the_package_but_itself():
    assert not loaded_by("import workflow_runs.testing.plugin") & HEAVY
