"""Hosts that write to and read from volumes of an array, and specifications of what they want."""

from __future__ import annotations

from typing import Any

from bollard.core.dataplane.open import open_sink, open_source
from bollard.core.spi import Host, VmRef, VolumeSpec
from bollard.drivers.primary.array import ArrayDriver
from bollard.transfer_objects.ids import HostId, VmId, VmSnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret
from primary_rig import MIB, WEB, call

CHUNK = 65536
VM = VmRef(vm=VmId("vm-1"), snapshot=VmSnapshotId("before-upgrade"))
SECRET = "correct-horse-battery"


def host(name: str = "host-1", secret: str = SECRET) -> Host:
    """A host with an initiator of its own."""
    iqn = f"iqn.2024-01.org.example:{name}"
    return Host(id=HostId(name), iqn=iqn, chap_user=f"user-{name}"[:64], chap_secret=Secret(secret))


def spec(volume: VolumeId = WEB, size: int = MIB, **more: Any) -> VolumeSpec:
    """A specification."""
    return VolumeSpec(id=volume, size=size, **more)


def write(driver: ArrayDriver, volume: VolumeId, byte: int, offset: int = 0, length: int = CHUNK) -> None:
    """Write as a host, then let go."""
    writer = host("writer")
    with open_sink(driver.grant(volume, writer, call()), timeout=10) as sink:
        sink.write(offset, bytes([byte]) * length)
        sink.flush()
    driver.revoke(volume, writer.id, call())


def read(driver: ArrayDriver, volume: VolumeId, offset: int = 0, length: int = CHUNK) -> bytes:
    """Read as a host, then let go."""
    reader, data = host("reader"), bytearray(length)
    with open_source(driver.grant(volume, reader, call(), read_only=True), timeout=10) as source:
        source.read_into(offset, memoryview(data))
    driver.revoke(volume, reader.id, call())
    return bytes(data)
