"""Overlays, the guest's files and memory, resizing, the register, and Hyper-V's exports of the simulator."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bollard.simulators.hypervisor import HypervisorSimulator

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SIZE = 1024 * 1024


@pytest.fixture
def images(tmp_path) -> Path:
    """Where the disks are."""
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.fixture
def cluster(tmp_path) -> Iterator[HypervisorSimulator]:
    """A KVM cluster."""
    with HypervisorSimulator(tmp_path / "state") as simulator:
        yield simulator


@contextmanager
def boot(cluster: HypervisorSimulator, images: Path) -> Iterator[httpx.Client]:
    """A client of the cluster, with a VM with two disks, running."""
    with httpx.Client(verify=NO_TLS, base_url=cluster.url) as client:
        client.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"}).raise_for_status()
        disks = {}
        for name in ("root", "data"):
            with (images / f"{name}.raw").open("wb") as file:
                file.truncate(SIZE)
            disks[name] = {"address": {"path": str(images / f"{name}.raw")}}
        client.put("/vms/vm1", json={"host": "h1", "disks": disks}).raise_for_status()
        client.post("/vms/vm1/start").raise_for_status()
        yield client


@pytest.fixture
def http(cluster, images) -> Iterator[httpx.Client]:
    """A client of a cluster with a running VM."""
    with boot(cluster, images) as client:
        yield client


def put_file(http: httpx.Client, name: str, disk: str = "root") -> httpx.Response:
    """The guest writes a file."""
    return http.put(f"/vms/vm1/files/{disk}/{name}", json={"content": name})


def files(http: httpx.Client, disk: str = "root") -> list[str]:
    """The guest's files."""
    return sorted(http.get(f"/vms/vm1/files/{disk}").raise_for_status().json())


def path_of(http: httpx.Client, disk: str = "root") -> str:
    """Where the guest writes now."""
    return http.get("/vms/vm1").json()["disks"][disk]["address"]["path"]


def overlay(http: httpx.Client, images: Path, name: str, **more: bool) -> httpx.Response:
    """Puts an overlay on the root disk."""
    return http.post("/vms/vm1/overlays", json={"overlays": {"root": str(images / name)}, **more})


class TestFiles:
    """The guest's file system."""

    def test_files_outlive_the_simulator(self, cluster, http):
        """They are on the disk."""
        put_file(http, "a")
        put_file(http, "b", "data")
        cluster.stop()
        cluster.start()
        with httpx.Client(verify=NO_TLS, base_url=cluster.url) as again:
            assert (files(again), files(again, "data")) == (["a"], ["b"])

    def test_a_big_one_takes_several_blocks_and_too_big_is_refused(self, http):
        """64 KiB in all."""
        for size, status in ((9000, 200), (70000, 409)):
            answer = http.put("/vms/vm1/files/root/big", json={"content": "x" * size})
            assert answer.status_code == status
        assert len(http.get("/vms/vm1/files/root").json()["big"]) == 9000

    def test_a_frozen_guest_writes_none(self, http):
        """423, until it thaws."""
        http.post("/vms/vm1/freeze", json={"timeout_s": 100})
        assert put_file(http, "a").status_code == 423
        assert http.post("/vms/vm1/stop", json={"force": False}).status_code == 423
        http.post("/vms/vm1/thaw")
        assert put_file(http, "a").status_code == 200
        assert put_file(http, "a", "none").status_code == 404

    def test_memory_goes_with_the_power_and_comes_back_with_a_snapshot(self, http):
        """A stopped VM has none."""
        http.put("/vms/vm1/memory", json={"content": "song"}).raise_for_status()
        http.put("/vms/vm1/snapshots/s1", json={"memory": True}).raise_for_status()
        http.post("/vms/vm1/stop")
        assert http.get("/vms/vm1").json()["memory"] == ""
        assert http.put("/vms/vm1/memory", json={"content": "x"}).status_code == 409
        http.post("/vms/vm1/start")
        http.post("/vms/vm1/snapshots/s1/revert").raise_for_status()
        assert http.get("/vms/vm1").json()["memory"] == "song"


class TestOverlays:
    """Chains of images."""

    def test_the_guest_goes_on_in_the_overlay(self, http, images):
        """The old image keeps what it held; a merge brings all back, and the overlay is the caller's."""
        put_file(http, "a")
        overlay(http, images, "o1").raise_for_status()
        overlay(http, images, "o1").raise_for_status()
        put_file(http, "b")
        before = (images / "root.raw").read_bytes()
        put_file(http, "c")
        assert (images / "root.raw").read_bytes() == before
        merge = {"top": str(images / "o1"), "base": str(images / "root.raw")}
        for _ in range(2):
            http.post("/vms/vm1/disks/root/merge", json=merge).raise_for_status()

        assert path_of(http) == str(images / "root.raw")
        assert files(http) == ["a", "b", "c"]
        assert (images / "o1").exists()

    def test_all_disks_or_none(self, http, images):
        """One that cannot be made keeps the other from being made, and leaves no file."""
        wanted = {"root": str(images / "o1"), "data": str(images / "missing" / "o2")}
        answer = http.post("/vms/vm1/overlays", json={"overlays": wanted})
        assert answer.status_code == 500
        assert path_of(http) == str(images / "root.raw")
        assert sorted(path.name for path in images.iterdir()) == ["data.raw", "root.raw"]

    def test_an_overlay_is_never_put_over_a_file_that_is_there(self, http, images):
        """It may be anybody's."""
        (images / "o1").write_text("precious")
        assert overlay(http, images, "o1").status_code == 409
        assert (images / "o1").read_text() == "precious"

    def test_an_overlay_survives_a_stop(self, http, images):
        """A VM starts with what it wrote to."""
        overlay(http, images, "o1")
        put_file(http, "a")
        http.post("/vms/vm1/stop")
        http.post("/vms/vm1/start").raise_for_status()
        assert (path_of(http), files(http)) == (str(images / "o1"), ["a"])

    def test_a_switch_needs_a_stopped_vm(self, http, images):
        """It then has what the other image holds."""
        put_file(http, "a")
        overlay(http, images, "o1")
        put_file(http, "b")
        body = {"overlays": {"root": str(images / "o2")}, "bases": {"root": str(images / "root.raw")}}
        assert http.post("/vms/vm1/images", json=body).status_code == 409
        http.post("/vms/vm1/stop")
        for _ in range(2):
            http.post("/vms/vm1/images", json=body).raise_for_status()
        http.post("/vms/vm1/start").raise_for_status()
        assert files(http) == ["a"]

    def test_a_file_that_others_stand_on_does_not_change(self, http, images):
        """A merge into it is refused: what stands on it would be destroyed."""
        overlay(http, images, "o1")
        http.post("/vms/vm1/stop")
        body = {"overlays": {"root": str(images / "o2")}, "bases": {"root": str(images / "root.raw")}}
        http.post("/vms/vm1/images", json=body).raise_for_status()
        merge = {"top": str(images / "o2"), "base": str(images / "root.raw")}
        answer = http.post("/vms/vm1/disks/root/merge", json=merge)
        assert (answer.status_code, answer.json()["error"]) == (409, "has_dependents")

    @pytest.mark.parametrize("told", [True, False])
    def test_what_stands_on_a_merged_file_must_be_told(self, http, images, told):
        """A side branch that nobody told of has lost its backing file, as with qcow2."""
        o1, o2, side = (str(images / name) for name in ("o1", "o2", "side"))
        overlay(http, images, "o1")  # root.raw <- o1 <- o2, and o1 <- side <- guest
        overlay(http, images, "o2")
        http.post("/vms/vm1/stop")
        switch = {"overlays": {"root": side}, "bases": {"root": o1}}
        http.post("/vms/vm1/images", json=switch).raise_for_status()
        body = {"top": o1, "base": str(images / "root.raw"), "dependents": [o2] if told else []}
        http.post("/vms/vm1/disks/root/merge", json=body).raise_for_status()
        Path(o1).unlink()
        back = {"overlays": {"root": str(images / "o3")}, "bases": {"root": o2}}
        assert http.post("/vms/vm1/images", json=back).status_code == (200 if told else 422)

    def test_a_quiesced_overlay_needs_the_agent_and_thaws(self, http, images):
        """The guest goes on when the answer comes."""
        overlay(http, images, "o1", quiesce=True).raise_for_status()
        assert http.get("/vms/vm1/freeze").json()["frozen"] is False
        assert put_file(http, "a").status_code == 200


class TestResize:
    """Growing disks."""

    def test_a_file_grows_and_never_shrinks(self, http, images):
        """The guest sees it at once."""
        grown = http.post("/vms/vm1/disks/root/resize", json={"size": 2 * SIZE}).raise_for_status().json()
        assert (grown["size"], (images / "root.raw").stat().st_size) == (2 * SIZE, 2 * SIZE)
        assert http.post("/vms/vm1/disks/root/resize", json={"size": SIZE}).status_code == 400
        assert http.post("/vms/vm1/disks/none/resize", json={"size": SIZE}).status_code == 404


class TestRegister:
    """What the hypervisor knows about snapshots."""

    def test_it_can_be_emptied_and_filled(self, http):
        """An unregistered snapshot cannot be reverted to, and its data stay."""
        http.put("/vms/vm1/snapshots/s1", json={"memory": True}).raise_for_status()
        http.put("/vms/vm1/register", json={"snapshots": []}).raise_for_status()
        assert http.post("/vms/vm1/snapshots/s1/revert").status_code == 404
        known = [{"id": "s1", "parent": None, "current": True}]
        http.put("/vms/vm1/register", json={"snapshots": known}).raise_for_status()
        http.post("/vms/vm1/snapshots/s1/revert").raise_for_status()
        unknown = [{"id": "s2", "parent": None, "current": True}]
        assert http.put("/vms/vm1/register", json={"snapshots": unknown}).status_code == 404


class TestExports:
    """Hyper-V's two designs: who pays, and when."""

    @pytest.mark.parametrize(("design", "whens"), [("stop", ["stop"]), ("snapshot", ["snapshot"] * 3)])
    def test_each_design_pays_at_its_own_time(self, tmp_path, images, design, whens):
        """Three snapshots and a stop: one export at the stop, or three that grow with the snapshots."""
        with (
            HypervisorSimulator(tmp_path / "state", personality="Hyperv", export=design) as cluster,
            boot(cluster, images) as http,
        ):
            for name in ("s1", "s2", "s3"):
                put_file(http, name)
                http.put(f"/vms/vm1/snapshots/{name}").raise_for_status()
            http.post("/vms/vm1/stop").raise_for_status()
            costs = http.get("/vms/vm1/exports").json()

            assert [one["when"] for one in costs] == whens
            assert [one["bytes"] for one in costs] == sorted(one["bytes"] for one in costs)
            assert all(one["bytes"] > 0 and one["seconds"] > 0 for one in costs)
            exported = {path.name for path in (tmp_path / "state" / "exports" / "vm1").iterdir()}
            assert exported == {"live", "s1", "s2", "s3"}

    def test_no_snapshots_cost_nothing(self, tmp_path, images):
        """A stop without them exports nothing."""
        with (
            HypervisorSimulator(tmp_path / "state", personality="Hyperv") as cluster,
            boot(cluster, images) as http,
        ):
            http.post("/vms/vm1/stop").raise_for_status()
            assert http.get("/vms/vm1/exports").json() == []

    def test_an_export_that_was_killed_is_made_again(self, tmp_path, images):
        """When the simulator comes back, before the VM can start."""
        state = tmp_path / "state"
        with (
            HypervisorSimulator(state, personality="Hyperv") as cluster,
            boot(cluster, images) as http,
        ):
            http.put("/vms/vm1/snapshots/s1").raise_for_status()
            http.post("/vms/vm1/stop").raise_for_status()
            records = cluster._records
            assert records is not None
            records.put({**records.get("export", "vm1"), "state": "running"}, "export", "vm1")  # type: ignore[dict-item]  # a state from the outside
        (state / "exports" / "vm1" / "s1" / "root").unlink()
        with (
            HypervisorSimulator(state, personality="Hyperv") as cluster,
            httpx.Client(verify=NO_TLS, base_url=cluster.url) as http,
        ):
            assert len(http.get("/vms/vm1/exports").json()) == 2
        assert (state / "exports" / "vm1" / "s1" / "root").exists()

    def test_another_design_is_refused(self, tmp_path):
        """By name."""
        with pytest.raises(ValueError, match="never"):
            HypervisorSimulator(tmp_path, export="never")
