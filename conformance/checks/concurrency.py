"""Calls at the same time: from threads, and from two instances of the driver on one pool."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any, TypeVar, cast

from ...core.spi import (
    Call,
    ClonesVolume,
    Conflict,
    Grant,
    HasDependents,
    Host,
    InUse,
    NotFound,
    PrimaryDriver,
    Resizes,
    Snapshots,
    StorageError,
    Volume,
    VolumeSpec,
)
from ...transfer_objects.ids import SnapshotId, VolumeId, new_id
from ..lab import MIB, ContractBroken, Lab, expected, must
from ..model import Level, Tier
from ..modelbased.linear import contradiction
from ..modelbased.pool_planner import unit_of
from ..modelbased.together import asking, doors, patiently, together
from ..modelbased.volume_calls import Made, State, Target, model, play, random_plans
from ..registry import check

_DUPLICATES = "aws-ebs-csi-driver#165, HPE CON-2642, vsphere-csi#2507: two creates at once made two volumes"
_DETACHED = "kubernetes#19602, cloudstack#14214: a late detach took away what another attach had just made"

T = TypeVar("T")


def _succeeded(answers: Sequence[T | StorageError], what: str, *allowed: type[StorageError]) -> list[T]:
    """Return the results of the calls; fail if one had another error than the allowed ones."""
    wrong = [a for a in answers if isinstance(a, StorageError) and not isinstance(a, allowed)]
    told = sorted({f"{type(error).__name__}: {error.message}" for error in wrong})
    must(not wrong, f"{len(wrong)} of {len(answers)} {what} failed: {'; '.join(told[:3])}")
    return [a for a in answers if not isinstance(a, StorageError)]


def _look(lab: Lab, volume: VolumeId) -> Volume | StorageError:
    return asking(lambda: lab.pool.driver.get_volume(volume, lab.call()))


def _listed(driver: PrimaryDriver[Any], volumes: set[VolumeId], call: Call) -> list[VolumeId]:
    """Return which of these are listed, each as often as it is."""
    found, after = list[VolumeId](), None
    while True:
        page = driver.list_volumes(call, after=after)
        found += [v.id for v in page.items if v.id in volumes]
        after = page.after
        if after is None:
            return found


def _must_be_gone(lab: Lab, volume: VolumeId) -> None:
    """Delete a volume; where there were two of one id, the second shows now."""
    gone = patiently(lambda call: lab.pool.driver.delete_volume(volume, call))
    must(not isinstance(gone, StorageError), f"the volume cannot be deleted: {gone}")
    must(
        isinstance(_look(lab, volume), NotFound),
        "after the delete a volume of this id is shown: there were two, or the driver remembers the old one",
    )
    must(not _listed(lab.pool.driver, {volume}, lab.call()), "after the delete the volume is still listed")


# -- histories -------------------------------------------------------------------------------------------


def _histories(lab: Lab, *, most: int, seconds: float) -> None:
    """Play random histories until one cannot be explained or the time is up."""
    traits, able = lab.pool.traits, lab.pool.capabilities().native
    until, played = time.monotonic() + seconds, 0
    with doors(lab, 3) as drivers:
        while played < most and time.monotonic() < until:
            plans = random_plans(
                lab.notes.random,
                len(drivers),
                4,
                unit_of(traits),
                snapshots=Snapshots.provides in able,
                resizes=Resizes.provides in able,
            )
            target = Target(volume=lab.new_id(), snapshot=SnapshotId(new_id(lab.prefix)))
            with _snapshot_goes_first(lab, target):
                made = play(drivers, plans, target)
                wrong = contradiction(made, State(), model(traits))
                must(not wrong, _unexplained(wrong))
                _settle(lab, target, made)
            played += 1
    lab.notes.measure("histories", played, "histories")


@contextmanager
def _snapshot_goes_first(lab: Lab, target: Target) -> Iterator[None]:
    """Remove the snapshot after a failure.

    The audit removes what is left in the order in which it was asked for, backwards. Here a snapshot may
    have been asked for before its volume, and would keep the volume: a leak that is none of the driver's.
    """
    try:
        yield
    except ContractBroken:
        if Snapshots.provides in lab.pool.capabilities().native:
            with suppress(StorageError):
                lab.pool.snapshots.delete(target.snapshot)
        raise


def _unexplained(calls: Sequence[Made]) -> str:
    since = min((call.began for call in calls), default=0.0)
    told = "\n".join(f"    {call.told(since)}" for call in calls)
    return (
        f"no order of these {len(calls)} calls on one volume and one snapshot explains their answers:\n{told}"
    )


def _settle(lab: Lab, target: Target, made: Sequence[Made]) -> None:
    """The lists agree with what was seen last; then both objects go.

    What a call without an answer asked for may happen between two looks: then nothing is compared, and
    the audit removes what is left.
    """
    if any(one.asked.method.endswith("_snapshot") for one in made):
        lab.pool.snapshots.delete(target.snapshot)
    if any(math.isinf(one.ended) for one in made):
        return
    there = isinstance(_look(lab, target.volume), Volume)
    count = len(_listed(lab.pool.driver, {target.volume}, lab.call()))
    must(count == there, f"the volume {'exists' if there else 'is gone'}, and is listed {count} times")
    _must_be_gone(lab, target.volume)


@check("conc.linearizable_histories", rule="any.concurrent", tier=Tier.STANDARD, field_bug=_DUPLICATES)
def check_linearizable_histories(lab: Lab) -> None:
    """What concurrent calls on one volume and one snapshot answer can be explained by some order of them.

    Three callers, on two instances of the driver, make four random calls each (create, delete, get,
    resize, snapshot ...) on the same volume id and snapshot id. Then all orders that respect which call
    had ended before another began are searched for one in which a single caller would have got the very
    same answers. An error with outcome unknown may or may not have applied, now or later; one that
    claims "not applied" must not have, and must be right where it stands (`Busy`, `Unavailable` and
    `DeadlineExceeded` always are). How long a call takes does not matter.

    A failure shows the few calls for which there is no such order, with their times; what had not ended
    when the contradiction was complete is shown without its answer. Usual causes: look,
    then create without a unique key on the array; a create that reads back what another call has just
    deleted and says `NotFound`; an error that says "not applied" after the array had accepted.
    """
    _histories(lab, most=60, seconds=40)


@check("conc.many_histories", rule="any.concurrent", tier=Tier.DEEP, field_bug=_DUPLICATES)
def check_many_histories(lab: Lab) -> None:
    """What concurrent calls answer can be explained by some order of them, in hundreds of histories, too.

    As `conc.linearizable_histories`; at most fifteen minutes are spent (`--deep-seconds`).
    """
    _histories(lab, most=500, seconds=lab.notes.deep_seconds)


# -- creating and deleting -------------------------------------------------------------------------------


@check("conc.same_create_16x_one_volume", rule="vol.same-spec", tier=Tier.STANDARD, field_bug=_DUPLICATES)
def check_same_create_16x_one_volume(lab: Lab) -> None:
    """Sixteen callers that create one volume at the same time get one and the same volume.

    An orchestrator whose call timed out asks again while the first call still runs. Each caller must
    get the volume, with the same identity (`Busy` on the way is fine, and is repeated), there must be
    one entry in the list, and after one delete there must be nothing left. A failure means that looking
    for the volume and creating it are two steps on the array, with nothing unique between them.
    """
    for _ in range(3):
        spec = VolumeSpec(id=lab.new_id(), size=unit_of(lab.pool.traits))
        with doors(lab, 16) as drivers:
            answers = together(
                [partial(patiently, partial(driver.create_volume, spec)) for driver in drivers]
            )
        identities = {volume.identity for volume in _succeeded(answers, "creates of one volume")}
        must(len(identities) == 1, f"the callers were given different volumes: {sorted(identities)}")
        count = len(_listed(lab.pool.driver, {spec.id}, lab.call()))
        must(count == 1, f"after concurrent creates the volume is listed {count} times")
        _must_be_gone(lab, spec.id)


@check(
    "conc.create_delete_race",
    rule="any.concurrent",
    tier=Tier.STANDARD,
    field_bug="zfs-localpv#588: a create returned the volume that another call was just removing",
)
def check_create_delete_race(lab: Lab) -> None:
    """Creates and deletes of one volume at the same time each succeed, and leave it whole or gone.

    Which of them comes last is open. But no create may fail because of a delete with anything but
    `Busy`, no delete may fail, and what is left is a volume of the right size that reads zeros, or none.
    """
    # In half of the turns the deletes come while the creates run: all at once, a driver that looks for its
    # volume after the create went through in 1 of 8 runs.
    for turn in range(8):
        spec = VolumeSpec(id=lab.new_id(), size=unit_of(lab.pool.traits))
        late = lab.notes.random.uniform(0, 0.02) if turn % 2 else 0.0
        with doors(lab, 8) as drivers:
            jobs: list[Callable[[], object]] = []
            for number, driver in enumerate(drivers):
                create = partial(patiently, partial(driver.create_volume, spec))
                delete = partial(patiently, partial(driver.delete_volume, spec.id))
                jobs.append(partial(_later, late, delete) if number // 2 % 2 else create)
            _succeeded(together(jobs), "racing creates and deletes")
        left = _look(lab, spec.id)
        if isinstance(left, Volume):
            must(left.size == spec.size, f"what the race left has {left.size} bytes")
            lab.verify(spec.id, {0: None, spec.size - 4096: None})
        _must_be_gone(lab, spec.id)


@check("conc.create_storm_64", rule="any.concurrent", tier=Tier.DEEP, field_bug="btrfs-nfs-csi#133")
def check_create_storm_64(lab: Lab) -> None:
    """Sixty-four creates of different volumes at once make sixty-four volumes, none twice.

    Sixteen callers create four volumes each; a restart of many VMs looks like that. Each must succeed
    (`Busy` and `Unavailable` are repeated), be listed once, and have an identity of its own.
    """
    size = unit_of(lab.pool.traits)
    specs = [VolumeSpec(id=lab.new_id(), size=size) for _ in range(64)]
    with doors(lab, 16) as drivers:
        share = len(drivers)
        jobs = [
            partial(_each, [partial(d.create_volume, s) for s in specs[n::share]])
            for n, d in enumerate(drivers)
        ]
        made = _succeeded([one for some in together(jobs, 300) for one in some], "creates")
        listed = _listed(lab.pool.driver, {s.id for s in specs}, lab.call())
        must(sorted(listed) == sorted(s.id for s in specs), f"of 64 volumes {len(listed)} are listed")
        identities = {volume.identity for volume in made}
        must(len(identities) == 64, f"64 volumes have {len(identities)} identities")
        deletes = [
            partial(_each, [partial(d.delete_volume, s.id) for s in specs[n::share]])
            for n, d in enumerate(drivers)
        ]
        _succeeded([one for some in together(deletes, 300) for one in some], "deletes")
    must(not _listed(lab.pool.driver, {s.id for s in specs}, lab.call()), "deleted volumes are still listed")


def _each(acts: Sequence[Callable[[Call], T]]) -> list[T | StorageError]:
    return [patiently(act) for act in acts]


@check("conc.delete_vs_clone", rule="any.concurrent", needs=(ClonesVolume,), tier=Tier.DEEP)
def check_delete_vs_clone(lab: Lab) -> None:
    """A clone whose source is deleted at the same time is whole, or is refused and does not exist.

    Either order is right. A clone that exists must hold every block of its source; a refused one must
    leave nothing under its id, and a refused delete (`InUse`, `HasDependents`) must leave the source.
    The delete begins with the clone or at a random moment while it runs.
    """
    cloner, quiet = cast("ClonesVolume", lab.pool.driver), lab.volume(4 * MIB)
    alone = VolumeSpec(id=lab.new_id(), size=4 * MIB)
    takes = _seconds(lambda: asking(lambda: cloner.clone_volume(quiet.id, alone, lab.call())))
    for turn in range(10):
        source, spec = lab.volume(4 * MIB), VolumeSpec(id=lab.new_id(), size=4 * MIB)
        late = lab.notes.random.uniform(0, takes) if turn % 3 else 0.0
        lab.write(source, 1)
        with doors(lab, 2) as drivers:
            cloning: Any = drivers[0]
            cloned, deleted = together(
                [
                    partial(patiently, partial(cloning.clone_volume, source.id, spec)),
                    partial(_later, late, partial(patiently, partial(drivers[1].delete_volume, source.id))),
                ]
            )
        _succeeded([cloned], "clones beside a delete", NotFound)
        _succeeded([deleted], "deletes beside a clone", InUse, HasDependents)
        if isinstance(cloned, StorageError):
            must(isinstance(_look(lab, spec.id), NotFound), "a clone that was refused exists")
        else:
            lab.verify(spec.id, expected(spec.size, 1), owner=source.id)
        left = _look(lab, source.id)
        kept = isinstance(deleted, StorageError)
        must(isinstance(left, Volume) is kept, f"the delete ended with {deleted}, the source with {left}")


def _later(seconds: float, act: Callable[[], T]) -> T:
    Event().wait(seconds)
    return act()


# -- access ----------------------------------------------------------------------------------------------


@check(
    "conc.attach_detach_race_two_hosts",
    rule="acl.single-writer",
    kinds=("managed",),
    tier=Tier.STANDARD,
    field_bug=_DETACHED,
)
def check_attach_detach_race_two_hosts(lab: Lab) -> None:
    """Two hosts that are granted one volume at once never both have it, and a revoke hits only its host.

    During a failover the new host attaches while the old one is still being detached. Unless the traits
    allow several writers, at most one grant may succeed, and the array's list must show just those that
    did. Then one host is revoked while the other asks for a grant: what that grant answers must be what
    the list shows. Two writers on one file system are its end; no later check finds the cause.
    """
    volume, hosts = lab.volume(unit_of(lab.pool.traits)), [lab.host(), lab.host()]
    with doors(lab, 2) as drivers:
        for _ in range(5):
            answers = together(
                [partial(_grant, d, volume.id, h) for d, h in zip(drivers, hosts, strict=True)]
            )
            _compare_grants(lab, volume.id, hosts, answers)
            first: Any = drivers[0]
            late, gone = together(
                [
                    partial(_grant, drivers[1], volume.id, hosts[1]),
                    partial(patiently, partial(first.revoke, volume.id, hosts[0].id)),
                ]
            )
            must(not isinstance(gone, StorageError), f"the revoke failed: {gone}")
            had = isinstance(answers[1], StorageError) and isinstance(late, StorageError)
            _compare_grants(lab, volume.id, hosts, [InUse("revoked"), late if had else "granted"])
            lab.pool.volumes.revoke(volume.id, hosts[1].id)
            must(not lab.pool.volumes.grants(volume.id), "after both revokes a grant is still listed")


def _grant(driver: Any, volume: VolumeId, host: Host) -> object:
    return patiently(lambda call: driver.grant(volume, host, call))


def _compare_grants(lab: Lab, volume: VolumeId, hosts: Sequence[Host], answers: Sequence[object]) -> None:
    """The hosts that were told that they have the volume are those that the array lists."""
    _succeeded(answers, "grants beside another one", InUse)
    told = {h.id for h, answer in zip(hosts, answers, strict=True) if not isinstance(answer, StorageError)}
    grants: Sequence[Grant] = lab.pool.volumes.grants(volume)
    listed = sorted(g.host for g in grants)
    must(listed == sorted(told), f"granted were {sorted(told)}, the array lists {listed}")
    must(
        len(listed) < 2 or lab.pool.traits.multi_attach,
        "two hosts may write to the volume, though traits say that it cannot be shared",
    )


# -- snapshots -------------------------------------------------------------------------------------------


@check(
    "conc.snapshot_storm_one_volume",
    rule="any.concurrent",
    needs=(Snapshots,),
    tier=Tier.STANDARD,
    field_bug=_DUPLICATES,
)
def check_snapshot_storm_one_volume(lab: Lab) -> None:
    """Snapshots of one volume that are taken at once are all there, each once, each with the bytes.

    Eight callers take four snapshots: each id is asked for twice at the same time. Both must be given
    the same cut. Then two are deleted at once, and the others must stay as they are.
    """
    volume = lab.volume(4 * MIB)
    lab.write(volume, 1)
    most = min(4, lab.pool.traits.max_snapshots_per_volume or 4)
    ids = [SnapshotId(new_id(lab.prefix)) for _ in range(most)]
    with doors(lab, 2 * most) as drivers:
        takers: list[Any] = list(drivers)
        jobs = [
            partial(patiently, partial(d.create_snapshot, volume.id, ids[n % most]))
            for n, d in enumerate(takers)
        ]
        answers = together(jobs)
        cuts = {(snapshot.id, snapshot.created) for snapshot in _succeeded(answers, "snapshots")}
        asked = {ids[n % most] for n in range(len(jobs))}
        must(len(cuts) == len(asked), f"{len(asked)} ids were asked for, and {len(cuts)} cuts were shown")
        _compare_snapshots(lab, volume.id, asked)
        gone = sorted(asked)[: len(asked) // 2]
        removes = [
            partial(patiently, partial(d.delete_snapshot, s)) for d, s in zip(takers, gone, strict=False)
        ]
        _succeeded(together(removes), "deletes of snapshots")
    _compare_snapshots(lab, volume.id, asked - set(gone))
    for snapshot in sorted(asked - set(gone))[:2]:
        lab.verify_snapshot(snapshot, volume.id, expected(volume.size, 1))


def _compare_snapshots(lab: Lab, volume: VolumeId, wanted: set[SnapshotId]) -> None:
    listed = sorted(s.id for s in lab.pool.snapshots.list(volume))
    must(listed == sorted(wanted), f"there should be {len(wanted)} snapshots, listed are {listed}")


@check("conc.resize_vs_snapshot", rule="any.concurrent", needs=(Snapshots, Resizes), tier=Tier.DEEP)
def check_resize_vs_snapshot(lab: Lab) -> None:
    """A snapshot taken while the volume grows has the old size or the new one, and all of the bytes.

    Its reported size must be the one that a reader finds: a restore makes its volume by that figure. The
    resize comes a little later each time, so that it meets each part of the snapshot: a driver which was
    wrong for 50 ms went through ten rounds of one and the same order.
    """
    for looks in range(10):
        volume, wanted = lab.volume(4 * MIB), SnapshotId(new_id(lab.prefix))
        lab.write(volume, 1)
        with doors(lab, 2) as drivers:
            cutting: Any
            growing: Any
            cutting, growing = drivers
            answers = together(
                [
                    partial(patiently, partial(cutting.create_snapshot, volume.id, wanted)),
                    partial(_resized_after, looks, growing, volume.id, 8 * MIB),
                ]
            )
        cut, grown = _succeeded(answers, "calls (a snapshot and a resize)")
        must(grown.size == 8 * MIB, f"the volume has {grown.size} bytes after the resize")
        must(cut.size in (4 * MIB, 8 * MIB), f"the snapshot has {cut.size} bytes")
        with lab.mover.reading_snapshot(lab.pool, wanted) as source:
            must(source.size == cut.size, f"the snapshot says {cut.size} bytes, a reader finds {source.size}")
        lab.verify_snapshot(wanted, volume.id, expected(4 * MIB, 1))
        lab.verify(volume.id, expected(4 * MIB, 1))


def _resized_after(looks: int, driver: Any, volume: VolumeId, size: int) -> Any:
    """Return what a resize answers that comes after so many looks at the volume."""
    for _ in range(looks):
        patiently(partial(driver.get_volume, volume))
    return patiently(partial(driver.resize_volume, volume, size))


# -- manners ---------------------------------------------------------------------------------------------


@check("conc.busy_is_typed_and_retryable", rule="any.concurrent", tier=Tier.STANDARD)
def check_busy_is_typed_and_retryable(lab: Lab) -> None:
    """A call that another one keeps from the volume says `Busy`, and succeeds when it is repeated.

    Eight callers do to one volume what does not exclude each other (ask for it again, look, resize it to
    the size that it has, take snapshots of their own). The only errors may be retryable ones, and each
    repetition must succeed within a minute. A driver that passes on its array's "conflict" or
    "invalid state" makes an orchestrator give up what a second attempt would have done. CSI's word for
    this is ABORTED.
    """
    able, volume = lab.pool.capabilities().native, lab.volume(unit_of(lab.pool.traits))
    spec = VolumeSpec(id=volume.id, size=volume.size, name=volume.name)
    with doors(lab, 8) as drivers:
        jobs = []
        for number, one in enumerate(drivers):
            driver: Any = one
            acts = [partial(driver.create_volume, spec), partial(driver.get_volume, volume.id)]
            if Resizes.provides in able:
                acts.append(partial(driver.resize_volume, volume.id, volume.size))
            if Snapshots.provides in able and number < (lab.pool.traits.max_snapshots_per_volume or 8):
                acts.append(partial(driver.create_snapshot, volume.id, SnapshotId(new_id(lab.prefix))))
            jobs.append(partial(_each, acts))
        answers = [one for some in together(jobs) for one in some]
    _succeeded(answers, "calls that do not exclude each other")


@check("conc.two_driver_processes", rule="any.concurrent", tier=Tier.STANDARD, field_bug=_DUPLICATES)
def check_two_driver_processes(lab: Lab) -> None:
    """What one instance of the driver did, another one sees at once; nothing is remembered wrongly.

    Orchestrators run twice for availability, and either may be asked next. The second instance must find
    the volume that the first has just made, refuse its id with another size, see that it has gone, and make
    it anew: a cache in the driver shows here.
    """
    size = unit_of(lab.pool.traits)
    with lab.second() as other:
        for _ in range(3):
            volume = lab.new_id()
            _compare_instances(lab, other.driver, VolumeSpec(id=volume, size=size), 2 * size)


def _compare_instances(lab: Lab, two: PrimaryDriver[Any], spec: VolumeSpec, more: int) -> None:
    """Let one instance make and the other one look, and the reverse; `more`: another size, bytes."""
    one, bigger = lab.pool.driver, replace(spec, size=more)
    made = one.create_volume(spec, lab.call())
    found = asking(lambda: two.get_volume(spec.id, lab.call()))
    must(isinstance(found, Volume), f"the other instance does not find the new volume: {found}")
    again = asking(lambda: two.create_volume(spec, lab.call()))
    same = isinstance(again, Volume) and again.identity == made.identity
    must(same, f"the other instance was asked for the same volume and answered {again}")
    taken = asking(lambda: two.create_volume(bigger, lab.call()))
    must(isinstance(taken, Conflict), f"its id with another size gave {taken}, not Conflict")
    two.delete_volume(spec.id, lab.call())
    gone = _look(lab, spec.id)
    must(isinstance(gone, NotFound), f"the other instance deleted it, and the first still has {gone}")
    anew = asking(lambda: one.create_volume(bigger, lab.call()))
    must(isinstance(anew, Volume), f"the id cannot be used again: {anew}")
    seen = asking(lambda: two.get_volume(spec.id, lab.call()))
    right = isinstance(seen, Volume) and seen.size == more
    must(right, f"the other instance shows {seen} of the volume that was made anew")


@check(
    "conc.independent_volumes_run_parallel", rule="any.concurrent", level=Level.MEASURE, tier=Tier.STANDARD
)
def check_independent_volumes_run_parallel(lab: Lab) -> None:
    """Calls on different volumes do not wait for each other.

    Four volumes are created and deleted one after the other, then four at the same time. The figure says
    how many times faster the latter was: 4 means that nothing is shared, 1 or less that there is a lock
    around everything (or one core).
    """
    size = unit_of(lab.pool.traits)

    def life(driver: PrimaryDriver[Any]) -> None:
        spec = VolumeSpec(id=lab.new_id(), size=size)
        driver.create_volume(spec, lab.call())
        driver.delete_volume(spec.id, lab.call())

    with doors(lab, 4) as drivers:
        one_by_one = _seconds(lambda: deque(map(life, drivers)))
        at_once = _seconds(lambda: together([partial(life, driver) for driver in drivers]))
    lab.notes.measure("one after the other", one_by_one, "s")
    lab.notes.measure("at the same time", at_once, "s")
    lab.notes.measure("speed-up", one_by_one / at_once, "times")


def _seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return max(time.monotonic() - began, 1e-6)
