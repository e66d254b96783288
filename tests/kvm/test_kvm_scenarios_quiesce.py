"""Quiesced volume snapshots of real guests: frozen for the cut and no longer, thawed whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.core.catalog.snapshots import snapshot_of
from bollard.core.snapshots import kvm
from bollard.core.snapshots.kvm import delta
from bollard.core.spi import Busy, DeadlineExceeded, GuestState, Internal, Outcome, StorageError, Unavailable
from bollard.drivers.hypervisor.kvm.machine import Machine
from bollard.transfer_objects.ids import SnapshotId
from chain_site import VOLUME
from kvm_blank import Blank
from kvm_driving import call, driver_for
from kvm_lab import Host, Lab
from kvm_lab.polling import until
from kvm_scenario import Scenario, checksums

pytestmark = pytest.mark.real(root=True)

_LIB = Path(__file__).parents[1] / "lib"
_LONGEST = 2.0  # seconds; 0.15 on an idle machine, all checks and the watch included it was 0.6
_CUT = "beginning a backup"


@pytest.fixture(scope="module")
def shared(kvm_lab: Lab, kvm_host: Host) -> Iterator[Scenario]:
    """One guest for the tests that leave it as it was."""
    rig = Scenario(kvm_lab, kvm_host)
    rig.settings.set("snapshot.delta.max", 100)
    rig.guest.mounted(VOLUME)  # else there is nothing to freeze
    yield rig
    rig.close()


@pytest.fixture
def rig(kvm_lab: Lab, kvm_host: Host) -> Iterator[Scenario]:
    """A guest of the test's own."""
    rig = Scenario(kvm_lab, kvm_host)
    yield rig
    rig.close()


def state(rig: Scenario) -> GuestState:
    """What the guest says."""
    return rig.driver.guest_state(rig.disk.vm, call())


def quiesced(rig: Scenario, snapshot: str) -> float:
    """Take a quiesced snapshot, and return how long the guest stood still; nothing is synced before."""
    kvm.take(rig.site(), rig.place(), SnapshotId(snapshot), call(), quiesce=True)
    with rig.site().catalog.transaction() as session:
        return snapshot_of(session, snapshot).frozen_seconds


def at_the_cut(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Do something at the moment of the cut, when the guest is frozen."""
    real = Machine.act

    def acting(machine: Machine, call: Any, deed: Any, what: str) -> Any:
        if what == _CUT:
            act()
        return real(machine, call, deed, what)

    monkeypatch.setattr(Machine, "act", acting)


def test_frozen_for_the_cut_only(shared: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the cut the guest is frozen; while the bytes are read it is not, and writes on."""
    rig = shared
    seen: list[GuestState] = []
    at_the_cut(monkeypatch, lambda: seen.append(state(rig)))
    transfer = delta.transfer

    def reading(*arguments: Any) -> None:
        seen.append(state(rig))
        rig.write("while-it-was-read", 16)
        transfer(*arguments)

    monkeypatch.setattr(delta, "transfer", reading)
    seconds = quiesced(rig, "cut")

    assert seen == [GuestState.FROZEN, GuestState.THAWED]
    assert 0 < seconds < _LONGEST
    assert rig.left() == []


def test_what_the_guest_has_written_is_in_it(shared: Scenario) -> None:
    """Without a sync: the freeze brings all that was written to the disk, in a full and in deltas."""
    rig = shared
    for number in range(3):
        rig.write(f"cached-{number}", 256)
        written = checksums(rig.guest, f"/mnt/{VOLUME}")
        assert quiesced(rig, f"written-{number}") < _LONGEST
        rig.look(f"written-{number}")
        assert rig.restored[f"written-{number}"] == written
    assert rig.ref("written-2").parent == rig.ref("written-1").id


def test_a_cut_that_fails_thaws(shared: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hypervisor refuses while the guest is frozen: it is thawed, and nothing is left."""

    def fails() -> None:
        assert state(shared) is GuestState.FROZEN
        raise Internal("not now")

    with monkeypatch.context() as patch:
        at_the_cut(patch, fails)
        with pytest.raises(Internal, match="not now"):
            quiesced(shared, "refused")
    assert shared.left() == []
    assert shared.states()["refused"] == "Error"
    assert quiesced(shared, "after-refused") > 0


def test_what_fails_before_the_cut_freezes_nobody(shared: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """All checks come first: a guest whose snapshot is refused anyway has not stood still for it."""
    frozen: list[object] = []
    monkeypatch.setattr(type(shared.driver), "_freeze", lambda *asked: frozen.append(asked))
    with pytest.raises(StorageError):
        shared.driver.begin_backup(
            shared.disk.vm, "vda", call(), checkpoint="c9", since="unknown", quiesce=True
        )
    shared.driver.begin_backup(shared.disk.vm, "vda", call(), checkpoint="c1")
    with pytest.raises(Busy, match="not frozen"):
        shared.driver.begin_backup(shared.disk.vm, "vda", call(), checkpoint="c1", quiesce=True)
    shared.driver.end_backup(shared.disk.vm, "vda", call(), keep=False)

    assert frozen == []
    assert shared.left() == []


def test_a_repeat_is_the_same_backup(shared: Scenario) -> None:
    """It tells for how long the guest stood still then; it is not frozen again."""
    vm = shared.disk.vm
    first = shared.driver.begin_backup(vm, "vda", call(), checkpoint="again", quiesce=True)
    assert first.frozen_seconds > 0
    assert shared.driver.begin_backup(vm, "vda", call(), checkpoint="again", quiesce=True) == first
    shared.driver.end_backup(vm, "vda", call(), keep=False)


def test_a_guest_that_thaws_too_early_is_told(shared: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody thaws before the cut, which may hold half a write then: no snapshot, nothing left."""
    other = driver_for(shared.directory, shared.vm.host)
    with monkeypatch.context() as patch:
        at_the_cut(patch, lambda: other.thaw(shared.disk.vm, call()))
        with pytest.raises(DeadlineExceeded, match="thawed before"):
            quiesced(shared, "early")
    other.close()
    assert shared.left() == []
    assert shared.states()["early"] == "Error"


_DIES_AT_THE_CUT = """
import os, signal, sys
sys.path[:0] = [{lib!r}]
from pathlib import Path
from kvm_orchestrator import Orchestrator, kvm
from kvm_driving import call
from bollard.drivers.hypervisor.kvm.machine import Machine
class Host: name, uri = {name!r}, {uri!r}
real = Machine.act
def act(machine, call, deed, what):
    if what == {cut!r} and {before}: os.kill(os.getpid(), signal.SIGKILL)
    answer = real(machine, call, deed, what)
    if what == {cut!r}: os.kill(os.getpid(), signal.SIGKILL)
    return answer
Machine.act = act
one = Orchestrator(Path({directory!r}), {vm!r}, Host)
kvm.take(one.site(), one.place(), {snapshot!r}, call(), quiesce=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_kill_9_at_the_cut_does_not_keep_the_guest_frozen(rig: Scenario, *, before: bool) -> None:
    """The watch thaws within its window; a sync takes the rest away, and the next one is taken."""
    rig.write("kept")
    code = _DIES_AT_THE_CUT.format(
        lib=str(_LIB),
        name=rig.vm.host.name,
        uri=rig.vm.host.uri,
        cut=_CUT,
        before=before,
        directory=str(rig.directory),
        vm=rig.vm.name,
        snapshot="killed",
    )
    died = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert state(rig) is GuestState.FROZEN
    until(lambda: state(rig) is GuestState.THAWED, 60, "the thaw")
    until(lambda: not list((rig.directory / "state").glob("*/frozen/*")), 60, "the watch to end")
    assert kvm.sync(rig.site(), call()) == []
    assert rig.left() == []
    assert rig.states()["killed"] == "Error"
    assert 0 < quiesced(rig, "next") < _LONGEST
    rig.look("next")
    assert list(rig.restored["next"]) == ["kept"]


@pytest.mark.slow
def test_kill_9_of_qemu_at_the_cut(rig: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that dies frozen leaves no watch and no snapshot; when it runs again, a full is taken."""
    rig.write("kept")
    rig.take("s1")
    with monkeypatch.context() as patch:
        at_the_cut(patch, rig.vm.kill_qemu)
        with pytest.raises(StorageError):
            quiesced(rig, "dead")
    assert rig.left() == []
    assert not rig.start()
    assert quiesced(rig, "s2") > 0
    assert rig.ref("s2").parent is None


def test_a_vm_that_cannot_be_frozen_is_refused(kvm_lab: Lab, kvm_host: Host) -> None:
    """One without an agent, paused besides: `Unavailable`, nothing left; unquiesced it has its snapshot."""
    rig = Blank(kvm_lab, kvm_host)
    rig.change()
    with pytest.raises(Unavailable) as caught:
        quiesced(rig, "s1")
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert rig.left() == []
    rig.make("s2")
    assert rig.survivors() == ["s2"]
    rig.close()


@pytest.mark.slow
def test_stopped_and_silent_guests(rig: Scenario) -> None:
    """Off: nothing to freeze, and it is not said to be quiesced. Without an agent: refused, nothing left."""
    rig.write("kept")
    rig.stop()
    assert quiesced(rig, "stopped") == 0
    rig.start()
    with pytest.raises(Exception, match=r"agent|Guest"):
        rig.guest.shell("killall qemu-ga; sleep 1", seconds=5)
    with pytest.raises(Unavailable):
        quiesced(rig, "silent")
    assert rig.states()["silent"] == "Error"
    assert rig.bitmaps() == ["stopped"]
    for place in ("state/*/frozen/*", "state/*/backups/*", "scratch/*", "journal/*.intent"):
        assert list(rig.directory.glob(place)) == []
    ref = kvm.take(rig.site(), rig.place(), SnapshotId("silent"), call())  # unquiesced it is taken
    assert ref.parent == rig.ref("stopped").id
