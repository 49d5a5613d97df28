"""Every Python block of the README and of docs/ runs.

The blocks of a page run from top to bottom in one module, in an empty directory: what a reader gets who types along. A block
opened with ```` ```python no-run ```` is only compiled (it talks to something a test does not have). Other languages are not run.
"""

import re
import sys
import textwrap
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if page.exists()]
BLOCK = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.DOTALL | re.MULTILINE)
FLAGS = {"no-run"}


def python_blocks(text):
    """(code, flags) of each Python block; the code begins with as many empty lines as make its line numbers the page's."""
    for block in BLOCK.finditer(text):
        language, *flags = block["info"].split() or [""]
        if language == "python":
            assert set(flags) <= FLAGS, f"unknown flag on a block: {block['info']}"
            yield "\n" * text.count("\n", 0, block.start("body")) + textwrap.dedent(block["body"]), set(flags)


@pytest.fixture
def module(monkeypatch):
    """An empty module that can be found by name, as dataclasses and annotations of the page's code need it."""
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    return module


def run_page(name, text, module):
    for code, flags in python_blocks(text):
        program = compile(code, name, "exec", dont_inherit=True)
        if "no-run" not in flags:
            exec(program, vars(module))


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_code_on_the_page_runs(page, module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(str(page), page.read_text(), module)


def test_blocks_of_a_page_share_a_module(module):
    run_page("page", "```python\na = 1\n```\n\n1. text\n\n   ```python\n   b = a + 1\n   ```\n", module)
    assert module.b == 2


def test_a_block_that_is_not_to_run_is_compiled(module):
    run_page("page", "```python no-run\nraise SystemExit\n```\n```bash\nexit 1\n```\n", module)
    with pytest.raises(SyntaxError):
        run_page("page", "```python no-run\nnot python either\n```\n", module)


def test_an_error_names_the_line_of_the_page(module):
    with pytest.raises(ZeroDivisionError) as caught:
        run_page("page", "# Title\n\n```python\n1 / 0\n```\n", module)
    assert caught.traceback[-1].lineno + 1 == 4
