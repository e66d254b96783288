"""Authority, quota and audit of volumes: asked before any effect, and right after a failure or a death."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from bollard.core.service.hooks import Act, Audited, Hooks, Reservation
from bollard.core.service.volumes_attach import VolumeAttachments
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import LimitExceeded, OutOfCapacity, PermissionDenied
from bollard.transfer_objects.ids import VolumeId
from volume_site import H1, VM, Process, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20
V1 = VolumeId("v-1")
NEW = NewVolume(id=V1, pool="gold", size=2 * MIB, account="ann")


@dataclass(slots=True)
class Books:
    """Hooks that remember; an account has `limit` bytes, and may do what is not forbidden."""

    limit: int = 8 * MIB
    forbidden: set[Act] = field(default_factory=set)
    counted: dict[str, int] = field(default_factory=dict)
    told: list[Audited] = field(default_factory=list)

    def check(self, account: str, act: Act, subject: str) -> None:
        """See `Authority.check`."""
        if act in self.forbidden:
            raise PermissionDenied(f"{account} may not {act} {subject}")

    def reserve(self, reservation: Reservation) -> None:
        """See `Quota.reserve`."""
        if sum({**self.counted, reservation.key: reservation.size}.values()) > self.limit:
            raise LimitExceeded("no more")
        self.counted[reservation.key] = reservation.size

    def release(self, key: str) -> None:
        """See `Quota.release`."""
        self.counted.pop(key, None)

    def record(self, what: Audited) -> None:
        """See `Audit.record`."""
        self.told.append(what)


@pytest.fixture
def site(tmp_path, catalog_url) -> Iterator[Site]:
    """An array, a cluster with a host and a VM, and a catalog."""
    with Site(tmp_path, catalog_url) as opened:
        yield opened


def hooked(process: Process, books: Books) -> Process:
    """Give a process its hooks."""
    process.volumes = replace(process.volumes, hooks=Hooks(authority=books, quota=books, audit=books))
    process.attachments = VolumeAttachments(service=process.volumes)
    return process


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)
def test_who_may_not_changes_nothing_and_who_may_is_told_of(site):
    """Each act asks the authority before anything; what was done is told to the audit with its account."""
    books = Books()
    process = hooked(site.process(), books)
    acts = {
        Act.CREATE_VOLUME: lambda: process.volumes.create(NEW, call()),
        Act.RESIZE_VOLUME: lambda: process.volumes.resize(V1, 4 * MIB, call(), account="ann"),
        Act.ATTACH_VOLUME: lambda: process.attachments.attach(V1, VM, H1, "cluster", call(), account="ann"),
        Act.DETACH_VOLUME: lambda: process.attachments.detach(V1, call(), account="ann"),
        Act.GIVE_VOLUME: lambda: process.attachments.give(V1, H1, call(), account="ann"),
        Act.TAKE_VOLUME: lambda: process.attachments.take(V1, H1, call(), account="ann"),
        Act.DELETE_VOLUME: lambda: process.volumes.delete(V1, call(), account="ann"),
    }
    for act, do in acts.items():
        before, counted = site.truth(), dict(books.counted)
        books.forbidden = {act}
        with pytest.raises(PermissionDenied):
            do()
        assert (site.truth(), books.counted) == (before, counted)
        books.forbidden = set()
        do()
        assert books.told == [Audited(account="ann", act=act, subject=V1)]
        books.told.clear()
    assert books.counted == {}


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)
def test_quota_counts_what_is_on_the_array(site, monkeypatch):
    """Refused, failed, grown, gone: each time as many bytes are counted as the array has."""
    books = Books(limit=MIB)
    process = hooked(site.process(), books)

    def never(*_: object) -> None:
        raise OutOfCapacity("full")

    with monkeypatch.context() as patch:
        patch.setattr(process.pool.driver, "create_volume", None)  # nothing is asked of it
        with pytest.raises(LimitExceeded):
            process.volumes.create(NEW, call())
    assert process.volumes.records.get(V1).error == "no more"
    books.limit = 8 * MIB
    acts = {
        "create_volume": lambda: process.volumes.create(NEW, call()),
        "resize_volume": lambda: process.volumes.resize(V1, 4 * MIB, call()),
    }
    for method, act in acts.items():
        with monkeypatch.context() as patch:
            patch.setattr(process.pool.driver, method, never)
            with pytest.raises(OutOfCapacity):
                act()
        if method == "create_volume":
            acts[method]()
        assert books.counted == {f"volume/{v}": size for v, size in site.truth()["volumes"].items()}
    assert books.told[-1].problem == "full"
    with pytest.raises(LimitExceeded):
        process.volumes.resize(V1, 16 * MIB, call())
    assert books.counted == {"volume/v-1": 2 * MIB}
    process.volumes.resize(V1, 4 * MIB, call())
    assert books.counted == {"volume/v-1": 4 * MIB}
    assert site.told(process) == site.truth()
    process.volumes.delete(V1, call())
    assert books.counted == {}


@pytest.mark.slow
@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)
def test_quota_is_right_after_a_death_at_any_step(site):
    """Created, grown and deleted, killed at each step and synced: counted is what the array has."""
    books, survivor, step = Books(limit=2**40), site.process(), 0
    hooked(survivor, books)
    while True:
        step += 1
        new = replace(NEW, id=VolumeId(f"v-{step}"))
        dying = hooked(site.process(survivor), books)
        with dying.dies_at(step) as mortal:
            dying.volumes.create(new, call())
            dying.volumes.resize(new.id, 4 * MIB, call())
            dying.volumes.delete(new.id, call())
        for work in survivor.works.left():
            claimed = survivor.works.claim(work.kind, work.object)
            assert claimed is not None
            survivor.volumes.settle(claimed, call())
        assert site.told(survivor) == site.truth()
        assert books.counted == {f"volume/{v}": size for v, size in site.truth()["volumes"].items()}, step
        if not mortal.dead:
            break
    assert step > 12
