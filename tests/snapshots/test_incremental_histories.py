"""C14: random histories of a volume; whatever survives restores bit-identically, and nothing stays behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bollard.core.snapshots import kvm
from bollard.transfer_objects.ids import SnapshotId
from chain_rig import DISK, KIB, MIB, SIZE, ChainRig, call, killed_at
from watched import watched

READY = ("CreatedOnPrimary", "BackedUp")
places = st.integers(0, 63).map(lambda n: (n * 64 + 4) * KIB)
lengths = st.sampled_from([4 * KIB, 64 * KIB, 100 * KIB])


class Histories(RuleBasedStateMachine):
    """One volume, snapshots on its pool and on two mounted directories, delta.max 3."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="histories-"))
        self.rig = ChainRig(self.directory)
        self.count = 0
        self.size = SIZE

    @initialize()
    def begin(self) -> None:
        """Something to lose."""
        self.rig.write("0 1M")
        self.take()

    def survivors(self) -> list[str]:
        """What a user may restore."""
        return [name for name, state in self.rig.states().items() if state in READY]

    @rule(at=places, length=lengths)
    def write(self, at: int, length: int) -> None:
        """The guest writes."""
        self.rig.write(self.inside(at, length))

    def inside(self, at: int, length: int) -> str:
        """What lies within the volume, which may have been shrunk."""
        return f"{at % (self.size - length)} {length}"

    @rule(at=places, length=lengths)
    def discard(self, at: int, length: int) -> None:
        """The guest discards."""
        self.rig.host.guest(DISK.vm, f"discard {self.inside(at, length)}")

    @rule()
    def take(self) -> None:
        """A snapshot."""
        self.count += 1
        self.rig.take(f"s{self.count}")

    @precondition(lambda self: self.survivors())
    @rule(data=st.data())
    def delete(self, data) -> None:
        """Any of them, in any order."""
        self.rig.delete(data.draw(st.sampled_from(self.survivors())))

    @precondition(lambda self: self.survivors())
    @rule(data=st.data())
    def revert(self, data) -> None:
        """To any of them."""
        name = data.draw(st.sampled_from(self.survivors()))
        self.rig.revert(name)
        assert self.rig.volume() == self.rig.contents[name]
        self.size = len(self.rig.contents[name])

    @rule()
    def grow(self) -> None:
        """By half a MiB; the guest writes to what is new."""
        self.rig.host.resize(DISK.vm, self.size + 512 * KIB)
        self.rig.write(f"{self.size + 64 * KIB} 64k")
        self.size += 512 * KIB

    @precondition(lambda self: self.size > 2 * MIB)
    @rule()
    def shrink(self) -> None:
        """By half a MiB; nobody tells the engine."""
        self.size -= 512 * KIB
        self.rig.host.resize(DISK.vm, self.size)

    @rule()
    def change_hands(self) -> None:
        """From its VM to nobody, or back: one may track what the other has begun."""
        self.rig.images = [] if self.rig.images else [self.rig.disk]
        self.rig.host.define_anew(DISK.vm)

    @rule(on=st.booleans())
    def back_up(self, on: bool) -> None:
        """snapshot.backup.to.secondary."""
        self.rig.back_up(on)

    @rule(store=st.sampled_from(["sec-1", "sec-2", "archive"]))
    def choose_store(self, store: str) -> None:
        """The next backup goes there."""
        self.rig.secondary = store

    @rule(on=st.booleans())
    def enable(self, on: bool) -> None:
        """kvm.incremental.snapshot."""
        self.rig.enable(on)

    @rule()
    def lose_power(self) -> None:
        """QEMU dies by kill -9."""
        self.rig.host.cut_power(DISK.vm)

    @rule()
    def lose_bitmaps(self) -> None:
        """Somebody removed them; the hypervisor's register does not know."""
        self.rig.host.lose_bitmaps(DISK.vm)

    @rule()
    def define_anew(self) -> None:
        """Stop and start."""
        self.rig.host.define_anew(DISK.vm)

    @rule(step=st.integers(1, 40))
    def take_killed(self, step: int) -> None:
        """We die while a snapshot is made."""
        self.count += 1
        name = f"s{self.count}"
        self.rig.contents[name] = self.rig.volume()
        self._killed(step, lambda site: kvm.take(site, self.rig.place(), SnapshotId(name), call()))

    @precondition(lambda self: self.survivors())
    @rule(step=st.integers(1, 16), data=st.data())
    def delete_killed(self, step: int, data) -> None:
        """We die while one is deleted."""
        name = SnapshotId(data.draw(st.sampled_from(self.survivors())))
        self._killed(step, lambda site: kvm.delete(site, name, call()))

    def _killed(self, step: int, act: Callable[[kvm.Site], object]) -> None:
        killed_at(step, lambda tick: act(watched(self.rig.site(), tick)))
        assert kvm.sync(self.rig.site(), call()) == []

    @invariant()
    def at_rest(self) -> None:
        """Nothing is under way, and at most the newest one is tracked."""
        assert self.rig.at_rest()
        assert len(self.rig.host.bitmaps(DISK.vm)) <= 1

    @invariant()
    def newest_restores(self) -> None:
        """The newest survivor is what it was; its whole chain is read for that."""
        assert self.rig.is_whole(*self.survivors()[-1:])

    def teardown(self) -> None:
        """All survivors are what they were; when all are deleted, no file is left.

        What a kill left in the archive stays there until its writer's lease is over.
        """
        try:
            assert self.rig.is_whole(*self.survivors())
            for name in self.survivors()[-1:] + self.survivors()[:-1]:
                self.rig.delete(name)
            assert self.rig.files("pool", "sec-1", "sec-2", "scratch") == []
            assert not [path for path in self.rig.files("archive") if path.endswith("manifest.json")]
        finally:
            self.rig.close()
            shutil.rmtree(self.directory)


TestC14 = pytest.mark.real(pytest.mark.slow(pytest.mark.timeout(600)(Histories.TestCase)))
TestC14.settings = settings(max_examples=5, stateful_step_count=15, deadline=None)
