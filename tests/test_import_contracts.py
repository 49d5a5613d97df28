"""The arrows of the architecture: the contracts in pyproject.toml hold, and they speak of modules that exist."""

import json
import tomllib
from pathlib import Path

import importlinter.cli
import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# Named in the contracts already, so that they are born under them, but not written yet. Take out what you write.
PLANNED = {
    "client",
    "engines.celery",
    "engines.dbos",
    "engines.remote",
    "engines.temporal",
    "integrations",
    "server",
}

KEYS = ("allowed_importers", "forbidden_modules", "modules", "protected_modules", "source_modules")


def is_written(name):
    """Whether a module of ours exists; names with a wildcard and other people's packages need not."""
    package, _, rest = name.partition(".")
    path = ROOT / "src" / package / rest.replace(".", "/")
    return package != "workflow_runs" or "*" in name or path.is_dir() or path.with_suffix(".py").is_file()


def written_part(contract):
    """The contract without the modules that do not exist, which import-linter would call a mistake."""
    part = contract | {key: [name for name in contract[key] if is_written(name)] for key in KEYS if key in contract}
    if "layers" in contract:
        part["layers"] = [
            " | ".join(f"({name.strip('()')})" for name in row.split(" | ")) for row in contract["layers"]
        ]
    return part if all(part.get(key, True) for key in KEYS) else None


def test_contracts_speak_of_modules_that_exist_or_are_planned():
    named = {name for contract in CONTRACTS for key in KEYS for name in contract.get(key, ())}
    layers = {
        name.strip("()") for contract in CONTRACTS for row in contract.get("layers", ()) for name in row.split(" | ")
    }
    named |= {f"workflow_runs.{name}" for name in layers}
    planned = {f"workflow_runs.{name}" for name in PLANNED}
    assert {name for name in named if not is_written(name)} <= planned


@pytest.mark.parametrize("contract", CONTRACTS, ids=[contract["id"] for contract in CONTRACTS])
def test_contract_holds(contract, tmp_path, capsys, monkeypatch):
    # It would disable every logger of this process, and with them what other tests look for in the log.
    monkeypatch.setattr(importlinter.cli, "_configure_logging", lambda verbose: None)
    part = written_part(contract)
    if part is None:
        pytest.skip("speaks only of modules that are not written yet")
    config = tmp_path / "contract.toml"
    lines = ['[tool.importlinter]\nroot_package = "workflow_runs"\ninclude_external_packages = true']
    lines += ["[[tool.importlinter.contracts]]", *(f"{key} = {json.dumps(value)}" for key, value in part.items())]
    config.write_text("\n".join(lines))
    assert importlinter.cli.lint_imports(str(config), no_cache=True, no_logo=True) == 0, capsys.readouterr().out
