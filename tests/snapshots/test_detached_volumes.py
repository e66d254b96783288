"""Snapshots of volumes that no VM has: full or delta by the image's own bitmaps, locked against VMs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bollard.core.catalog.snapshots import Reason
from bollard.core.dataplane import open_chain_sink
from bollard.core.snapshots import kvm
from bollard.core.spi import Call, DataLoss, InUse, InvalidArgument, Outcome
from bollard.transfer_objects.ids import SnapshotId
from chain_rig import DISK, MIB, ChainRig, call
from chain_site import VOLUME
from qemu_backups import run

pytestmark = pytest.mark.real


@pytest.fixture(params=["pool", "archive"])
def rig(request, tmp_path: Path) -> Iterator[ChainRig]:
    """A volume that no VM has; its snapshots go to the pool, or to an archive."""
    rig = ChainRig(tmp_path, backup=request.param == "archive", delta_max=10)
    rig.secondary = "archive"
    rig.images = [rig.disk]
    yield rig
    rig.close()


def test_a_chain_without_a_vm(rig):
    """A full, then deltas with what was written between: a VM may have had the volume meanwhile."""
    rig.write("0 1M")
    first = rig.take("s1")
    rig.write("1M 64k")
    second = rig.take("s2")

    assert (first.full_reason, second.full_reason, second.parent) == (Reason.FIRST, None, first.id)
    assert second.physical_size < 640 * 1024
    assert rig.is_whole("s1", "s2")
    assert list(rig.host.bitmaps(DISK.vm)) == ["s2"]
    assert rig.at_rest()


def test_a_chain_goes_on_over_attach_and_detach(rig):
    """Attached, detached, attached: one chain, whoever has tracked the changes in between."""
    rig.write("0 1M")
    refs = []
    for number, images in enumerate([[], [rig.disk], [], [], [rig.disk]], 1):
        rig.images = images
        rig.host.define_anew(DISK.vm)
        if not images:
            assert kvm.recreate_checkpoints(rig.site(), VOLUME, call())
        rig.write(f"{number * 256}k 64k")
        refs.append(rig.take(f"s{number}"))

    assert [ref.parent for ref in refs] == [None, *(ref.id for ref in refs[:-1])]
    assert rig.is_whole(*(f"s{number}" for number in range(1, 6)))


def test_a_power_cut_before_the_detach_makes_a_full(rig):
    """A bitmap that was not closed properly is not believed, and the reason is recorded."""
    rig.take("s1")
    rig.host.cut_power(DISK.vm)
    rig.write("0 64k")

    assert rig.take("s2").full_reason is Reason.LOST_CHECKPOINT
    rig.write("1M 64k")
    assert rig.take("s3").full_reason is None
    assert rig.is_whole("s1", "s2", "s3")


def test_deleting_takes_the_bitmap_out_of_the_image(rig):
    """Of a volume that no VM has, nothing stays either: no file, no bitmap."""
    rig.take("s1")
    rig.take("s2")
    rig.delete("s2")
    rig.delete("s1")

    assert rig.host.bitmaps(DISK.vm) == {}
    assert [path for path in rig.files() if "s1" in path or "s2" in path] == []
    assert rig.take("s3").full_reason is Reason.FIRST


def test_snapshots_of_a_volume_that_is_gone_can_be_deleted(rig):
    """The image is gone and its bitmaps with it: what it left on the stores goes all the same."""
    rig.take("s1")
    rig.disk.unlink()
    rig.delete("s1")

    assert rig.states() == {"s1": "Destroyed"}
    assert rig.intents() == []


def test_it_cannot_be_written_while_it_is_read(rig, monkeypatch):
    """A VM that is started on it meanwhile is refused by QEMU's lock; afterwards it is not."""
    rig.write("0 1M")
    rig.take("s1")
    rig.write("1M 1M")
    seen = []
    store = type(rig.site().stores[rig.ref("s1").store])
    write = store.write

    def writing(self, *arguments):
        command = ["qemu-io", "-f", "qcow2", "-c", "write 0 64k", str(rig.disk)]
        seen.append(subprocess.run(command, capture_output=True, text=True, timeout=60))
        return write(self, *arguments)

    monkeypatch.setattr(store, "write", writing)
    rig.take("s2")

    assert seen[0].returncode != 0
    assert 'Failed to get "write" lock' in seen[0].stderr
    assert rig.is_whole("s1", "s2")
    rig.write("0 64k")


def test_a_vm_that_has_it_all_the_same_is_not_disturbed(rig):
    """Where the orchestrator is wrong and somebody has the image open, nothing is done to it."""
    rig.take("s1")
    holder = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(rig.disk)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"write 0 64k\n")
        holder.stdin.flush()
        holder.stdout.readline()
        with pytest.raises(InUse) as caught:
            rig.take("s2")
        assert caught.value.outcome is Outcome.NOT_APPLIED
        holder.stdin.close()

    rig.write("0 64k")
    assert rig.states()["s2"] == "Error"
    assert rig.take("s3").parent == rig.ref("s1").id
    assert rig.is_whole("s1", "s3")
    assert rig.at_rest()


def test_a_volume_that_is_based_on_a_template(rig, tmp_path):
    """It is read through its records, not through its header: a header that names another file is refused."""
    template = rig.disk.rename(tmp_path / "template.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 2M", template)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "qcow2", rig.disk)
    rig.images = [rig.disk, template]
    rig.write("1M 64k")
    rig.take("s1")
    rig.write("3M 64k")
    rig.take("s2")
    assert rig.is_whole("s1", "s2")

    other = tmp_path / "secret.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", other, str(4 * MIB))
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", other, rig.disk)
    with pytest.raises(DataLoss, match=r"secret\.qcow2"):
        rig.take("s3")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", template, rig.disk)
    assert rig.take("s4").parent == rig.ref("s2").id
    assert rig.at_rest()


def test_a_failure_leaves_nothing(rig, monkeypatch):
    """The bitmap that was begun is gone, the parent's is there: the next one is a delta."""
    rig.take("s1")
    with monkeypatch.context() as patch:
        for name in ("pool", "archive"):
            patch.setattr(type(rig.site().stores[name]), "write", _fails)
        with pytest.raises(InvalidArgument):
            rig.take("s2")

    assert list(rig.host.bitmaps(DISK.vm)) == ["s1"]
    assert rig.at_rest()
    rig.write("0 64k")
    assert rig.take("s2").full_reason is None
    assert rig.is_whole("s1", "s2")


def _fails(*_arguments):
    raise InvalidArgument("not this one")


def test_a_volume_whose_image_is_not_known_is_refused(rig):
    """Neither a VM nor an image: nothing is recorded, and the message says so."""
    site = replace(rig.site(), image_of=lambda _: ())
    with pytest.raises(InvalidArgument, match="image is not known"):
        kvm.take(site, rig.place(), SnapshotId("s1"), call())
    assert rig.states() == {}


def test_quiesce_has_nothing_to_freeze(rig):
    """Asked for, it is taken all the same, and not said to be quiesced."""
    rig.take("s1", quiesce=True)

    assert rig.record("s1").frozen_seconds == 0


def test_a_revert_does_not_replace_what_somebody_has_opened_meanwhile(rig):
    """QEMU opens the image while the snapshot is copied: it goes on with it, under its name."""
    rig.enable(False)  # else the bitmap, which goes first, is what meets the lock
    rig.write("0 64k")
    rig.take("s1")
    rig.write("0 64k")
    held = rig.volume()
    with ExitStack() as opened:

        def guest_starts(_done: int, _total: int | None) -> None:
            if not openings:
                openings.append(opened.enter_context(open_chain_sink([rig.disk])))

        openings: list[object] = []
        starting = Call.within(60, progress=guest_starts)
        with pytest.raises(InUse, match="is open in a running QEMU"):
            kvm.revert(rig.site(), VOLUME, SnapshotId("s1"), rig.disk, starting)
        assert openings
    assert rig.volume() == held
    assert rig.at_rest()
    rig.revert("s1")
    assert rig.volume() == rig.contents["s1"]


def test_an_interrupt_undoes_what_was_begun(rig):
    """Ctrl-C while a snapshot is taken, or copied: nothing is left of it, and the chain goes on."""
    rig.write("0 64k")
    first = rig.take("s1")
    rig.write("1M 64k")

    def ctrl_c(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    interrupted = Call.within(60, progress=ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        kvm.take(rig.site(), rig.place(), SnapshotId("s2"), interrupted)
    with pytest.raises(KeyboardInterrupt):
        kvm.copy(rig.site(), SnapshotId("s1"), "sec-2", interrupted)
    assert rig.states()["s2"] == "Error"
    assert rig.at_rest()
    assert rig.files("sec-2") == []
    assert rig.take("s3").parent == first.id
    assert rig.is_whole("s1", "s3")
