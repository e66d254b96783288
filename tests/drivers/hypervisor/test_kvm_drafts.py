"""Private files of the KVM driver appear wholly or not at all, and a kill -9 leaves no draft for ever."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bollard.drivers.hypervisor.kvm.drafts import draft_of, draft_path, drop_dead_draft
from bollard.drivers.hypervisor.kvm.marks import Mark
from bollard.drivers.hypervisor.kvm.register import strike_out, write_whole

_DIE_IN_FSYNC = """
import os, signal, sys
from pathlib import Path
from bollard.drivers.hypervisor.kvm.register import write_whole
os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), b"never whole")
"""
_MACHINE: Any = SimpleNamespace(vm="vm-1", link=SimpleNamespace(host="host-1"))


def killed_writing(path: Path) -> None:
    """A process dies by kill -9 before the rename."""
    assert subprocess.run([sys.executable, "-c", _DIE_IN_FSYNC, str(path)], check=False).returncode == -9
    assert draft_path(path).exists()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Where a mark "pivoting" of vm-1 lies."""
    return tmp_path / "host-1" / "begun" / "vm-1.pivoting"


def test_a_mark_that_was_never_whole_was_never_set(tmp_path: Path, begun: Path) -> None:
    """The next one who reads the mark finds none, and the draft is gone then."""
    killed_writing(begun)
    assert Mark(tmp_path, _MACHINE, "pivoting").read() is None
    assert list(begun.parent.iterdir()) == []


def test_a_repeat_takes_the_draft_over(begun: Path) -> None:
    """What is written after a death is whole, shorter or longer than the dead one's, and alone."""
    killed_writing(begun)
    write_whole(begun, b"whole")
    assert {one.name: one.read_bytes() for one in begun.parent.iterdir()} == {begun.name: b"whole"}


def test_strike_out_takes_a_dead_draft_along(begun: Path) -> None:
    """After it nothing is left, whether the file was there or not."""
    write_whole(begun, b"one")
    killed_writing(begun)
    strike_out(begun)
    assert list(begun.parent.iterdir()) == []
    strike_out(begun)


def test_a_living_writer_keeps_its_draft(tmp_path: Path) -> None:
    """A reader that finds no file does not take the draft from under the one who writes it."""
    path = tmp_path / "file"
    with draft_of(path) as file:
        drop_dead_draft(path)
        file.write(b"whole")
        file.flush()
        draft_path(path).replace(path)
    assert path.read_bytes() == b"whole"


def test_a_failure_leaves_neither_draft_nor_change(tmp_path: Path) -> None:
    """The old content stays whole."""
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(RuntimeError), draft_of(path):
        raise RuntimeError
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": b"old"}


def test_many_writers_and_droppers_at_once(tmp_path: Path) -> None:
    """With 8 at one path each write succeeds, and what is there is one of them, whole."""
    path = tmp_path / "file"
    texts = [bytes([number]) * (1 + number * 1000) for number in range(40)]

    def write_and_drop(text: bytes) -> None:
        write_whole(path, text)
        drop_dead_draft(path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_and_drop, texts))
    assert path.read_bytes() in texts
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
