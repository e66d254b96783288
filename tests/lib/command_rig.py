"""Transfer objects of the site rig, and bytes behind them: what tests of commands are made of."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from bollard.core.commands import Dispatcher
from bollard.core.commands.names import volume_id
from bollard.core.dataplane import BlockSource
from bollard.core.pool import Pool
from bollard.core.site import Site
from bollard.core.spi import Call, NotFound
from bollard.transfer_objects.commands import Answer, Command, CreateObjectAnswer, CreateObjectCommand
from bollard.transfer_objects.enums import StoragePoolType, VolumeType
from bollard.transfer_objects.ids import StoreId, TemplateId, VolumeId
from bollard.transfer_objects.objects import (
    DataTO,
    DiskTO,
    SnapshotObjectTO,
    TemplateObjectTO,
    VolumeObjectTO,
)
from bollard.transfer_objects.stores import S3TO, DataStoreTO, NfsTO, PrimaryDataStoreTO
from site_rig import ARRAY_UUID, FILES_UUID, NFS_UUID, RAW_UUID, S3_UUID

MIB = 2**20
SIZE = 2 * MIB

ARRAY = PrimaryDataStoreTO(uuid=StoreId(ARRAY_UUID), pool_type=StoragePoolType.ISCSI, managed=True)
FILES = PrimaryDataStoreTO(uuid=StoreId(FILES_UUID), pool_type=StoragePoolType.NETWORK_FILESYSTEM)
RAW = PrimaryDataStoreTO(uuid=StoreId(RAW_UUID), pool_type=StoragePoolType.NETWORK_FILESYSTEM)
NFS = NfsTO(uuid=StoreId(NFS_UUID))
S3 = S3TO(uuid=StoreId(S3_UUID))
POOLS = {"array": ARRAY, "files": FILES}
STORES: dict[str, DataStoreTO] = {"nfs": NFS, "s3": S3}


def volume(name: str, store: DataStoreTO = ARRAY, **more: Any) -> VolumeObjectTO:
    """A volume of a pool or store."""
    return VolumeObjectTO(**{"uuid": VolumeId(name), "data_store": store, "size": SIZE} | more)


def snapshot(
    number: int, of: VolumeObjectTO, store: DataStoreTO | None = None, **more: Any
) -> SnapshotObjectTO:
    """A snapshot of a volume, on its pool or on a store; its name is as people give them, twice the same."""
    known: dict[str, Any] = {
        "id": _unique(number, of),
        "name": "nightly",
        "volume": of,
        "data_store": store or of.data_store,
    }
    return SnapshotObjectTO(**known | more)


def cut_id(number: int, of: VolumeObjectTO) -> str:
    """The id under which a pool and an archive have that snapshot."""
    return f"snap-{_unique(number, of)}"


def _unique(number: int, of: VolumeObjectTO) -> int:
    """CloudStack's numbers are unique; so are those at the end of the tests' volumes."""
    return 100 * int(str(of.uuid).rpartition("-")[2]) + number


def template(name: str, store: DataStoreTO = NFS, **more: Any) -> TemplateObjectTO:
    """A template on a store or pool."""
    return TemplateObjectTO(**{"uuid": TemplateId(name), "image_data_store": store} | more)


def disk(of: VolumeObjectTO) -> DiskTO:
    """A volume as a disk."""
    return DiskTO(data=of, volume_type=VolumeType.DATADISK)


def noise(seed: object, size: int = SIZE) -> bytes:
    """Bytes that nobody else has, with a hole behind them."""
    some = random.Random(repr(seed)).randbytes(size // 4)  # noqa: S311 - test data
    return some + bytes(size - len(some))


class Orders:
    """A dispatcher whose answers must be good, and the bytes of what it works on."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.dispatcher = Dispatcher(site)

    def ask(self, command: Command) -> Answer:
        """Return the answer, whatever it is."""
        return self.dispatcher.execute(command, Call.within(60))

    def do(self, command: Command) -> Answer:
        """Return an answer that says success."""
        answer = self.ask(command)
        assert answer.result, answer.details
        return answer

    def made(self, command: CreateObjectCommand) -> DataTO:
        """Return what a command has made."""
        answer = self.do(command)
        assert isinstance(answer, CreateObjectAnswer)
        assert answer.data
        return answer.data

    def refused(self, command: Command) -> str:
        """Return the details of an answer that says failure."""
        answer = self.ask(command)
        assert not answer.result
        assert answer.details
        return answer.details

    def make(self, of: VolumeObjectTO, content: bytes | None = None) -> VolumeObjectTO:
        """Create a volume by command, fill it, and return it as the answer has it."""
        answer = self.do(CreateObjectCommand(data=of))
        assert isinstance(answer, CreateObjectAnswer)
        assert isinstance(answer.data, VolumeObjectTO)
        self.write(of, content if content is not None else noise(of.uuid))
        return answer.data

    def write(self, of: VolumeObjectTO, content: bytes) -> None:
        """Overwrite a volume as a host does."""
        with self.site.mover().writing_volume(self._pool(of), volume_id(of)) as sink:
            sink.write(0, content)
            sink.flush()

    def read(self, of: VolumeObjectTO) -> bytes:
        """Return all bytes of a volume."""
        with self.site.mover().reading_volume(self._pool(of), volume_id(of)) as source:
            return _all(source)

    def archived(self, store: str, at: str, key: str) -> bytes:
        """Return all bytes of what lies in an archive."""
        with self.site.archive(store).open(Call.within(60), volume=at, snapshot=key) as source:
            return _all(source)

    def exists(self, of: VolumeObjectTO) -> bool:
        """Tell whether a pool has a volume."""
        with suppress(NotFound):
            self._pool(of).volumes.get(volume_id(of))
            return True
        return False

    def snapshots(self, of: VolumeObjectTO) -> set[str]:
        """Return the ids of a volume's snapshots on its pool."""
        return {str(one.id) for one in self._pool(of).snapshots.list(volume_id(of))}

    def leftovers(self) -> list[str]:
        """Return what is granted, temporary or in the journal: nothing, when nothing is under way."""
        found = []
        for name in self.site.config.pools:
            pool = self.site.pool(name)
            for one in pool.volumes.list():
                found += [f"volume {one.id}"] if one.id.startswith("tmp-") else []
                found += (
                    [f"grant {g.volume} {g.host}" for g in pool.volumes.grants(one.id)]
                    if pool.managed
                    else []
                )
        entries = self.site.mover().journal.abandoned()
        for entry in entries:
            found.append(f"journal {entry.kind}")
            entry.release()
        return found

    def _pool(self, of: VolumeObjectTO) -> Pool:
        assert isinstance(of.data_store, PrimaryDataStoreTO)
        return self.site.pool_for(of.data_store)


def _all(source: BlockSource) -> bytes:
    data = bytearray(source.size)
    source.read_into(0, memoryview(data))
    return bytes(data)
