"""A few power cuts, as a check of the long version (``python -m tests.faults.power``), and of what a disk is taken to do."""

from __future__ import annotations

import random

import pytest

from tests.faults.power import FAULTS, recording, sqlite_images
from tests.faults.power.recording import SECTOR, Disk, Op

needs_compiler = pytest.mark.skipif(recording.compiler() is None, reason="records writes by a library in C")


@needs_compiler
def test_a_power_cut_takes_nothing_that_was_promised():
    counts = sqlite_images.cut(4, runs=30)
    assert counts["images"] == 16
    assert counts["promises"] > 100
    assert {what: counts[what] for what in FAULTS} == dict.fromkeys(FAULTS, 0)


@needs_compiler
def test_without_syncs_a_power_cut_is_seen_to_take_something():
    assert sqlite_images.cut(2, runs=30, synchronous="NORMAL")["lost"] > 0


@pytest.fixture
def disk(tmp_path):
    """A disk with one file, and a function that says what is left of a file after a cut."""
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "old").write_bytes(b"old")

    class Cutting(Disk):
        def left(self, image, name="old"):
            into = tmp_path / f"after-{len(list(tmp_path.iterdir()))}"
            into.mkdir()
            self.cut(into, image, random.Random(1))
            file = into / name
            return file.read_bytes() if file.exists() else None

        def do(self, kind, name="old", offset=0, data=b""):
            self.play(Op(kind, str(tmp_path / "before" / name) if name else str(tmp_path / "before"), offset, data))

    return Cutting(tmp_path / "before")


def test_what_was_not_synced_may_be_gone_or_there(disk):
    disk.do("w", data=b"new")
    assert (disk.left("none"), disk.left("all")) == (b"old", b"new")
    disk.do("s")
    assert {disk.left(image) for image in recording.IMAGES} == {b"new"}
    disk.do("t", offset=1)
    assert (disk.left("none"), disk.left("all")) == (b"new", b"n")


def test_the_last_write_may_be_torn_between_sectors(disk):
    disk.do("w", data=b"a" * SECTOR)
    disk.do("w", offset=SECTOR, data=b"b" * SECTOR * 9)
    left = disk.left("torn")
    assert left.startswith(b"a" * SECTOR)
    assert len(left) % SECTOR == 0
    assert len(left) < 10 * SECTOR


def test_a_new_name_and_a_removed_one_are_certain_once_the_folder_is_synced(disk):
    disk.do("w", "new", data=b"new")
    disk.do("s", "new")
    disk.do("u")
    assert (disk.left("none", "new"), disk.left("all", "new")) == (None, b"new")
    assert (disk.left("none"), disk.left("all")) == (b"old", None)
    disk.do("s", "")
    assert (disk.left("none", "new"), disk.left("none")) == (b"new", None)
