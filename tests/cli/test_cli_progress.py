"""Progress that programs read, and what an interrupted archive leaves."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bollard.cli.progress import Lines, lines
from bollard.core.archive import Archive
from bollard.core.spi import Call
from bollard.core.store import open_store


class Clock:
    """Seconds, as told."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_lines_tell_rate_and_time_left():
    """Twice a second at most; rate over the last seconds; nothing is left of a phase before."""
    stream, clock = io.StringIO(), Clock()
    writer = Lines(stream, "archiving", "bytes", clock)
    for done in range(0, 1000, 10):
        writer(done, 1000)
        clock.now += 0.25  # exact in binary
    writer(0, 50)
    clock.now += 1
    writer(25, 50)
    writer.end("done")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert len(told) == 50 + 2 + 1
    assert told[10] == {
        "progress": "archiving", "done": 200, "total": 1000, "unit": "bytes", "seconds": 5.0,
        "rate": 40.0, "eta": 20.0, "state": "running",
    }  # fmt: skip
    assert (told[-1]["rate"], told[-1]["eta"], told[-1]["state"]) == (25.0, 1.0, "done")


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (OSError, "failed")])
def test_last_line_says_how_it_ended(error: type[BaseException], state: str):
    """An interrupt and a failure are told apart, and go on."""
    stream = io.StringIO()
    with pytest.raises(error), lines(stream, "work", "steps"):
        raise error
    assert json.loads(stream.getvalue())["state"] == state


def test_a_reader_that_left_stops_nothing():
    """A closed pipe is no reason to give up an archive."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    with lines(stream, "work", "bytes") as progress:
        progress(1, 2)
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_lines_of_a_command(bollard, vol_1):
    """--progress json writes lines beside --json; the last one is done and complete."""
    done = bollard("--progress", "json", "archive", "create", "vol-1", "monday", "--json")
    told = [json.loads(line) for line in done.err.splitlines()]

    assert done.json["snapshot"] == "monday"
    assert {line["progress"] for line in told} == {"archiving vol-1/monday"}
    assert (told[-1]["state"], told[-1]["done"]) == ("done", told[-1]["total"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_archive_leaves_nothing_visible(bollard, home, images, write, number):
    """Exit code 130 at once, no snapshot in the list, and what was sent is garbage that collect frees.

    Slow by its limit: the first part is 64 KiB, the other three of 8 MiB need a hundred seconds more.
    """
    assert bollard("pool", "create", "vol-1", "256MiB").code == 0
    write("vol-1")
    noise = home / "noise"
    noise.write_bytes(os.urandom(8 * 2**20))
    for offset in ("64M", "128M", "192M"):
        image = home / "pool" / "volumes" / "vol-1.qcow2"
        images.qemu_io(image, "qcow2", f"write -s {noise} {offset} 8M")
    config = home / "bollard.toml"
    config.write_text(config.read_text() + '\n[stores.nightly.limits]\nbandwidth = "256KiB"\n')
    command = [sys.executable, "-m", "bollard", "--progress", "json", "archive", "create", "vol-1", "monday"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        _until_there_is_a_part(home / "store", child)
        child.send_signal(number)
        _, told = child.communicate(timeout=60)

    assert child.returncode == 130
    assert '"interrupted"' in told
    assert "Traceback" not in told
    assert bollard("archive", "list", "--json").json == []
    with closing(open_store("nightly", "nfs", {"path": str(home / "store")})) as store:
        later = Archive(store, clock=lambda: time.time() + 3600)
        assert later.stats(Call(), volume="vol-1").unneeded.count > 1
        later.collect(Call(), volume="vol-1")
        assert later.stats(Call(), volume="vol-1").stored == 0
    assert [path for path in (home / "store" / "v1").rglob("*") if path.is_file()] == []


def _until_there_is_a_part(store: Path, child: subprocess.Popen[str]) -> None:
    while not list(store.glob("v1/*/*/*/*.zip")):
        assert child.poll() is None
        time.sleep(0.02)
