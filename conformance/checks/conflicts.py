"""What an id stands for never changes: the same id with another meaning is refused."""

from __future__ import annotations

from collections.abc import Callable

from ...core.spi import Capability, Conflict, NotFound, Qos, StorageError, VolumeSpec
from ...transfer_objects.ids import HostId, SnapshotId, TemplateId, new_id
from ..lab import ContractBroken, Lab, must, refused
from ..model import Tier
from ..registry import check
from ._bytes import digest, must_be_absent
from ._operations import SIZE, spec, vm, written

Calls = dict[str, tuple[Capability | None, Callable[[], object]]]


def _able(lab: Lab, calls: Calls) -> list[tuple[str, Callable[[], object]]]:
    """Return those calls that the pool can do."""
    native = lab.pool.capabilities().native
    return [(name, call) for name, (needs, call) in calls.items() if needs is None or needs in native]


def _each_refused(lab: Lab, calls: Calls, error: type[StorageError]) -> None:
    """Make every call that the pool can do; fail with the names of those that are not refused so."""
    for name, call in _able(lab, calls):
        try:
            with refused(error):
                call()
        except ContractBroken as broken:
            raise ContractBroken(f"{name}: {broken}") from broken


@check("idem.same_name_other_spec_conflicts", rule="vol.same-spec", tier=Tier.STANDARD)
def check_same_name_other_spec_conflicts(lab: Lab) -> None:
    """The id of a volume that exists is refused for a volume of another size or another origin.

    Whoever gets somebody else's bytes under the id that was asked for boots the wrong disk. A failure
    names the call that succeeded, or that raised something else than `Conflict` with outcome not applied.
    """
    volumes, one, other = lab.pool.volumes, written(lab), written(lab)
    before = digest(lab, one.id)
    same, larger = VolumeSpec(id=one.id, size=SIZE), VolumeSpec(id=one.id, size=2 * SIZE)
    calls: Calls = {
        "create, larger": (None, lambda: volumes.create(larger)),
        "clone": (Capability.CLONE_VOLUME, lambda: volumes.clone(other.id, same)),
    }
    if Capability.VOLUME_FROM_SNAPSHOT in lab.pool.capabilities().native:
        snapshot = lab.snapshot(other.id).id
        calls["from snapshot"] = (
            Capability.VOLUME_FROM_SNAPSHOT,
            lambda: volumes.from_snapshot(snapshot, same),
        )
    _each_refused(lab, calls, Conflict)
    must(volumes.get(one.id).size == one.size, "the volume changed its size")
    must(digest(lab, one.id) == before, "the volume's bytes changed though the call was refused")


@check("vol.missing_not_found", rule="any.taxonomy", tier=Tier.STANDARD)
def check_missing_not_found(lab: Lab) -> None:
    """Whatever is asked of a volume or snapshot that is not there gives `NotFound` and makes nothing.

    An orchestrator takes `NotFound` as the proof that an object is gone, and every other error as a reason
    to try again. A failure names the call, and what it did instead.
    """
    volumes, snapshots, wanted = lab.pool.volumes, lab.pool.snapshots, spec(lab)
    gone, cut = lab.new_id(), SnapshotId(new_id(lab.prefix))
    calls: Calls = {
        "get": (None, lambda: volumes.get(gone)),
        "resize": (Capability.RESIZE, lambda: volumes.resize(gone, 2 * SIZE)),
        "clone": (Capability.CLONE_VOLUME, lambda: volumes.clone(gone, wanted)),
        "set limits": (Capability.QOS, lambda: volumes.set_qos(gone, Qos(max_iops=100))),
        "grant": (Capability.ACCESS_CONTROL, lambda: volumes.grant(gone, lab.host())),
        "grants": (Capability.ACCESS_CONTROL, lambda: volumes.grants(gone)),
        "get snapshot": (Capability.SNAPSHOTS, lambda: snapshots.get(cut)),
        "from snapshot": (Capability.VOLUME_FROM_SNAPSHOT, lambda: volumes.from_snapshot(cut, wanted)),
        "changed blocks": (Capability.CHANGED_BLOCKS, lambda: list(snapshots.changed(None, cut))),
        "from template": (
            Capability.TEMPLATE_CACHE,
            lambda: volumes.from_template(TemplateId(new_id(lab.prefix)), wanted),
        ),
    }
    if not lab.pool.managed:
        calls["locate"] = (None, lambda: volumes.locate(gone))
    _each_refused(lab, calls, NotFound)
    must_be_absent(lab, wanted.id, "a refused create")


@check("idem.missing_is_gone", rule="any.missing-ok", tier=Tier.STANDARD)
def check_missing_is_gone(lab: Lab) -> None:
    """Deleting, revoking and evicting what never was succeeds: it is gone, which is what was asked for.

    A clean-up that stops at the first object that somebody else has removed already never ends. A failure
    is the error that the driver raised instead.
    """
    pool, volume = lab.pool, lab.new_id()
    there = lab.volume(SIZE).id
    calls: Calls = {
        "delete": (None, lambda: pool.volumes.delete(volume)),
        "delete snapshot": (
            Capability.SNAPSHOTS,
            lambda: pool.snapshots.delete(SnapshotId(new_id(lab.prefix))),
        ),
        "revoke, no volume": (
            Capability.ACCESS_CONTROL,
            lambda: pool.volumes.revoke(volume, HostId(new_id(lab.prefix)[:40])),
        ),
        "revoke, no grant": (
            Capability.ACCESS_CONTROL,
            lambda: pool.volumes.revoke(there, HostId(new_id(lab.prefix)[:40])),
        ),
        "evict": (
            Capability.TEMPLATE_CACHE,
            lambda: pool.volumes.evict_template(TemplateId(new_id(lab.prefix))),
        ),
        "delete group": (Capability.VM_SNAPSHOTS, lambda: pool.vm_snapshots.delete([there], vm(lab))),
    }
    for name, call in _able(lab, calls):
        try:
            call()
        except StorageError as error:
            raise ContractBroken(f"{name} of what is not there: {type(error).__name__}: {error}") from error
    must(pool.volumes.get(there).size == SIZE, "a volume that nobody meant changed")


@check("idem.result_equal_each_time", rule="any.idempotent", tier=Tier.STANDARD)
def check_result_equal_each_time(lab: Lab) -> None:
    """create, a second create, get, the list and another instance say the same of a volume.

    Size, name, identity and private data are what orchestrators store: two answers for one volume make
    two records of it. A failure shows the answer that differs.
    """
    wanted = spec(lab)
    made = lab.pool.volumes.create(wanted)
    answers = {
        "the second create": lab.pool.volumes.create(wanted),
        "get": lab.pool.volumes.get(wanted.id),
        "the list": next((v for v in lab.pool.volumes.list() if v.id == wanted.id), None),
    }
    with lab.second() as other:
        answers["get of another instance"] = other.volumes.get(wanted.id)
    for who, found in answers.items():
        must(found is not None, f"{who} does not show the volume")
        if found is not None:
            one = (made.size, made.name, made.identity, dict(made.private))
            two = (found.size, found.name, found.identity, dict(found.private))
            must(one == two, f"create said {one}, {who} says {two}")
