"""kill -9 of QEMU, of libvirtd and of ourselves during take, revert and delete, on real libvirt.

Each act is a row of steps (tests/lib/watched.py). It is run once to count them, and then killed at several:
before the first, after the last, and between. The VM is one without a guest, so that each byte is known.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import watched as steps
from bollard.core.snapshots import kvm
from bollard.core.spi import StorageError, VmState
from bollard.transfer_objects.ids import SnapshotId
from chain_site import VOLUME
from kvm_blank import Blank
from kvm_driving import call
from kvm_lab import Host, Lab

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

POINTS = (0.0, 0.3, 0.6, 1.0)
VICTIMS = ("qemu", "libvirtd", "ourselves")
_LIB = Path(__file__).parents[1] / "lib"


@pytest.fixture
def rig(kvm_lab: Lab, kvm_host: Host) -> Iterator[Blank]:
    """A VM of the test's own: each survivor is restored after each kill, so there should be few."""
    rig = Blank(kvm_lab, kvm_host)
    yield rig
    rig.close()


Act = Callable[[kvm.Site], object]


def _run_watched(site: kvm.Site, act: Act, tick: Callable[[], None]) -> None:
    """Act on a watched site; the modules that are watched with it are as before afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in steps._STEPS:
            patch.setattr(module, name, getattr(module, name))
        act(steps.watched(site, tick))


def _count(rig: Blank, act: Act) -> int:
    seen = 0

    def tick() -> None:
        nonlocal seen
        seen += 1

    _run_watched(rig.site(), act, tick)
    return seen


def _killed(rig: Blank, victim: str, act: Act, order: str, step: int) -> None:
    """Kill the victim at a step of the act; then bring back what must run, and sync."""
    if victim == "ourselves":
        _die(rig, order, step)
    else:
        seen = 0

        def tick() -> None:
            nonlocal seen
            seen += 1
            if seen == step and victim == "libvirtd":
                rig.vm.host.kill_libvirtd()
            elif seen == step and rig.vm.domain.isActive():
                rig.vm.kill_qemu()

        with suppress(StorageError):
            _run_watched(rig.site(), act, tick)
    rig.vm.host.start()
    assert kvm.sync(rig.site(), call()) == []


def _die(rig: Blank, order: str, step: int) -> None:
    """Act in a process of its own, which kills itself at a step."""
    code = (
        "import os, signal, sys\n"
        f"sys.path[:0] = [{str(_LIB)!r}]\n"
        "from pathlib import Path\n"
        "from chain_site import VOLUME\n"
        "from kvm_orchestrator import Orchestrator, kvm\n"
        "from kvm_driving import call\n"
        "from watched import watched\n"
        f"class Host: name, uri = {rig.vm.host.name!r}, {rig.vm.host.uri!r}\n"
        "seen = 0\n"
        "def tick():\n"
        "    global seen\n"
        "    seen += 1\n"
        f"    if seen == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"one = Orchestrator(Path({str(rig.directory)!r}), {rig.vm.name!r}, Host)\n"
        f"one.settings.set('snapshot.delta.max', 100)\n"
        f"site, image = watched(one.site(), tick), Path({str(rig.image)!r})\n"
        f"{order}\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert died.returncode == -9, died.stderr


def _taking(rig: Blank, name: str) -> Act:
    return lambda site: kvm.take(site, rig.place(), SnapshotId(name), call())


def _deleting(name: str) -> Act:
    return lambda site: kvm.delete(site, SnapshotId(name), call())


def _step(count: int, point: float) -> int:
    return 1 + round(point * (count - 1))


@pytest.mark.parametrize("victim", VICTIMS)
def test_take_killed_at_several_points(rig: Blank, victim: str) -> None:
    """It is there and whole, or in Error without a trace; the survivors are whole, and the next one works."""
    rig.make(f"{victim}-base")
    rig.change()
    rig.remember(f"{victim}-count")
    count = _count(rig, _taking(rig, f"{victim}-count"))
    assert count > 15
    for number, point in enumerate(POINTS):
        name = f"{victim}-{number}"
        rig.change()
        rig.remember(name)
        order = f"kvm.take(site, one.place(), {name!r}, call())"
        _killed(
            rig,
            victim,
            _taking(rig, name),
            order,
            _step(count, point),
        )
        assert rig.states().get(name) in (None, "Error", "CreatedOnPrimary")
        assert rig.left() == [], (point, rig.states())
        rig.power(on=True)
        rig.make(f"{name}-next")
        assert {f"{victim}-base", f"{name}-next"} <= set(rig.survivors())


@pytest.mark.parametrize("victim", ["libvirtd", "ourselves"])
def test_revert_killed_at_several_points(rig: Blank, victim: str) -> None:
    """The volume is the old one or the new one, nothing lies beside it, and the next snapshot is right."""
    base = f"revert-{victim}"
    rig.make(base)
    rig.change()
    rig.power(on=False)

    def act(site: kvm.Site) -> object:
        return kvm.revert(site, VOLUME, SnapshotId(base), rig.image, call())

    count = _count(rig, act)
    rig.content = bytearray(rig.kept[base])
    assert rig.volume() == rig.kept[base]
    for number, point in enumerate(POINTS):
        rig.make(f"{base}-{number}")
        rig.change()
        rig.power(on=False)
        before = bytes(rig.content)
        order = f"kvm.revert(site, VOLUME, {base!r}, image, call())"
        _killed(rig, victim, act, order, _step(count, point))
        after = rig.volume()
        assert after in (before, rig.kept[base])
        rig.content = bytearray(after)
        assert rig.left() == [], point
        assert rig.driver.vm_state(rig.disk.vm, call()) is VmState.STOPPED
        rig.make(f"{base}-{number}-next")
        assert f"{base}-{number}-next" in rig.survivors()


@pytest.mark.parametrize("victim", VICTIMS)
def test_delete_killed_at_several_points(rig: Blank, victim: str) -> None:
    """Repeated it is done: nothing of the snapshot is left, nor its bitmap, and the others are whole."""
    base = f"delete-{victim}"
    rig.make(base)
    rig.make(f"{base}-count")
    count = _count(rig, _deleting(f"{base}-count"))
    for number, point in enumerate(POINTS):
        name = f"{base}-{number}"
        rig.make(name)
        _killed(
            rig,
            victim,
            _deleting(name),
            f"kvm.delete(site, {name!r}, call())",
            _step(count, point),
        )
        rig.delete(name)
        assert rig.states()[name] == "Destroyed"
        assert name not in {path.split("/")[-1] for path in rig.stored()}
        assert rig.left() == [], point
        assert base in rig.survivors()
