"""Random histories of a chain on real libvirt and QEMU; tests/snapshots has many more on qemu-img alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bollard.core.snapshots import kvm
from chain_site import VOLUME
from kvm_blank import Blank
from kvm_driving import call
from kvm_lab import Host, Lab

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]


class Histories(RuleBasedStateMachine):
    """One VM of its own; delta.max 3, so that chains end and begin."""

    def __init__(self, new_rig: Callable[[], Blank]) -> None:
        super().__init__()
        self.rig = new_rig()
        self.rig.settings.set("snapshot.delta.max", 3)
        self.count = 0

    @initialize()
    def begin(self) -> None:
        """Something to lose."""
        self.take()

    def survivors(self) -> list[str]:
        """What a user may restore."""
        return [n for n, state in self.rig.states().items() if state in ("CreatedOnPrimary", "BackedUp")]

    def _started(self) -> None:
        if not self.rig.vm.domain.isActive():
            self.rig.power(on=True)
            kvm.recreate_checkpoints(self.rig.site(), VOLUME, call())

    @rule()
    def write(self) -> None:
        """The VM runs, and writes."""
        self._started()
        self.rig.change()

    @rule()
    def take(self) -> None:
        """A snapshot of the running or the stopped VM."""
        self.count += 1
        if self.rig.vm.domain.isActive():
            self.rig.change()
        self.rig.remember(f"s{self.count}")
        self.rig.take(f"s{self.count}")

    @precondition(lambda self: self.survivors())
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        """Any of them, in any order."""
        self.rig.delete(data.draw(st.sampled_from(self.survivors())))

    @precondition(lambda self: self.survivors())
    @rule(data=st.data())
    def revert(self, data: Any) -> None:
        """To any of them, stopped."""
        name = data.draw(st.sampled_from(self.survivors()))
        self.rig.power(on=False)
        self.rig.revert(name)
        assert self.rig.volume() == self.rig.kept[name]
        self.rig.content[:] = self.rig.kept[name]

    @rule(on=st.booleans())
    def power(self, on: bool) -> None:
        """Start or stop."""
        if on:
            self._started()
        else:
            self.rig.power(on=False)

    @precondition(lambda self: self.rig.vm.domain.isActive())
    @rule()
    def lose_power(self) -> None:
        """Kill -9 of QEMU."""
        self.rig.vm.kill_qemu()

    @rule()
    def lose_libvirtd(self) -> None:
        """Kill -9 of libvirtd, which is started again."""
        self.rig.vm.host.kill_libvirtd()
        self.rig.vm.host.start_libvirtd()

    @rule(on=st.booleans())
    def back_up(self, on: bool) -> None:
        """snapshot.backup.to.secondary."""
        self.rig.back_up(on)

    @invariant()
    def nothing_is_left(self) -> None:
        """No file, bitmap, checkpoint or job that nobody needs, but what a dead QEMU has spoilt."""
        found = self.rig.left()
        assert all(one.startswith(("bitmap", "checkpoint")) for one in found), found

    def teardown(self) -> None:
        """All survivors restore bit-identically; when all are deleted no file is left."""
        try:
            for name in self.rig.survivors()[::-1]:
                self.rig.delete(name)
            assert self.rig.stored() == []
        finally:
            self.rig.close()


def test_c14_random_histories(kvm_lab: Lab, kvm_host: Host) -> None:
    """Whatever is written, taken, deleted, reverted and killed: survivors restore, and zero files stay."""
    run_state_machine_as_test(
        lambda: Histories(lambda: Blank(kvm_lab, kvm_host)),
        settings=settings(
            max_examples=6,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
