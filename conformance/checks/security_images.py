"""Images that would read more than themselves, and files that everybody could read."""

from __future__ import annotations

import struct
from contextlib import suppress

from ...core.spi import (
    Adopts,
    DataLoss,
    FileLocation,
    InvalidArgument,
    LimitExceeded,
    Snapshots,
    Unsupported,
    VolumeSpec,
)
from ..lab import ContractBroken, Lab, must, not_applicable
from ..registry import check


@check(
    "sec.image_backing_file_refused",
    rule="host.self-contained",
    kinds=("host",),
    needs=(Adopts,),
    field_bug="CVE-2024-32498 (OpenStack): a qcow2 image with an external data file reads any file",
)
def check_image_backing_file_refused(lab: Lab) -> None:
    """An image that names a backing file, an external data file or extents is not taken over.

    Its header is written here and no tool opens it. If it fails: the next thing that opens the volume
    reads a file of the host; look at the header before anything else does.
    """
    volume = lab.volume()
    location = lab.pool.volumes.locate(volume.id)
    if not isinstance(location, FileLocation) or location.format != "qcow2":
        not_applicable("volumes of this pool are not qcow2 files: a raw file names no other")
    native = lab.pool.volumes.release(volume.id)
    path = next(p / native for p in location.path.parents if (p / native).is_file())
    good = path.read_bytes()
    try:
        for what, image in _hostile_images(good).items():
            path.write_bytes(image)
            spec = VolumeSpec(id=lab.new_id(), size=volume.size)
            try:
                lab.pool.driver.adopt_volume(native, spec, lab.call())  # type: ignore[attr-defined] # `needs`
            except (InvalidArgument, Unsupported, DataLoss, LimitExceeded) as error:
                must(error.outcome.value == "not_applied", f"an image with {what} claims {error.outcome}")
                must(path.read_bytes() == image, f"an image with {what} was refused, and changed or moved")
                continue
            raise ContractBroken(f"an image with {what} was taken over")
    finally:
        path.unlink(missing_ok=True)


def _hostile_images(good: bytes) -> dict[str, bytes]:
    """Return qcow2 images (version 3) that read more than themselves, made of a good one."""
    name = b"/etc/passwd"
    backing, data_file = bytearray(good), bytearray(good)
    place = 4096  # within the first cluster, behind all that QEMU writes there
    struct.pack_into(">QI", backing, 8, place, len(name))
    backing[place : place + len(name)] = name
    features = int.from_bytes(good[72:80], "big") | 4
    data_file[72:80] = features.to_bytes(8, "big")
    vmdk = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    return {
        "a backing file": bytes(backing),
        "an external data file": bytes(data_file),
        "VMDK extents": (vmdk + b'RW 32768 FLAT "/etc/passwd" 0\n').ljust(len(good), b"\0"),
    }


@check("sec.files_not_for_all", rule="any.secrets", kinds=("host",))
def check_files_not_for_all(lab: Lab) -> None:
    """Files of volumes and snapshots are not readable or writable for everybody on the host.

    They are customers' disks. If it fails: the mode is left to the umask, or to the tool that makes images.
    """
    volume = lab.volume()
    places = [lab.pool.volumes.locate(volume.id)]
    if isinstance(lab.pool.driver, Snapshots):
        snapshot = lab.snapshot(volume.id)
        with suppress(Unsupported):
            places.append(lab.pool.snapshots.locate(snapshot.id))
    for place in places:
        if isinstance(place, FileLocation):
            mode = place.path.stat().st_mode & 0o777
            must(not mode & 0o007, f"{place.path.name} has the mode {mode:o}")
