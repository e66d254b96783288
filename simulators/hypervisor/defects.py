"""What the simulated hypervisor can be told to do wrong."""

from __future__ import annotations

from dataclasses import dataclass

from ..defects import DefectSet


@dataclass
class HypervisorDefects(DefectSet):
    """Switches of the hypervisor simulator.

    Attributes:
        freeze_says_ok_does_nothing: freeze answers "frozen" while the guest goes on writing.
        thaw_ignored: thaw answers "thawed" while the guest stays frozen until its time limit.
        agent_timeout: so many freezes answer 504 although the guest was frozen.
        forget_deletes_data: forget removes the object's file.
        forget_leaves_device: forget takes the object from the list, but its device stays on the host.
        introduce_wrong_object: what appears on the host is another object of the same size.
        introduce_wrong_size: the host shows a stale, smaller size.
        snapshot_hangs: creating a VM snapshot does not return until this is switched off.
        revert_partial: only the first disk is reverted, with success.
        two_current_snapshots: the new current snapshot leaves the old one current too.
        snapshot_without_cut: the guest goes on writing between the copies of its disks.
        unavailable: so many requests are answered with 503.
    """

    freeze_says_ok_does_nothing: bool = False
    thaw_ignored: bool = False
    agent_timeout: int = 0
    forget_deletes_data: bool = False
    forget_leaves_device: bool = False
    introduce_wrong_object: bool = False
    introduce_wrong_size: bool = False
    snapshot_hangs: bool = False
    revert_partial: bool = False
    two_current_snapshots: bool = False
    snapshot_without_cut: bool = False
    unavailable: int = 0
