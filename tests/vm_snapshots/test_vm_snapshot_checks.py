"""What is refused before anything is done, and what an orchestrator may do while there are VM snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bollard.core.spi import (
    Busy,
    Conflict,
    HasDependents,
    InUse,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    Unsupported,
    VmState,
)
from bollard.core.vm_snapshots import IllegalTransition
from bollard.core.vm_snapshots.guards import Act, check_act
from bollard.core.vm_snapshots.records import VmSnapshotSpec
from bollard.core.vm_snapshots.register import drop_register, restore_register
from bollard.core.vm_snapshots.states import Event, State
from bollard.core.vm_snapshots.strategy import Asked, Job, Plan, Priority, Settled, Strategy, Taken, choose
from bollard.transfer_objects.ids import VmId, VmSnapshotId
from vm_cloud import VM, SimulatedCloud, call

S1 = VmSnapshotId("s1")


class Orchestrator:
    """What the hooks answer."""

    def __init__(self) -> None:
        self.forbidden = False
        self.busy: list[str] = []
        self.snapshots: list[str] = []
        self.limit = 10

    def authorise(self, account: str, vm: VmId) -> None:
        """See Hooks."""
        if self.forbidden:
            raise PermissionDenied(f"{account!r} does not own {vm}")

    def hooks(self) -> dict[str, Any]:
        """The keywords of Hooks."""
        return {
            "authorise": self.authorise,
            "busy_volume_snapshots": lambda _: self.busy,
            "volume_snapshots": lambda _: self.snapshots,
            "max_per_vm": lambda _: self.limit,
        }


@pytest.fixture
def orchestrator() -> Orchestrator:
    """An orchestrator that allows everything."""
    return Orchestrator()


@pytest.fixture
def cloud(tmp_path, orchestrator) -> Iterator[SimulatedCloud]:
    """A KVM cloud with a running VM in files."""
    with SimulatedCloud(tmp_path, hooks=orchestrator.hooks()) as opened:
        opened.start()
        yield opened


def spec(**changes: Any) -> VmSnapshotSpec:
    """A specification."""
    return VmSnapshotSpec(**{"id": S1, "vm": VM, "name": "s1", **changes})


class TestCreate:
    """Checks before a snapshot is taken."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"id": "../s1"}, "not a valid id"),
            ({"name": " "}, "must not be empty"),
            ({"name": "n" * 256}, "at most 255"),
            ({"description": "d" * 256}, "at most 255"),
        ],
    )
    def test_bad_text_is_refused(self, cloud, changes, message):
        """Ids, empty names and long texts are refused, and nothing is recorded."""
        with pytest.raises(InvalidArgument, match=message):
            cloud.manager.create(spec(**changes), call())
        assert cloud.records.of_vm(VM) == []

    def test_texts_of_the_greatest_length_are_fine(self, cloud):
        """255 characters each."""
        taken = cloud.manager.create(spec(name="n" * 255, description="ä" * 255), call())
        assert cloud.records.get(S1) == taken

    def test_memory_needs_a_running_vm(self, cloud):
        """A stopped VM has none."""
        cloud.stop()
        with pytest.raises(InvalidArgument, match="only a running VM has memory"):
            cloud.take("s1", memory=True)

    def test_a_paused_vm_is_neither(self, cloud, monkeypatch):
        """Running or stopped it must be."""
        monkeypatch.setattr(cloud.driver, "vm_state", lambda *_: VmState.PAUSED)
        with pytest.raises(InvalidArgument, match="must be running or stopped"):
            cloud.take("s1")

    def test_a_name_is_unique_in_the_vm(self, cloud):
        """A second one of the name is refused until the first is deleted."""
        cloud.take("s1")
        with pytest.raises(Conflict, match="with the name 's1'"):
            cloud.manager.create(spec(id=VmSnapshotId("s2")), call())
        cloud.delete("s1")
        cloud.manager.create(spec(id=VmSnapshotId("s2")), call())

    def test_a_vm_has_so_many_at_most(self, cloud, orchestrator):
        """What was deleted no longer counts, nor what is only hidden."""
        orchestrator.limit = 2
        cloud.take("a")
        cloud.take("b")
        with pytest.raises(LimitExceeded, match="at most 2"):
            cloud.take("c")
        cloud.revert("a")
        cloud.delete("a")  # two stand on it: hidden
        assert cloud.records.get(VmSnapshotId("a")).state is State.HIDDEN
        cloud.take("c")

    def test_the_hooks_are_asked(self, cloud, orchestrator):
        """Foreign accounts and volume snapshots under way are refused, for each operation."""
        cloud.take("s1")
        orchestrator.forbidden = True
        for act in (lambda: cloud.take("s2"), lambda: cloud.revert("s1"), lambda: cloud.delete("s1")):
            with pytest.raises(PermissionDenied):
                act()
        orchestrator.forbidden, orchestrator.busy = False, ["v1"]
        for act in (lambda: cloud.take("s2"), lambda: cloud.revert("s1"), lambda: cloud.delete("s1")):
            with pytest.raises(Busy, match="snapshot v1"):
                act()
        assert [one.id for one in cloud.records.of_vm(VM)] == ["s1"]

    def test_one_task_at_a_time(self, cloud):
        """While one is under way, any other of the VM is busy: in this process and after its death."""
        with cloud.manager.locks.task(VM), pytest.raises(Busy, match="under way"):
            cloud.take("s1")
        cloud.records.allocate(spec(), "file", [], offering={}, work={})
        for act in (lambda: cloud.take("s2"), lambda: cloud.take("s1")):
            with pytest.raises(Busy, match="Allocated"):
                act()
        cloud.delete("s1")
        assert cloud.records.get(S1).state is State.REMOVED
        cloud.take("s2")

    def test_the_same_again_is_the_same(self, cloud):
        """A repeat returns the first; another specification, and what was deleted, are conflicts."""
        taken = cloud.take("s1")
        assert cloud.take("s1") == taken
        with pytest.raises(Conflict, match="another specification"):
            cloud.take("s1", description="other")
        cloud.delete("s1")
        cloud.delete("s1")
        with pytest.raises(Conflict, match="Removed"):
            cloud.take("s1")

    def test_volume_snapshots_and_images_exclude_each_other(self, cloud, orchestrator):
        """A new image would cut off the volume's own snapshots: the reason is told."""
        orchestrator.snapshots = ["v1"]
        with pytest.raises(Unsupported, match="snapshots of its own"):
            cloud.take("s1")

    def test_what_does_not_exist_cannot_be_reverted_to(self, cloud):
        """NotFound; deleting it is fine."""
        with pytest.raises(NotFound):
            cloud.revert("s1")
        cloud.delete("s1")

    def test_only_a_ready_one_can_be_reverted_to(self, cloud):
        """Another state is told."""
        cloud.records.allocate(spec(), "file", [], offering={}, work={})
        cloud.records.step(S1, Event.CREATE_REQUESTED)
        cloud.records.step(S1, Event.OPERATION_FAILED, error="broken")
        with pytest.raises(IllegalTransition, match="Error: it does not take RevertRequested"):
            cloud.revert("s1")
        with pytest.raises(Conflict, match="Error: broken"):
            cloud.take("s1")


class TestMemory:
    """Snapshots with memory, beside those of disks only."""

    @pytest.fixture
    def memory_cloud(self, tmp_path) -> Iterator[SimulatedCloud]:
        """A KVM whose operator has excluded overlays: the hypervisor takes all."""
        with SimulatedCloud(tmp_path, excluded=["file"]) as opened:
            opened.start()
            yield opened

    def test_it_brings_the_memory_back_and_the_vm_runs(self, memory_cloud):
        """Reverting a stopped VM to it starts it first; to one without it stops it first."""
        cloud = memory_cloud
        cloud.stop()
        cloud.take("disk")
        cloud.start()
        cloud.write("a", "a")
        cloud.remember("half a song")
        cloud.take("memory", memory=True)
        cloud.remember("silence")
        cloud.write("b", "b")
        cloud.stop()
        cloud.revert("memory")

        assert cloud.state() is VmState.RUNNING
        assert cloud.memory() == "half a song"
        assert sorted(cloud.read()) == ["a"]
        cloud.revert("disk")
        assert cloud.state() is VmState.STOPPED
        cloud.start()
        assert cloud.read() == {}
        tree = cloud.records.tree(VM)
        assert {node.id: node.parent for node in tree} == {"disk": None, "memory": "disk"}

    def test_kvm_takes_no_disk_only_one_of_a_running_vm(self, memory_cloud):
        """Without overlays nobody can, and each strategy's reason is told."""
        with pytest.raises(Unsupported, match=r"without its memory.*file: excluded; driver: "):
            memory_cloud.take("s1")

    def test_the_register_leaves_and_returns(self, memory_cloud):
        """Emptied for a migration and filled again, it has the same tree and the same current one."""
        cloud, machine = memory_cloud, memory_cloud.machine(VM)
        for name in ("a", "b", "c"):
            cloud.take(name, memory=True)
        cloud.revert("b")
        before = cloud.driver.vm_snapshot_metadata(VM, call())
        drop_register(machine, call())
        assert cloud.driver.vm_snapshot_metadata(VM, call()) == []
        restore_register(cloud.records, machine, call())
        restore_register(cloud.records, machine, call())

        assert cloud.driver.vm_snapshot_metadata(VM, call()) == before
        assert [one.snapshot for one in before if one.current] == ["b"]

    def test_a_register_that_was_not_filled_again_keeps_nobody_from_a_revert(self, memory_cloud):
        """The catalog remembers what the hypervisor has forgotten; deletion needs no register at all."""
        cloud = memory_cloud
        cloud.write("a", "a")
        cloud.take("a", memory=True)
        cloud.write("b", "b")
        drop_register(cloud.machine(VM), call())
        cloud.revert("a")
        assert sorted(cloud.read()) == ["a"]
        drop_register(cloud.machine(VM), call())
        cloud.delete("a")
        assert cloud.files() == []

    def test_the_offering_of_that_time_is_told(self, memory_cloud):
        """After a change of the offering a revert says which one to bring back."""
        cloud = memory_cloud
        cloud.take("s1", memory=True)
        assert cloud.manager.revert(S1, call()).offering == {}
        check_act(cloud.records, VM, Act.CHANGE_OFFERING)
        cloud.offering = {"name": "large"}
        assert cloud.manager.revert(S1, call()).offering == {"name": "small"}


class TestGuards:
    """What may be done with a VM that has snapshots."""

    @pytest.mark.parametrize("act", list(Act))
    def test_without_snapshots_everything_may(self, cloud, act):
        """Nothing is refused."""
        check_act(cloud.records, VM, act)

    @pytest.mark.parametrize(
        ("act", "error"),
        [
            (Act.ATTACH, HasDependents),
            (Act.DETACH, HasDependents),
            (Act.RESIZE, HasDependents),
            (Act.MIGRATE_VOLUME, HasDependents),
            (Act.REVERT_VOLUME, HasDependents),
            (Act.SNAPSHOT_VOLUME, InUse),
            (Act.CHANGE_OFFERING, None),
            (Act.START, None),
        ],
    )
    def test_with_snapshots_as_files(self, cloud, act, error):
        """Each act is refused or not, as the table says; after a deletion everything may again."""
        cloud.take("s1")
        if error is None:
            check_act(cloud.records, VM, act)
        else:
            with pytest.raises(error, match=f"cannot {act}: VM vm-1 has"):
                check_act(cloud.records, VM, act)
        cloud.delete("s1")
        check_act(cloud.records, VM, act)

    def test_a_volume_snapshot_beside_the_hypervisors(self, tmp_path):
        """Snapshots that are no images do not keep a volume from having its own."""
        with SimulatedCloud(tmp_path, personality="VMware") as cloud:
            cloud.take("s1")
            check_act(cloud.records, VM, Act.SNAPSHOT_VOLUME)
            with pytest.raises(HasDependents):
                check_act(cloud.records, VM, Act.REVERT_VOLUME)

    def test_while_a_task_is_under_way(self, cloud):
        """Everything is busy, but a start only during a revert."""
        cloud.take("s1")
        cloud.records.step(S1, Event.REVERT_REQUESTED)
        for act in Act:
            with pytest.raises(Busy, match="Reverting"):
                check_act(cloud.records, VM, act)
        cloud.records.step(S1, Event.OPERATION_FAILED)
        cloud.records.step(S1, Event.EXPUNGE_REQUESTED)
        check_act(cloud.records, VM, Act.START)
        with pytest.raises(Busy, match="Expunging"):
            check_act(cloud.records, VM, Act.ATTACH)


class Named(Strategy):
    """A strategy with a priority, and nothing behind it."""

    name = "named"

    def __init__(self, name: str, priority: Priority) -> None:
        self.name = name  # type: ignore[misc]  # a class variable elsewhere
        self.priority = priority  # type: ignore[misc]  # idem

    def obstacle(self, asked: Asked) -> str:  # noqa: ARG002 - it does nothing
        """None of its own: its priority says whether it can."""
        return ""

    def can_handle(self, asked: Asked) -> Priority:  # noqa: ARG002 - it does nothing
        """See `Strategy.can_handle`."""
        return self.priority

    def plan(self, asked: Asked) -> Plan:  # noqa: ARG002 - it does nothing
        """Nothing."""
        return Plan(members=[])

    def take(self, job: Job) -> Taken:  # noqa: ARG002 - it does nothing
        """Nothing."""
        return Taken()

    def undo(self, job: Job) -> None:
        """Nothing."""

    def find(self, job: Job) -> Taken | None:
        """Nothing."""

    def revert(self, job: Job) -> None:
        """Nothing."""

    def settle_revert(self, job: Job) -> Settled:  # noqa: ARG002 - it does nothing
        """Nothing."""
        return Settled.DONE

    def delete(self, job: Job) -> bool:  # noqa: ARG002 - it does nothing
        """Nothing."""
        return True


class TestChoice:
    """Which strategy takes a snapshot."""

    @pytest.fixture
    def asked(self, cloud) -> Asked:
        """Any snapshot."""
        return Asked(spec=spec(), machine=cloud.machine(VM), state=VmState.RUNNING, call=call())

    def test_the_highest_wins(self, asked):
        """In whichever order they stand; of two equal ones the first."""
        strategies = [Named(priority.name, priority) for priority in Priority]
        assert choose(strategies, asked).name == "HIGHEST"
        assert choose(strategies[::-1], asked).name == "HIGHEST"
        assert choose(strategies, asked, ["HIGHEST", "HYPERVISOR"]).name == "PLUGIN"
        twins = [Named("a", Priority.PLUGIN), Named("b", Priority.PLUGIN)]
        assert choose(twins, asked).name == "a"

    def test_nobody_is_an_error(self, asked):
        """With each one's reason."""
        with pytest.raises(Unsupported, match=r"\(a: it does not fit; b: excluded\)"):
            choose([Named("a", Priority.CANT_HANDLE), Named("b", Priority.HIGHEST)], asked, ["b"])

    def test_a_snapshot_stays_with_its_strategy(self, cloud):
        """Another process without it can neither revert nor delete, and says so."""
        cloud.take("s1")
        cloud._strategies = [Named("named", Priority.HIGHEST)]
        cloud.open_manager()
        for act in (cloud.revert, cloud.delete):
            with pytest.raises(Exception, match="strategy 'file', which is missing"):
                act("s1")
        assert cloud.records.get(S1).state is State.READY
