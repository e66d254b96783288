"""What the tests of every primary driver use: a call, and the ids that they give to objects."""

from __future__ import annotations

from bollard.core.spi import Call
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId

MIB = 1024 * 1024
WEB, DB, COPY = VolumeId("web-1"), VolumeId("db-1"), VolumeId("copy-1")
S1, S2 = SnapshotId("s1"), SnapshotId("s2")
DEBIAN = TemplateId("debian-12")


def call(seconds: float = 60) -> Call:
    """A call with so much time to go."""
    return Call.within(seconds)
