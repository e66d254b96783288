"""Backups and checkpoints of the hypervisor simulator: instants, bitmaps, and what survives which death."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bollard.core.dataplane import open_source
from bollard.core.dataplane.nbd_bitmap import dirty_extents
from bollard.core.spi import NbdLocation
from bollard.simulators.hypervisor import BLOCK, HypervisorSimulator
from bollard.simulators.hypervisor.errors import Refused
from bollard.simulators.hypervisor.point_in_time import PointInTime
from bollard.simulators.process import SimulatorProcess
from bollard.transfer_objects.secret import Secret

pytestmark = pytest.mark.real  # qemu-img, qemu-io and qemu-nbd

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SIZE = 1024 * 1024
REGION = SIZE - 64 * BLOCK  # where the guest writes


class Vm:
    """The VM vm1 with one raw disk, seen through the API.

    Args:
        url: of the simulator.
        image: of the disk.
    """

    def __init__(self, url: str, image: Path) -> None:
        self.image = image
        self.http = httpx.Client(verify=NO_TLS, base_url=url, timeout=30)

    def define(self) -> None:
        """Make and start it."""
        self.image.write_bytes(bytes(SIZE))
        self.http.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"}).raise_for_status()
        disks = {"root": {"address": {"path": str(self.image)}}}
        self.http.put("/vms/vm1", json={"host": "h1", "disks": disks}).raise_for_status()
        self.act("start")

    def act(self, what: str, **body: object) -> Any:
        """POST something that has to work."""
        answer = self.http.post(f"/vms/vm1/{what}", json=body).raise_for_status()
        return answer.json() if answer.content else None

    def refused(self, what: str, **body: object) -> str:
        """POST something that has to be refused; returns the code."""
        answer = self.http.post(f"/vms/vm1/{what}", json=body)
        assert answer.is_error
        return str(answer.json()["error"])

    def begin(self, checkpoint: str, since: str | None = None, **more: object) -> dict[str, Any]:
        """Begin a backup."""
        shown: dict[str, Any] = self.act("backups", device="vda", checkpoint=checkpoint, since=since, **more)
        return shown

    def end(self, *, keep: bool = True) -> None:
        """End it."""
        self.act("backups/end", device="vda", keep=keep)

    def delta(self, checkpoint: str, since: str) -> list[int]:
        """Take an incremental; returns the numbers of the guest's dirty blocks."""
        shown = self.begin(checkpoint, since)
        with dirty_extents(location(shown), f"qemu:dirty-bitmap:{since}") as extents:
            blocks = [at for one in extents for at in range(one.offset, one.end, BLOCK)]
        self.end()
        return [(at - REGION) // BLOCK for at in blocks]

    def known(self) -> list[str]:
        """Return its checkpoints."""
        return [one["name"] for one in self.http.get("/vms/vm1/checkpoints").raise_for_status().json()]


def location(shown: dict[str, Any]) -> NbdLocation:
    """Return where a backup is served."""
    return NbdLocation(address=Path(shown["socket"]), export=Secret(shown["export"]), read_only=True)


def served(shown: dict[str, Any]) -> bytes:
    """Return all that is served."""
    with open_source(location(shown)) as source:
        data = bytearray(source.size)
        source.read_into(0, memoryview(data))
    return bytes(data)


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that the kernel does."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)


def listens(shown: dict[str, Any]) -> bool:
    """Tell whether a process has a backup's socket in /proc/net/unix: whether its server lives."""
    return str(shown["socket"]) in Path("/proc/net/unix").read_text()


@pytest.fixture
def cluster(tmp_path) -> Iterator[HypervisorSimulator]:
    """A KVM cluster."""
    with HypervisorSimulator(tmp_path / "state") as simulator:
        yield simulator


@pytest.fixture
def vm(cluster, tmp_path) -> Iterator[Vm]:
    """A running VM."""
    made = Vm(cluster.url, tmp_path / "root.raw")
    made.define()
    with closing(made.http):
        yield made


@pytest.fixture(params=["running", "stopped"])
def either(request, vm) -> Vm:
    """A VM that runs, or has run."""
    if request.param == "stopped":
        vm.act("stop")
    return vm


class TestInstants:
    """What is served."""

    def test_a_full_and_its_increments(self, vm):
        """Each shows its instant, and each checkpoint's bitmap what was written since."""
        vm.act("write", blocks=3)
        before = vm.image.read_bytes()
        full = vm.begin("c1")
        vm.act("write", blocks=2)
        assert served(full) == before
        vm.end()
        assert vm.delta("c2", "c1") == [3, 4]
        vm.act("write", blocks=1)
        assert vm.delta("c3", "c1") == [3, 4, 5]
        assert vm.delta("c4", "c2") == [5]
        assert vm.delta("c5", "c4") == []
        assert vm.known() == ["c1", "c2", "c3", "c4", "c5"]

    def test_files_of_the_guest_are_marked(self, vm):
        """They lie at the disk's beginning."""
        vm.begin("c1")
        vm.end()
        vm.http.put("/vms/vm1/files/root/a", json={"content": "x"}).raise_for_status()
        assert vm.delta("c2", "c1") == [-REGION // BLOCK]

    def test_a_repeat_is_the_same_and_another_is_busy(self, either):
        """One job per VM; the one that runs goes on."""
        first = either.begin("c1")
        assert either.begin("c1") == first
        for other in ({"checkpoint": "c2"}, {"checkpoint": "c1", "since": "c0"}):
            assert either.refused("backups", device="vda", **other) == "busy"
        served(first)

    def test_what_cannot_be_is_refused(self, either):
        """By the right name, and nothing is left."""
        either.begin("c1")
        either.end()
        for code, body in (
            ("conflict", {"checkpoint": "c1"}),
            ("not_found", {"checkpoint": "c2", "since": "c9"}),
            ("not_found", {"checkpoint": "c2", "device": "vdz"}),
            ("bad_request", {"checkpoint": "C 2"}),
            ("bad_request", {"checkpoint": "c1", "since": "c1"}),
            ("bad_request", {"checkpoint": "c2", "since": 7}),
        ):
            assert either.refused("backups", **({"device": "vda"} | body)) == code
        assert either.known() == ["c1"]

    def test_a_disk_that_is_backed_up_stays(self, vm):
        """Until the backup has ended."""
        vm.begin("c1")
        assert vm.http.delete("/vms/vm1/disks/root").status_code == 409
        vm.end()
        assert vm.http.delete("/vms/vm1/disks/root").status_code == 204

    def test_a_quiesced_guest_is_thawed_and_one_that_another_froze_is_not(self, vm):
        """How long it stood still is told."""
        first = vm.begin("c1", quiesce=True)
        assert first["frozen_s"] > 0
        assert vm.begin("c1", quiesce=True) == first
        assert vm.http.get("/vms/vm1/freeze").json()["frozen"] is False
        vm.end()
        vm.act("freeze", timeout_s=100)
        vm.begin("c2", quiesce=True)
        assert vm.http.get("/vms/vm1/freeze").json()["frozen"] is True

    @pytest.mark.parametrize("why", ["no agent", "agent hangs"])
    def test_an_agent_that_does_not_answer_is_unavailable(self, cluster, vm, why):
        """The guest is thawed, and neither job nor checkpoint is left."""
        if why == "no agent":
            vm.act("stop")
            vm.http.delete("/vms/vm1")
            body = {"host": "h1", "agent": False, "disks": {"root": {"address": {"path": str(vm.image)}}}}
            vm.http.put("/vms/vm1", json=body).raise_for_status()
            vm.act("start")
        else:
            cluster.defects.update({"agent_timeout": 1})
        assert vm.refused("backups", device="vda", checkpoint="c1", quiesce=True) == "unavailable"
        assert vm.http.get("/vms/vm1/freeze").json()["frozen"] is False
        assert vm.known() == []
        vm.begin("c2")


class TestWhereItCannotBe:
    """Refused, with the reason."""

    def test_other_families_have_none(self, tmp_path):
        """They answer "unsupported"."""
        with HypervisorSimulator(tmp_path / "state", personality="Hyperv") as cluster:
            vm = Vm(cluster.url, tmp_path / "root.raw")
            with closing(vm.http):
                vm.define()
                body = {"device": "SCSI 0:0", "checkpoint": "c1"}
                assert vm.refused("backups", **body) == "unsupported"
                assert vm.known() == []

    def test_a_disk_that_the_guest_cannot_write_has_no_bitmaps(self, vm, tmp_path):
        """A qcow2 file is "unsupported" here: nobody tracks its changes."""
        disk = tmp_path / "a.qcow2"
        disk.write_bytes(b"QFI\xfb" + bytes(20) + SIZE.to_bytes(8, "big") + bytes(480))
        body = {"address": {"path": str(disk), "format": "qcow2"}}
        vm.http.put("/vms/vm1/disks/a", json=body).raise_for_status()
        assert vm.refused("backups", device="vdb", checkpoint="c1") == "unsupported"
        assert vm.known() == []

    def test_without_tools(self, tmp_path, monkeypatch):
        """It is told before anything is done."""
        monkeypatch.setenv("PATH", "")
        with pytest.raises(Refused, match="qemu-img is not installed"):
            PointInTime(tmp_path / "x").require()
        assert list(tmp_path.iterdir()) == []

    def test_a_state_directory_may_lie_deep(self, tmp_path):
        """A socket's path has 107 bytes at most, a directory's may have more."""
        made = PointInTime(tmp_path / ("x" * 120) / "y")
        made.require()
        made.copy.write_bytes(bytes(SIZE))
        made.serve("vda", None, (), writable=False)
        with open_source(NbdLocation(address=made.address, export=Secret("vda"), read_only=True)) as source:
            assert source.size == SIZE
        made.end()

    def test_a_copy_that_cannot_be_served_is_a_failure(self, tmp_path):
        """The server's end is noticed, and its files are removed."""
        made = PointInTime(tmp_path / "x")
        made.require()
        with pytest.raises(Refused, match="does not serve"):
            made.serve("vda", None, (), writable=False)
        with pytest.raises(Refused, match="failed"):
            self._broken(tmp_path / "y").serve("vda", "c1", (), writable=False)
        assert not (tmp_path / "x").exists()

    def _broken(self, directory: Path) -> PointInTime:
        made = PointInTime(directory)
        made.require()
        made.copy.write_bytes(bytes(SIZE))
        (directory / "marks").mkdir()
        return made


class TestCheckpoints:
    """What survives."""

    def test_a_backup_that_is_not_kept_leaves_none(self, either):
        """Ending again is fine."""
        shown = either.begin("c1")
        for _ in range(2):
            either.end(keep=False)
        assert either.known() == []
        assert not Path(shown["socket"]).exists()

    def test_a_power_cycle_keeps_them_and_ends_the_job(self, vm):
        """The bitmaps lie in the records while the VM is off."""
        vm.begin("c1")
        vm.end()
        vm.act("write", blocks=2)
        shown = vm.begin("c2")
        vm.act("stop")
        assert not listens(shown)
        vm.end()
        assert vm.delta("c3", "c1") == [0, 1]
        vm.act("start")
        assert vm.delta("c4", "c1") == [0, 1]
        assert vm.known() == ["c1", "c2", "c3", "c4"]

    def test_an_image_that_was_changed_while_the_vm_was_off(self, vm):
        """Whoever wrote to it, the bitmaps do not have it: they are gone."""
        vm.begin("c1")
        vm.end()
        vm.act("stop")
        with vm.image.open("r+b") as file:
            file.write(b"x")
        assert vm.known() == []
        assert vm.refused("backups", device="vda", checkpoint="c2", since="c1") == "not_found"

    def test_a_disk_that_leaves_takes_its_bitmaps_along(self, vm):
        """Told again they count, unless somebody has changed the image meanwhile."""
        body = {"address": {"path": str(vm.image)}}
        vm.begin("c1")
        vm.end()
        vm.act("write", blocks=1)
        told = vm.http.get("/vms/vm1/checkpoints").json()
        for changed, gone in ((False, []), (True, ["c1"])):
            vm.http.delete("/vms/vm1/disks/root").raise_for_status()
            if changed:
                os.utime(vm.image, ns=(1, 1))
            vm.http.put("/vms/vm1/disks/root", json=body).raise_for_status()
            assert vm.known() == []
            answer = vm.http.put("/vms/vm1/checkpoints", json={"checkpoints": told})
            assert answer.raise_for_status().json() == {"gone": gone}
            assert vm.known() == ([] if gone else ["c1"])
        assert vm.refused("backups", device="vda", checkpoint="c2", since="c1") == "not_found"

    def test_text_of_another_kind_is_no_reason_to_fail(self, vm):
        """The age is a guess then; what has no disk is gone."""
        vm.begin("c1")
        vm.end()
        told = [{"name": "c1", "device": "vda", "text": "?"}, {"name": "c1", "device": "vdz", "text": "{}"}]
        answer = vm.http.put("/vms/vm1/checkpoints", json={"checkpoints": told})
        assert answer.raise_for_status().json() == {"gone": ["c1"]}
        assert vm.known() == ["c1"]

    def test_a_revert_forgets_them(self, vm):
        """The disks hold something else now."""
        vm.http.put("/vms/vm1/snapshots/s1", json={"memory": True}).raise_for_status()
        vm.begin("c1")
        vm.end()
        vm.act("snapshots/s1/revert")
        assert vm.known() == []

    def test_a_disk_that_grew_is_followed_by_its_guest(self, vm):
        """What is written behind the old end is marked."""
        vm.begin("c1")
        vm.end()
        vm.act("disks/root/resize", size=2 * SIZE)
        vm.act("write", blocks=1)
        assert vm.delta("c2", "c1") == [SIZE // BLOCK]

    def test_deleting_frees_the_name(self, vm):
        """Also where there is no such checkpoint, or device."""
        vm.begin("c1")
        vm.end()
        for device in ("vda", "vda", "vdz"):
            vm.act("checkpoints/delete", device=device, name="c1")
        vm.begin("c1")

    @pytest.mark.parametrize(("state", "left"), [("crashed", []), ("down", ["c1"])])
    def test_a_host_that_crashes_loses_them(self, vm, state, left):
        """One that is shut down stores them."""
        vm.begin("c1")
        vm.end()
        shown = vm.begin("c2")
        vm.http.post("/hosts/h1/state", json={"state": state}).raise_for_status()
        assert not listens(shown)
        vm.end(keep=False)
        assert vm.known() == left


class TestDeaths:
    """The simulator's own end."""

    def test_an_orderly_stop_keeps_everything_but_the_job(self, cluster, vm):
        """A VM that runs goes on with its bitmaps."""
        vm.begin("c1")
        vm.end()
        vm.act("write", blocks=1)
        shown = vm.begin("c2")
        cluster.stop()
        assert not listens(shown)
        cluster.start()
        again = Vm(cluster.url, vm.image)
        with closing(again.http):
            assert again.delta("c3", "c1") == [0]
            assert again.known() == ["c1", "c3"]  # nobody has ended the backup that died

    @pytest.mark.parametrize(("running", "left"), [(True, []), (False, ["c1"])])
    def test_kill_9_ends_the_servers_and_loses_what_was_in_memory(self, tmp_path, running, left):
        """As with QEMU: of a VM that runs the bitmaps are gone, of one that is off they are whole."""
        state, image = str(tmp_path / "state"), tmp_path / "root.raw"
        with SimulatorProcess.start("hypervisor", "--state", state) as process:
            vm = Vm(process.url, image)
            with closing(vm.http):
                vm.define()
                vm.begin("c1")
                vm.end()
                if not running:
                    vm.act("stop")
                shown = vm.begin("c2")
                process.kill()
            until(lambda: not listens(shown), "the end of qemu-nbd")
        with SimulatorProcess.start("hypervisor", "--state", state) as process:
            vm = Vm(process.url, image)
            with closing(vm.http):
                assert vm.refused("backups", device="vda", checkpoint="c3", since="c9") == "not_found"
                assert vm.known() == left
                vm.begin("c2")
                vm.end()
                assert vm.known() == [*left, "c2"]
