"""`core/access.py` over the fleet's journal: death at any step, and another machine leaves nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from bollard.core.access import Mover
from bollard.core.catalog import Catalog
from bollard.core.pool import Pool
from bollard.core.service.intents import CatalogJournal
from bollard.core.service.leftovers import Run
from bollard.core.service.owners import Lease
from bollard.core.service.seen import Seen
from bollard.core.service.sweep import DAY, Sweep
from bollard.core.spi import Call, Host, VolumeSpec
from bollard.transfer_objects.ids import HostId, SnapshotId, VolumeId
from vm_deaths import Death, Mortal

from ..core.ram_driver import RamManaged, RamOptions

pytest_plugins = ["catalog_fixture"]

V1, S1, NEW = VolumeId("v-1"), SnapshotId("s-1"), VolumeId("v-2")
LEASE = Lease(term=3600, beat=0)  # the dead are told by their locks, however slow the machine is
_DRIVER = ("create_volume", "create_volume_from_snapshot", "delete_volume", "grant", "revoke")


class Fleet:
    """An array with a volume and a snapshot, and machines that share a catalog."""

    def __init__(self, home: Any, catalog: Catalog) -> None:
        self.home, self.catalog = home, catalog
        with self.pool() as pool:
            pool.volumes.create(VolumeSpec(id=V1, size=4096))
            pool.snapshots.create(V1, S1)

    def pool(self) -> Pool:
        """Open the array."""
        return Pool("ssd-1", RamManaged(RamOptions(directory=self.home / "array")), sleep=lambda _: None)

    @contextmanager
    def machine(self, name: str) -> Iterator[Mover]:
        """A machine that moves data; it ends in order."""
        with closing(CatalogJournal(self.catalog, self.home / "owners", lease=LEASE)) as journal:
            yield Mover(host=Host(id=HostId(name), iqn=f"iqn.{name}"), journal=journal)

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Sweep from another machine."""
        with self.machine("other") as mover:
            seen = Seen(self.home / "swept")
            work = Sweep(pools={"ssd-1": self.pool}, stores={}, mover=mover, seen=seen)
            report = work.run(Run(call=Call.within(60), dry_run=dry_run, older_than=DAY))
        assert report.errors() == []
        return sorted(f"{one.leftover.kind} {one.end}" for one in report.swept)

    def dies(self, act: Callable[[Mover, Pool], object], at: int) -> bool:
        """Let a machine die at its n-th step; tell whether it did."""
        mortal = Mortal(at)
        journal = CatalogJournal(self.catalog, self.home / "owners", lease=LEASE)
        mover = Mover(host=Host(id=HostId("mover"), iqn="iqn.mover"), journal=journal)
        pool = self.pool()
        with pytest.MonkeyPatch.context() as patch:
            for name in _DRIVER:
                patch.setattr(pool.driver, name, mortal.step(getattr(pool.driver, name)))
            patch.setattr(self.catalog, "transaction", partial(_bordered, mortal, self.catalog.transaction))
            try:
                act(mover, pool)
            except Death:
                assert mortal.dead
        if mortal.dead:
            journal.owner._file.close()  # as the kernel does
        else:
            journal.close()
        return mortal.dead

    def left(self) -> list[str]:
        """What is on the array and does not belong there."""
        with self.pool() as pool:
            grants = [f"grant of {g.host}" for v in pool.volumes.list() for g in pool.volumes.grants(v.id)]
            return [v.id for v in pool.volumes.list() if v.id != V1] + grants


@contextmanager
def _bordered(mortal: Mortal, transaction: Callable[..., Any], **kwargs: Any) -> Iterator[Any]:
    mortal.border()
    with transaction(**kwargs) as session:
        yield session
    mortal.border()


def read(mover: Mover, pool: Pool) -> None:
    """What an archive does."""
    with mover.reading_snapshot(pool, S1) as source:
        source.read_into(0, memoryview(bytearray(4)))


def fill(mover: Mover, pool: Pool) -> None:
    """What a restore does that fails in the end."""
    with suppress(ZeroDivisionError), mover.filling_volume(pool, NEW):
        pool.volumes.create(VolumeSpec(id=NEW, size=4096))
        with mover.writing_volume(pool, NEW) as sink:
            sink.write(0, b"x" * 512)
        raise ZeroDivisionError


@pytest.mark.slow
@pytest.mark.parametrize("act", [read, fill])
def test_another_machine_ends_what_a_dead_one_began(tmp_path, catalog, act):
    """Whatever the step, one sweep leaves the array as it was; a dry run has told so before."""
    fleet = Fleet(tmp_path, catalog)
    step, swept = 1, 0
    while fleet.dies(act, step):
        planned = fleet.sweep(dry_run=True)
        done = fleet.sweep()
        assert done == [line.replace("found", "removed") for line in planned], step
        assert fleet.left() == [], step
        assert fleet.sweep() == []
        swept += bool(done)
        step += 1
    assert fleet.left() == []
    assert step > 10
    assert swept > 5
