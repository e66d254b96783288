"""A guest with its root in qcow2 and its data on a real LUN: cut, archived, restored, booted, fenced."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import libvirt
import pytest

from bmc_rig import PASSWORD, ipmi
from bollard.core.archive import Manifest
from bollard.core.catalog.snapshots import Ref
from bollard.core.snapshots import TakenSnapshot, kvm
from bollard.core.spi import DataLoss, Internal, InUse, NotFound, ObjectKind, Outcome, Unavailable, VolumeSpec
from bollard.core.spi import Host as Identity
from bollard.simulators.bmc import BmcSimulator
from bollard.transfer_objects.enums import SnapshotLocation
from bollard.transfer_objects.ids import HostId, SnapshotId, VmId, VolumeId
from bollard.transfer_objects.secret import Secret
from chain_site import VOLUME as ROOT
from iscsi_rig import host as identity_of
from kvm_driving import call, device_in
from kvm_lab import Guest, Host, Lab, Vm, new_name, until
from kvm_lab.fixtures import MakeVm
from kvm_managed import SIZE, ManagedSite, RootChain
from kvm_scenario import checksums

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

MIB = 1024 * 1024
DATA = VolumeId("data-1")
STANDARD, BASE, LATER = SnapshotId("standard-1"), SnapshotId("base-1"), SnapshotId("later-2")
OLD_ROOT, NEW_ROOT = SnapshotId("root-1"), SnapshotId("root-2")
# Where the data come back, and from what: a volume of its own each.
BACK = {
    VolumeId("from-nfs"): ("far", "nfs", LATER),
    VolumeId("from-s3"): ("spare", "s3", LATER),
    VolumeId("from-swift"): ("near", "swift", BASE),
}
FROM_STANDARD = VolumeId("from-standard")
_COUNT = "while :; do i=$((i+1)); echo $i >>{0}; sync {0}; usleep 20000; done >/dev/null 2>&1 &"


@pytest.fixture(scope="module")
def victim(kvm_lab: Lab) -> Iterator[Host]:
    """A host that loses its power."""
    host = kvm_lab.host(new_name().replace("vm", "victim"))
    yield host
    host.stop()


@pytest.fixture(scope="module")
def site(
    kvm_lab: Lab,
    kvm_host: Host,
    second_host: Host,
    victim: Host,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ManagedSite]:
    """Arrays, pools and stores around three hosts."""
    for host in (kvm_host, second_host):
        host.start()  # the test before may have killed its libvirtd
    home = tmp_path_factory.mktemp("managed")
    with ManagedSite(kvm_lab.new_directory(), home, kvm_host, second_host, victim) as site:
        yield site


# -- archive and restore -----------------------------------------------------------------------------------


@dataclass
class Life:
    """What a guest wrote, and what became of it.

    Attributes:
        data: files on its LUN at each snapshot.
        counted: how far its log had come before and after each cut.
        archives: manifest of the LUN's later snapshot on each store.
        left: what was on array, hosts, stores and in the journal when all was archived.
    """

    site: ManagedSite
    guest: Guest
    root: RootChain
    data: dict[str, Mapping[str, str]] = field(default_factory=dict)
    roots: dict[str, Mapping[str, str]] = field(default_factory=dict)
    refs: dict[str, Ref] = field(default_factory=dict)
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    taken: dict[str, TakenSnapshot] = field(default_factory=dict)
    archives: dict[str, Manifest] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)

    def write(self, generation: int, kib: int) -> None:
        """Let the guest write a file of random bytes to each of its disks, and bring it there."""
        for place in ("/srv", f"/mnt/{DATA}/files"):
            self.guest.shell(f"mkdir -p {place}; head -c {kib}k /dev/urandom >{place}/{generation}; sync")

    def cut(self, snapshot: SnapshotId) -> None:
        """Take a snapshot of the LUN while the guest stands still."""
        self.data[snapshot] = checksums(self.guest, f"/mnt/{DATA}/files")
        before = count_in(self.guest, DATA)
        self.site.cut_quiesced(self.site.near, DATA, snapshot, self.guest)
        self.counted[snapshot] = before, count_in(self.guest, DATA)

    def cut_root(self, snapshot: SnapshotId) -> None:
        """Take a snapshot of the root, as the next of its chain in the archive."""
        self.roots[snapshot] = checksums(self.guest, "/srv")
        self.refs[snapshot] = kvm.take(self.root.site(), self.root.place(), snapshot, call(), quiesce=True)


def count_in(guest: Guest, volume: VolumeId) -> int:
    """Read the last number in the log on a disk."""
    return int(guest.shell(f"tail -n 1 /mnt/{volume}/log"))


@pytest.fixture(scope="module")
def life(site: ManagedSite, kvm_host: Host) -> Iterator[Life]:
    """Two generations of data, cut and archived, and a third that nobody saved."""
    name = new_name()
    site.create(site.files, ROOT)
    site.create(site.near, DATA)
    guest = site.boot(name, kvm_host, {ROOT: site.files, DATA: site.near})
    root = RootChain(site, guest, "s3")
    life = Life(site, guest, root)
    life.write(1, 8192)
    guest.shell(_COUNT.format(f"/mnt/{DATA}/log"))  # it writes on while all is cut
    until(lambda: guest.run("test", "-s", f"/mnt/{DATA}/log", check=False).returncode == 0, 60, "the log")
    archived(life)
    life.write(3, 64)
    life.roots["never cut"] = checksums(guest, "/srv")
    Vm(kvm_host, name).remove()
    yield life
    root.close()


def archived(life: Life) -> None:
    """Cut and archive: Standard, a full, an increment; and the root twice."""
    site, services = life.site, {name: life.site.service(life.site.near, name) for name in life.site.stores}
    life.cut(STANDARD)
    life.taken[STANDARD] = services["s3"].take(DATA, STANDARD, call())
    life.cut(BASE)
    for service in services.values():
        service.take_both(DATA, BASE, call())
    life.cut_root(OLD_ROOT)
    life.write(2, 256)
    life.cut(LATER)
    site.operations.clear()
    for name in ("nfs", "swift"):
        life.archives[name] = services[name].archive_snapshot(DATA, LATER, call(), parent=BASE)
    taken = services["s3"].take(DATA, LATER, call(), location=SnapshotLocation.ARCHIVE, parent=BASE)
    assert taken.archived
    life.taken[LATER], life.archives["s3"] = taken, taken.archived
    life.cut_root(NEW_ROOT)
    life.left = {
        "array": site.on_array("near"),
        "host": site.on_host(life.guest.host),
        "under way": site.under_way(),
    }


@pytest.fixture(scope="module")
def revived(life: Life, second_host: Host) -> Iterator[Guest]:
    """Another guest on another host, with everything from the stores and from the Standard snapshot."""
    site, name = life.site, new_name()
    pools = {"near": site.near, "far": site.far, "spare": site.spare}
    disks = {VolumeId("root-back"): site.spare}
    site.spare.volumes.create(VolumeSpec(id=VolumeId("root-back"), size=SIZE))
    with site.mover.writing_volume(site.spare, VolumeId("root-back")) as sink:
        kvm.restore(life.root.site(), NEW_ROOT, sink, call())
        sink.flush()
    for volume, (pool, store, snapshot) in BACK.items():
        disks[volume] = pools[pool]
        site.service(disks[volume], store).restore(DATA, snapshot, volume, call())
    site.near.volumes.from_snapshot(STANDARD, VolumeSpec(id=FROM_STANDARD, size=SIZE))
    disks[FROM_STANDARD] = site.near
    yield site.boot(name, second_host, disks)
    Vm(second_host, name).remove()


def test_standard_stays_on_the_array(life: Life) -> None:
    """A Standard snapshot of the LUN is on the array, and on no store."""
    taken = life.taken[STANDARD]
    assert (taken.location, taken.on_primary, taken.archived) == (SnapshotLocation.STANDARD, True, None)
    assert f"snapshot {STANDARD}" in life.left["array"]
    for name in life.site.stores:
        archive = life.site.service(life.site.near, name).archive
        assert {entry.snapshot for entry in archive.list(call(), volume=DATA)} == {BASE, LATER}


def test_archive_leaves_nothing_behind(life: Life) -> None:
    """Neither clone, grant, session, introduction nor secret is left of Archive, nor its snapshot."""
    taken, name = life.taken[LATER], life.guest.host.name
    assert (taken.location, taken.on_primary) == (SnapshotLocation.ARCHIVE, False)
    assert life.left == {
        "array": [
            f"grant {DATA} {name}",
            f"session {name}",
            f"snapshot {BASE}",
            f"snapshot {STANDARD}",
            f"volume {DATA}",
        ],
        "host": [f"known volume.{DATA}", f"known volume.{ROOT}", f"secret bollard-volume-{DATA}"],
        "under way": [],
    }


def test_archive_sends_what_has_changed(life: Life) -> None:
    """The increment is asked of the array, and each store gets about what was written since."""
    assert life.site.operations.count("snapshot.changed") == len(life.archives)
    for manifest in life.archives.values():
        own = [part.size for _, part in manifest.parts() if part.layer.startswith(f"{LATER}/")]
        base = [part.size for _, part in manifest.parts() if part.layer.startswith(f"{BASE}/")]
        # The log has been through the file system's journal of 4 MiB meanwhile.
        assert MIB // 4 <= sum(own) < 6 * MIB < 8 * MIB <= sum(base)
    assert life.refs[NEW_ROOT].parent == life.refs[OLD_ROOT].id
    assert life.refs[NEW_ROOT].physical_size < 2 * MIB < life.refs[OLD_ROOT].physical_size


@pytest.mark.parametrize("volume", [*BACK, FROM_STANDARD])
def test_the_data_come_back_elsewhere(life: Life, revived: Guest, volume: VolumeId) -> None:
    """On another array, in files and on a new LUN a guest finds what was there at the cut, and no more."""
    _, _, snapshot = BACK.get(volume, ("", "", STANDARD))
    assert checksums(revived, f"/mnt/{volume}/files") == life.data[snapshot]
    assert len(life.data[snapshot]) == (2 if snapshot == LATER else 1)
    before, after = life.counted[snapshot]
    numbers = [int(line) for line in revived.shell(f"cat /mnt/{volume}/log").splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert before <= len(numbers) <= after


def test_the_root_comes_back_elsewhere(life: Life, revived: Guest) -> None:
    """The guest booted from the restored root, which has what was below / at the cut and nothing later."""
    assert revived.shell("cut -d' ' -f1,2 /proc/mounts | head -1") == "/dev/vda /"
    assert checksums(revived, "/srv") == life.roots[NEW_ROOT]
    assert list(life.roots[NEW_ROOT]) == ["1", "2"]
    assert list(life.roots["never cut"]) == ["1", "2", "3"]


def test_what_was_cut_was_still(revived: Guest) -> None:
    """No journal had to be replayed: all file systems were clean when they were cut."""
    said = revived.shell("dmesg")
    assert said.count("mounted filesystem") == 2 + len(BACK)
    assert "recovery" not in said


# -- a host that must not write any more -------------------------------------------------------------------


@dataclass
class Counting:
    """A guest that writes a rising number to the first block of its LUN, and what the array has of it."""

    guest: Guest
    volume: VolumeId
    data: Path

    def block(self) -> str:
        """Return the first word on the LUN."""
        with self.data.open("rb") as file:
            return file.read(4096).rstrip(b" \0").decode()

    def goes_on(self) -> None:
        """Wait until another number has landed."""
        before = self.block()
        until(lambda: self.block() != before, 30, "the guest to write")


_WRITE = "printf %-4096s {0} | dd of=/dev/{1} bs=4096 conv=notrunc,fsync 2>/dev/null"


@pytest.fixture
def counting(site: ManagedSite, kvm_lab: Lab, victim: Host) -> Iterator[Counting]:
    """One on the host that will lose its power."""
    volume = VolumeId(new_name().replace("vm", "count"))
    site.create(site.near, volume, formatted=False)
    guest = kvm_lab.template.clone(victim, site.directory, [])
    site.give(site.near, volume, guest)
    device = until(lambda: guest.device_of(volume), 60, "the guest to see its LUN")
    write = _WRITE.format("old-$i", device)
    guest.shell(f"(i=0; while :; do i=$((i+1)); {write}; done) >/dev/null 2>&1 </dev/null &")
    it = Counting(guest, volume, Path(str(site.near.volumes.get(volume).private["path"])))
    it.goes_on()
    yield it
    victim.start()
    Vm(victim, guest.name).remove()
    site.driver.forget(ObjectKind.VOLUME, volume, HostId(victim.name), call())
    site.near.volumes.revoke(volume, HostId(victim.name))
    site.near.volumes.delete(volume)


@contextmanager
def watched(pid: int) -> Iterator[select.poll]:
    """Watch a process: it is dead when a look has a result."""
    process, look = os.pidfd_open(pid), select.poll()
    look.register(process, select.POLLIN)
    yield look
    os.close(process)


def write_as(site: ManagedSite, volume: VolumeId, text: str) -> None:
    """Write the first block as another host, which has the volume for that long."""
    with site.mover.writing_volume(site.near, volume) as sink:
        sink.write(0, text.ljust(4096).encode())
        sink.flush()


def test_revoke_alone_does_not_stop_a_guest(site: ManagedSite, counting: Counting, victim: Host) -> None:
    """A revoked QEMU waits without an error; granted the LUN again it writes on, unless it was ended."""
    with watched(victim.qemu_pid(counting.guest.name)) as qemu:
        site.near.volumes.revoke(counting.volume, HostId(victim.name))
        last = counting.block()
        write_as(site, counting.volume, "new-1")
        assert last.startswith("old-")
        assert counting.block() == "new-1"
        assert not qemu.poll(0)
        assert counting.guest.state == libvirt.VIR_DOMAIN_RUNNING
        assert "error" not in counting.guest.shell("dmesg | tail -n 5")
        site.near.volumes.grant(counting.volume, identity_of(victim.name))  # what must not be done
        until(lambda: counting.block() != "new-1", 120, "the old write")
        assert counting.block().startswith("old-")
        site.near.volumes.revoke(counting.volume, HostId(victim.name))
        site.driver.stop_vm(VmId(counting.guest.name), call(), force=True)
        assert qemu.poll(0)
        write_as(site, counting.volume, "new-2")
        site.near.volumes.grant(counting.volume, identity_of(victim.name))
        assert counting.block() == "new-2"


def test_a_fenced_guest_writes_nothing_more(
    site: ManagedSite, counting: Counting, victim: Host, kvm_lab: Lab, second_host: Host
) -> None:
    """A LUN goes to another host only when the old one's QEMU is dead; its queued write never lands."""
    volume, other = counting.volume, kvm_lab.template.clone(second_host, site.directory, [])
    with watched(victim.qemu_pid(counting.guest.name)) as qemu:

        def power(on: bool) -> None:
            victim.start() if on else victim.crash()
            site.operations.append(f"power {on}, QEMU {'dead' if qemu.poll(0) else 'alive'}")

        with BmcSimulator({"admin": PASSWORD}, hook=power) as bmc:
            fence = ipmi(bmc.port)
            with pytest.raises(InUse):
                site.give(site.near, volume, other)
            bmc.defects.update({"deaf": True, "says_off": 1})
            with pytest.raises(Internal) as raised:
                site.take_over(volume, victim, fence, other)
            assert raised.value.outcome is Outcome.UNKNOWN
            assert not qemu.poll(0)
            assert [one.host for one in site.near.volumes.grants(volume)] == [victim.name]
            bmc.defects.update({"deaf": False})
            site.operations.clear()
            known = site.take_over(volume, victim, fence, other)
            acts = ["power False, QEMU dead", "volume.revoke", "volume.grant"]
            assert [one for one in dict.fromkeys(site.operations) if one in acts] == acts
            last = counting.block()
            assert last.startswith("old-")
            new = _WRITE.format("new-2", device_in(other, site.introduction(site.near, volume, second_host)))
            assert counting.block() == last
            other.shell(new)
            assert counting.block() == "new-2"
            fence.power_on(call())
            site.take_away(site.near, known, other)
            # The old host has it again, under the name that QEMU knew: nobody is left who would write.
            back = site.give(site.near, volume, counting.guest)
            assert counting.block() == "new-2"
    site.take_away(site.near, back, counting.guest)
    assert site.on_host(victim) == []
    Vm(second_host, other.name).remove()


# -- which LUN, and as whom ----------------------------------------------------------------------------------


def test_only_the_right_lun_is_introduced(site: ManagedSite, kvm_host: Host) -> None:
    """Another volume's LUN is data loss; a deleted one is not found, though its id is in use again."""
    one, other = VolumeId("one-1"), VolumeId("other-1")
    for volume in (one, other):
        site.create(site.near, volume, formatted=False)
    true, foreign = (site.introduction(site.near, volume, kvm_host) for volume in (one, other))
    before = site.on_host(kvm_host)
    with pytest.raises(DataLoss):
        site.driver.introduce(replace(true, location=foreign.location), call())
    site.near.volumes.revoke(one, HostId(kvm_host.name))
    site.near.volumes.delete(one)
    site.create(site.near, one, formatted=False)
    assert site.introduction(site.near, one, kvm_host).identity != true.identity
    with pytest.raises(NotFound):
        site.driver.introduce(true, call())
    assert site.on_host(kvm_host) == before
    assert f"session {kvm_host.name}" not in site.on_array("near")
    for volume in (one, other):
        site.near.volumes.revoke(volume, HostId(kvm_host.name))
        site.near.volumes.delete(volume)


def test_a_host_with_a_new_account(site: ManagedSite, kvm_host: Host, blank_vm: MakeVm) -> None:
    """A host that got another IQN, user and secret uses them once its LUN was introduced again."""
    volume, vm = VolumeId("account-1"), blank_vm()
    site.create(site.near, volume, formatted=False)
    known = site.driver.introduce(site.introduction(site.near, volume, kvm_host), call())
    site.near.volumes.revoke(volume, HostId(kvm_host.name))
    with pytest.raises((NotFound, Unavailable)) as raised:  # libiscsi says one or the other
        site.driver.attach(VmId(vm.name), known, call())
    assert raised.value.outcome is Outcome.NOT_APPLIED
    renamed = Identity(
        id=HostId(kvm_host.name),
        iqn="iqn.2026-01.org.example:renamed",
        chap_user="renamed",
        chap_secret=Secret("another-horse-battery"),
    )
    what = replace(
        site.introduction(site.near, volume, kvm_host), location=site.near.volumes.grant(volume, renamed)
    )
    known = site.driver.introduce(what, call())
    site.driver.attach(VmId(vm.name), known, call())
    assert "session renamed" in site.on_array("near")
    vm.stop()  # it is paused: nobody in it would let go of a disk
    site.take_away(site.near, known, vm)
    site.near.volumes.delete(volume)
