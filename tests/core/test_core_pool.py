"""The pool: opened safely, honest about what it can do, and refusing before a driver is touched."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import pytest

from bollard.core.events import Event
from bollard.core.spi import (
    HYPERVISOR_MIXINS,
    Busy,
    Call,
    Capability,
    DeadlineExceeded,
    Extent,
    Host,
    Internal,
    InvalidArgument,
    NotFound,
    Outcome,
    Qos,
    StorageError,
    TemplateSpec,
    Traits,
    Unavailable,
    Unsupported,
    VmRef,
    VmSnapshotTaken,
    VolumeSpec,
)
from bollard.transfer_objects.ids import HostId, SnapshotId, TemplateId, VmId, VmSnapshotId, VolumeId
from bollard.transfer_objects.secret import Secret

from .ram_driver import PASSWORD, RamBare, RamBareHost, RamDirect, RamHost, RamManaged

V1, V2, S1, T1 = VolumeId("v-1"), VolumeId("v-2"), SnapshotId("s-1"), TemplateId("t-1")
H1 = Host(id=HostId("h-1"), iqn="iqn.2026-11.x:h-1", chap_user="h-1", chap_secret=Secret("chap-secret-of-h1"))
VM = VmRef(vm=VmId("vm-1"), snapshot=VmSnapshotId("vs-1"))
SIZE = 8192
SPEC = VolumeSpec(id=V1, size=SIZE)
COPY = VolumeSpec(id=V2, size=SIZE)


class FrozenGuest:
    """A guest that notes what happens to it."""

    def __init__(self) -> None:
        self.history: list[str] = []
        self.frozen = False

    def freeze(self) -> None:
        """Stand still."""
        self.history.append("freeze")
        self.frozen = True

    def thaw(self) -> None:
        """Go on."""
        self.history.append("thaw")
        self.frozen = False


# What each capability is reached through; the driver method that must be called, or must not.
USES = {
    Capability.SNAPSHOTS: [
        (lambda p: p.snapshots.create(V1, S1), "create_snapshot"),
        (lambda p: p.snapshots.get(S1), "get_snapshot"),
        (lambda p: list(p.snapshots.list(V1)), "list_snapshots"),
        (lambda p: p.snapshots.delete(S1), "delete_snapshot"),
    ],
    Capability.DIRECT_SNAPSHOT_READ: [(lambda p: p.snapshots.locate(S1), "locate_snapshot")],
    Capability.REVERT: [(lambda p: p.volumes.revert(V1, S1), "revert_volume")],
    Capability.CLONE_VOLUME: [(lambda p: p.volumes.clone(V1, COPY), "clone_volume")],
    Capability.VOLUME_FROM_SNAPSHOT: [
        (lambda p: p.volumes.from_snapshot(S1, COPY), "create_volume_from_snapshot")
    ],
    Capability.RESIZE: [(lambda p: p.volumes.resize(V1, 2 * SIZE), "resize_volume")],
    Capability.CHANGED_BLOCKS: [(lambda p: list(p.snapshots.changed(None, S1)), "changed")],
    Capability.ACCESS_CONTROL: [
        (lambda p: p.volumes.grant(V1, H1), "grant"),
        (lambda p: p.volumes.grants(V1), "list_grants"),
        (lambda p: p.volumes.revoke(V1, H1.id), "revoke"),
    ],
    Capability.QOS: [
        (lambda p: p.volumes.set_qos(V1, Qos(max_iops=5)), "set_qos"),
        (lambda p: p.volumes.create(replace(COPY, qos=Qos(max_iops=5))), "create_volume"),
    ],
    Capability.VM_SNAPSHOTS: [
        (lambda p: p.vm_snapshots.take([V1], VM), "take_vm_snapshot"),
        (lambda p: p.vm_snapshots.revert([V1], VM), "revert_vm_snapshot"),
        (lambda p: p.vm_snapshots.delete([V1], VM), "delete_vm_snapshot"),
    ],
    Capability.QUIESCED_SNAPSHOTS: [
        (lambda p: p.snapshots.create(V1, SnapshotId("s-q"), guest=FrozenGuest()), "create_quiesced_snapshot")
    ],
    Capability.ADOPT: [
        (lambda p: p.volumes.adopt("native", COPY), "adopt_volume"),
        (lambda p: p.volumes.release(V2), "release_volume"),
    ],
    Capability.TEMPLATE_CACHE: [
        (lambda p: p.volumes.prepare_template(TemplateSpec(id=T1, size=SIZE)), "prepare_template"),
        (lambda p: p.volumes.seal_template(T1), "seal_template"),
        (lambda p: p.volumes.from_template(T1, COPY), "create_volume_from_template"),
        (lambda p: p.volumes.evict_template(T1), "evict_template"),
    ],
    Capability.CHAP: [(lambda p: p.volumes.rotate_chap(H1), "rotate_chap")],
    Capability.CAPACITY: [(lambda p: p.capacity(), "capacity")],
}
ABILITIES = [(c, use, method) for c, uses in USES.items() for use, method in uses]
IDS = [f"{c}-{method}" for c, _, method in ABILITIES]


@pytest.fixture
def stocked(make_pool):
    """A function that opens a pool whose array holds a volume, its snapshot and an object of others."""

    def stocked(cls=RamDirect, **kwargs):
        with make_pool(RamManaged) as pool:
            pool.volumes.create(SPEC)
            pool.snapshots.create(V1, S1)
            (pool.driver.dir / "native").write_bytes(bytes(SIZE))
        return make_pool(cls, **kwargs)

    return stocked


# -- capabilities -------------------------------------------------------------------------------------


def test_every_capability_of_the_clients_is_tested():
    """The table above knows every capability of a pool; those of hypervisors have no client."""
    of_hypervisors = {mixin.__dict__["provides"] for mixin in HYPERVISOR_MIXINS}
    assert set(Capability) - of_hypervisors == set(USES)


@pytest.mark.parametrize("capability", USES)
def test_declared_capability_reaches_the_driver(stocked, capability):
    """With the mix-in, each use of the capability arrives at the driver and succeeds."""
    pool = stocked()
    for use, method in USES[capability]:
        use(pool)
        assert method in pool.driver.calls


@pytest.mark.parametrize(("capability", "use", "method"), ABILITIES, ids=IDS)
def test_undeclared_capability_is_refused_before_the_driver(stocked, capability, use, method):
    """Without the mix-in the driver is not touched, although it has the method."""
    pool = stocked(RamBareHost if capability is Capability.ACCESS_CONTROL else RamBare)
    pool.driver.calls.clear()

    with pytest.raises(Unsupported, match=f"'{capability.value}': the driver does not declare it") as caught:
        use(pool)

    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert pool.driver.calls == []


@pytest.mark.parametrize(("capability", "use", "method"), ABILITIES, ids=IDS)
def test_unavailable_capability_is_refused_with_the_reason(stocked, capability, use, method):
    """What the instance lacks here and now is refused like what it never had, and says why."""
    pool = stocked(prepare=lambda d: setattr(d, "lacking", {capability: "no licence"}))
    pool.driver.calls.clear()

    with pytest.raises(Unsupported, match="no licence"):
        use(pool)
    assert pool.driver.calls == []


def test_locate_belongs_to_host_pools(stocked):
    """A path is given in a host pool; a managed one asks for a grant instead."""
    assert stocked(RamHost).volumes.locate(V1).path.name == "v-v-1.raw"
    pool = stocked()
    pool.driver.calls.clear()
    with pytest.raises(Unsupported, match="grant access"):
        pool.volumes.locate(V1)
    assert pool.driver.calls == []


def test_caps_of_managed_and_host_pools(make_pool):
    """CloudStack's map follows the mix-ins; only managed storage has snapshots of its own."""
    true = {key for key, value in make_pool(RamManaged).capabilities().caps.items() if value == "true"}
    host = {key for key, value in make_pool(RamHost).capabilities().caps.items() if value == "true"}

    assert true == {
        "VOLUME_SNAPSHOT_QUIESCEVM",
        "STORAGE_SYSTEM_SNAPSHOT",
        "CAN_CREATE_VOLUME_FROM_SNAPSHOT",
        "CAN_CREATE_VOLUME_FROM_VOLUME",
        "CAN_REVERT_VOLUME_TO_SNAPSHOT",
    }
    assert host == {"CAN_CREATE_VOLUME_FROM_SNAPSHOT", "CAN_DIRECT_ATTACH_SNAPSHOT"}
    assert set(make_pool(RamBare).capabilities().caps.values()) == {"false"}


def test_unavailable_narrows_and_never_widens(make_pool):
    """A reason for something undeclared changes nothing; one for something declared takes it away."""
    lacking = {Capability.REVERT: "firmware", Capability.DIRECT_SNAPSHOT_READ: "never had it"}
    found = make_pool(prepare=lambda d: setattr(d, "lacking", lacking)).capabilities()

    assert found.native == RamManaged.declared() - {Capability.REVERT}
    assert found.unavailable == {Capability.REVERT: "firmware"}
    assert found.caps["CAN_REVERT_VOLUME_TO_SNAPSHOT"] == "false"


# -- bad arguments ------------------------------------------------------------------------------------

BAD_IDS = ["", "V-1", "-a", "a-", "../x", "a b", "ä", "a" * 65, "a\n", None, 5, b"v-1", ["v"]]
BY_ID = {
    "volume.get": lambda p, x: p.volumes.get(x),
    "volume.delete": lambda p, x: p.volumes.delete(x),
    "volume.create": lambda p, x: p.volumes.create(VolumeSpec(id=x, size=SIZE)),
    "volume.resize": lambda p, x: p.volumes.resize(x, SIZE),
    "volume.clone, source": lambda p, x: p.volumes.clone(x, COPY),
    "volume.clone, target": lambda p, x: p.volumes.clone(V1, VolumeSpec(id=x, size=SIZE)),
    "volume.from_snapshot": lambda p, x: p.volumes.from_snapshot(x, COPY),
    "volume.from_snapshot, target": lambda p, x: p.volumes.from_snapshot(S1, VolumeSpec(id=x, size=SIZE)),
    "volume.revert": lambda p, x: p.volumes.revert(x, S1),
    "volume.revert, snapshot": lambda p, x: p.volumes.revert(V1, x),
    "volume.set_qos": lambda p, x: p.volumes.set_qos(x, None),
    "volume.adopt": lambda p, x: p.volumes.adopt("native", VolumeSpec(id=x, size=SIZE)),
    "volume.release": lambda p, x: p.volumes.release(x),
    "volume.grant": lambda p, x: p.volumes.grant(x, H1),
    "volume.grant, host": lambda p, x: p.volumes.grant(V1, replace(H1, id=x)),
    "volume.revoke": lambda p, x: p.volumes.revoke(x, H1.id),
    "volume.revoke, host": lambda p, x: p.volumes.revoke(V1, x),
    "volume.grants": lambda p, x: p.volumes.grants(x),
    "volume.locate": lambda p, x: p.volumes.locate(x),
    "template.prepare": lambda p, x: p.volumes.prepare_template(TemplateSpec(id=x, size=SIZE)),
    "template.seal": lambda p, x: p.volumes.seal_template(x),
    "template.evict": lambda p, x: p.volumes.evict_template(x),
    "volume.from_template": lambda p, x: p.volumes.from_template(x, COPY),
    "volume.from_template, target": lambda p, x: p.volumes.from_template(T1, VolumeSpec(id=x, size=SIZE)),
    "snapshot.create": lambda p, x: p.snapshots.create(x, S1),
    "snapshot.create, snapshot": lambda p, x: p.snapshots.create(V1, x),
    "snapshot.create, quiesced": lambda p, x: p.snapshots.create(V1, x, guest=FrozenGuest()),
    "snapshot.delete": lambda p, x: p.snapshots.delete(x),
    "snapshot.get": lambda p, x: p.snapshots.get(x),
    "snapshot.list": lambda p, x: p.snapshots.list(x),
    "snapshot.locate": lambda p, x: p.snapshots.locate(x),
    "snapshot.changed": lambda p, x: p.snapshots.changed(None, x),
    "vm_snapshot.take": lambda p, x: p.vm_snapshots.take([V1, x], VM),
    "vm_snapshot.take, vm": lambda p, x: p.vm_snapshots.take([V1], replace(VM, vm=x)),
    "vm_snapshot.revert": lambda p, x: p.vm_snapshots.revert([V1], replace(VM, snapshot=x)),
    "vm_snapshot.delete": lambda p, x: p.vm_snapshots.delete([x], VM),
}
BAD_SPECS = {
    "size 0": replace(SPEC, size=0),
    "negative": replace(SPEC, size=-512),
    "no sector": replace(SPEC, size=513),
    "float": replace(SPEC, size=1024.0),  # type: ignore[arg-type]  # wrong on purpose
    "bool": replace(SPEC, size=True),
    "small": replace(SPEC, size=512),
    "name /": replace(SPEC, name="a/b"),
    "name -": replace(SPEC, name="-rf"),
    "name ..": replace(SPEC, name=".."),
    "name \\n": replace(SPEC, name="a\nb"),
    "name long": replace(SPEC, name="ä" * 128),
    "name surrogate": replace(SPEC, name="\ud800"),
    "name None": replace(SPEC, name=None),  # type: ignore[arg-type]  # wrong on purpose
    "qos < 0": replace(SPEC, qos=Qos(max_iops=-1)),
    "qos float": replace(SPEC, qos=Qos(max_bytes_per_second=1.5)),  # type: ignore[arg-type]  # wrong on purpose
    "qos crossed": replace(SPEC, qos=Qos(min_iops=9, max_iops=5)),
}
BY_SPEC = {
    "create": lambda p, s: p.volumes.create(s),
    "clone": lambda p, s: p.volumes.clone(V2, s),
    "from_snapshot": lambda p, s: p.volumes.from_snapshot(S1, s),
    "from_template": lambda p, s: p.volumes.from_template(T1, s),
    "adopt": lambda p, s: p.volumes.adopt("native", s),
}
OTHERS = {
    "resize": lambda p: p.volumes.resize(V1, 1000),
    "set_qos": lambda p: p.volumes.set_qos(V1, Qos(min_iops=-5)),
    "adopt, name": lambda p: p.volumes.adopt("../etc", SPEC),
    "adopt, no name": lambda p: p.volumes.adopt("", SPEC),
    "template, size": lambda p: p.volumes.prepare_template(TemplateSpec(id=T1, size=5)),
    "template, name": lambda p: p.volumes.prepare_template(TemplateSpec(id=T1, size=SIZE, name="a/b")),
    "host, iqn": lambda p: p.volumes.grant(V1, replace(H1, iqn="iqn x\n")),
    "host, name": lambda p: p.volumes.grant(V1, replace(H1, name="a\0")),
    "host, user": lambda p: p.volumes.grant(V1, replace(H1, chap_user="a\nb")),
    "host, user alone": lambda p: p.volumes.grant(V1, replace(H1, chap_secret=None)),
    "host, secret alone": lambda p: p.volumes.grant(V1, replace(H1, chap_user="")),
    "changed, start": lambda p: p.snapshots.changed(None, S1, start=-1),
    "changed, base": lambda p: p.snapshots.changed("B", S1),
    "vm, nothing": lambda p: p.vm_snapshots.take([], VM),
    "vm, twice": lambda p: p.vm_snapshots.take([V1, V1], VM),
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A pool for requests that never reach its driver: the calls after opening it must stay empty."""
    from bollard.core.pool import Pool

    from .ram_driver import RamOptions

    driver = RamDirect(RamOptions(directory=tmp_path_factory.mktemp("array")))
    driver.limits = Traits(min_size=1024, max_size=2**20)
    pool = Pool("ssd-1", driver)
    driver.calls.clear()
    return pool


@pytest.mark.parametrize("what", BY_ID)
def test_bad_ids_never_reach_the_driver(strict, what):
    """Whatever is no id is refused with the rule, for every id of every method."""
    for bad in BAD_IDS:
        with pytest.raises(InvalidArgument, match="is not a valid id: 1 to 64 characters") as caught:
            BY_ID[what](strict, bad)
        assert caught.value.outcome is Outcome.NOT_APPLIED
    assert strict.driver.calls == []


@pytest.mark.parametrize("spec", BAD_SPECS)
def test_bad_specs_never_reach_the_driver(strict, spec):
    """A bad size, name or limit is refused by each of the five ways to make a volume, naming the field."""
    for make in BY_SPEC.values():
        with pytest.raises(InvalidArgument, match=r"volume\.|qos\."):
            make(strict, BAD_SPECS[spec])
    assert strict.driver.calls == []


def test_size_above_the_limit_is_a_limit(strict):
    """Beyond the driver's maximum the answer is `LimitExceeded`: another pool may take it."""
    from bollard.core.spi import LimitExceeded

    for make in BY_SPEC.values():
        with pytest.raises(LimitExceeded, match="1048576"):
            make(strict, replace(SPEC, size=2**20 + 512))
    assert strict.driver.calls == []


@pytest.mark.parametrize("what", OTHERS)
def test_other_bad_arguments_never_reach_the_driver(strict, what):
    """Everything else that breaks a rule is refused before the driver, too."""
    with pytest.raises(InvalidArgument):
        OTHERS[what](strict)
    assert strict.driver.calls == []


# -- what core adds -----------------------------------------------------------------------------------


def test_lost_reply_is_repeated_and_made_once(make_pool):
    """A create whose answer was lost is sent again with the same request id, and one volume exists."""
    pool = make_pool()
    pool.driver.fail("create_volume", Unavailable("reply lost"), after=True)

    assert pool.volumes.create(SPEC).id == V1
    assert len({call.request_id for call in pool.driver.seen}) == 1
    assert [len(pool.driver.seen), [v.id for v in pool.volumes.list()]] == [2, [V1]]


def test_foreign_exception_is_typed_and_clean(make_pool):
    """A bug in the driver is `Internal`, without the pool's password."""
    pool = make_pool()
    pool.driver.fail("get_volume", KeyError(f"session {PASSWORD}"))

    with pytest.raises(Internal) as caught:
        pool.volumes.get(V1)
    assert PASSWORD not in repr(caught.value) + caught.value.detail


def test_secret_of_a_host_is_taken_out_too(make_pool):
    """The CHAP secret comes with the call, not with the options, and is redacted all the same."""
    pool = make_pool()
    pool.volumes.create(SPEC)
    pool.driver.fail("grant", InvalidArgument("bad secret chap-secret-of-h1", detail="chap-secret-of-h1"))

    with pytest.raises(InvalidArgument, match=r"bad secret \*\*\*") as caught:
        pool.volumes.grant(V1, H1)
    assert "chap-secret" not in caught.value.detail


def test_own_call_is_handed_through(make_pool):
    """The caller's call, with its id and deadline, is the one that the driver sees."""
    call = Call.within(30)
    pool = make_pool()
    pool.volumes.create(SPEC, call)

    assert pool.driver.seen == [call]


def test_timeout_of_the_pool_is_the_default(make_pool):
    """Without a call of its own an operation has the pool's timeout."""
    pool = make_pool(timeout=17)
    pool.volumes.create(SPEC)

    assert 16 < pool.driver.seen[0].remaining() <= 17
    with pytest.raises(DeadlineExceeded):
        make_pool(timeout=0)


def meeting(driver, threads):
    """Plan that calls of `create_volume` wait for each other, as far as core lets them meet."""
    barrier = threading.Barrier(threads)

    def wait():
        try:
            barrier.wait(0.3)
        except threading.BrokenBarrierError:
            return

    driver.fail("create_volume", *[wait] * threads)


@pytest.mark.parametrize("concurrent", [True, False])
def test_drivers_that_take_one_call_at_a_time(make_pool, concurrent):
    """`concurrent_calls=False` means that two calls never run at once, not even on two volumes."""
    pool = make_pool(prepare=lambda d: setattr(d, "limits", Traits(concurrent_calls=concurrent)))
    meeting(pool.driver, 2)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(pool.volumes.create, [SPEC, COPY]))

    assert pool.driver.most_running == (2 if concurrent else 1)


def test_stream_of_such_a_driver_holds_it_step_by_step(stocked):
    """While an extent is fetched no other call runs; while the consumer works on it, others may."""
    seen = []
    pool = stocked(prepare=lambda d: setattr(d, "limits", Traits(concurrent_calls=False)))

    def extents():
        for offset in (0, 4096):
            with pytest.raises(Busy):
                pool.volumes.get(V1, Call.within(0.05))
            seen.append(offset)
            yield Extent(offset, 4096)

    pool.driver.extents = extents()
    for extent in pool.snapshots.changed(None, S1):
        assert pool.volumes.get(V1).size == SIZE
        assert seen[-1] == extent.offset
    assert seen == [0, 4096]


def test_events_name_the_object_only(make_pool):
    """The lock of a driver that takes one call at a time is no object, and does not show in events."""
    events: list[Event] = []
    pool = make_pool(
        prepare=lambda d: setattr(d, "limits", Traits(concurrent_calls=False)), observe=events.append
    )
    pool.volumes.create(SPEC)

    assert {e.object_id for e in events if e.operation == "volume.create"} == {"v-1"}
    assert {e.operation for e in events} >= {"pool.open", "pool.capabilities", "volume.create"}


# -- quiesced and VM snapshots ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [None, RuntimeError("bug"), NotFound("gone"), Unavailable("down"), KeyboardInterrupt]
)
def test_guest_is_thawed_whatever_the_driver_does(stocked, fault):
    """After a quiesced snapshot the guest runs: on success, on each kind of error, and on Ctrl-C."""
    pool, guest = stocked(), FrozenGuest()
    if fault is KeyboardInterrupt:

        def interrupt():
            raise KeyboardInterrupt

        pool.driver.fail("cut", interrupt)
    elif fault is not None:
        pool.driver.fail("cut", *[fault] * 10)

    with nullcontext() if fault is None else pytest.raises((StorageError, KeyboardInterrupt)):
        pool.snapshots.create(V1, SnapshotId("s-2"), guest=guest)
    assert "freeze" in guest.history
    assert not guest.frozen


def test_guest_is_not_frozen_while_core_waits(stocked):
    """Between two attempts the guest runs: a wait may be long."""
    guest, frozen = FrozenGuest(), []
    pool = stocked(sleep=lambda _: frozen.append(guest.frozen))
    pool.driver.fail("cut", Unavailable("down"), Busy("x"))

    assert pool.snapshots.create(V1, SnapshotId("s-2"), guest=guest).volume == V1
    assert frozen == [False, False]
    assert guest.history == ["freeze", "thaw"] * 3


def test_failing_thaw_is_told(stocked):
    """A guest that could not be thawed is an error, even when the snapshot was made."""
    guest = FrozenGuest()
    guest.thaw = lambda: (_ for _ in ()).throw(NotFound("agent gone"))  # type: ignore[method-assign]  # this guest fails

    with pytest.raises(NotFound, match="agent gone"):
        stocked().snapshots.create(V1, SnapshotId("s-2"), guest=guest)


@pytest.mark.parametrize(
    "members", [{V1: S1}, {V1: S1, V2: S1, VolumeId("v-3"): S1}, {V1: S1, VolumeId("v-3"): S1}]
)
def test_vm_snapshot_must_have_one_member_per_volume(stocked, members):
    """Too few, too many or other members are a driver's bug, and never returned as a snapshot."""
    pool = stocked()
    pool.volumes.create(COPY)
    pool.driver.vm_members = members

    with pytest.raises(Internal, match="one snapshot for each volume"):
        pool.vm_snapshots.take([V1, V2], VM)


def test_vm_snapshot_of_two_volumes(stocked):
    """A good answer is passed on; the members can be taken away again."""
    pool = stocked()
    pool.volumes.create(COPY)

    taken = pool.vm_snapshots.take([V2, V1], VM)

    assert taken == VmSnapshotTaken(
        need_unquiesce=False, members={V1: SnapshotId("vs-1-v-1"), V2: SnapshotId("vs-1-v-2")}
    )
    pool.vm_snapshots.delete([V1, V2], VM)
    assert [s.id for s in pool.snapshots.list(V1)] == [S1]
