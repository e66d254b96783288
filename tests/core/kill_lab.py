"""Kills a worker with -9 wherever that makes a difference, and looks at what it leaves.

    python -m tests.core.kill_lab SCENARIO DIRECTORY      prints one JSON line per kill

What survives a kill is what is on disk. So the scenario runs once with a look at the disk before every
line of Bollard's and the driver's code; each line before which something has changed is a point to
kill at. Then a round for each: a fresh array, a forked worker that kills itself there, a look at array
and journal, a sweep, another look.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from bollard.core import access, journal
from bollard.core.access import Mover
from bollard.core.journal import Journal
from bollard.core.pool import Pool
from bollard.core.spi import Host, VolumeSpec
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId

from . import ram_driver
from .ram_driver import RamManaged, RamOptions

SOURCE, SNAPSHOT, FILLED = VolumeId("v-1"), SnapshotId("s-1"), VolumeId("v-2")
TRACED = {access.__file__, journal.__file__, ram_driver.__file__}


class Lab:
    """One array and one journal in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.array = directory / "array"
        self.journal = directory / "journal"

    def pool(self) -> Pool:
        """The pool, opened anew."""
        return Pool("ssd-1", RamManaged(RamOptions(directory=self.array)), sleep=lambda _: None)

    def mover(self) -> Mover:
        """The mover of this machine."""
        return Mover(host=Host(id=HostId("mover"), iqn="iqn.x"), journal=Journal(self.journal))

    def prepare(self) -> None:
        """Make a volume with a snapshot."""
        pool = self.pool()
        pool.volumes.create(VolumeSpec(id=SOURCE, size=4096))
        pool.snapshots.create(SOURCE, SNAPSHOT)

    def unnamed(self) -> list[str]:
        """Temporary things on the array that no journal entry names: what nobody would ever remove."""
        entries = [json.loads(p.read_bytes())["fields"]["volume"] for p in self.journal.glob("*.intent")]
        return [thing for thing in self.temporary() if not any(e in thing for e in entries)]

    def temporary(self) -> list[str]:
        """Everything on the array that a finished scenario leaves not."""
        lasting = {f"v-{SOURCE}", f"s-{SNAPSHOT}"}
        return sorted(p.name for p in self.array.iterdir() if p.stem not in lasting)

    def on_disk(self) -> list[tuple[str, int, int]]:
        """Names, sizes and times of all files, save for the locks, which die with their holder."""
        files = [p for d in (self.array, self.journal) for p in d.glob("*") if p.suffix != ".lock"]
        return sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files)

    def intents(self) -> list[str]:
        """The files of the journal, born and unborn."""
        return sorted(p.name for p in self.journal.glob("*") if p.suffix != ".lock")


def read_snapshot(lab: Lab) -> None:
    """What an archive does."""
    with lab.mover().reading_snapshot(lab.pool(), SNAPSHOT) as source:
        source.read_into(0, memoryview(bytearray(1)))


def fill_volume(lab: Lab) -> None:
    """What a restore does, up to the moment where it fails."""
    pool, mover = lab.pool(), lab.mover()
    try:
        with mover.filling_volume(pool, FILLED):
            pool.volumes.create(VolumeSpec(id=FILLED, size=4096))
            with mover.writing_volume(pool, FILLED) as sink:
                sink.write(0, b"x" * 512)
            raise ZeroDivisionError
    except ZeroDivisionError:
        return


def sweep(lab: Lab) -> None:
    """A sweep after a crash, which may itself be killed."""
    lab.mover().sweep_pool(lab.pool())


def leave_a_mess(lab: Lab) -> None:
    """Die in the middle of an archive and of a restore."""
    for crash in (_die_reading, _die_filling):
        in_child(partial(crash, lab))


def _die_reading(lab: Lab) -> None:
    with lab.mover().reading_snapshot(lab.pool(), SNAPSHOT):
        os.kill(os.getpid(), signal.SIGKILL)


def _die_filling(lab: Lab) -> None:
    pool, mover = lab.pool(), lab.mover()
    with mover.filling_volume(pool, FILLED):
        pool.volumes.create(VolumeSpec(id=FILLED, size=4096))
        with mover.writing_volume(pool, FILLED):
            os.kill(os.getpid(), signal.SIGKILL)


SCENARIOS: dict[str, tuple[Callable[[Lab], None], Callable[[Lab], None]]] = {
    "read_snapshot": (lambda _: None, read_snapshot),
    "fill_volume": (lambda _: None, fill_volume),
    "sweep": (leave_a_mess, sweep),
}


def in_child(act: Callable[[], object]) -> bool:
    """Run `act` in a fork; tell whether it was killed. Any other failure stops the lab."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - nothing may leave a fork of this process
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the worker failed with {status}")
    return status == -signal.SIGKILL


def tracing(act: Callable[[Lab], None], lab: Lab, before_line: Callable[[int], None]) -> Callable[[], None]:
    """Return `act` on a lab, with `before_line(n)` called before the n-th line of the traced files."""

    def run() -> None:
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                count += 1
                before_line(count)
            return trace

        sys.settrace(trace)
        act(lab)
        sys.settrace(None)

    return run


def points(act: Callable[[Lab], None], lab: Lab) -> list[int]:
    """Run the scenario to its end; return the lines before which the disk has changed, and the first."""
    found = [1]
    last = lab.on_disk()

    def look(line: int) -> None:
        nonlocal last
        now = lab.on_disk()
        if now != last:
            found.append(line)
            last = now

    tracing(act, lab, look)()
    return found


def kill_at(point: int) -> Callable[[int], None]:
    """Return what kills this process before one line."""

    def look(line: int) -> None:
        if line == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return look


def look_around(lab: Lab) -> dict[str, object]:
    """What is there, what a sweep would do, what it does, and what is there then."""
    unnamed, left = lab.unnamed(), lab.temporary()
    planned = lab.mover().sweep_pool(lab.pool(), dry_run=True)
    swept = lab.mover().sweep_pool(lab.pool())
    return {
        "unnamed": unnamed,
        "left": left,
        "planned": planned,
        "swept": swept,
        "array": lab.temporary(),
        "journal": lab.intents(),
    }


def tell(found: dict[str, object]) -> None:
    """Write one line of the result at once: forks must not find it in their buffer."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main(scenario: str, directory: Path) -> None:
    """Run the scenario undisturbed, then once for each point with a kill there."""
    prepare, act = SCENARIOS[scenario]
    template = directory / "template"
    template.mkdir()
    Lab(template).prepare()
    prepare(Lab(template))

    def fresh(name: object) -> Lab:
        return Lab(shutil.copytree(template, directory / str(name)))

    whole = fresh("whole")
    kills = points(act, whole)
    tell({"killed": False} | look_around(whole))
    for point in kills:
        lab = fresh(point)
        killed = in_child(tracing(act, lab, kill_at(point)))
        tell({"killed": killed} | look_around(lab))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
