"""What outlives a process and a version: objects, private data, archives."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from ...core.archive import Archive, Level
from ...core.dataplane import FileSink
from ...core.spi import MAX_PRIVATE_BYTES, Body, NotFound, Snapshots
from ...transfer_objects.ids import SnapshotId, new_id
from .. import golden
from ..lab import ContractBroken, Lab, expected, judge, must
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab
from ..subtree import Subtree


@check("compat.objects_survive_restart", rule="any.elsewhere")
def check_objects_survive_restart(lab: Lab) -> None:
    """A volume made by one process is read, listed and deleted by another that has only its id.

    Services are restarted and fail over. If it fails: something is kept in memory, in a file of that
    host, or in the object that `open` returned.
    """
    volume = lab.volume()
    lab.write(volume, 1)
    with lab.second() as other:
        found = other.volumes.get(volume.id)
        for name in ("id", "size", "name", "identity", "qos"):
            mine, theirs = getattr(lab.pool.volumes.get(volume.id), name), getattr(found, name)
            must(mine == theirs, f"{name} is {mine!r} here and {theirs!r} in another process")
        must(volume.id in {v.id for v in other.volumes.list()}, "the other process does not list the volume")
        with lab.mover.reading_volume(other, volume.id) as source:
            judge(source, volume.id, expected(volume.size, 1))
        other.volumes.delete(volume.id)
        for pool in (other, lab.pool):
            try:
                pool.volumes.get(volume.id)
            except NotFound:
                continue
            raise ContractBroken("the volume is still there after another process deleted it")


@check("compat.snapshots_survive_restart", rule="any.elsewhere", needs=(Snapshots,))
def check_snapshots_survive_restart(lab: Lab) -> None:
    """A snapshot taken by one process is read by another, and its repeat there gives the same one.

    If it fails: the cut, or which volume it is of, is remembered instead of asked.
    """
    volume = lab.volume()
    lab.write(volume, 1)
    snapshot = SnapshotId(new_id(lab.prefix))
    taken = lab.pool.snapshots.create(volume.id, snapshot)
    lab.write(volume, 2)
    with lab.second() as other:
        again = other.snapshots.create(volume.id, snapshot)
        must(
            (again.id, again.volume, again.size, again.created)
            == (taken.id, taken.volume, taken.size, taken.created),
            f"another process sees {again} instead of {taken}",
        )
        must([s.id for s in other.snapshots.list(volume.id)] == [snapshot], "another process lists others")
    lab.verify_snapshot(snapshot, volume.id, expected(volume.size, 1))


@check("compat.private_data_sound", rule="any.private")
def check_private_data_sound(lab: Lab) -> None:
    """Private data is text, at most 4 KiB as JSON, and the same from create, get, list and elsewhere.

    It travels through the orchestrator's database. If it fails: it holds a session, a time or an object.
    """
    volume = lab.volume()
    with lab.second() as other:
        seen = {
            "create": volume.private,
            "get": lab.pool.volumes.get(volume.id).private,
            "list": next(v.private for v in lab.pool.volumes.list() if v.id == volume.id),
            "another process": other.volumes.get(volume.id).private,
        }
    for where, private in seen.items():
        wrong = [part for pair in private.items() for part in pair if type(part) is not str]
        must(not wrong, f"private data from {where} is no text: {wrong}")
        size = len(json.dumps(dict(private)).encode())
        must(size <= MAX_PRIVATE_BYTES, f"private data from {where} has {size} bytes")
        must(dict(private) == dict(volume.private), f"private data from {where} differs from that of create")


@check("compat.traits_are_constant", rule="any.elsewhere")
def check_traits_are_constant(lab: Lab) -> None:
    """Traits and capabilities are the same in each process and after work was done.

    An orchestrator asks once. If it fails: they follow from what is there now and not from what it can do.
    """
    before = lab.pool.driver.traits()
    lab.volume()
    with lab.second() as other:
        must(other.traits == before == lab.pool.driver.traits(), "the traits changed")
        must(other.capabilities().native == lab.pool.capabilities().native, "the capabilities changed")
        must(other.info.identity == lab.pool.info.identity, "the pool's identity changed")


@check("compat.archive_v1_golden", rule="store.get-exact", kinds=("image-store",))
def check_archive_v1_golden(lab: StoreLab) -> None:
    """Archives written by each version of the format verify and restore through this store, byte for byte.

    The suite carries them. If it fails while store.archive_full_round_trip passes: this version of Bollard
    broke the format, and not the driver.
    """
    for version in golden.ARCHIVES:
        store = Subtree(lab.store, f"{lab.prefix}/golden-{version}/")
        for key, data in golden.objects(version).items():
            store.put(key, Body.of(data), lab.call())
        _restores(Archive(store), f"the golden archive of version {version}", lab)


def _restores(archive: Archive, what: str, lab: StoreLab) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for moment in golden.MOMENTS:
            report = archive.verify(lab.call(), volume=golden.VOLUME, snapshot=moment, level=Level.DIGEST)
            must(report.ok, f"{what}: the snapshot {moment!r} does not verify")
            path = Path(directory, moment)
            path.write_bytes(bytes(golden.SIZE))
            with FileSink.open(path) as sink:
                archive.restore(sink, lab.call(), volume=golden.VOLUME, snapshot=moment)
                sink.flush()
            must(path.read_bytes() == golden.disk(moment), f"{what}: {moment!r} restores to other bytes")


@check("compat.options_alike_open_alike", rule="drv.isolated", kinds=("image-store",), tier=Tier.STANDARD)
def check_options_alike_open_alike(lab: StoreLab) -> None:
    """Three instances with the same options are the same store, and closing one leaves the others working.

    If it fails: instances share a session or a connection pool, and the first `close` ends it for all.
    """
    key = lab.key()
    lab.store.put(key, Body.of(b"x"), lab.call())
    with lab.second() as one, lab.second() as two:
        one.close()
        must(b"".join(two.get(key, lab.call())) == b"x", "closing one instance broke another")
        must(lab.read(key) == b"x", "closing one instance broke the first")
