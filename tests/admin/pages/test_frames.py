"""Recorded stacks as frames."""

import concurrent.futures
import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from workflow_runs.admin.pages.frames import Frame, FrameGroup, Stack, fold
from workflow_runs.model.failures import describe

STACK = """\
  File "travel/checkout.py", line 41, in checkout_finalize
    invoice = run.step("issue_invoice", issue_invoice, booking, charge)
  File "travel/billing.py", line 88, in issue_invoice
    reply = client.post("/invoice", json=draft, timeout=10)
  File "httpx/_client.py", line 1014, in Client._send_single_request
    response = transport.handle_request(request)
  File "anyio/streams.py", line 250, in receive
  File "asyncio/base_events.py", line 9, in run_until_complete"""


def recorded(function):
    with pytest.raises(Exception) as caught:
        function()
    return describe(caught.value, app_root=str(Path(__file__).parents[3])).stack


def test_the_innermost_frame_comes_first_and_libraries_are_folded():
    library, own = fold(STACK, libraries={"httpx", "anyio"}).groups
    assert (library.is_library, library.names, len(library.frames)) == (True, ("Python", "anyio", "httpx"), 3)
    assert own == FrameGroup(
        is_library=False,
        frames=(
            Frame(
                "travel/billing.py",
                88,
                "issue_invoice",
                'reply = client.post("/invoice", json=draft, timeout=10)',
                is_hit=True,
            ),
            Frame(
                "travel/checkout.py",
                41,
                "checkout_finalize",
                'invoice = run.step("issue_invoice", issue_invoice, booking, charge)',
            ),
        ),
    )


def test_a_library_between_two_frames_of_the_application_stays_in_its_place():
    stack = '  File "app.py", line 1, in a\n  File "json/decoder.py", line 2, in b\n  File "app.py", line 3, in hook'
    assert [(group.is_library, len(group.frames)) for group in fold(stack).groups] == [
        (False, 1),
        (True, 1),
        (False, 1),
    ]
    assert [frame.is_hit for group in fold(stack).groups for frame in group.frames] == [True, False, False]


def test_the_outermost_frame_is_the_application_s_unless_somebody_knows_better():
    stack = '  File "travel/a.py", line 1, in a\n  File "other/b.py", line 2, in b'
    assert [group.is_library for group in fold(stack, libraries={"travel", "other"}).groups] == [True, False]
    assert [group.is_library for group in fold(stack, app={"other"}, libraries={"travel", "other"}).groups] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/srv/venv/lib/python3.12/site-packages/httpx/_client.py", "httpx"),
        ("C:\\venv\\Lib\\site-packages\\httpx.py", "httpx"),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", "yaml"),
        ("/usr/lib/python3.12/json/decoder.py", "Python"),
        ("<frozen importlib._bootstrap>", "Python"),
        ("workflow_runs/execution/drive.py", "workflow_runs"),
    ],
)
def test_a_library_is_told_by_its_path(file, name):
    library, _ = fold(f'  File "app.py", line 1, in a\n  File "{file}", line 2, in b').groups
    assert library.names == (name,)


def test_library_code_alone_is_what_there_is_to_see():
    (group,) = fold('  File "json/a.py", line 1, in a\n  File "json/b.py", line 1, in b', app={"travel"}).groups
    assert (group.is_library, [frame.is_hit for frame in group.frames]) == (False, [False, False])


def test_what_was_left_out_is_said_where_it_was():
    stack = '[4000 characters cut]\n/b.py", line 2, in b\n  File "app.py", line 1, in a\n  ... 23 frames ...\n  File "app.py", line 9, in z'
    assert [group.note for group in fold(stack).groups] == ["", "23 frames left out", "", "4,000 characters cut"]
    assert fold(stack).extras == ()


def test_notes_and_members_of_a_group_stand_below():
    stack = '  File "app.py", line 1, in a\n    raise\n  note: first\n    second line\n  [1 of 2] ValueError: x'
    shown = fold(stack)
    assert shown.extras == ("  note: first", "    second line", "  [1 of 2] ValueError: x")
    assert shown.groups[0].frames == (Frame("app.py", 1, "a", "raise", is_hit=True),)


def test_what_the_recorder_writes_is_read():
    def fails():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(json.loads, "{").result()

    shown = fold(recorded(fails))
    assert not shown.is_raw
    assert shown.extras == ()
    assert [group.is_library for group in shown.groups] == [True, False]
    assert shown.groups[0].names == ("Python",)
    assert [frame.code for frame in shown.groups[1].frames if frame.is_hit] == ['pool.submit(json.loads, "{").result()']


def test_a_stack_with_a_part_left_out_is_read():
    def deep(levels):
        return deep(levels - 1) if levels else {}["missing"]

    shown = fold(recorded(lambda: deep(100)))
    assert sum(len(group.frames) for group in shown.groups) == 40
    assert "frames left out" in "".join(group.note for group in shown.groups)


def test_a_printed_traceback_is_read():
    text = 'Traceback (most recent call last):\n  File "app.py", line 1, in a\n    f(1)\n    ^^^^\nValueError: x'
    assert fold(text) == Stack(
        (FrameGroup(False, (Frame("app.py", 1, "a", "f(1)", is_hit=True),)),), ("ValueError: x",)
    )


def test_another_format_is_shown_as_its_lines():
    assert fold("Error: x\n    at f (a.js:1:2)") == Stack((), ("Error: x", "    at f (a.js:1:2)"), is_raw=True)
    assert fold(None) == fold("") == Stack((), ())


@given(
    st.lists(
        st.sampled_from(
            [*STACK.split("\n"), "", "  ... 3 frames ...", "[5 characters cut]", "  note: x", "    ^^^^", "x"]
        )
    )
)
def test_every_frame_is_shown_once(lines):
    shown = fold("\n".join(lines))
    assert sum(len(group.frames) for group in shown.groups) == sum(line.startswith("  File") for line in lines)
    assert sum(frame.is_hit for group in shown.groups for frame in group.frames) <= 1


@given(st.text(st.characters(codec=None)) | st.from_regex(r'\s{2,8}File "(.*)", line (\d+), in (.*)'))
def test_no_text_makes_it_raise(text):
    fold(text)
    fold(f'  File "{text}", line 1, in {text}\n    {text}')


def test_a_long_hostile_line_is_read_once():
    fold('  File "' + '", line 1' * 20_000)
    fold('  File "' * 20_000)
