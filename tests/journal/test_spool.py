"""The files of a spool: in order, whole, private, and left to the next process by a dead one."""

import os
import resource
import signal
import stat
import subprocess
import sys

import pytest

from workflow_runs.journal.spool import Spool, default_folder

DATABASE = "sqlite:///runs.db"
LINE = b"0123456789\n"


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "spool")


@pytest.fixture
def spool(folder):
    spool = Spool.make(folder, DATABASE, 1_000)
    yield spool
    spool.close()


def read_all(spool):
    lines = []
    while not spool.is_read:
        lines += spool.read(3, 1_000)
        spool.forget_read()
    return lines


def abandon(folder, *batches, database=DATABASE):
    """Leave behind what a dead process would."""
    spool = Spool.make(folder, database, 80)
    for batch in batches:
        spool.append(batch)
    spool.abandon()


def test_what_is_appended_is_read_in_order_and_then_gone(folder, spool):
    lines = [b"%d\n" % number for number in range(50)]
    for line in lines[:40]:
        spool.append(line)
    assert spool.read(30, 1_000) == lines[:30]
    spool.forget_read()
    spool.append(b"".join(lines[40:]))
    assert read_all(spool) == lines[30:]
    assert (spool.size, spool.is_read) == (0, True)
    assert [name for name in os.listdir(folder) if name.endswith(".spool")] == []
    spool.append(LINE)
    assert read_all(spool) == [LINE]


def test_what_was_delivered_makes_room_while_the_rest_still_waits(spool):
    while spool.has_room(len(LINE)):
        spool.append(LINE)
    assert 1_000 - len(LINE) < spool.size <= 1_000
    assert len(spool.read(20, 1_000)) < 20  # no read goes beyond a segment
    spool.forget_read()
    assert spool.has_room(100)


def test_nobody_but_the_owner_can_read_or_write_it(folder, spool):
    spool.append(LINE)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert {stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) for name in os.listdir(folder)} == {0o600}


def test_a_folder_into_which_others_can_write_is_not_used(folder):
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    with pytest.raises(PermissionError):
        Spool.make(folder, DATABASE, 1_000)
    with pytest.raises(PermissionError):
        list(Spool.abandoned(folder, DATABASE))


def test_a_folder_is_not_made_in_a_place_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Spool.make(str(tmp_path / "to" / "be-mounted"), DATABASE, 1_000)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing_behind(spool):
    spool.append(LINE)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, hard))
    try:
        with pytest.raises(OSError):
            spool.append(b"torn-in-the-middle\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, before)
    spool.append(b"after\n")
    assert read_all(spool) == [LINE, b"after\n"]


# --- owners ----------------------------------------------------------------------------------------------------------


def test_the_spool_of_a_living_owner_is_left_alone(folder, spool):
    spool.append(LINE)
    assert list(Spool.abandoned(folder, DATABASE)) == []


def test_what_a_dead_owner_left_is_read_in_order_and_then_gone(folder):
    abandon(folder, *[b"%d\n" % number for number in range(30)])
    (found,) = Spool.abandoned(folder, DATABASE)
    assert list(Spool.abandoned(folder, DATABASE)) == []  # one process delivers it, not two
    assert read_all(found) == [b"%d\n" % number for number in range(30)]
    found.close()
    assert os.listdir(folder) == []


def test_what_was_not_delivered_is_found_again(folder):
    abandon(folder, LINE * 2)
    (found,) = Spool.abandoned(folder, DATABASE)
    found.read(1, 1_000)
    found.close()
    (found,) = Spool.abandoned(folder, DATABASE)
    assert read_all(found) == [LINE, LINE]
    found.close()


def test_the_last_line_may_be_torn(folder):
    abandon(folder, LINE + b"torn")
    (found,) = Spool.abandoned(folder, DATABASE)
    assert read_all(found) == [LINE, b"torn"]
    found.close()


def test_what_is_for_another_database_is_left_alone(folder):
    abandon(folder, LINE, database="sqlite:///other.db")
    assert list(Spool.abandoned(folder, DATABASE)) == []
    assert len(os.listdir(folder)) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2, "database": "sqlite:///runs.db"}'], ids=repr)
def test_a_lock_that_says_something_else_is_left_alone(folder, content):
    abandon(folder, LINE)
    (name,) = [name for name in os.listdir(folder) if name.endswith(".lock")]
    with open(os.path.join(folder, name), "wb") as lock:
        lock.write(content)
    assert list(Spool.abandoned(folder, DATABASE)) == []


def test_a_link_is_not_followed(folder, tmp_path):
    abandon(folder, LINE)
    (name,) = [name for name in os.listdir(folder) if name.endswith(".lock")]
    os.rename(os.path.join(folder, name), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", os.path.join(folder, name))
    assert list(Spool.abandoned(folder, DATABASE)) == []


def test_a_killed_owner_lets_go_and_a_child_that_lives_on_does_not_hold_it(folder):
    program = """
import os, sys, time
from workflow_runs.journal.spool import Spool
spool = Spool.make(sys.argv[1], sys.argv[2], 1_000)
spool.append(b"left\\n")
if os.fork() == 0:
    spool.abandon()
    print("child", flush=True)
    sys.stdin.read()  # lives on after its parent
    os._exit(0)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder, DATABASE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "child\n"
    assert list(Spool.abandoned(folder, DATABASE)) == []
    process.kill()
    process.wait()
    (found,) = Spool.abandoned(folder, DATABASE)
    assert read_all(found) == [b"left\n"]
    found.close()
    process.stdin.close()
    process.stdout.close()


def test_a_spool_lies_beside_a_sqlite_file_and_in_the_users_state_folder_for_postgresql(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder("sqlite:////var/lib/runs.db") == "/var/lib/runs.db-spool"
    first, second = (default_folder(f"postgresql+psycopg://app@db/{name}") for name in ("one", "two"))
    assert os.path.dirname(first) == os.path.dirname(second) == str(tmp_path / ".local" / "state" / "workflow-runs")
    assert first != second
    assert "app" not in os.path.basename(first)
    assert default_folder("memory:") is None
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    assert default_folder("postgresql://db/one") is None


def test_the_users_state_folder_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = default_folder("postgresql://db/one")
    Spool.make(folder, "postgresql://db/one", 1_000).close()
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_a_spool_that_is_closed_again_leaves_the_files_of_others_alone(folder):
    spool = Spool.make(folder, DATABASE, 1_000)
    spool.close()
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]  # one of them has the number that its lock had
    spool.abandon()  # as a forked child does
    for other in others:
        os.close(other)
