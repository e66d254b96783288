"""Kills an orchestrator with -9 before and after every durable step of an operation, and syncs the rest.

    python -m tests.service.service_kill_lab sqlite|postgresql nfs|s3 DIRECTORY PARTS [SCENARIO ...]
        prints one JSON line per kill; of PARTS kills it does one, chosen by the seed of the scenario's name

Each round is a fork of this process: a volume of its own, a worker that kills itself at its n-th step, and
another process that syncs, looks, gives the same command once more, looks again, and removes everything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.catalog import Catalog
from bollard.core.catalog.snapshots import Ref, RefState, SnapshotState
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import open_pool
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.from_snapshot_template import TemplateRequest, to_template
from bollard.core.service.hooks import Reservation
from bollard.core.service.snapshots_records import RESTING, Found
from bollard.core.store import open_store
from bollard.simulators.hypervisor.files import BLOCK
from bollard.transfer_objects.enums import DataStoreRole
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId
from postgres import Postgres

from ..snapshots.snapshot_kill_backends import POOLS, STORES, Backend, Steps
from ..snapshots.snapshot_kill_lab import JOURNAL, in_child, killing, note, rounds
from .service_kill_guest import MEANWHILE, KillGuest, hypervisor, running_files
from .service_kill_guest import POOL as RUNNING
from .service_kill_guest import STEPS as HYPERVISOR
from .service_rig import SIZE, Books, Cloud, TestSite, call

OLD, NEW = b"old!" * 20_000, b"new!" * 20_000


class FileBooks(Books):
    """A quota that outlives its process: a file per reservation."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def reserve(self, reservation: Reservation) -> None:
        """See `Quota.reserve`."""
        (self.directory / reservation.key.replace("/", "+")).touch()

    def release(self, key: str) -> None:
        """See `Quota.release`."""
        (self.directory / key.replace("/", "+")).unlink(missing_ok=True)

    def keys(self) -> set[str]:
        """Return what is reserved."""
        return {path.name.replace("+", "/") for path in self.directory.iterdir()}


@dataclass(frozen=True, slots=True)
class Names:
    """What one round works on; no other round does."""

    volume: VolumeId
    snapshot: SnapshotId
    target: VolumeId
    template: TemplateId

    @classmethod
    def of(cls, scenario: str, step: int) -> Names:
        """Return those of a round."""
        tail = f"{scenario}-{step}"
        return cls(
            VolumeId(f"vol-{tail}"),
            SnapshotId(f"snap-{tail}"),
            VolumeId(f"new-{tail}"),
            TemplateId(f"tpl-{tail}"),
        )


Act = Callable[[Cloud, Names], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One operation, and what it finds; on the pool of running files the volume has a VM."""

    pool: str
    act: Act
    location: str | None = None
    taken: bool = True
    keep: bool = False

    def prepare(self, cloud: Cloud, names: Names) -> None:
        """Make a volume, and what the operation is about."""
        cloud.make(names.volume, self.pool, OLD)
        if self.taken:
            self.take(cloud, names)
            cloud.write(names.volume, NEW)

    def take(self, cloud: Cloud, names: Names) -> Found:
        """Make the snapshot."""
        return cloud.take(names.snapshot, names.volume, self.location, keep_on_primary=self.keep)


def _take(location: str | None, *, quiesce: bool = False) -> Act:
    return lambda cloud, names: cloud.take(names.snapshot, names.volume, location, quiesce=quiesce)


def _archive(cloud: Cloud, names: Names) -> None:
    cloud.service.archive(names.snapshot, call())


def _delete(cloud: Cloud, names: Names) -> None:
    cloud.service.delete(names.snapshot, call())


def _to_volume(pool: str) -> Act:
    return lambda cloud, names: to_volume(
        cloud.ctx, names.snapshot, VolumeRequest(id=names.target, pool=pool), call()
    )


def _to_template(cloud: Cloud, names: Names) -> None:
    to_template(cloud.ctx, names.snapshot, TemplateRequest(id=names.template, store="nightly"), call())


def _revert(cloud: Cloud, names: Names) -> None:
    revert(cloud.ctx, names.snapshot, call())


SCENARIOS = {
    "stays": Scenario(pool="gold", taken=False, act=_take("Standard")),
    "leaves": Scenario(pool="gold", taken=False, act=_take("Archive"), location="Archive"),
    "uploads": Scenario(pool="files", taken=False, act=_take(None)),
    "guest": Scenario(pool=RUNNING, taken=False, act=_take(None, quiesce=True)),
    "archive": Scenario(pool="gold", act=_archive),
    "delete": Scenario(pool="gold", act=_delete, location="Archive", keep=True),
    "clone": Scenario(pool="gold", act=_to_volume("gold")),
    "to-files": Scenario(pool="gold", act=_to_volume("files")),
    "restore": Scenario(pool="files", act=_to_volume("gold")),
    "template": Scenario(pool="gold", act=_to_template),
    "template-archived": Scenario(pool="files", act=_to_template),
    "revert": Scenario(pool="gold", act=_revert),
    "revert-archived": Scenario(pool="gold", act=_revert, location="Archive"),
}


class Lab:
    """Three pools, one store, a hypervisor, a catalog, a journal; a volume per round."""

    def __init__(
        self, directory: Path, url: str, pools: dict[str, Backend], store: Backend, cluster: str
    ) -> None:
        self.directory, self.url, self.pools, self.store = directory, url, pools, store
        self.cluster = cluster
        for name in ("journal", "quota"):
            (directory / name).mkdir(exist_ok=True)

    @contextmanager
    def cloud(self) -> Iterator[Cloud]:
        """Connect anew: a connection does not outlive a fork."""
        with ExitStack() as stack:
            pools = {
                name: stack.enter_context(open_pool(name, backend.driver, backend.options))
                for name, backend in self.pools.items()
            }
            store = open_store("nightly", self.store.driver, self.store.options)
            stack.callback(store.close)
            catalog = Catalog(self.url)
            stack.callback(catalog.close)
            mover = Mover(host=mover_host(self.directory), journal=Journal(self.directory / "journal"))
            site = TestSite(pools, {"nightly": store}, mover)
            books = FileBooks(self.directory / "quota")
            yield Cloud(self.directory, site, catalog, books, overlays="raw")

    def guest(self, cloud: Cloud, scenario: Scenario, names: Names) -> KillGuest | None:
        """Return the VM that has the volume of a round, if one has."""
        if scenario.pool != RUNNING:
            return None
        return KillGuest(self.cluster, cloud, names.volume, self.directory)

    def left(self) -> list[str]:
        """What lies on pools and store."""
        return [*(one for backend in self.pools.values() for one in backend.left()), *self.store.left()]

    def steps(self) -> list[Steps]:
        """Return what leaves a trace."""
        backends = (*self.pools.values(), self.store)
        return [
            (Session, ("commit",)),
            (FileBooks, ("reserve", "release")),
            *JOURNAL,
            *HYPERVISOR,
            *(backend.steps for backend in backends),
        ]


# -- looking ---------------------------------------------------------------------------------------------


def wrong(cloud: Cloud, scenario: Scenario, names: Names) -> list[str]:
    """Say in what records, pools, store and quota do not agree, or what nobody asked for."""
    problems = list(cloud.leftovers())
    with cloud.catalog.transaction() as session:
        refs = session.scalars(select(Ref).where(Ref.volume == names.volume)).all()
    ready = {ref.role for ref in refs if ref.state is RefState.READY}
    half = [str(ref.state) for ref in refs if ref.state not in (RefState.READY, RefState.DESTROYED)]
    on_pool, images = cloud.on_pool(names.volume), cloud.images()
    problems += [f"a ref is {state}" for state in half]
    if (DataStoreRole.PRIMARY in ready) != (on_pool == [names.snapshot]):
        problems.append(f"on primary: {ready}, {on_pool}")
    if (DataStoreRole.IMAGE in ready) != (f"{names.volume}/{names.snapshot}" in images):
        problems.append(f"on secondary: {ready}, {images}")
    found = cloud.service.records.find(names.snapshot)
    resting = RESTING | {SnapshotState.ERROR, SnapshotState.DESTROYED}
    if found is not None and found.state not in resting:
        problems.append(f"the snapshot is {found.state}")
    # A copy that is still wanted may be counted already; `archive` counts it when it begins.
    wanted = found is not None and found.order.wanted
    maybe = {f"snapshot/{names.snapshot}/Image"} if wanted else set()
    odd = (cloud_keys(cloud) ^ expected_keys(cloud, names, ready)) - maybe
    return problems + [f"counted, or not counted: {key}" for key in sorted(odd)]


def cloud_keys(cloud: Cloud) -> set[str]:
    """Return what is reserved."""
    assert isinstance(cloud.books, FileBooks)
    return cloud.books.keys()


def expected_keys(cloud: Cloud, names: Names, ready: set[DataStoreRole]) -> set[str]:
    """Return what has to be reserved for what there is."""
    keys = {f"snapshot/{names.snapshot}/{role.value}" for role in ready}
    for pool in cloud.site.pools.values():
        keys |= {f"volume/{one.id}" for one in pool.volumes.list() if one.id == names.target}
    return keys | {f"template/{names.template}" for one in cloud.images() if one == f"{names.template}/image"}


def is_cut(cloud: Cloud, names: Names) -> bool:
    """Tell whether there is a snapshot; a later command may not cut another one then."""
    found = cloud.service.records.find(names.snapshot)
    return found is not None and found.state in RESTING


def bytes_of(cloud: Cloud, scenario: Scenario, names: Names, *, early: bool) -> list[str]:
    """Say which bytes are not what the operation was to make of them.

    Args:
        early: the cut was made before the guest wrote what it writes meanwhile.
    """
    expected = {f"{names.volume}": OLD if not scenario.taken or scenario.act is _revert else NEW}
    places = {f"{names.volume}": scenario.pool}
    for name, pool in cloud.site.pools.items():
        if names.target in [one.id for one in pool.volumes.list()]:
            expected[names.target], places[names.target] = OLD, name
    found = [
        f"{one} holds other bytes"
        for one, data in expected.items()
        if not is_same(cloud.read(VolumeId(one), places[one]), data.ljust(SIZE, b"\0"), scenario)
    ]
    archive = Archive(cloud.site.stores["nightly"])
    for image in cloud.images():
        volume, _, snapshot = image.partition("/")
        with archive.open(call(), volume=volume, snapshot=snapshot) as source:
            content = bytearray(len(OLD))
            source.read_into(0, memoryview(content))
        late = early and scenario.pool == RUNNING and MEANWHILE.encode() in content
        found += [f"image {image} holds other bytes"] if late or not is_same(content, OLD, scenario) else []
    return found


def is_same(found: bytes, expected: bytes, scenario: Scenario) -> bool:
    """Compare; where a guest has its files in the first block, what these are is the guest's to tell."""
    own = BLOCK if scenario.pool == RUNNING else 0
    return found[own:] == expected[own:]


def look(lab: Lab, name: str, step: int) -> dict[str, object]:
    """Sync, look, give the command again, look, remove everything, and tell what there was."""
    scenario, names = SCENARIOS[name], Names.of(name, step)
    with lab.cloud() as cloud:
        cloud.know(names.volume, scenario.pool)
        guest = lab.guest(cloud, scenario, names)
        with guest.known() if guest else nullcontext():
            ended = cloud.sync()
            for pool in cloud.site.pools.values():  # what `bollard sweep` does
                cloud.site.mover().sweep_pool(pool)
            synced = [*wrong(cloud, scenario, names), *(guest.problems() if guest else ())]
            early = is_cut(cloud, names) or not (guest and guest.wrote)
            scenario.act(cloud, names)
            repeated = [*wrong(cloud, scenario, names), *bytes_of(cloud, scenario, names, early=early)]
            repeated += guest.problems() if guest else ()
            found = cloud.service.records.find(names.snapshot)
            state = found.state if found else "none"
            cloud.sync()
        if guest:
            guest.remove()
        clear(cloud, names)
        cleared = wrong(cloud, scenario, names) if cloud_keys(cloud) else cloud.leftovers()
    return {
        "scenario": name,
        "ended": [f"{one.kind} {one.before} -> {one.after}" for one in ended],
        "synced": synced,
        "repeated": repeated,
        "state": state,
        "cleared": cleared,
    }


def clear(cloud: Cloud, names: Names) -> None:
    """Delete all that a round has made, as a user who has no more need for it."""
    cloud.service.delete(names.snapshot, call())
    for pool in cloud.site.pools.values():
        for volume in (names.volume, names.target):
            pool.volumes.delete(volume)
    Archive(cloud.site.stores["nightly"]).delete(call(), volume=names.template, snapshot="image")
    for key in (f"volume/{names.target}", f"template/{names.template}"):
        cloud.books.release(key)


# -- playing ---------------------------------------------------------------------------------------------


def work(lab: Lab, name: str, step: int) -> None:
    """Be the worker of one round, which is killed at border number `step`."""
    scenario, names = SCENARIOS[name], Names.of(name, step)
    with lab.cloud() as cloud:
        scenario.prepare(cloud, names)
        guest = lab.guest(cloud, scenario, names)
        if guest:
            guest.start()
        act = partial(scenario.act, cloud, names)
        with guest.known() if guest else nullcontext():
            killing(lambda: act() and None, lab.steps(), step, partial(note, lab.directory))()


def play(lab: Lab, name: str, step: int) -> None:
    """Play one round, and print what there is after it as a line for the test."""
    before = lab.left()
    status = in_child(partial(work, lab, name, step))

    def tell() -> None:
        found = {"status": status, "step": step, **look(lab, name, step)}
        found["left"] = [thing for thing in lab.left() if thing not in before]
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()

    in_child(tell)


def begin(lab: Lab) -> None:
    """Let the first archive of a store put there what stays for good."""
    with lab.cloud() as cloud:
        names = Names.of("begin", 0)
        cloud.make(names.volume, "files", OLD)
        cloud.take(names.snapshot, names.volume)
        clear(cloud, names)


def main(database: str, store: str, directory: Path, parts: int, names: list[str]) -> None:
    """Run each scenario undisturbed and count its borders; then kill at one of `parts` of them."""
    with ExitStack() as stack:
        url = f"sqlite:///{directory}/catalog.db"
        if database == "postgresql":
            url = stack.enter_context(Postgres()).catalog_url()
        pools = {
            "gold": stack.enter_context(POOLS["array"](directory)),
            "files": stack.enter_context(POOLS["qcow2"](directory)),
            RUNNING: stack.enter_context(running_files(directory)),
        }
        cluster = stack.enter_context(hypervisor(directory))
        lab = Lab(directory, url, pools, stack.enter_context(STORES[store](directory)), cluster)
        in_child(partial(begin, lab))
        for name in names or SCENARIOS:
            play(lab, name, 0)
            for step in rounds(directory, parts, f"{name} {database}"):
                play(lab, name, step)


if __name__ == "__main__":
    _, database, store, directory, parts, *names = sys.argv
    main(database, store, Path(directory), int(parts), names)
