"""Kills a worker with -9 before and after every step that leaves a trace, and looks at what is left.

    python -m tests.snapshots.snapshot_kill_lab take|restore DIRECTORY      prints one JSON line per kill

Each round is a fork of this process: a volume of its own on one simulated array, a worker that kills
itself at its n-th step, a sweep or not, and the same command once more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bollard.core.access import Mover
from bollard.core.journal import Entry, Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool, open_pool
from bollard.core.store import open_store
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.simulators.process import SimulatorProcess
from bollard.transfer_objects.enums import SnapshotLocation
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .snapshot_rig import Rig, call

MONDAY = SnapshotId("monday")
DATA = b"first" * 20000
STEPS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Journal, ("begin",)),
    (Entry, ("done",)),
    (NfsDriver, ("put",)),
    (
        ArrayDriver,
        (
            "create_volume",
            "create_snapshot",
            "create_volume_from_snapshot",
            "grant",
            "revoke",
            "delete_volume",
            "delete_snapshot",
        ),
    ),
)


class Lab:
    """One array, one store, one journal; a volume per round."""

    def __init__(self, directory: Path, array: SimulatorProcess) -> None:
        self.directory = directory
        self._array = array
        for name in ("store", "journal"):
            (directory / name).mkdir(exist_ok=True)

    def rig(self) -> Rig:
        """Connect anew: a connection does not outlive a fork."""
        options = {
            "url": self._array.url,
            "username": self._array.ready["username"],
            "password": Path(self._array.ready["password_file"]).read_text(),
            "pool": "gold",
            "allow_http": True,
        }
        pool: Pool = open_pool("gold", "array", options)
        store = open_store("nightly", "nfs", {"path": str(self.directory / "store")})
        mover = Mover(host=mover_host(self.directory), journal=Journal(self.directory / "journal"))
        return Rig(pool, store, mover, self.directory)


def take(rig: Rig, volume: str) -> None:
    """Snapshot with location Archive."""
    rig.service.take(VolumeId(volume), MONDAY, call(), location=SnapshotLocation.ARCHIVE)


def restore(rig: Rig, volume: str) -> None:
    """Restore what is in the archive to a new volume."""
    rig.service.restore(VolumeId("source"), MONDAY, VolumeId(volume), call())


def killing(act: Callable[[Rig, str], None], step: int) -> Callable[[Rig, str], None]:
    """Return `act`, killed at its `step`-th border: 1 is before the first step, 2 after it, and so on."""

    def run(rig: Rig, volume: str) -> None:
        left = step

        def border() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
            def both(*args: Any, **kwargs: Any) -> Any:
                border()
                result = method(*args, **kwargs)
                border()
                return result

            return both

        for cls, names in STEPS:
            for name in names:
                setattr(cls, name, guarded(getattr(cls, name)))
        act(rig, volume)

    return run


def in_child(act: Callable[[], object]) -> int:
    """Run `act` in a fork and return how it ended: 0, or -9 if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - the edge of a process
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the worker failed with {status}")
    return status


def look(rig: Rig, step: int, act: Callable[[Rig, str], None]) -> dict[str, object]:
    """Sweep in every second round, repeat the command, sweep once more, and tell what there is then."""
    volume, sweep = f"vol-{step}", step % 2 == 0
    swept = rig.mover.sweep_pool(rig.pool) if sweep else []
    temporary = [v for v in rig.volumes() if v.startswith("tmp-")]
    act(rig, volume)
    later = rig.mover.sweep_pool(rig.pool)
    found = {
        "swept": swept,
        "temporary": temporary if sweep else [],
        "later": later,
        "unknown": [v for v in rig.volumes() if v.startswith("tmp-")],
        "there": volume in rig.volumes(),
        "grants": [grant.host for grant in rig.pool.volumes.grants(VolumeId(volume))],
        "intents": rig.intents(),
        "snapshots": rig.on_pool(VolumeId(volume)),
        "archived": rig.in_archive(volume),
    }
    if act is take:
        found["right"] = rig.archived(VolumeId(volume), MONDAY).startswith(DATA)
    elif found["there"]:
        found["right"] = rig.read(VolumeId(volume)).startswith(DATA)
    return found


def prepare(rig: Rig, step: int, act: Callable[[Rig, str], None]) -> None:
    """Make what round number `step` starts from."""
    if act is take:
        rig.make(VolumeId(f"vol-{step}"), DATA)
    elif step == 1:
        rig.make(VolumeId("source"), DATA)
        take(rig, "source")


def look_and_go_on(lab: Lab, step: int, act: Callable[[Rig, str], None], status: int) -> None:
    """Print what a kill left, as a line for the test, and prepare the next round."""
    rig = lab.rig()
    sys.stdout.write(json.dumps({"status": status} | look(rig, step, act)) + "\n")
    sys.stdout.flush()
    prepare(rig, step + 1, act)
    rig.pool.close()


def _connect_and(lab: Lab, act: Callable[[Rig, str], None], volume: str) -> None:
    act(lab.rig(), volume)


def main(scenario: str, directory: Path) -> None:
    """Kill at border 1, 2, 3, … until the scenario ends before it is killed."""
    act = {"take": take, "restore": restore}[scenario]
    arguments = ("--state", str(directory / "array"), "--pool", "gold=8G", "--insecure-http")
    with SimulatorProcess.start("array", *arguments, "--job-seconds", "0") as array:
        lab = Lab(directory, array)
        in_child(lambda: prepare(lab.rig(), 1, act))
        step, status = 0, -signal.SIGKILL
        while status != 0:
            step += 1
            kill = killing(act, step)
            status = in_child(partial(_connect_and, lab, kill, f"vol-{step}"))
            in_child(partial(look_and_go_on, lab, step, act, status))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
