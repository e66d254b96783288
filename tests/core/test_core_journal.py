"""The journal: written before the act, locked while its owner lives, found when he is dead."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bollard.core.journal import Journal
from bollard.core.spi import Outcome, StorageError

FIELDS = {"pool": "p", "volume": "v-1", "host": "h-1"}
OTHER = FIELDS | {"volume": "v-2"}

# Begins entries as told, says so, and lives until its standard input closes.
HOLDER = """
import sys
from pathlib import Path
from bollard.core.journal import Journal
entries = [Journal(Path(sys.argv[1])).begin("grant", pool="p", volume=v, host="h-1") for v in sys.argv[2:]]
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A function that starts a process which holds entries; it is killed at the end at the latest."""
    started = []

    def start(*volumes: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), *volumes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill -9 and wait."""
    process.kill()
    process.communicate(timeout=20)


def volumes_of(journal: Journal) -> list[str]:
    """The volumes of the abandoned entries; each is let go again."""
    found = []
    for entry in journal.abandoned():
        found.append(entry.fields["volume"])
        entry.release()
    return found


def test_entry_is_on_disk_before_begin_returns(tmp_path):
    """One readable file per entry, for nobody else to read, and nothing half-named."""
    entry = Journal(tmp_path / "deep" / "journal").begin("grant", **FIELDS)

    assert json.loads(entry.path.read_bytes()) == {"kind": "grant", "fields": FIELDS}
    assert (tmp_path / "deep" / "journal").stat().st_mode & 0o777 == 0o700
    assert [p.suffix for p in entry.path.parent.iterdir() if p.suffix != ".lock"] == [".intent"]
    entry.done()


def test_entry_is_fsynced_before_it_has_its_name(tmp_path, monkeypatch):
    """File, rename, directory: in this order, or a power cut could leave an object without an entry."""
    steps = []
    fsync, rename = os.fsync, Path.rename

    def noting_fsync(fd: int) -> None:
        steps.append("sync" + Path(f"/proc/self/fd/{fd}").readlink().suffix)
        fsync(fd)

    def noting_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(type(tmp_path), "rename", noting_rename)
    Journal(tmp_path).begin("grant", **FIELDS).done()

    assert steps == ["sync.new", "rename", "sync"]


def test_done_removes_the_entry_and_can_be_repeated(tmp_path):
    """After `done` nothing is left to find."""
    journal = Journal(tmp_path)
    entry = journal.begin("grant", **FIELDS)
    entry.done()
    entry.done()

    assert volumes_of(journal) == []
    assert list(tmp_path.glob("*.intent")) == []


def test_no_directory_means_nothing_abandoned(tmp_path):
    """Looking creates nothing."""
    assert volumes_of(Journal(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()


def test_living_entries_are_untouched_and_dead_ones_found(tmp_path, holder):
    """Exactly the entries of killed processes are abandoned, oldest first; the living keep theirs."""
    journal = Journal(tmp_path)
    dead, living = holder("v-1", "v-2"), holder("v-3")
    own = journal.begin("grant", **OTHER)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.intent")}
    assert volumes_of(journal) == []

    kill(dead)

    assert sorted(volumes_of(journal)) == ["v-1", "v-2"]
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.intent")} == before
    own.done()
    kill(living)
    assert sorted(volumes_of(journal)) == ["v-1", "v-2", "v-3"]


def test_abandoned_comes_oldest_first(tmp_path):
    """Objects are undone in the order in which they were begun."""
    journal = Journal(tmp_path)
    for age, volume in ((1, "young"), (3, "old"), (2, "middle")):
        entry = journal.begin("grant", **FIELDS | {"volume": volume})
        os.utime(entry.path, (1000 - age, 1000 - age))
        entry.release()

    assert volumes_of(journal) == ["old", "middle", "young"]


def test_released_entry_is_abandoned_at_once(tmp_path):
    """Who cannot finish lets go, and any sweep may take over, without waiting for his end."""
    journal = Journal(tmp_path)
    entry = journal.begin("grant", **FIELDS)
    assert volumes_of(journal) == []
    entry.release()

    assert volumes_of(journal) == ["v-1"]


def test_two_sweeps_share_the_work(tmp_path):
    """An entry that one sweep has in hand is not given to another one."""
    journal = Journal(tmp_path)
    journal.begin("grant", **FIELDS).release()

    [claimed] = journal.abandoned()
    assert volumes_of(Journal(tmp_path)) == []
    claimed.done()
    assert volumes_of(Journal(tmp_path)) == []


def test_entry_that_finishes_while_it_is_claimed_is_gone(tmp_path, monkeypatch):
    """The owner finishes between a sweep's open and its lock: there is nothing to sweep."""
    journal = Journal(tmp_path)
    entry = journal.begin("grant", **FIELDS)
    flock = fcntl.flock

    def finishing(file, how):
        entry.done()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", finishing)
    assert volumes_of(journal) == []


@pytest.mark.parametrize(
    "torn", [b"", b"{", b"[]", b"null", b'{"kind": "grant"}', b'{"kind": 1, "fields": 5}', b"\xff"]
)
def test_torn_entry_does_not_stop_the_others(tmp_path, caplog, torn):
    """A damaged file is told and left to the operator; the readable entries are found all the same."""
    journal = Journal(tmp_path)
    damaged = tmp_path / f"{0:032x}.intent"
    damaged.write_bytes(torn)
    os.utime(damaged, (1, 1))
    journal.begin("grant", **FIELDS).release()

    with caplog.at_level(logging.WARNING):
        assert volumes_of(journal) == ["v-1"]
    assert "cannot be read" in caplog.text
    assert damaged.read_bytes() == torn
    mine = journal.begin("grant", **OTHER)
    assert not journal.others_hold(mine, {"grant"})
    mine.done()


def test_files_of_others_are_no_entries(tmp_path):
    """Whatever else lies in the directory is neither read nor removed."""
    (tmp_path / "README.intent").write_text("x")
    (tmp_path / "notes.txt").write_text("x")

    assert volumes_of(Journal(tmp_path)) == []
    assert len(list(tmp_path.iterdir())) == 2


def test_unborn_entries_are_dropped(tmp_path):
    """What a crash left before the entry had its name is removed: its act never began."""
    (tmp_path / f"{1:032x}.new").write_bytes(b"{half")

    assert volumes_of(Journal(tmp_path)) == []
    assert list(tmp_path.glob("*.new")) == []


def test_entry_being_born_is_not_dropped(tmp_path, monkeypatch):
    """Sweeps that run at every step of a birth neither remove it nor fail: it is found by its owner."""
    journal, swept = Journal(tmp_path), []
    fsync, flock, rename = os.fsync, fcntl.flock, type(tmp_path).rename

    def sweep():
        monkeypatch.undo()
        swept.extend(volumes_of(Journal(tmp_path)))

    for name in ("flock", "fsync", "rename"):
        with monkeypatch.context() as patch:
            if name == "flock":
                patch.setattr(fcntl, "flock", lambda *a: (patch.undo(), sweep(), flock(*a)))
            elif name == "fsync":
                patch.setattr(os, "fsync", lambda fd: (patch.undo(), sweep(), fsync(fd)))
            else:
                patch.setattr(type(tmp_path), "rename", lambda *a: (patch.undo(), sweep(), rename(*a)))
            entry = journal.begin("grant", **FIELDS)
        assert entry.path.exists()
        assert swept == []
        entry.release()
        assert volumes_of(journal) == ["v-1"]
        [again] = journal.abandoned()
        again.done()


def test_birth_survives_a_sweep_between_open_and_lock(tmp_path, monkeypatch):
    """A sweep that takes the still unlocked file for an unborn one costs a second try, not an error."""
    flock = fcntl.flock
    dropped: list[str] = []

    def drop_first(file, how):
        if str(file.name).endswith(".new") and not dropped:
            dropped.append(file.name)
            os.unlink(file.name)  # noqa: PTH108 - what the sweep of another process did
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", drop_first)
    entry = Journal(tmp_path).begin("grant", **FIELDS)

    assert dropped
    assert json.loads(entry.path.read_bytes())["fields"] == FIELDS
    entry.done()


def test_new_file_that_is_named_while_a_sweep_looks_is_left_alone(tmp_path, monkeypatch):
    """The sweep listed it as unborn; meanwhile it got its name. No error, and the entry stays."""
    path = tmp_path / f"{1:032x}.new"
    monkeypatch.setattr(type(tmp_path), "glob", lambda *_: iter([path]))

    assert volumes_of(Journal(tmp_path)) == []


def test_journal_that_cannot_be_written_is_a_storage_error(tmp_path):
    """Without a journal nothing may be begun, and the caller gets an error of the taxonomy."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot write the journal") as caught:
        Journal(tmp_path / "file").begin("grant", **FIELDS)
    assert caught.value.outcome is Outcome.NOT_APPLIED


# -- who else uses the object -------------------------------------------------------------------------


def test_others_hold_counts_living_holders_of_the_same_object(tmp_path, holder):
    """Only a living process, only with the same object, only with a kind that matters, never itself."""
    journal = Journal(tmp_path)
    mine = journal.begin("grant", **FIELDS)
    assert not journal.others_hold(mine, {"grant"})

    other_object = holder("v-2")
    assert not journal.others_hold(mine, {"grant"})
    same = holder("v-1")
    assert journal.others_hold(mine, {"grant"})
    assert not journal.others_hold(mine, {"fill"})
    kill(same)
    assert not journal.others_hold(mine, {"grant"})

    second = journal.begin("grant", **FIELDS)  # another thread of this process counts, too
    assert journal.others_hold(mine, {"grant"})
    second.done()
    assert not journal.others_hold(mine, {"grant"})
    kill(other_object)
    mine.done()


def test_deciding_keeps_others_from_beginning(tmp_path):
    """Between the question and the deed nobody can begin with the same object; others can."""
    journal = Journal(tmp_path)
    begun = threading.Event()
    journal.begin("grant", **FIELDS).done()

    def begin():
        journal.begin("grant", **FIELDS).done()
        begun.set()

    with ThreadPoolExecutor(1) as pool:
        with journal.deciding(FIELDS):
            done = pool.submit(begin)
            assert not begun.wait(0.2)
        done.result(20)
    assert begun.is_set()


@settings(max_examples=20)
@given(names=st.lists(st.text("abc", min_size=1, max_size=3), max_size=8))
def test_locks_do_not_litter(tmp_path_factory, names):
    """However many objects were used, few lock files stay, and no entry."""
    directory = tmp_path_factory.mktemp("journal")
    for name in names:
        Journal(directory).begin("grant", **FIELDS | {"volume": name}).done()

    assert {p.suffix for p in directory.iterdir()} <= {".lock"}
    assert len(list(directory.iterdir())) <= 64


# -- one intent that becomes another ------------------------------------------------------------------


def test_a_replaced_entry_is_what_a_sweep_finds(tmp_path):
    """There is one entry before and after, under one name, and `done` removes it."""
    journal = Journal(tmp_path)
    entry = journal.begin("fill", **FIELDS)
    path = entry.path
    journal.replace(entry, "retire", **OTHER)
    assert [p.name for p in tmp_path.glob("*.intent")] == [path.name]
    entry.release()

    [found] = Journal(tmp_path).abandoned()
    assert (found.path, found.kind, found.fields) == (path, "retire", OTHER)
    found.done()
    assert list(tmp_path.glob("*.intent")) == []


def test_a_replaced_entry_is_still_locked(tmp_path):
    """No sweep gets it while its owner lives, neither through the new file nor through the old one."""
    journal = Journal(tmp_path)
    entry = journal.begin("fill", **FIELDS)
    with entry.path.open("rb") as opened_before:
        journal.replace(entry, "retire", **FIELDS)
        assert list(Journal(tmp_path).abandoned()) == []
        with pytest.raises(BlockingIOError):
            fcntl.flock(opened_before, fcntl.LOCK_EX | fcntl.LOCK_NB)
    entry.done()


def test_a_replace_that_fails_says_that_it_is_unknown(tmp_path, monkeypatch):
    """Whether the disk has the one or the other intent, only a sweep can tell."""
    journal = Journal(tmp_path)
    entry = journal.begin("fill", **FIELDS)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as caught:
        journal.replace(entry, "retire", **FIELDS)
    assert caught.value.outcome is Outcome.UNKNOWN
    entry.done()
