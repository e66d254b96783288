"""Capacity and limits: figures that an orchestrator places volumes by, and rates that tenants pay for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...core.dataplane import open_sink
from ...core.spi import (
    ClonesVolume,
    HasQos,
    InvalidArgument,
    NotFound,
    OutOfCapacity,
    Qos,
    ReportsCapacity,
    Resizes,
    Reverts,
    Snapshots,
    StorageError,
    Volume,
    VolumeSpec,
)
from .. import pattern
from ..lab import MIB, Lab, expected, must, not_applicable, refused
from ..model import Level, Tier
from ..registry import check
from ._operations import SIZE, spec, written

_CHUNK = 16 * MIB
_PATIENCE = 5.0  # seconds that a figure may lag beyond what the traits say
_LARGEST = 4 * 1024 * MIB  # bytes of a pool that the suite fills


def _fill(lab: Lab, volume: Volume) -> None:
    """Write every byte of a volume, with data that neither compresses nor repeats."""
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for at in range(0, volume.size, MIB):
            sink.write(at, lab.notes.random.randbytes(MIB))
        sink.flush()


def _used_until(lab: Lab, holds: Callable[[int], bool]) -> int:
    """Return the pool's used bytes as soon as they are as expected, or when patience ends."""
    deadline = time.monotonic() + lab.pool.traits.space_freed_within + _PATIENCE
    while not holds(used := lab.pool.capacity().used) and time.monotonic() < deadline:
        time.sleep(0.2)
    return used


@check(
    "cap.moves_with_create_delete",
    rule="cap.sane",
    needs=(ReportsCapacity,),
    level=Level.SHOULD,
    tier=Tier.STANDARD,
)
def check_moves_with_create_delete(lab: Lab) -> None:
    """What is written shows in `used`, in bytes.

    Others may use the pool at the same time: half of the written bytes is enough. A figure that stands
    still is cached or is that of another pool.
    """
    before = lab.pool.capacity().used
    _fill(lab, lab.volume(2 * _CHUNK))
    used = _used_until(lab, lambda now: now >= before + _CHUNK)
    must(used >= before + _CHUNK, f"{2 * _CHUNK} bytes were written, used went from {before} to {used}")


@check(
    "vol.delete_frees_space",
    rule="cap.sane",
    needs=(ReportsCapacity,),
    level=Level.SHOULD,
    tier=Tier.STANDARD,
    field_bug="cloudstack#9501: deleted objects kept their space for ever",
)
def check_delete_frees_space(lab: Lab) -> None:
    """What a deleted volume occupied is free again within `Traits.space_freed_within`."""
    volume = lab.volume(2 * _CHUNK)
    before = lab.pool.capacity().used
    _fill(lab, volume)
    full = _used_until(lab, lambda now: now >= before + _CHUNK)
    lab.pool.volumes.delete(volume.id)
    left = _used_until(lab, lambda now: now <= full - _CHUNK)
    must(left <= full - _CHUNK, f"{2 * _CHUNK} bytes were deleted, used went from {full} to {left}")


@check("cap.thin_reported", rule="cap.sane", level=Level.SHOULD, tier=Tier.STANDARD)
def check_thin_reported(lab: Lab) -> None:
    """A volume's `allocated` is in bytes, grows with what is written, and is not the virtual size."""
    volume = lab.volume(4 * _CHUNK)
    new = lab.pool.volumes.get(volume.id).allocated
    if new is None:
        not_applicable("the driver does not tell what a volume occupies")
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        sink.write(0, pattern.blocks(volume.id, 0, 4 * MIB, 1))
        sink.flush()
    now = lab.pool.volumes.get(volume.id).allocated or 0
    must(new <= _CHUNK, f"a new volume of {volume.size} bytes occupies {new}: thick provisioning?")
    must(now - new + MIB >= 4 * MIB, f"4 MiB were written, allocated went from {new} to {now}")
    must(now <= volume.size, f"allocated is {now}, more than the volume's {volume.size}")


@check("cap.same_from_other_instance", rule="cap.sane", needs=(ReportsCapacity,), tier=Tier.STANDARD)
def check_same_from_other_instance(lab: Lab) -> None:
    """Two instances of a driver report the same total, which does not change when volumes are made."""
    first = lab.pool.capacity().total
    lab.volume()
    with lab.second() as other:
        totals = {first, other.capacity().total, lab.pool.capacity().total}
    must(max(totals) - min(totals) <= max(totals) // 100, f"one pool has several totals: {sorted(totals)}")


@check("cap.too_large_typed_and_clean", rule="vol.full", needs=(ReportsCapacity,), tier=Tier.STANDARD)
def check_too_large_typed_and_clean(lab: Lab) -> None:
    """A volume that the pool will never hold is made thin, or refused with `OutOfCapacity` and not there.

    `Internal` or `Unavailable` here make an orchestrator try again, instead of taking another pool.
    """
    traits = lab.pool.traits
    size = min(traits.max_size, 1024 * lab.pool.capacity().total) // traits.size_granularity
    wanted = spec(lab, size * traits.size_granularity)
    try:
        lab.pool.volumes.create(wanted)
    except OutOfCapacity as error:
        must(error.outcome.value == "not_applied", f"OutOfCapacity claims outcome {error.outcome}")
        with refused(NotFound):
            lab.pool.volumes.get(wanted.id)


@contextmanager
def _full(lab: Lab) -> Iterator[list[StorageError]]:
    """Fill the pool; yields what the writes that did not fit raised. It is empty again afterwards."""
    errors: list[StorageError] = []
    made: list[Volume] = []
    try:
        while not errors:
            try:
                made.append(lab.volume(4 * _CHUNK))
                _fill(lab, made[-1])
            except StorageError as error:
                errors.append(error)
        yield errors
    finally:
        for volume in made:
            lab.pool.volumes.delete(volume.id)


@check("cap.out_of_space_typed_and_clean", rule="vol.full", needs=(ReportsCapacity,), tier=Tier.DISRUPTIVE)
def check_out_of_space_typed_and_clean(lab: Lab) -> None:
    """A full pool gives `OutOfCapacity`, harms no other volume, and works again when space is freed.

    The pool is really filled, so give the suite one of at most 4 GiB that nobody else uses. A failure of
    the bystander's data is the worst that thin provisioning can do.
    """
    if lab.pool.capacity().total > _LARGEST:
        not_applicable(f"the pool has more than {_LARGEST} bytes: filling it would take too long")
    bystander, before = written(lab), lab.pool.capacity().used
    with _full(lab) as errors:
        lab.verify(bystander.id, expected(SIZE, 1))
    must(isinstance(errors[0], OutOfCapacity), f"the full pool gave {type(errors[0]).__name__}: {errors[0]}")
    used = _used_until(lab, lambda now: now <= before + _CHUNK)
    must(used <= before + _CHUNK, f"all that filled the pool was deleted, used went from {before} to {used}")
    lab.write(bystander, 2)
    lab.verify(bystander.id, expected(SIZE, 2))
    _fill(lab, lab.volume(4 * _CHUNK))


@check("qos.bad_value_refused", rule="qos.bad", needs=(HasQos,), tier=Tier.STANDARD)
def check_bad_value_refused(lab: Lab) -> None:
    """The driver itself refuses a minimum above the maximum and negative numbers, and keeps the limits."""
    driver, volume, good = lab.pool.require(HasQos), lab.volume(SIZE).id, Qos(max_iops=1000)
    lab.pool.volumes.set_qos(volume, good)
    for bad in (Qos(min_iops=200, max_iops=100), Qos(max_iops=-1), Qos(max_bytes_per_second=-1)):
        with refused(InvalidArgument):
            driver.set_qos(volume, bad, lab.call())
        now = lab.pool.volumes.get(volume).qos
        must(now == good, f"the refused {bad} changed the limits to {now}")


@check("qos.at_create", rule="qos.read-back", needs=(HasQos,), tier=Tier.STANDARD)
def check_at_create(lab: Lab) -> None:
    """Limits that a volume is created with are there from the start; a clone has those that it asks for."""
    limits = Qos(max_iops=700)
    made = lab.pool.volumes.create(VolumeSpec(id=lab.new_id(), size=SIZE, qos=limits))
    must(lab.pool.volumes.get(made.id).qos == limits, f"created with {limits}, shown are {made.qos}")
    if ClonesVolume.provides in lab.pool.capabilities().native:
        other = Qos(max_iops=900)
        wanted = VolumeSpec(id=lab.new_id(), size=SIZE, qos=other)
        lab.pool.volumes.clone(made.id, wanted)
        now = lab.pool.volumes.get(wanted.id).qos
        must(now == other, f"a clone was made with {other}, shown are {now}")


@check(
    "qos.survives_resize_revert",
    rule="qos.kept",
    needs=(HasQos, Resizes, Reverts, Snapshots),
    tier=Tier.STANDARD,
)
def check_survives_resize_revert(lab: Lab) -> None:
    """Growing a volume and reverting it do not lift its limits.

    The noisy neighbour is back after the first restore, and nobody has changed anything.
    """
    limits, volume = Qos(max_iops=800), lab.volume(SIZE)
    snapshot = lab.snapshot(volume.id)
    lab.pool.volumes.set_qos(volume.id, limits)
    acts: dict[str, Callable[[], Volume]] = {
        "resize": lambda: lab.pool.volumes.resize(volume.id, 2 * SIZE),
        "revert": lambda: lab.pool.volumes.revert(volume.id, snapshot.id),
    }
    for name, act in acts.items():
        act()
        now = lab.pool.volumes.get(volume.id).qos
        must(now == limits, f"after {name} the limits are {now} instead of {limits}")


@check("qos.limit_holds", rule="qos.enforced", kinds=("managed",), needs=(HasQos,), tier=Tier.DEEP)
def check_limit_holds(lab: Lab) -> None:
    """A host that writes as fast as it can gets at most a tenth more than its limit, over some seconds.

    The first second is left out, for storages that save up credit. Limits that are shown and not enforced
    are found by nothing else.
    """
    volume, host, limit = lab.volume(SIZE), lab.host(), 40
    lab.pool.volumes.set_qos(volume.id, Qos(max_iops=limit))
    data = pattern.block(volume.id, 0, 1)
    with open_sink(lab.pool.volumes.grant(volume.id, host), timeout=30) as sink:
        _writes_within(sink.write, data, 1.0)
        began = time.monotonic()
        written_blocks = _writes_within(sink.write, data, 4.0)
        rate = written_blocks / (time.monotonic() - began)
    lab.notes.measure("writes per second at a limit of 40", rate, "1/s")
    must(rate <= 1.1 * limit, f"the limit is {limit} requests per second, {rate:.0f} were served")


def _writes_within(write: Callable[[int, bytes], None], data: bytes, seconds: float) -> int:
    """Write one block again and again; return how often."""
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        write(0, data)
        count += 1
    return count
