"""What snapshots of a running KVM guest cost: a full beside an increment, and how long a quiesce takes.

    sudo python bench/bench_kvm.py [MiB of data] [MiB changed]

One guest of the lab (docs/kvm-lab.md: emulated, without KVM), its ext4 disk, and snapshots into the pool's
directory and into an archive in a directory. Each job runs three times; medians are printed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lib"))  # where the lab is
if os.geteuid() or find_spec("libvirt") is None:
    sys.exit(print("left out: it needs root and libvirt-python"))

from bollard.core.catalog.snapshots import Reason, Ref
from bollard.core.snapshots import kvm
from bollard.core.spi import parse_options
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.transfer_objects.ids import SnapshotId
from chain_site import VOLUME
from kvm_driving import call
from kvm_lab import Lab
from kvm_scenario import Scenario

MIB = 1024 * 1024
ROUNDS = 3


class Bench:
    """A guest with data on its disk."""

    def __init__(self, rig: Scenario, data: int, changed: int) -> None:
        self.rig, self.changed = rig, changed
        self._number = 0
        rig.settings.set("snapshot.delta.max", 100)
        rig.write("data", data * 1024)
        rig.guest.sync()

    def full(self) -> Ref:
        """Take a full."""
        kvm.end_chain(self.rig.site(), VOLUME, Reason.MIGRATED)
        return self._take()

    def increment(self) -> Ref:
        """Take an increment of what `change` has written."""
        return self._take()

    def change(self) -> None:
        """Let the guest write."""
        self.rig.write("changed", self.changed * 1024)
        self.rig.guest.sync()

    def _take(self) -> Ref:
        self._number += 1
        name = SnapshotId(f"bench-{self._number}")
        return kvm.take(self.rig.site(), self.rig.place(), name, call(300))

    def quiesced(self) -> float:
        """Return for how many milliseconds the guest stands still for a quiesced cut."""
        vm, device, driver = self.rig.disk.vm, self.rig.disk.device, self.rig.driver
        cut = driver.begin_backup(vm, device, call(), checkpoint="frozen", quiesce=True)
        driver.end_backup(vm, device, call(), keep=False)
        return 1000 * cut.frozen_seconds

    def convert(self) -> None:
        """`qemu-img convert` of the same image, as a full the old way."""
        target = self.rig.directory / "copy.qcow2"
        command = ["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "qcow2", self.rig.image, target]
        subprocess.run(command, check=True)
        target.unlink()


def timed(job: Callable[[], Ref | None]) -> tuple[float, int]:
    """Return the seconds that a job takes, and the bytes that it leaves on its store."""
    begun = time.monotonic()
    ref = job()
    return time.monotonic() - begun, ref.physical_size if ref else 0


def line(name: str, runs: list[tuple[float, int]]) -> None:
    """Print medians."""
    seconds, size = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"| {name} | {seconds:.2f} s | {size / MIB:.2f} MiB |")


@contextmanager
def made(lab: Lab, data: int, changed: int) -> Iterator[Bench]:
    """Make the guest, and an archive in a directory."""
    with tempfile.TemporaryDirectory() as store:
        driver = NfsDriver(parse_options(NfsDriver.Options, {"path": store}))
        driver.open(call())
        with closing(driver), closing(Scenario(lab, lab.host("a"), archive=driver)) as rig:
            yield Bench(rig, data, changed)


def main() -> None:
    """Run and print all."""
    data, changed = (int(one) for one in [*sys.argv[1:3], *("32", "1")[len(sys.argv) - 1 :]])
    with Lab() as lab, made(lab, data, changed) as bench:
        print(f"{data} MiB of data, {changed} MiB changed\n\n| job | time | bytes stored |\n|---|---|---|")
        for backup, where in ((False, "pool"), (True, "archive")):
            bench.rig.back_up(backup)
            bench.full()
            fulls, increments = [], []
            for _ in range(ROUNDS):
                fulls.append(timed(bench.full))
                bench.change()
                increments.append(timed(bench.increment))
            line(f"full, {where}", fulls)
            line(f"increment, {where}", increments)
        line("qemu-img convert", [timed(bench.convert) for _ in range(ROUNDS)])
        still = statistics.median(bench.quiesced() for _ in range(2 * ROUNDS))
        print(f"\nquiesced: the guest stands still for {still:.0f} ms")


if __name__ == "__main__":
    main()
