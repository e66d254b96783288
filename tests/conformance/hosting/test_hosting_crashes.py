"""External calls are counted, and the host dies at the one that it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from array_rig import spec
from bollard.core.spi import Outcome, Unavailable, VolumeSpec
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.simulators.array import ArraySimulator
from primary_rig import MIB, WEB, call

Hosted = Callable[..., Any]


@pytest.fixture
def qcow2(hosted: Hosted, tmp_path: Path) -> Callable[[], Any]:
    """Open drivers of one file pool, each in a host of its own."""
    (tmp_path / "pool").mkdir()

    def opened() -> Any:
        driver = hosted(Qcow2Driver, {"path": str(tmp_path / "pool")})
        driver.open(call())
        return driver

    first = opened()  # the first volume of a pool makes directories, too
    first.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    first.delete_volume(WEB, call())
    first.close()
    return opened


@pytest.fixture
def array(hosted: Hosted, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Open drivers of one array, each in a host of its own."""
    with ArraySimulator(tmp_path / "array") as simulator:
        known = {"url": simulator.url, "username": "admin", "password": simulator.admin_password}

        def opened() -> Any:
            driver = hosted(ArrayDriver, {**known, "pool": "pool-a", "ca": str(simulator.ca)})
            driver.open(call())
            return driver

        yield opened


def points_of_create(opened: Callable[[], Any]) -> list[str]:
    """Return what `create_volume` does outside of its process; the volume goes again."""
    driver = opened()
    driver.host.count()
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    points: list[str] = driver.host.counted()
    driver.delete_volume(WEB, call())
    driver.close()
    return points


def die_at(opened: Callable[[], Any], number: int) -> None:
    """Create a volume and die at that point."""
    driver = opened()
    driver.host.arm(number)
    with pytest.raises(Unavailable, match=r"dead \(signal 9\)") as caught:
        driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    assert caught.value.outcome is Outcome.UNKNOWN
    assert driver.host.ended() == "signal 9"


@pytest.mark.slow
def test_qcow2_dies_at_each_external_call_of_create(qcow2: Callable[[], Any]) -> None:
    """One host per call dies there, and not at the call behind the last; a retry always finds a way."""
    points = points_of_create(qcow2)
    assert "Popen qemu-img" in points
    assert any(p.startswith("rename ") and p.endswith("/volumes/web-1.qcow2") for p in points)
    for number in range(len(points)):
        die_at(qcow2, number)
        survivor = qcow2()
        assert survivor.create_volume(VolumeSpec(id=WEB, size=MIB), call()).size == MIB
        survivor.delete_volume(WEB, call())
        survivor.close()
    survivor = qcow2()
    survivor.host.arm(len(points))
    assert survivor.create_volume(VolumeSpec(id=WEB, size=MIB), call()).size == MIB


@pytest.mark.slow
def test_an_array_sees_the_request_or_not(array: Callable[[], Any]) -> None:
    """Before the send nothing reaches the array; after the reply the volume is there, and nobody knows."""
    points = points_of_create(array)
    send = next(n for n, p in enumerate(points) if p.startswith("send ") and "127.0.0.1:" in p)
    reply = max(n for n, p in enumerate(points) if p.startswith("reply from 127.0.0.1:"))
    assert send < reply
    for number in range(len(points)):
        die_at(array, number)
        witness = array()
        there = [v.id for v in witness.list_volumes(call()).items]
        assert there == ([] if number <= send else [WEB]) or send < number < reply
        assert witness.create_volume(spec(size=MIB), call()).size == MIB
        witness.delete_volume(WEB, call())
        witness.close()


def test_a_host_dies_at_the_call_it_was_told(qcow2: Callable[[], Any]) -> None:
    """Before the volume gets its name there is none, and its maker is dead."""
    points = points_of_create(qcow2)
    die_at(qcow2, next(n for n, p in enumerate(points) if p.endswith("/volumes/web-1.qcow2")))
    assert qcow2().list_volumes(call()).items == []


def test_only_what_methods_do_is_counted(qcow2: Callable[[], Any]) -> None:
    """Counting begins anew each time; import and construction count only when asked."""
    driver = qcow2()
    driver.host.count()
    assert driver.host.counted() == []
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    assert driver.host.counted()
    driver.host.count()
    assert driver.host.counted() == []


def test_construction_counts_when_asked(start: Any) -> None:
    """A host can be told to die while it constructs the driver."""
    host = start("odd_drivers:OddDriver")
    host.count(always=True)
    host.construct({"password": "secret-1", "at_start": "leak"})
    assert host.counted() == ["Popen sleep"]
    host = start("odd_drivers:OddDriver")
    host.arm(0, always=True)
    with pytest.raises(Unavailable, match="signal 9"):
        host.construct({"password": "secret-1", "at_start": "leak"})
