"""Scenarios C of KVM's incremental snapshots on one real guest, which is at rest between two tests."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

from bollard.core.catalog.snapshots import Reason
from bollard.core.snapshots import kvm
from bollard.core.spi import Call, DeadlineExceeded, VmState
from bollard.transfer_objects.ids import SnapshotId
from chain_site import VOLUME
from kvm_driving import MIB, call
from kvm_lab import Host, Lab, disk_images, until
from kvm_scenario import SIZE, Scenario

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

KIB = 1024
_numbers = itertools.count(1)


@dataclass
class Guest:
    """A rig, and names for snapshots that no test had before."""

    rig: Scenario

    def named(self) -> str:
        """Return a new name."""
        return f"n{next(_numbers)}"

    def base(self) -> str:
        """Take a snapshot that the next one can be based on."""
        name = self.named()
        self.rig.write(f"file-{name}")
        self.rig.take(name)
        return name


@pytest.fixture(scope="module")
def guest_rig(kvm_lab: Lab, kvm_host: Host) -> Iterator[Scenario]:
    """The guest of this module."""
    rig = Scenario(kvm_lab, kvm_host)
    rig.settings.set("snapshot.delta.max", 100)
    yield rig
    rig.close()


@pytest.fixture
def guest(guest_rig: Scenario) -> Iterator[Guest]:
    """The guest, running, with nothing under way before and after."""
    guest_rig.back_up(False)
    guest_rig.secondary = "sec-1"
    assert guest_rig.left() == []
    yield Guest(guest_rig)
    assert guest_rig.driver.vm_state(guest_rig.disk.vm, call()) is VmState.RUNNING
    assert guest_rig.left() == []


@pytest.mark.parametrize("first", [False, True], ids=["to-secondary", "to-primary"])
def test_c2_switching_the_role_makes_a_full(guest: Guest, first: bool) -> None:
    """After the switch there is a full that says so; both chains restore, and both can be deleted."""
    rig = guest.rig
    rig.back_up(first)
    one, two, three = guest.base(), guest.base(), guest.named()
    rig.back_up(not first)
    rig.write(f"file-{three}")
    switched = rig.take(three)
    assert (switched.parent, switched.full_reason) == (None, Reason.ROLE_SWITCHED)
    four = guest.base()
    assert rig.ref(four).parent == switched.id
    rig.look(two, four)
    for name in (two, four):
        assert rig.restored[name] == rig.written[name]
    for name in (two, one, four, three):
        rig.delete(name)
    assert not {one, two, three, four} & {path.split("/")[-1] for path in rig.stored()}


def test_c3_parent_on_another_store_stays_for_its_child(guest: Guest) -> None:
    """1 on sec-1 is deleted and stays, since 2 on sec-2 is based on it; 2 has the files; then both go."""
    rig = guest.rig
    rig.back_up(True)
    one = guest.base()
    rig.secondary = "sec-2"
    two = guest.base()
    assert (rig.ref(one).store, rig.ref(two).store, rig.ref(two).parent) == (
        "sec-1",
        "sec-2",
        rig.ref(one).id,
    )
    rig.delete(one)
    assert f"sec-1/snapshots/{one}" in rig.stored()
    rig.look(two)
    assert rig.restored[two] == rig.written[two]
    rig.delete(two)
    assert not {one, two} & {path.split("/")[-1] for path in rig.stored()}


def test_c4_the_chain_moves_to_another_store_and_goes_on(guest: Guest) -> None:
    """After a migration of its snapshots sec-1 is empty of them, they restore, and the next is a delta."""
    rig = guest.rig
    rig.back_up(True)
    one, two = guest.base(), guest.base()
    kvm.migrate(rig.site(), VOLUME, "sec-1", "sec-2", call())
    rig.secondary = "sec-2"
    three = guest.base()
    assert rig.ref(three).parent == rig.ref(two).id
    assert not [path for path in rig.stored() if path.startswith("sec-1")]
    rig.look(one, three)
    assert (rig.restored[one], rig.restored[three]) == (rig.written[one], rig.written[three])


def test_c5_physical_size_is_that_of_the_delta(guest: Guest) -> None:
    """After 1 MiB was written the snapshot is about that large, and its user sees the volume's size."""
    rig = guest.rig
    guest.base()
    name = guest.named()
    rig.write(f"file-{name}", 1024)
    ref = rig.take(name)
    assert 1 * MIB <= ref.physical_size < 3 * MIB
    assert ref.size == rig.guest.size_of(VOLUME)
    assert ref.physical_size == (rig.directory / "pool/snapshots" / name).stat().st_blocks * 512


def test_c6_a_vm_that_was_defined_anew_goes_on_with_its_chain(guest: Guest) -> None:
    """Stopped, undefined with its checkpoints, defined and started: the next snapshot is a delta."""
    rig = guest.rig
    before = guest.base()
    rig.stop()
    xml = rig.vm.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    rig.vm.domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
    rig.vm.host.connection.defineXML(xml)
    assert rig.start()
    after = guest.base()
    assert rig.ref(after).parent == rig.ref(before).id
    rig.look(after)
    assert rig.restored[after] == rig.written[after]


def _late(call_: Call) -> Call:
    """Return a call that is late from its first progress on."""
    late = [0.0]

    def progress(done: int, total: int) -> None:
        late[0] = 1e6

    return Call(deadline=call_.deadline, clock=lambda: time.monotonic() + late[0], progress=progress)


def _cancelled(call_: Call) -> Call:
    """Return a call that its caller gives up at its first progress."""
    given_up = Call(deadline=call_.deadline)
    return Call(
        deadline=call_.deadline,
        cancel=given_up.cancel,
        progress=lambda done, total: given_up.cancel.set(),  # noqa: ARG005 - that it is told is enough
    )


@pytest.mark.parametrize("full", [True, False], ids=["full", "delta"])
@pytest.mark.parametrize("ended", [_late, _cancelled])
def test_c9_a_snapshot_that_is_late_is_given_up(
    guest: Guest,
    ended: Callable[[Call], Call],
    full: bool,
) -> None:
    """Late or cancelled in the midst of its bytes: the guest writes on, nothing is left, the next is fine."""
    rig = guest.rig
    before = guest.base()
    if full:
        kvm.end_chain(rig.site(), VOLUME, Reason.MIGRATED)
    name = guest.named()
    rig.write(f"file-{name}")
    rig.guest.sync()
    with pytest.raises(DeadlineExceeded):
        kvm.take(rig.site(), rig.place(), SnapshotId(name), ended(call()))
    assert rig.states()[name] == "Error"
    assert rig.left() == []
    assert name not in {path.split("/")[-1] for path in rig.stored()}
    after = guest.base()
    assert (rig.ref(after).parent == rig.ref(before).id) is not full
    rig.look(after)
    assert rig.restored[after] == rig.written[after]


def test_c10_a_full_of_a_volume_with_a_template_stands_alone(kvm_lab: Lab, kvm_host: Host) -> None:
    """The volume is based on a template; its full names no file, and has the template's files and its own."""
    template = disk_images.qcow2(kvm_lab.new_directory() / "template.qcow2", SIZE, "ext4")
    rig = Scenario(kvm_lab, kvm_host, template=template)
    try:
        rig.write("own")
        rig.take("s1")
        rig.write("more")
        rig.take("s2")
        assert rig.backings == {"s1": "", "s2": "s1"}
        rig.look("s1", "s2")
        assert rig.restored == rig.written
        assert rig.left() == []
    finally:
        rig.close()


def test_c12_killed_between_the_cut_and_the_commit(guest: Guest) -> None:
    """Kill -9 of ourselves after backup-begin: a restart removes file and bitmap; the next is a delta."""
    rig = guest.rig
    before = guest.base()
    name = guest.named()
    _taken_by_one_who_dies(rig, name)
    assert name in rig.bitmaps()
    assert rig.states()[name] == "Creating"
    rig.write("meanwhile")
    assert kvm.sync(rig.site(), call()) == []
    assert rig.states()[name] == "Error"
    assert rig.left() == []
    assert rig.bitmaps() == [before]
    after = guest.base()
    assert rig.ref(after).parent == rig.ref(before).id
    rig.look(after)
    assert rig.restored[after] == rig.written[after]


def _taken_by_one_who_dies(rig: Scenario, name: str) -> None:
    """Take a snapshot in a process that is killed right after the cut, with bytes of it at the store."""
    code = (
        "import os, signal, sys\n"
        f"sys.path[:0] = [{str(Path(__file__).parents[1] / 'lib')!r}]\n"
        "from pathlib import Path\n"
        "from kvm_orchestrator import Orchestrator, kvm\n"
        "from bollard.core.snapshots.kvm import delta\n"
        "from kvm_driving import call\n"
        f"class Host: name, uri = {rig.vm.host.name!r}, {rig.vm.host.uri!r}\n"
        "delta.check = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"one = Orchestrator(Path({str(rig.directory)!r}), {rig.vm.name!r}, Host)\n"
        "one.settings.set('snapshot.delta.max', 100)\n"
        f"kvm.take(one.site(), one.place(), {name!r}, call())\n"
    )
    env = {**os.environ, "LC_ALL": "C"}
    died = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120, env=env
    )
    assert died.returncode == -9, died.stderr


def test_c13_lost_power_makes_a_full_with_the_reason(guest: Guest) -> None:
    """After kill -9 of QEMU the chain has ended: a full that says so, then deltas again."""
    rig = guest.rig
    before = guest.base()
    rig.guest.sync()
    rig.vm.kill_qemu()
    assert not rig.start()
    assert rig.ref(before).end_reason is Reason.LOST_CHECKPOINT
    full = guest.base()
    assert (rig.ref(full).parent, rig.ref(full).full_reason) == (None, Reason.LOST_CHECKPOINT)
    delta = guest.base()
    assert rig.ref(delta).parent == rig.ref(full).id
    rig.look(before, delta)
    assert (rig.restored[before], rig.restored[delta]) == (rig.written[before], rig.written[delta])


def test_c17_growing_between_two_snapshots(guest: Guest) -> None:
    """The guest sees its new size and uses it; the chain goes on; each snapshot has the size of its time."""
    rig = guest.rig
    before, size = guest.base(), rig.guest.size_of(VOLUME)
    larger = size + 16 * MIB
    rig.driver.resize_disk(rig.disk.vm, rig.disk.device, larger, call())
    until(lambda: rig.guest.size_of(VOLUME) == larger, 60, "the guest to see its disk's new size")
    device = f"/dev/{rig.guest.device_of(VOLUME)}"
    rig.guest.run("resize2fs", device)
    mark = os.urandom(32)
    offset = larger - 4096
    script = f"dd of={device} bs=4096 seek={offset // 4096} conv=notrunc,fsync 2>/dev/null"
    rig.guest.run("sh", "-c", script, stdin=mark)
    after = guest.base()
    assert rig.ref(after).parent == rig.ref(before).id
    rig.look(before, after)
    assert (rig.sizes[before], rig.sizes[after]) == (size, larger)
    assert (rig.restored[before], rig.restored[after]) == (rig.written[before], rig.written[after])
    with kvm.opened(rig.site(), SnapshotId(after), call()) as source:
        found = bytearray(32)
        source.read_into(offset, memoryview(found))
    assert bytes(found) == mark
