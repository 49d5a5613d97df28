"""What must not stand in our source: ways to run data as code, SQL put together from pieces, settings and time read in passing."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "workflow_runs"

BANNED_MODULES = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
BANNED_CALLS = {"__import__", "eval", "exec", "os.popen", "os.system", "yaml.load", "yaml.unsafe_load"}
# Their first argument is SQL: values travel as bound parameters, names come from the table definitions.
SQL_CALLS = {"exec_driver_sql", "execute", "literal_column", "text"}

# Who decides gets the time as a value. Of the clock's module it may use what computes with times and ids.
DECIDING = (
    "execution/replay.py",
    "model/",
    "operations/drift.py",
    "operations/plan.py",
    "operations/policy.py",
    "operations/search.py",
    "operations/search_text.py",
    "operations/verdict.py",
)
ARITHMETIC = {"from_millis", "run_id_floor", "run_id_millis", "step_id", "to_millis"}


def dotted(node):
    """``a.b.c`` of a name or an attribute; of anything else only what comes after it."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_pieced_together(node):
    """Whether a string is made here from parts that are not all literal: an f-string, +, % or format()."""
    match node:
        case ast.JoinedStr(values=parts):
            return any(isinstance(part, ast.FormattedValue) for part in parts)
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            return any(not isinstance(side, ast.Constant) or is_pieced_together(side) for side in (left, right))
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()) | ast.Call(func=ast.Attribute(attr="format")):
            return True
    return False


def is_dangerous(node):
    match node:
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in BANNED_MODULES for alias in names)
        case ast.ImportFrom(module=str(module)):
            return module.partition(".")[0] in BANNED_MODULES
        case ast.Call(func=function, args=arguments):
            is_sql = dotted(function).rpartition(".")[2] in SQL_CALLS
            return dotted(function) in BANNED_CALLS or (is_sql and any(map(is_pieced_together, arguments[:1])))
        case ast.keyword(arg="shell", value=value):
            return not (isinstance(value, ast.Constant) and value.value is False)
    return False


def reads_environment(node):
    return isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.environb", "os.getenv"}


def reads_wall_clock(node):
    name = dotted(node.func) if isinstance(node, ast.Call) else ""
    return name.removeprefix("datetime.") in {
        "date.today",
        "datetime.now",
        "datetime.today",
        "datetime.utcnow",
        "now",
        "utcnow",
    }


def reads_clock(node):
    """Whether a name is taken from the clock module that is more than arithmetic on times and ids."""
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "clock"
        and {alias.name for alias in node.names} - ARITHMETIC
    )


def takes_writer(node):
    return isinstance(node, ast.Call) and dotted(node.func).endswith(".open_writer")


def places(is_offence, *, within="", but=()):
    """``file:line: source`` of every offence, so that a failure says where to look."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        name, text = file.relative_to(SOURCE).as_posix(), file.read_text()
        if name.startswith(within) and not name.startswith(but):
            lines = [node.lineno for node in ast.walk(ast.parse(text)) if is_offence(node)]
            found += [f"{name}:{line}: {text.splitlines()[line - 1].strip()}" for line in lines]
    return found


def test_nothing_runs_data_as_code_or_pieces_sql_together():
    assert places(is_dangerous) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os.path, marshal",
        "eval(text)",
        "yaml.load(file)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=chosen)",
        "text(f'SELECT {name}')",
        "sa.text('SELECT ' + name)",
        "connection.execute('SELECT %s' % name)",
        "op.execute('SELECT {}'.format(name))",
        "get_bind().execute(f'SELECT {name}')",
    ],
)
def test_the_check_sees(source):
    assert any(map(is_dangerous, ast.walk(ast.parse(source))))


@pytest.mark.parametrize(
    "source", ["text('SELECT 1')", "text(f'SELECT 1')", "text('SELECT ' + 'two')", "json.load(file)"]
)
def test_the_check_lets_pass(source):
    assert not any(map(is_dangerous, ast.walk(ast.parse(source))))


def test_the_environment_is_read_by_the_commands_of_a_process_alone():
    # A library that reads the environment has settings that nobody sees in the code that uses it.
    assert places(reads_environment, but=("cli.py", "server.py")) == []


def test_the_wall_clock_is_read_in_one_place():
    assert places(reads_wall_clock, but="clock.py") == []


def test_who_decides_reads_no_clock():
    assert places(reads_clock, within=DECIDING) == []


def test_only_the_journal_takes_a_writer_from_a_store():
    assert places(takes_writer, but=("journal/", "store/", "testing/")) == []
