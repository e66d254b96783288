"""How the cost of a call grows with what is in the pool, and what a process keeps after many calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ...core.spi import ChangedBlocks, ReportsCapacity, Snapshots, VolumeSpec
from ...transfer_objects.ids import SnapshotId, VolumeId, new_id
from .. import pattern
from ..lab import MIB, Lab, must, not_applicable
from ..model import Level, Tier
from ..registry import check
from ..vitals import Vitals, bytes_read

_FEW, _MANY = 12, 48
# Bytes: less than any array's answer says of a volume, more than a longer name or number makes.
_PER_VOLUME = 60
_TIB = 2**40


class _Cost(NamedTuple):
    """What one call of the driver took from outside."""

    calls: int
    read: int


def _cost(lab: Lab, act: Callable[[], object]) -> _Cost:
    """Return how many external calls (requests, files, processes) the driver makes for `act`."""
    host: Any = getattr(lab.pool.driver, "host", None)
    if host is None:
        not_applicable("the driver runs in the suite's process (--in-process): its calls cannot be counted")
    host.count()
    before = bytes_read(lab.pool.driver)
    act()
    return _Cost(len(host.counted()), bytes_read(lab.pool.driver) - before)


def _costs(lab: Lab) -> dict[str, _Cost]:
    """Return what each operation on one volume costs, with what is there now."""
    volumes, driver = lab.pool.volumes, lab.pool.driver
    spec = VolumeSpec(id=lab.new_id(), size=MIB)
    costs = {
        "create": _cost(lab, lambda: volumes.create(spec)),
        "create again": _cost(lab, lambda: volumes.create(spec)),
        "get": _cost(lab, lambda: volumes.get(spec.id)),
        "a page of 10": _cost(lab, lambda: driver.list_volumes(lab.call(), limit=10)),
    }
    if lab.pool.managed:
        host = lab.host()
        costs["grant"] = _cost(lab, lambda: volumes.grant(spec.id, host))
        costs["revoke"] = _cost(lab, lambda: volumes.revoke(spec.id, host.id))
    if isinstance(driver, Snapshots):
        snapshot = SnapshotId(new_id(lab.prefix))
        costs["snapshot"] = _cost(lab, lambda: lab.pool.snapshots.create(spec.id, snapshot))
        costs["delete a snapshot"] = _cost(lab, lambda: lab.pool.snapshots.delete(snapshot))
    if isinstance(driver, ReportsCapacity):
        costs["capacity"] = _cost(lab, lab.pool.capacity)
    costs["delete"] = _cost(lab, lambda: volumes.delete(spec.id))
    return costs


@check(
    "scale.calls_per_op_are_constant",
    rule="any.flat",
    tier=Tier.STANDARD,
    field_bug="thecodeteam/libstorage#585: each mount asked for every image of the pool",
)
def check_calls_per_op_are_constant(lab: Lab) -> None:
    """What an operation on one volume costs in requests and bytes read is the same with 12 and with 48.

    With 10,000 volumes an operation that looks at all of them takes minutes. If it fails: the sentence
    names the operation; find the object by its name or by an index instead of in a list.
    """
    _cost(lab, lambda: None)  # refuses before fifty volumes are made
    for _ in range(_FEW):
        lab.volume(MIB)
    _costs(lab)  # what is done once: a login, an import
    few = _costs(lab)
    for _ in range(_MANY - _FEW):
        lab.volume(MIB)
    many = _costs(lab)
    grown = []
    for operation, cost in many.items():
        before, name = few[operation], operation.replace(" ", "_")
        lab.notes.measure(f"external_calls_of_{name}", cost.calls, "calls", _line(before.calls, cost.calls))
        lab.notes.measure(f"bytes_read_by_{name}", cost.read, "bytes", _line(before.read, cost.read))
        # A reply may come in two pieces, a connection be made anew; but not one call for each volume.
        if cost.calls > before.calls * 1.5 + 4:
            grown.append(f"{operation} makes {cost.calls} external calls instead of {before.calls}")
        if cost.read > before.read * 1.3 + _PER_VOLUME * (_MANY - _FEW):
            grown.append(f"{operation} reads {cost.read} bytes instead of {before.read}")
    must(not grown, f"with {_MANY} volumes instead of {_FEW}: {'; '.join(grown)}")


def _line(few: int, many: int) -> tuple[tuple[float, float], ...]:
    return ((float(_FEW), float(few)), (float(_MANY), float(many)))


@check("scale.list_pages_are_bounded", rule="vol.list-complete", tier=Tier.STANDARD)
def check_list_pages_are_bounded(lab: Lab) -> None:
    """A page has at most as many volumes as asked for, and pages of 1, 3 and 1000 give the same list.

    If it fails with 1: the cursor points at a volume, not behind it.
    """
    made = {lab.volume(MIB).id for _ in range(8)}
    lists = []
    for limit in (1, 3, 1000):
        seen: list[VolumeId] = []
        after = None
        while True:
            page = lab.pool.driver.list_volumes(lab.call(), after=after, limit=limit)
            must(len(page.items) <= limit, f"a page of limit {limit} has {len(page.items)} volumes")
            seen += [v.id for v in page.items if v.id.startswith(lab.prefix)]
            after = page.after
            if after is None:
                break
        must(len(seen) == len(set(seen)), f"in pages of {limit} a volume is listed twice")
        lists.append(set(seen))
    must(
        all(one >= made for one in lists),
        f"pages of 1, 3 and 1000 list {[len(x) for x in lists]} volumes of ours",
    )


@check("scale.session_per_call", rule="drv.close-all", tier=Tier.STANDARD)
def check_session_per_call(lab: Lab) -> None:
    """Two hundred calls leave no more open files, sockets and threads than twenty did.

    Arrays allow a hundred sessions or so. If it fails: a connection or login per call is not closed.
    """
    volume, driver = lab.volume(MIB), lab.pool.driver

    def work(times: int) -> Vitals:
        for _ in range(times):
            lab.pool.volumes.get(volume.id)
            driver.list_volumes(lab.call(), limit=1)
        return Vitals.of(driver)

    few, many = work(10), work(90)
    must(many.fds <= few.fds + 10, f"{many.fds - few.fds} more files or sockets are open after 200 calls")
    must(many.threads <= few.threads + 10, f"{many.threads - few.threads} more threads run after 200 calls")


@check("scale.memory_slope", rule="drv.close-all", level=Level.SHOULD, tier=Tier.DEEP)
def check_memory_slope(lab: Lab) -> None:
    """A thousand calls after the first five hundred add less than 16 MiB to the driver's memory.

    If it fails: something is kept per call (a log, a cache without a bound, exceptions with their frames).
    """
    volume, driver = lab.volume(MIB), lab.pool.driver
    series = []
    for done in range(0, 1500, 100):
        for _ in range(100):
            lab.pool.volumes.get(volume.id)
        series.append((float(done + 100), float(Vitals.of(driver).rss)))
    lab.notes.measure("memory_after_1500_calls", series[-1][1], "bytes", tuple(series))
    grown = series[-1][1] - series[4][1]
    must(grown < 16 * MIB, f"a thousand calls added {grown / MIB:.0f} MiB")


@check("scale.latency_histogram", rule="any.deadline", level=Level.MEASURE, tier=Tier.STANDARD)
def check_latency_histogram(lab: Lab) -> None:
    """How long create, get, grant and delete take: each ten times, one after the other.

    Nothing to pass or fail: compare it with the last version's, and with your own expectation.
    """
    taken: dict[str, list[float]] = {}

    def timed(operation: str, act: Callable[[], object]) -> None:
        began = time.monotonic()
        act()
        taken.setdefault(operation, []).append(time.monotonic() - began)

    volumes, host = lab.pool.volumes, lab.host()
    for _ in range(10):
        spec = VolumeSpec(id=lab.new_id(), size=MIB)
        timed("create", lambda spec=spec: volumes.create(spec))  # type: ignore[misc] # bound now, not later
        timed("get", lambda spec=spec: volumes.get(spec.id))  # type: ignore[misc] # idem
        if lab.pool.managed:
            timed("grant", lambda spec=spec: volumes.grant(spec.id, host))  # type: ignore[misc] # idem
            timed("revoke", lambda spec=spec: volumes.revoke(spec.id, host.id))  # type: ignore[misc] # idem
        timed("delete", lambda spec=spec: volumes.delete(spec.id))  # type: ignore[misc] # idem
    for operation, seconds in taken.items():
        ranked = sorted(seconds)
        series = tuple((100.0 * (n + 1) / len(ranked), s) for n, s in enumerate(ranked))
        lab.notes.measure(f"median_of_{operation}", ranked[len(ranked) // 2], "s", series)


@check("scale.startup_with_many", rule="pool.open-typed", level=Level.MEASURE, tier=Tier.DEEP)
def check_startup_with_many(lab: Lab) -> None:
    """How long opening the pool takes with 5, 50 and 200 volumes in it.

    A service that starts on every host must not read the whole array. A line that rises says it does.
    """
    series, made = [], 0
    for count in (5, 50, 200):
        while made < count:
            lab.volume(MIB)
            made += 1
        began = time.monotonic()
        with lab.second():
            series.append((float(count), time.monotonic() - began))
    lab.notes.measure("open_with_200_volumes", series[-1][1], "s", tuple(series))


@check(
    "scale.sparse_extents",
    rule="cbt.sorted",
    needs=(Snapshots, ChangedBlocks),
    level=Level.MEASURE,
    tier=Tier.DEEP,
    field_bug="oVirt/ovirt-imageio#71: the extents of 8 TiB took minutes to come",
)
def check_sparse_extents(lab: Lab) -> None:
    """How long the first and the last extent of a nearly empty volume of 8 TiB take to come.

    Smaller where the traits or the pool allow less. The first one decides when a backup begins to read.
    """
    size = min(8 * _TIB, lab.pool.traits.max_size)
    if isinstance(lab.pool.driver, ReportsCapacity):
        size = min(size, max(MIB, lab.pool.capacity().total // 2 // MIB * MIB))
    volume = lab.volume(size)
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for at in (0, size // 2 // MIB * MIB, size - pattern.BLOCK):
            sink.write(at, pattern.block(volume.id, at, 1))
        sink.flush()
    snapshot = lab.snapshot(volume.id)
    began, first, count = time.monotonic(), 0.0, 0
    for _ in lab.pool.snapshots.changed(None, snapshot.id):
        first = first or time.monotonic() - began
        count += 1
    lab.notes.measure("first_extent", first, "s")
    lab.notes.measure("all_extents", time.monotonic() - began, "s", ((float(size), float(count)),))
