"""What a hypervisor check works with: the opened driver, a host, two test VMs, and objects to introduce.

    suite ── writes and reads ──> <objects>/<id>.<format> <── the host reaches it under the same path
      │                                     ▲
      └─ introduce, attach ──> host ──> VM: its guest writes to every disk that it has

The vendor prepares, once (docs/conformance.md):

    vm          runs, has a guest agent, and no disk that its guest writes to. Its guest runs the
                writer: again and again the next block of `simulators/hypervisor/pattern.py` to each
                disk that is attached, into the disk's last 256 KiB, ten blocks a second at least.
    stopped_vm  is off.

The rest of an object is the suite's, and holds its own pattern (`pattern.py`, `host_objects.py`). So it
can be seen from outside, without a word of the hypervisor's, which bytes a guest or a snapshot has touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Self, cast

from ..core.plugins import load_driver
from ..core.spi import (
    Call,
    DiskFormat,
    GuestState,
    HypervisorDriver,
    Introduced,
    Introduction,
    InvalidArgument,
    ObjectKind,
    PowersVms,
    StorageError,
    Unsupported,
    VmState,
    parse_options,
)
from ..transfer_objects.errors import did_you_mean
from ..transfer_objects.ids import HostId, VmId, VmSnapshotId, new_id
from .host_objects import TestObject, missing_tools
from .lab import Notes, must, not_applicable

_PATIENCE = 60.0  # seconds
_POLL = 0.02  # seconds
_WATCH = 0.5  # seconds in which a guest that writes has written
_TEXTS = ("host", "vm", "stopped_vm", "objects")
_FORMATS = ("raw", "qcow2")
_KEYS = (*_TEXTS, "patience", "format", "second_host")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """The table [hypervisor] of the configuration: what the vendor has prepared.

    Attributes:
        host: where both VMs are.
        vm: runs; its guest writes.
        stopped_vm: is off.
        objects: directory that the suite writes to and the host reaches under the same path.
        patience: seconds that one call of the driver may take, and a guest to write again.
        format: of the objects and overlays that are made.
        second_host: where `vm` may be moved to; "" for nowhere.
    """

    host: HostId
    vm: VmId
    stopped_vm: VmId
    objects: Path
    patience: float = _PATIENCE
    format: DiskFormat = "raw"
    second_host: HostId = HostId("")

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """Read the table.

        Raises:
            InvalidArgument: naming the key and the rule.
        """
        for key in table:
            if key not in _KEYS:
                raise InvalidArgument(f"[hypervisor]: key {key!r} is unknown; {did_you_mean(key, _KEYS)}")
        host, vm, stopped_vm, objects = (_text(table, key) for key in _TEXTS)
        if not Path(objects).is_absolute() or not Path(objects).is_dir():
            raise InvalidArgument(f"[hypervisor]: objects = {objects!r} is not an absolute directory")
        patience = table.get("patience", _PATIENCE)
        if type(patience) not in (int, float) or patience <= 0:
            raise InvalidArgument("[hypervisor]: patience is a number of seconds above 0")
        second = table.get("second_host", "")
        if not isinstance(second, str) or second == host:
            raise InvalidArgument("[hypervisor]: second_host is another host than host")
        return cls(
            host=HostId(host),
            vm=VmId(vm),
            stopped_vm=VmId(stopped_vm),
            objects=Path(objects),
            patience=patience,
            format=_format(table.get("format", "raw")),
            second_host=HostId(second),
        )


def _format(value: object) -> DiskFormat:
    if value not in _FORMATS:
        raise InvalidArgument(f"[hypervisor]: format is one of {', '.join(_FORMATS)}, not {value!r}")
    form: DiskFormat = "qcow2" if value == "qcow2" else "raw"
    if missing := missing_tools(form):
        raise InvalidArgument(f"[hypervisor]: format = 'qcow2' needs {', '.join(missing)} on this machine")
    return form


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"[hypervisor]: {key} (text) is required for a hypervisor driver")
    return value


@dataclass(slots=True, kw_only=True)
class HostLab:
    """One check's workplace on a hypervisor. What it makes is undone at the end, the last first."""

    driver: HypervisorDriver[Any]
    place: HostSettings
    prefix: str
    notes: Notes
    _undo: dict[tuple[str, ...], Callable[[], None]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(
        cls, driver: HypervisorDriver[Any], place: HostSettings, prefix: str, notes: Notes | None = None
    ) -> Iterator[Self]:
        """See that the vendor's preparations are there, and undo everything at the end.

        Raises:
            InvalidArgument: host or VMs are not as the configuration says.
        """
        lab = cls(driver=driver, place=place, prefix=prefix, notes=notes or Notes(random=Random(0), seed=0))  # noqa: S311 - must repeat
        lab._look()
        try:
            yield lab
        finally:
            until = time.monotonic() + place.patience
            with ExitStack() as stack:  # all of them, whichever fails
                for act in lab._undo.values():
                    stack.callback(_patiently, act, until)

    def _look(self) -> None:
        place = self.place
        hosts = {host.id for host in self.driver.list_hosts(self.call())}
        for wanted_host in filter(None, (place.host, place.second_host)):
            if wanted_host not in hosts:
                raise InvalidArgument(f"[hypervisor]: host {wanted_host!r} is not one of {sorted(hosts)}")
        for vm, wanted in ((place.vm, VmState.RUNNING), (place.stopped_vm, VmState.STOPPED)):
            state = self.driver.vm_state(vm, self.call())
            if state is not wanted:
                raise InvalidArgument(f"[hypervisor]: VM {vm!r} is {state}, and must be {wanted}")

    def call(self, seconds: float | None = None) -> Call:
        """Return a call with a deadline."""
        return Call.within(self.place.patience if seconds is None else seconds)

    # -- objects ---------------------------------------------------------------------------------------

    def object(self, generation: int = 1) -> TestObject:
        """Make an object that no host knows yet."""
        name = new_id(self.prefix)[:64]
        form = self.place.format
        made = TestObject(id=name, path=self.place.objects / f"{name}.{form}", format=form)
        self._undo["object", name] = partial(self._remove_files, name)
        made.make()
        made.write(generation)
        return made

    def _remove_files(self, name: str) -> None:
        """Remove an object's image with all links and overlays, whatever VMs have let go of by now."""
        for path in self.place.objects.glob(f"{name}*"):
            path.unlink(missing_ok=True)

    def link_to(self, what: TestObject) -> Path:
        """Make another path to an object."""
        link = what.path.with_suffix(".link")
        link.symlink_to(what.path)
        return link

    def overlay(self, of: TestObject, *, reachable: bool = True) -> TestObject:
        """Return the object as an overlay will hold it that is yet to be made.

        Args:
            of: the object.
            reachable: or in a directory that is not there.
        """
        name = f"{of.id}-{new_id()[:8]}.{of.format}"
        return of.at(self.place.objects / (name if reachable else f"{of.id}-nowhere/{name}"))

    def introduction(self, what: TestObject, **changes: Any) -> Introduction:
        """Return the true introduction of an object, or one with some fields changed."""
        true: dict[str, Any] = {
            "kind": ObjectKind.VOLUME,
            "object_id": what.id,
            "host": self.place.host,
            "location": what.location,
            "identity": what.identity,
            "size": what.size,
        }
        return Introduction(**(true | changes))

    def introduce(self, what: TestObject, **changes: Any) -> Introduced:
        """Introduce an object; it is forgotten at the end."""
        true = self.introduction(what, **changes)
        self._undo.setdefault(("introduced", what.id, true.host), partial(self._forget, what, true.host))
        return self.driver.introduce(true, self.call())

    def forget(self, what: TestObject, host: HostId | None = None) -> None:
        """Forget an object."""
        where = host or self.place.host
        self._forget(what, where)
        self._undo.pop(("introduced", what.id, where), None)

    def _forget(self, what: TestObject, host: HostId) -> None:
        self.driver.forget(ObjectKind.VOLUME, what.id, host, self.call())

    def attach(self, vm: VmId, disk: Introduced) -> str:
        """Attach; it is detached at the end."""
        self._undo.setdefault(("attached", vm, disk.object_id), partial(self._detach, vm, disk))
        return self.driver.attach(vm, disk, self.call())

    def detach(self, vm: VmId, disk: Introduced) -> None:
        """Detach."""
        self._detach(vm, disk)
        self._undo.pop(("attached", vm, disk.object_id), None)

    def _detach(self, vm: VmId, disk: Introduced) -> None:
        self.driver.detach(vm, disk, self.call())

    def attached(self, vm: VmId, count: int) -> dict[str, TestObject]:
        """Make, introduce and attach so many objects; returns them by their devices."""
        made = [self.object() for _ in range(count)]
        return {self.attach(vm, self.introduce(one)): one for one in made}

    def disks(self, vm: VmId, count: int) -> list[TestObject]:
        """Do the same where the devices do not matter."""
        return list(self.attached(vm, count).values())

    # -- guests ----------------------------------------------------------------------------------------

    def guest_writes(self, what: TestObject) -> bool:
        """Tell whether the guest writes to an object, as its bytes show; looks until it does."""
        before = what.guest_part()
        return self.until(lambda: what.guest_part() != before, self.place.patience)

    def guest_rests(self, *what: TestObject) -> bool:
        """Tell whether objects keep their bytes for as long as a guest that writes needs for some blocks."""
        before = [one.guest_part() for one in what]
        return not self.until(lambda: [one.guest_part() for one in what] != before, _WATCH)

    def until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Look until something is true, for so long at most."""
        deadline = time.monotonic() + seconds
        while not (found := true()) and time.monotonic() < deadline:
            time.sleep(_POLL)
        return found

    def freeze(self, seconds: float | None = None) -> None:
        """Freeze the running VM's guest; it is thawed at the end. Not applicable where it is unsupported."""
        self._undo.setdefault(("frozen", self.place.vm), self._thaw_if_frozen)
        try:
            self.driver.freeze(self.place.vm, self.call(seconds))
        except Unsupported as error:
            not_applicable(f"the driver cannot freeze guests: {error.message}")

    def _thaw_if_frozen(self) -> None:
        if self.guest_state() is GuestState.FROZEN:
            self.driver.thaw(self.place.vm, self.call())

    def guest_state(self) -> GuestState:
        """Ask the running VM's guest."""
        return self.driver.guest_state(self.place.vm, self.call())

    # -- power ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the stopped VM, for a driver that can; its power is cut at the end."""
        self._undo.setdefault(("power",), self._cut_power)
        cast("PowersVms", self.driver).start_vm(self.place.stopped_vm, self.call())

    def _cut_power(self) -> None:
        vm = self.place.stopped_vm
        if self.driver.vm_state(vm, self.call()) is not VmState.STOPPED:
            cast("PowersVms", self.driver).stop_vm(vm, self.call(), force=True)

    # -- VM snapshots ----------------------------------------------------------------------------------

    def vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId | None = None, *, memory: bool) -> VmSnapshotId:
        """Take a snapshot, which is deleted at the end."""
        name = snapshot or VmSnapshotId(new_id(self.prefix)[:64])
        self._undo.setdefault(("snapshot", vm, name), partial(self._delete_vm_snapshot, vm, name))
        self.driver.create_vm_snapshot(vm, name, self.call(), memory=memory)
        return name

    def revert(self, vm: VmId, snapshot: VmSnapshotId) -> None:
        """Put a VM back."""
        self.driver.revert_vm_snapshot(vm, snapshot, self.call())

    def delete_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId) -> None:
        """Delete a snapshot."""
        self._delete_vm_snapshot(vm, snapshot)
        self._undo.pop(("snapshot", vm, snapshot), None)

    def _delete_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId) -> None:
        self.driver.delete_vm_snapshot(vm, snapshot, self.call())


def open_hypervisor(name: str, options: Mapping[str, Any]) -> HypervisorDriver[Any]:
    """Load a hypervisor driver by name and validate its options; the caller closes it.

    Raises:
        PluginError: it cannot be loaded.
        InvalidArgument: it is of another kind, or an option is bad.
    """
    found = load_driver(name)
    if not issubclass(found, HypervisorDriver):
        raise InvalidArgument(f"driver {name!r} is not a hypervisor driver")
    return found(parse_options(found.Options, options))


def _patiently(act: Callable[[], None], until: float) -> None:
    """Do it again while the hypervisor is busy: what a check gave up may still be running."""
    while True:
        try:
            return act()
        except StorageError as error:
            if not error.retryable or time.monotonic() >= until:
                raise
        time.sleep(_POLL)


def one_instant(disks: Sequence[TestObject]) -> int:
    """Return the newest generation that a guest, which rests now, has written to its disks.

    Args:
        disks: all that the guest has.

    Raises:
        ContractBroken: they do not show one instant, or a disk shows nothing of the guest.
    """
    # Here, since it brings Flask, which the runs of other kinds of driver need not wait for.
    from ..simulators.hypervisor.pattern import BLOCK, Block, examine

    with TemporaryDirectory() as directory:
        images = {}
        for one in disks:
            part = one.guest_part()
            blocks = [Block.unpack(part[at : at + BLOCK]) for at in range(0, len(part), BLOCK)]
            names = {block.disk for block in blocks if block}
            must(len(names) == 1, f"{one.id} holds blocks of the disks {sorted(names)}, not of one")
            images[names.pop()] = _alone(part, one.size, Path(directory) / one.path.name)
        cut = examine(images)
    must(not cut.problems, f"the disks do not show one instant: {'; '.join(cut.problems[:3])}")
    return cut.generation


def _alone(part: bytes, size: int, path: Path) -> Path:
    """Write a sparse image that holds the guest's part alone: the suite's blocks would be strange to it."""
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size - len(part))
        file.write(part)
    return path
