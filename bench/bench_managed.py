"""What a call of the managed drivers costs: latency, calls a second, requests, at growing fleets.

    python bench/bench_managed.py [volumes ...]      default: 100 1000 9900 (the array takes 10000)

The array driver against its simulator over HTTPS on loopback. The array counts requests, latencies are
ours; the last column compares the requests with those at the smallest fleet and should be 1: no call may cost
more because there are other volumes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bollard.core.spi import Call, Host, VolumeSpec, parse_options
from bollard.drivers.primary.array import ArrayDriver
from bollard.simulators.array import ArraySimulator
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret

MIB = 1024 * 1024
ROUNDS = 30

Figures = Mapping[str, tuple[float, float]]  # call -> (milliseconds, requests)


def call() -> Call:
    """A minute."""
    return Call.within(60)


def fill(driver: ArrayDriver, first: int, last: int) -> None:
    """Bring the fleet to its size."""
    for number in range(first, last):
        driver.create_volume(VolumeSpec(id=VolumeId(f"fleet-{number}"), size=MIB), call())


def acts(driver: ArrayDriver) -> dict[str, Callable[[int], object]]:
    """Return what is measured, in an order in which each finds what it needs."""
    host = Host(
        id=HostId("h"), iqn="iqn.2026-11.org.example:h", chap_user="h", chap_secret=Secret("correct-horse")
    )

    def volume(number: int) -> VolumeId:
        return VolumeId(f"measured-{number}")

    def snapshot(number: int) -> SnapshotId:
        return SnapshotId(f"cut-{number}")

    return {
        "create_volume": lambda n: driver.create_volume(VolumeSpec(id=volume(n), size=MIB), call()),
        "create_volume again": lambda n: driver.create_volume(VolumeSpec(id=volume(n), size=MIB), call()),
        "get_volume": lambda n: driver.get_volume(volume(n), call()),
        "list_volumes, 100 of a page": lambda _: driver.list_volumes(call(), limit=100),
        "grant": lambda n: driver.grant(volume(n), host, call()),
        "revoke": lambda n: driver.revoke(volume(n), host.id, call()),
        "resize_volume": lambda n: driver.resize_volume(volume(n), 2 * MIB, call()),
        "create_snapshot": lambda n: driver.create_snapshot(volume(n), snapshot(n), call()),
        "clone_volume": lambda n: driver.clone_volume(
            volume(n), VolumeSpec(id=VolumeId(f"clone-{n}"), size=2 * MIB), call()
        ),
        "changed": lambda n: list(driver.changed(None, snapshot(n), call())),
        "delete clone": lambda n: driver.delete_volume(VolumeId(f"clone-{n}"), call()),
        "delete_snapshot": lambda n: driver.delete_snapshot(snapshot(n), call()),
        "delete_volume": lambda n: driver.delete_volume(volume(n), call()),
    }


def measure(driver: ArrayDriver, array: ArraySimulator) -> Figures:
    """Do each call thirty times; return the median of milliseconds, and the requests of one."""
    figures = {}
    for name, act in acts(driver).items():
        array.reset_stats()
        took = [_timed(act, number) for number in range(ROUNDS)]
        figures[name] = (1000 * statistics.median(took), sum(array.stats().values()) / ROUNDS)
    return figures


def _timed(act: Callable[[int], object], number: int) -> float:
    began = time.perf_counter()
    act(number)
    return time.perf_counter() - began


def main() -> None:
    """Fill, measure, print; again with more."""
    sizes = sorted(int(argument) for argument in sys.argv[1:]) or [100, 1000, 9900]
    with (
        tempfile.TemporaryDirectory() as state,
        ArraySimulator(Path(state) / "array", pools={"gold": 1 << 40}, job_seconds=0.0) as array,
    ):
        driver = opened(array)
        smallest: Figures = {}
        for before, size in zip([0, *sizes], sizes, strict=False):
            fill(driver, before, size)
            figures = measure(driver, array)
            smallest = smallest or figures
            show(size, figures, smallest)
        driver.close()


def opened(array: ArraySimulator) -> ArrayDriver:
    """Return a driver as an administrator configures it."""
    given = {
        "url": array.url,
        "ca": array.ca,
        "username": array.admin_user,
        "password": array.admin_password,
        "pool": "gold",
    }
    driver = ArrayDriver(parse_options(ArrayDriver.Options, given))
    driver.open(call())
    return driver


def show(size: int, figures: Figures, smallest: Figures) -> None:
    """Print a table."""
    sys.stdout.write(f"\n{size} volumes{'':22} median ms   calls/s  requests  ratio of requests\n")
    for name, (took, requests) in figures.items():
        ratio = requests / smallest[name][1]
        sys.stdout.write(f"{name:32} {took:9.1f} {1000 / took:9.0f} {requests:9.1f} {ratio:9.2f}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
