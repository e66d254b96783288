"""Crash at every external call: the driver's process is killed there, and somebody else repeats the call.

count   deed ── c0 ── c1 ── c2 ──> done          external calls: requests, renames, child processes …
i = 1   deed ── c0 ── SIGKILL                    in a host process of its own
        deed again, by another process ──> as if nothing had happened; nothing is left twice
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ...core.pool import Pool
from ...core.spi import Call, ClonesVolume, Resizes, Reverts, Snapshots, StorageError, VolumeFromSnapshot
from .. import deeds
from ..deeds import Deed, Scene
from ..lab import ContractBroken, Lab, must, not_applicable
from ..model import Level, Tier
from ..registry import check

MANAGED = ("managed",)
# A dead process's locks and requests may live on for a moment; longer is a lock that nobody owns.
PATIENCE = 30.0
# Enough for any deed of a sane driver; a hundred kills of one deed say nothing that forty do not.
MOST_POINTS = 40


@contextmanager
def hosted(lab: Lab) -> Iterator[tuple[Pool, Any]]:
    """Open the pool once more, in a process that may be killed."""
    with lab.second(fork=True) as pool:  # one for each external call
        host = getattr(pool.driver, "host", None)
        if host is None:
            not_applicable("the driver runs in the suite's own process (--in-process)")
        yield pool, host


def external_calls(lab: Lab, deed: Deed) -> list[str]:
    """Do a deed once undisturbed; returns what it called outside of its process."""
    scene = deed.prepare(lab)
    with hosted(lab) as (pool, host):
        host.count()
        deed.act(pool.driver, scene, lab.call())
        points: list[str] = host.counted()
    deed.judge(lab, scene)
    return points


def die_at(lab: Lab, deed: Deed, scene: Scene, point: int) -> None:
    """Do a deed in a process that dies right before external call number `point`."""
    with suppress(StorageError), hosted(lab) as (pool, host):
        host.arm(point)
        deed.act(pool.driver, scene, lab.call())


def again(act: Callable[[Call], object], lab: Lab) -> None:
    """Repeat a call as an orchestrator does: while the driver says that it is worth it."""
    call = lab.call(PATIENCE)
    lab.pool.run("conformance.again", (), act, call)


def _at_each_call(lab: Lab, deed: Deed, then: Callable[[Lab, Deed, Scene], None]) -> None:
    points = external_calls(lab, deed)
    must(points, f"{deed.method} called nothing outside of its process, and yet it was done")
    for number, point in list(enumerate(points))[:MOST_POINTS]:
        scene = deed.prepare(lab)
        die_at(lab, deed, scene, number)
        with _told(deed, f"killed before external call {number} of {len(points)} ({point})"):
            then(lab, deed, scene)
    lab.notes.measure(f"external calls of {deed.method}", len(points), "calls")


@contextmanager
def _told(deed: Deed, where: str) -> Iterator[None]:
    """Say in a failure where the process died."""
    try:
        yield
    except ContractBroken as error:
        raise ContractBroken(f"{deed.method} {where}, then: {error}") from error
    except StorageError as error:
        text = f"{type(error).__name__} [{error.outcome}]: {error.message}"
        raise ContractBroken(f"{deed.method} {where}, then: {text}") from error


def _retry(lab: Lab, deed: Deed, scene: Scene) -> None:
    again(lambda call: deed.act(lab.pool.driver, scene, call), lab)
    deed.judge(lab, scene)


def _give_up(lab: Lab, _: Deed, scene: Scene) -> None:
    deeds.give_up(lab, scene)


@check("crash.create_volume", rule="vol.finish", tier=Tier.STANDARD)
def check_create_volume(lab: Lab) -> None:
    """A create that was killed at any external call is finished by the repeat: one volume, all zeros.

    The orchestrator restarts, and asks again with the same id. A half-made volume that the repeat returns
    as it is has the wrong size or holds somebody else's bytes; one that it does not recognise is a leak.
    """
    _at_each_call(lab, deeds.CREATE, _retry)


@check("crash.delete_volume", rule="any.idempotent", tier=Tier.STANDARD)
def check_delete_volume(lab: Lab) -> None:
    """A delete whose process was killed at any external call is finished by the repeat.

    What is half deleted must still be found by its id: a record that goes before its data is a leak that
    no repeat can end.
    """
    _at_each_call(lab, deeds.DELETE, _retry)


@check(
    "crash.clone_volume",
    rule="clone.never-empty",
    needs=(ClonesVolume,),
    tier=Tier.STANDARD,
    field_bug="dell/csm#1425: the retry of a clone returned an empty volume",
)
def check_clone_volume(lab: Lab) -> None:
    """A clone whose process was killed at any external call is filled after the repeat, and is there once.

    The usual mistake: create the volume, die, and find "it exists" in the repeat before it was filled.
    """
    _at_each_call(lab, deeds.CLONE, _retry)


@check(
    "crash.volume_from_snapshot",
    rule="clone.never-empty",
    needs=(Snapshots, VolumeFromSnapshot),
    tier=Tier.STANDARD,
    field_bug="cloudstack#11490: a volume from a snapshot was empty",
)
def check_volume_from_snapshot(lab: Lab) -> None:
    """A restore whose process was killed at any external call is filled after the repeat, and is there once.

    See crash.clone_volume.
    """
    _at_each_call(lab, deeds.RESTORE, _retry)


@check("crash.resize_volume", rule="resize.grow", needs=(Resizes,), tier=Tier.STANDARD)
def check_resize_volume(lab: Lab) -> None:
    """A resize whose process was killed at any external call is finished by the repeat, for the host as well.

    "It has the size already" is no answer while the export, or the image's header, still has the old one.
    """
    _at_each_call(lab, deeds.RESIZE, _retry)


@check("crash.create_snapshot", rule="snap.same-id", needs=(Snapshots,), tier=Tier.STANDARD)
def check_create_snapshot(lab: Lab) -> None:
    """A snapshot that was killed at any external call exists once after the repeat, with its bytes."""
    _at_each_call(lab, deeds.SNAPSHOT, _retry)


@check("crash.delete_snapshot", rule="snap.delete-keeps-others", needs=(Snapshots,), tier=Tier.STANDARD)
def check_delete_snapshot(lab: Lab) -> None:
    """A snapshot's delete whose process was killed at any external call is finished by the repeat.

    The volume keeps its bytes whatever a half-done merge left behind.
    """
    _at_each_call(lab, deeds.DELETE_SNAPSHOT, _retry)


@check("crash.revert_volume", rule="rev.all-or-nothing", needs=(Snapshots, Reverts), tier=Tier.STANDARD)
def check_revert_volume(lab: Lab) -> None:
    """After a revert that was killed the volume is wholly old or wholly reverted; the repeat ends it."""

    def look_and_retry(lab: Lab, deed: Deed, scene: Scene) -> None:
        must(deed.applied(lab, scene) is not None, "the volume is a mixture of old and reverted blocks")
        _retry(lab, deed, scene)

    _at_each_call(lab, deeds.REVERT, look_and_retry)


@check("crash.grant", rule="acl.grant-twice", kinds=MANAGED, tier=Tier.STANDARD)
def check_grant(lab: Lab) -> None:
    """A grant that was killed at any external call is finished by the repeat: one grant, of that host."""
    _at_each_call(lab, deeds.GRANT, _retry)


@check("crash.revoke", rule="acl.revoke-proven", kinds=MANAGED, tier=Tier.STANDARD)
def check_revoke(lab: Lab) -> None:
    """A revoke whose process was killed at any external call is finished by the repeat: no grant is left.

    A revoke that stops halfway leaves a host that may still write while the volume is given to the next.
    """
    _at_each_call(lab, deeds.REVOKE, _retry)


@check("crash.give_up", rule="any.gone", tier=Tier.STANDARD)
def check_give_up(lab: Lab) -> None:
    """Whatever a killed call had made goes with a delete; nobody has to finish it first.

    Users cancel: after the crash comes no repeat, but a delete of an object that may be half there. What
    then stays is listed by the leak results.
    """
    for deed in deeds.DEEDS:
        if deed.makes and _applies(lab, deed):
            _at_each_call(lab, deed, _give_up)


@check("crash.double", rule="any.idempotent", level=Level.SHOULD, tier=Tier.STANDARD)
def check_double(lab: Lab) -> None:
    """A repeat that is killed as well changes nothing: the third call still ends as the first would have.

    Two random pairs of external calls for each operation; the seed of the run gives the same pairs again.
    """
    for deed in deeds.DEEDS:
        if not _applies(lab, deed):
            continue
        points = external_calls(lab, deed)
        for _ in range(2):
            first, second = lab.notes.random.randrange(len(points)), lab.notes.random.randrange(len(points))
            scene = deed.prepare(lab)
            die_at(lab, deed, scene, first)
            die_at(lab, deed, scene, second)
            with _told(deed, f"killed before external call {first}, and {second} of the repeat"):
                _retry(lab, deed, scene)


@check("crash.orchestrator_forgot", rule="vol.list-complete", tier=Tier.STANDARD)
def check_orchestrator_forgot(lab: Lab) -> None:
    """An object whose id the orchestrator lost is found by listing, in a process that never saw it."""
    scene = deeds.CREATE.prepare(lab)
    deeds.CREATE.act(lab.pool.driver, scene, lab.call())
    with hosted(lab) as (pool, _):
        found = [v for v in pool.volumes.list() if v.id == scene.volume]
    must(len(found) == 1, f"another process lists the volume {len(found)} times")
    must(found[0].size == deeds.SIZE, f"another process sees {found[0].size} bytes")


@check("crash.no_lock_survives", rule="any.idempotent", tier=Tier.STANDARD)
def check_no_lock_survives(lab: Lab) -> None:
    """A process killed in the middle of its work holds no lock that keeps others from the object for long.

    A lock file without an owner, or a lease without an end, stops every later operation on the volume.
    """
    points = external_calls(lab, deeds.CREATE)
    scene = deeds.CREATE.prepare(lab)
    die_at(lab, deeds.CREATE, scene, max(0, len(points) - 1))
    again(lambda call: lab.pool.driver.create_volume(deeds.spec_of(scene.volume), call), lab)
    again(lambda call: lab.pool.driver.delete_volume(scene.volume, call), lab)
    must(deeds.DELETE.applied(lab, scene), "the volume is still there after its delete")


def _applies(lab: Lab, deed: Deed) -> bool:
    native = lab.pool.capabilities().native
    declared = all(getattr(mixin, "provides") in native for mixin in deed.needs)  # noqa: B009 - mix-ins have it
    return declared and ("managed" if lab.pool.managed else "host") in deed.kinds
