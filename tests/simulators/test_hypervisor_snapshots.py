"""VM snapshots of the simulated cluster: one instant, a tree with one current, all disks or none."""

import shutil
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bollard.simulators.hypervisor import HypervisorSimulator, examine
from bollard.simulators.hypervisor.records import Records
from bollard.simulators.process import SimulatorProcess

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

SIZE = 256 * 1024


every_family = pytest.mark.parametrize("family", ["KVM", "VMware", "XenServer", "Hyperv"], indirect=True)


def boot(client: httpx.Client, directory: Path, *, agent: bool = True) -> None:
    """A VM "vm1" with two raw disks, running."""
    client.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"}).raise_for_status()
    disks = {}
    for name in ("root", "data"):
        path = directory / f"{name}.raw"
        with path.open("wb") as file:
            file.truncate(SIZE)
        disks[name] = {"address": {"path": str(path)}, "slots": 8}
    client.put("/vms/vm1", json={"host": "h1", "agent": agent, "disks": disks}).raise_for_status()
    client.post("/vms/vm1/start").raise_for_status()


def live(client: httpx.Client) -> dict[str, Path]:
    """Where the VM's disks are now."""
    disks = client.get("/vms/vm1").raise_for_status().json()["disks"]
    return {name: Path(disk["address"]["path"]) for name, disk in disks.items()}


def write(client: httpx.Client, blocks: int = 5) -> int:
    """Lets the guest write."""
    return client.post("/vms/vm1/write", json={"blocks": blocks}).raise_for_status().json()["generation"]


def create(client: httpx.Client, name: str, **options: bool) -> httpx.Response:
    """Takes a VM snapshot."""
    return client.put(f"/vms/vm1/snapshots/{name}", json=options)


def tree(client: httpx.Client) -> dict[str, str | None]:
    """Snapshot to parent."""
    return {one["id"]: one["parent"] for one in client.get("/vms/vm1/snapshots").json()}


def current(client: httpx.Client) -> list[str]:
    """The snapshots marked as current."""
    return [one["id"] for one in client.get("/vms/vm1/snapshots").json() if one["current"]]


@pytest.fixture
def family(request) -> str:
    """KVM where the family does not matter."""
    return getattr(request, "param", "KVM")


@pytest.fixture
def cluster(tmp_path, family) -> Iterator[HypervisorSimulator]:
    """A running cluster."""
    with HypervisorSimulator(tmp_path / "state", personality=family) as simulator:
        yield simulator


@pytest.fixture
def http(cluster, tmp_path) -> Iterator[httpx.Client]:
    """A client of the cluster, which has the running VM "vm1"."""
    with httpx.Client(verify=NO_TLS, base_url=cluster.url, timeout=20) as client:
        boot(client, tmp_path)
        yield client


def copies(tmp_path: Path, name: str) -> dict[str, Path]:
    """The files of a snapshot."""
    return {disk: tmp_path / "state" / "snapshots" / "vm1" / name / disk for disk in ("root", "data")}


def test_snapshot_of_a_writing_vm_is_one_instant(http, tmp_path):
    """While the guest writes 2000 blocks per second the copies of both disks fit together."""
    http.post("/vms/vm1/rate", json={"blocks_per_s": 2000})
    for number in range(3):
        snapshot = create(http, f"s{number}").raise_for_status().json()
        cut = examine(copies(tmp_path, f"s{number}"))
        assert (cut.problems, cut.generation) == ((), snapshot["generation"])
    deadline = time.monotonic() + 10
    while http.get("/vms/vm1/freeze").json()["generation"] <= snapshot["generation"]:
        assert time.monotonic() < deadline, "the guest does not go on"


@every_family
def test_revert_brings_all_disks_back(http, tmp_path, family):
    """A stopped VM gets the disks of the snapshot, and its guest goes on from there."""
    before = live(http)
    generation = write(http)
    create(http, "s1").raise_for_status()
    middle = live(http)
    write(http)
    assert http.post("/vms/vm1/snapshots/s1/revert").json()["error"] == "wrong_state"
    http.post("/vms/vm1/stop")
    http.post("/vms/vm1/snapshots/s1/revert").raise_for_status()
    cut = examine(live(http))
    assert (cut.generation, cut.problems) == (generation, ())
    http.post("/vms/vm1/start").raise_for_status()
    assert write(http, 1) == generation + 1
    assert (middle != before) is (family == "VMware")
    assert (live(http) != middle) is (family == "XenServer")
    assert sorted(tmp_path.glob("*.raw*")) == sorted(live(http).values())


def test_memory_snapshots_belong_to_running_vms(http):
    """Memory is saved of a running VM, and reverting to it leaves the VM running."""
    generation = write(http)
    create(http, "m1", memory=True).raise_for_status()
    write(http)
    http.post("/vms/vm1/snapshots/m1/revert").raise_for_status()
    assert http.get("/vms/vm1").json()["state"] == "running"
    assert http.get("/vms/vm1/freeze").json()["generation"] == generation
    http.post("/vms/vm1/stop")
    assert create(http, "m2", memory=True).json()["error"] == "not_running"
    assert http.post("/vms/vm1/snapshots/m1/revert").json()["error"] == "wrong_state"


def test_create_and_delete_are_idempotent(http):
    """The same create returns the same snapshot, with another option it conflicts; delete twice is fine."""
    first = create(http, "s1").json()
    assert create(http, "s1").json() == first
    assert create(http, "s1", memory=True).status_code == 409
    for _ in range(2):
        assert http.delete("/vms/vm1/snapshots/s1").status_code == 204
    assert http.get("/vms/vm1/snapshots").json() == []


def test_disks_cannot_change_and_the_vm_cannot_go_while_snapshots_exist(http):
    """Attach, detach and delete of the VM wait until the last snapshot is gone."""
    create(http, "s1").raise_for_status()
    assert http.delete("/vms/vm1/disks/data").json()["error"] == "has_snapshots"
    http.post("/vms/vm1/stop")
    assert http.delete("/vms/vm1").status_code == 409
    http.delete("/vms/vm1/snapshots/s1")
    paths = live(http).values()
    assert http.delete("/vms/vm1").status_code == 204
    assert all(path.exists() for path in paths)


class TestRules:
    """What does not depend on the family."""

    def test_quiesce_freezes_for_the_cut_only(self, http):
        """With quiesce the guest is thawed afterwards; one that was frozen before stays frozen."""
        create(http, "s1", quiesce=True).raise_for_status()
        assert http.get("/vms/vm1").json()["frozen"] is False
        http.post("/vms/vm1/freeze", json={"timeout_s": 100})
        create(http, "s2", quiesce=True).raise_for_status()
        assert http.get("/vms/vm1").json()["frozen"] is True

    def test_quiesce_without_agent_leaves_nothing(self, cluster, tmp_path):
        """A snapshot that cannot quiesce as asked fails and is not there."""
        with httpx.Client(verify=NO_TLS, base_url=cluster.url) as client:
            boot(client, tmp_path, agent=False)
            assert create(client, "s1", quiesce=True).json()["error"] == "agent_missing"
            assert client.get("/vms/vm1/snapshots").json() == []
            assert list((tmp_path / "state" / "snapshots" / "vm1").glob("*")) == []

    def test_at_most_ten(self, http):
        """The eleventh snapshot of a VM is refused."""
        for number in range(10):
            create(http, f"s{number}").raise_for_status()
        assert create(http, "s10").json()["error"] == "limit"

    def test_copies_are_sparse(self, http, tmp_path):
        """A snapshot of an almost empty disk takes almost no space."""
        write(http, 2)
        create(http, "s1").raise_for_status()
        for path in copies(tmp_path, "s1").values():
            assert path.stat().st_size == SIZE
            assert path.stat().st_blocks * 512 <= SIZE // 4

    def test_half_done_revert_is_finished_on_start(self, cluster, http, tmp_path):
        """A server that was killed inside a revert completes it when it starts again."""
        generation = write(http)
        create(http, "s1").raise_for_status()
        write(http)
        http.post("/vms/vm1/stop")
        cluster.stop()
        shutil.copyfile(copies(tmp_path, "s1")["root"], tmp_path / "root.raw")  # the first disk was done
        records = Records(tmp_path / "state" / "cluster.sqlite")
        machine = records.get("vm", "vm1")
        assert machine
        records.put({**machine, "reverting": "s1"}, "vm", "vm1")
        records.close()
        with cluster:
            paths = {name: tmp_path / f"{name}.raw" for name in ("root", "data")}
            assert (examine(paths).generation, examine(paths).problems) == (generation, ())

    def test_kill_9_inside_create_leaves_nothing(self, tmp_path):
        """A snapshot under way when the server dies is not there after the restart; its VM is not blocked."""
        arguments = ["--state", str(tmp_path / "state"), "--defect", "snapshot_hangs"]
        server = SimulatorProcess.start("hypervisor", *arguments)
        with httpx.Client(verify=NO_TLS, base_url=server.url) as client:
            boot(client, tmp_path)
            hanging = threading.Thread(target=_ignore_failure, args=(server.url,))
            hanging.start()
            deadline = time.monotonic() + 10
            while not client.get("/vms/vm1/snapshots").json():
                assert time.monotonic() < deadline, "the snapshot did not begin"
            assert create(client, "s2").json()["error"] == "busy"
            assert client.post("/vms/vm1/freeze").status_code == 200
            server.kill()
            hanging.join()
        again = SimulatorProcess.start("hypervisor", *arguments[:2])
        with again, httpx.Client(verify=NO_TLS, base_url=again.url) as client:
            assert client.get("/vms/vm1/snapshots").json() == []
            create(client, "s2").raise_for_status()


def _ignore_failure(url: str) -> None:
    try:
        httpx.put(f"{url}/vms/vm1/snapshots/s1", json={}, timeout=30)
    except httpx.TransportError:
        return


class TestDefects:
    """The switches around VM snapshots."""

    def test_two_current(self, cluster, http):
        """Two snapshots say that they are current."""
        create(http, "s1")
        cluster.defects.update({"two_current_snapshots": True})
        create(http, "s2")
        assert current(http) == ["s1", "s2"]

    def test_partial_revert(self, cluster, http):
        """Only the first disk goes back; the copies of the two no longer fit together."""
        write(http)
        create(http, "s1")
        write(http, 20)
        http.post("/vms/vm1/stop")
        cluster.defects.update({"revert_partial": True})
        assert http.post("/vms/vm1/snapshots/s1/revert").status_code == 200
        assert examine(live(http)).problems

    def test_no_cut(self, cluster, http, tmp_path):
        """A guest that writes between the copies of its disks leaves a torn set."""
        write(http)
        cluster.defects.update({"snapshot_without_cut": True})
        create(http, "s1").raise_for_status()
        assert examine(copies(tmp_path, "s1")).problems

    def test_stop_ends_a_hanging_snapshot(self, cluster, http):
        """The server stops although a request hangs."""
        cluster.defects.update({"snapshot_hangs": True})
        hanging = threading.Thread(target=_ignore_failure, args=(cluster.url,))
        hanging.start()
        deadline = time.monotonic() + 10
        while not http.get("/vms/vm1/snapshots").json():
            assert time.monotonic() < deadline, "the snapshot did not begin"
        cluster.stop()
        hanging.join(10)
        assert not hanging.is_alive()


class TreeModel(RuleBasedStateMachine):
    """Random creates, deletes and reverts against a model of the tree and of the disks' content."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        base = Path(self.directory.name)
        self.cluster = HypervisorSimulator(base / "state").start()
        self.client = httpx.Client(verify=NO_TLS, base_url=self.cluster.url, timeout=20)
        boot(self.client, base)
        self.parents: dict[str, str | None] = {}
        self.contents: dict[str, int] = {}
        self.head: str | None = None
        self.generation = 0
        self.made = 0

    @rule(blocks=st.integers(1, 20))
    def write(self, blocks: int) -> None:
        """The guest works."""
        self.generation = write(self.client, blocks)

    @precondition(lambda self: len(self.parents) < 10)
    @rule()
    def create(self) -> None:
        """The new snapshot is the child of the current one and becomes current."""
        self.made += 1
        name = f"s{self.made}"
        create(self.client, name).raise_for_status()
        self.parents[name] = self.head
        self.contents[name] = self.generation
        self.head = name

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Children and the mark move to the parent."""
        name = data.draw(st.sampled_from(sorted(self.parents)))
        self.client.delete(f"/vms/vm1/snapshots/{name}").raise_for_status()
        parent = self.parents.pop(name)
        self.contents.pop(name)
        self.parents = {one: parent if above == name else above for one, above in self.parents.items()}
        self.head = parent if self.head == name else self.head

    @precondition(lambda self: self.parents)
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        """The disks go back and the snapshot becomes current."""
        name = data.draw(st.sampled_from(sorted(self.parents)))
        self.client.post("/vms/vm1/stop").raise_for_status()
        self.client.post(f"/vms/vm1/snapshots/{name}/revert").raise_for_status()
        self.client.post("/vms/vm1/start").raise_for_status()
        self.head = name
        self.generation = self.contents[name]

    @rule()
    def restart(self) -> None:
        """Everything is still there after a restart of the server."""
        self.client.close()
        self.cluster.stop()
        self.cluster.start()
        self.client = httpx.Client(verify=NO_TLS, base_url=self.cluster.url, timeout=20)

    @invariant()
    def same_as_model(self) -> None:
        """Tree, current mark and content of the disks are the model's."""
        assert tree(self.client) == self.parents
        assert current(self.client) == ([self.head] if self.head else [])
        cut = examine(live(self.client))
        assert (cut.generation, cut.problems) == (self.generation, ())

    def teardown(self) -> None:
        """Ends server and client."""
        self.client.close()
        self.cluster.stop()
        self.directory.cleanup()


TestTree = TreeModel.TestCase
TestTree.settings = settings(max_examples=5, stateful_step_count=15, deadline=None)
