"""The driver against a simulator in a process of its own: what it verifies, undoes, and says of failures."""

from __future__ import annotations

import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bollard.core.plugins import check_driver, kind_of
from bollard.core.spi import (
    Busy,
    Call,
    Conflict,
    DataLoss,
    DeadlineExceeded,
    FileLocation,
    GuestState,
    HasDependents,
    Internal,
    Introduced,
    Introduction,
    InUse,
    InvalidArgument,
    IscsiLocation,
    NbdLocation,
    NotFound,
    ObjectKind,
    Outcome,
    StorageError,
    Unavailable,
    Unsupported,
    VmState,
    parse_options,
)
from bollard.drivers.hypervisor.driver import SimulatedHypervisorDriver
from bollard.drivers.hypervisor.options import SimulatedHypervisorOptions
from bollard.simulators.process import SimulatorProcess
from bollard.transfer_objects.ids import HostId, VmId, VmSnapshotId
from bollard.transfer_objects.secret import Secret
from primary_rig import call

# Without it each client loads the CA certificates, which takes 100 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
SIZE = 1024 * 1024
H1, VM = HostId("h1"), VmId("vm-1")
S1, S2 = VmSnapshotId("s1"), VmSnapshotId("s2")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SimulatorProcess]:
    """One simulator process for all tests; what a test makes, its fixtures remove."""
    with SimulatorProcess.start("hypervisor", "--state", str(tmp_path_factory.mktemp("state"))) as process:
        yield process


@pytest.fixture
def http(server) -> Iterator[httpx.Client]:
    """The simulator's own face, with host h1 and the running VM vm-1, which are gone afterwards."""
    with httpx.Client(verify=NO_TLS, base_url=server.url, timeout=20) as client:
        client.put("/hosts/h1", json={"initiator": "iqn.2026-01.org.example:h1"}).raise_for_status()
        client.put("/vms/vm-1", json={"host": "h1"}).raise_for_status()
        client.post("/vms/vm-1/start").raise_for_status()
        yield client
        switches = client.get("/sim/defects").json()
        client.put("/sim/defects", json={name: type(value)(0) for name, value in switches.items()})
        for snapshot in client.get("/vms/vm-1/snapshots").json():
            client.delete(f"/vms/vm-1/snapshots/{snapshot['id']}").raise_for_status()
        client.post("/vms/vm-1/stop").raise_for_status()
        client.delete("/vms/vm-1").raise_for_status()
        for known in client.get("/hosts/h1/objects").json():
            client.delete(f"/hosts/h1/objects/{known['kind']}/{known['id']}").raise_for_status()


@pytest.fixture
def driver(server, http) -> Iterator[SimulatedHypervisorDriver]:
    """A driver of the simulator."""
    with closing(SimulatedHypervisorDriver(SimulatedHypervisorOptions(url=server.url))) as opened:
        yield opened


@pytest.fixture
def lun(tmp_path) -> Introduction:
    """The introduction of a raw file with a content."""
    path = tmp_path.resolve() / "lun.raw"
    path.write_bytes(b"precious" * (SIZE // 8))
    return Introduction(
        kind=ObjectKind.VOLUME,
        object_id="v1",
        host=H1,
        location=FileLocation(path=path, format="raw"),
        identity=str(path),
        size=SIZE,
    )


def known_ids(http: httpx.Client) -> list[str]:
    """The objects that host h1 knows."""
    return [known["id"] for known in http.get("/hosts/h1/objects").json()]


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that gives each connection the same answer and hangs up; yields its URL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


def failure(act, *classes: type[StorageError]) -> StorageError:
    """The error of a call that must fail."""
    with pytest.raises(classes) as caught:
        act()
    return caught.value


class TestAsAPlugin:
    """What core sees of the class."""

    def test_it_is_a_hypervisor_driver(self):
        """The class is complete, and of the kind "hypervisor"."""
        assert kind_of(check_driver("hypervisor-sim", "", SimulatedHypervisorDriver)) == "hypervisor"

    @pytest.mark.parametrize(
        "url",
        [
            "https://127.0.0.1:1",
            "http://",
            "http://u:p@127.0.0.1",
            "http://h/path",
            "http://h:port",
            "ftp://h",
        ],
    )
    def test_bad_urls_are_refused(self, url):
        """Only http://HOST[:PORT] is taken, and the error names the option."""
        options = parse_options(SimulatedHypervisorOptions, {"url": url})
        assert "'url'" in failure(lambda: SimulatedHypervisorDriver(options), InvalidArgument).message

    def test_close_twice(self, driver):
        """Closing is repeatable."""
        driver.close()

    def test_hosts_that_are_up_are_listed(self, driver, http):
        """A host has its initiator; one that is down is not listed."""
        http.put("/hosts/h2", json={"initiator": "iqn.2026-01.org.example:h2"})
        http.post("/hosts/h2/state", json={"state": "down"}).raise_for_status()
        assert [(h.id, h.iqn) for h in driver.list_hosts(call())] == [("h1", "iqn.2026-01.org.example:h1")]


class TestIntroduce:
    """Introduce verifies."""

    def test_repeat_is_equal_and_other_conflicts(self, driver, lun):
        """A repeat gives the same answer, the same id with another size is a conflict."""
        assert driver.introduce(lun, call()) == driver.introduce(lun, call())
        failure(lambda: driver.introduce(replace(lun, size=2 * SIZE), call()), Conflict)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"size": 2 * SIZE}, DataLoss),
            ({"identity": "/elsewhere"}, DataLoss),
            ({"location": FileLocation(path=Path("/nowhere"), format="raw")}, NotFound),
            ({"location": FileLocation(path=Path("relative"), format="raw")}, InvalidArgument),
            ({"location": FileLocation(path=Path("/x"), format="raw", read_only=True)}, Unsupported),
            ({"location": NbdLocation(address=Path("/run/nbd"), export=Secret("x"))}, Unsupported),
            ({"location": NbdLocation(address=("127.0.0.1", 1), export=Secret("x"))}, NotFound),
            (
                {"location": IscsiLocation(portal=("h", 3260), target="t", lun=0, initiator="i")},
                Unsupported,
            ),
            ({"size": 0}, InvalidArgument),
            ({"identity": ""}, InvalidArgument),
            ({"object_id": "../up"}, InvalidArgument),
            ({"host": HostId("..")}, InvalidArgument),
            ({"host": HostId("nobody")}, NotFound),
        ],
    )
    def test_refusals_leave_nothing(self, driver, http, lun, change, error):
        """What is not the object is refused as not applied, and the host knows nothing of it."""
        error = failure(lambda: driver.introduce(replace(lun, **change), call()), error)
        assert (error.outcome, known_ids(http)) == (Outcome.NOT_APPLIED, [])

    @pytest.mark.parametrize("defect", ["introduce_wrong_object", "introduce_wrong_size"])
    def test_what_appeared_is_looked_at_and_undone(self, driver, http, lun, defect):
        """Where the cluster itself does not look, the driver does, and takes it out again."""
        http.put("/sim/defects", json={defect: True}).raise_for_status()
        error = failure(lambda: driver.introduce(lun, call()), DataLoss)
        assert (error.outcome, known_ids(http)) == (Outcome.NOT_APPLIED, [])

    def test_export_names_are_not_told(self, driver, lun):
        """An export's name holds a proof of the grant: no message shows it."""
        location = NbdLocation(address=("127.0.0.1", 1), export=Secret("6001:iqn:proof-of-grant"))
        error = failure(lambda: driver.introduce(replace(lun, location=location), call()), NotFound)
        assert "proof-of-grant" not in f"{error}{error.detail}"


class TestForget:
    """Forget never deletes."""

    def test_data_stays_and_a_repeat_is_fine(self, driver, http, lun):
        """The object goes from the host, its bytes stay; again, and on an unknown host, is fine."""
        driver.introduce(lun, call())
        for host in (H1, H1, HostId("nobody")):
            driver.forget(lun.kind, lun.object_id, host, call())
        assert known_ids(http) == []
        assert lun.location.path.read_bytes() == b"precious" * (SIZE // 8)

    def test_a_device_that_stays_is_told(self, driver, http, lun):
        """If the host keeps the device, forget was applied and is wrong all the same."""
        driver.introduce(lun, call())
        http.put("/sim/defects", json={"forget_leaves_device": True})
        error = failure(lambda: driver.forget(lun.kind, lun.object_id, H1, call()), Internal)
        assert error.outcome is Outcome.APPLIED
        assert "still has a device" in error.message
        http.put("/sim/defects", json={"forget_leaves_device": False})
        driver.forget(lun.kind, lun.object_id, H1, call())

    def test_used_objects_are_not_forgotten(self, driver, http, lun):
        """An attached object is in use until it is detached."""
        known = driver.introduce(lun, call())
        assert driver.attach(VM, known, call()) == driver.attach(VM, known, call()) == "vda"
        refused = failure(lambda: driver.forget(lun.kind, lun.object_id, H1, call()), InUse)
        assert (refused.outcome, known_ids(http)) == (Outcome.NOT_APPLIED, ["v1"])
        for _ in range(2):
            driver.detach(VM, known, call())
        driver.forget(lun.kind, lun.object_id, H1, call())

    def test_forgotten_objects_cannot_be_attached(self, driver, lun):
        """What the host does not know, or knows elsewhere, is not found."""
        known = driver.introduce(lun, call())
        moved = replace(known, path="/dev/other")
        failure(lambda: driver.attach(VM, moved, call()), NotFound)
        driver.forget(lun.kind, lun.object_id, H1, call())
        failure(lambda: driver.attach(VM, known, call()), NotFound)

    def test_a_vm_of_another_host_is_refused(self, driver, http, lun):
        """An object of one host cannot be a disk of a VM on another."""
        http.put("/hosts/h3", json={"initiator": "iqn.2026-01.org.example:h3"})
        http.put("/vms/vm-3", json={"host": "h3"}).raise_for_status()
        known = driver.introduce(lun, call())
        failure(lambda: driver.attach(VmId("vm-3"), known, call()), InvalidArgument)


class TestGuest:
    """Freezing is bounded, and undone on every path that fails."""

    def test_freeze_and_thaw(self, driver):
        """The guest itself says what it is; freeze and thaw may be repeated."""
        for _ in range(2):
            driver.freeze(VM, call())
            assert driver.guest_state(VM, call()) is GuestState.FROZEN
        for _ in range(2):
            driver.thaw(VM, call())
            assert driver.guest_state(VM, call()) is GuestState.THAWED

    def test_the_guest_thaws_before_the_deadline(self, driver, http):
        """The time limit that the guest is given ends before the call's deadline."""
        begin = time.time()
        driver.freeze(VM, call(20))
        assert begin + 15 < http.get("/vms/vm-1/freeze").json()["thaws_at"] < begin + 20
        driver.thaw(VM, call())
        driver.freeze(VM, Call())  # no deadline: the cluster's longest
        assert http.get("/vms/vm-1/freeze").json()["thaws_at"] < time.time() + 300

    def test_a_late_agent_leaves_the_guest_thawed(self, driver, http):
        """A freeze that times out in the cluster is thawed: after that nothing was applied."""
        http.put("/sim/defects", json={"agent_timeout": 1})
        error = failure(lambda: driver.freeze(VM, call()), Unavailable)
        assert error.outcome is Outcome.NOT_APPLIED
        assert driver.guest_state(VM, call()) is GuestState.THAWED

    def test_a_thaw_that_fails_is_told(self, driver, http):
        """If the guest cannot be thawed after a failure, the outcome is unknown."""
        http.put("/sim/defects", json={"agent_timeout": 1, "thaw_ignored": True})
        assert failure(lambda: driver.freeze(VM, call(3)), Unavailable).outcome is Outcome.UNKNOWN

    def test_an_interrupted_freeze_is_thawed(self, driver, http, monkeypatch):
        """Ctrl-C between the freeze and its answer leaves no frozen guest."""
        real = driver._client.post

        def interrupted(path, call, body=None):
            found = real(path, call, body)
            if path.endswith("/freeze"):
                raise KeyboardInterrupt
            return found

        monkeypatch.setattr(driver._client, "post", interrupted)
        with pytest.raises(KeyboardInterrupt):
            driver.freeze(VM, call())
        assert http.get("/vms/vm-1/freeze").json()["frozen"] is False

    def test_guests_that_cannot_freeze(self, driver, http):
        """No VM, no agent and no power are told apart."""
        failure(lambda: driver.freeze(VmId("nobody"), call()), NotFound)
        http.put("/vms/vm-2", json={"host": "h1", "agent": False})
        failure(lambda: driver.freeze(VmId("vm-2"), call()), InvalidArgument)
        http.post("/vms/vm-2/start")
        failure(lambda: driver.freeze(VmId("vm-2"), call()), Unsupported)
        assert driver.vm_state(VmId("vm-2"), call()) is VmState.RUNNING
        http.post("/vms/vm-2/stop")
        assert driver.vm_state(VmId("vm-2"), call()) is VmState.STOPPED
        failure(lambda: driver.vm_state(VmId("nobody"), call()), NotFound)


class TestVmSnapshots:
    """All disks or none, and a tree that makes sense."""

    def test_create_revert_delete(self, driver, http, lun):
        """Content goes back; power state and missing snapshots are refused; disks cannot change meanwhile."""
        known = driver.introduce(lun, call())
        driver.attach(VM, known, call())
        for _ in range(2):
            driver.create_vm_snapshot(VM, S1, call(), memory=False)
        failure(lambda: driver.detach(VM, known, call()), HasDependents)
        failure(lambda: driver.revert_vm_snapshot(VM, S1, call()), InUse)
        http.post("/vms/vm-1/stop")
        lun.location.path.write_bytes(bytes(SIZE))
        driver.revert_vm_snapshot(VM, S1, call())
        assert lun.location.path.read_bytes() == b"precious" * (SIZE // 8)
        for _ in range(2):
            driver.delete_vm_snapshot(VM, S1, call())
        failure(lambda: driver.revert_vm_snapshot(VM, S1, call()), NotFound)
        driver.detach(VM, known, call())

    def test_two_current_snapshots_are_told(self, driver, http):
        """A tree with two heads is an answer that makes no sense; the snapshot was taken."""
        driver.create_vm_snapshot(VM, S1, call(), memory=True)
        http.put("/sim/defects", json={"two_current_snapshots": True})
        error = failure(lambda: driver.create_vm_snapshot(VM, S2, call(), memory=True), Internal)
        assert error.outcome is Outcome.APPLIED
        assert "2 current snapshots" in error.message

    def test_a_hanging_snapshot_ends_at_the_deadline(self, driver, http):
        """The caller has its answer in time: unknown; a second task meanwhile is told that the VM is busy."""
        http.put("/sim/defects", json={"snapshot_hangs": True})
        begin = time.monotonic()
        error = failure(lambda: driver.create_vm_snapshot(VM, S1, call(0.5), memory=False), DeadlineExceeded)
        assert error.outcome is Outcome.UNKNOWN
        assert time.monotonic() - begin < 20
        failure(lambda: driver.create_vm_snapshot(VM, S2, call(), memory=False), Busy)
        http.put("/sim/defects", json={"snapshot_hangs": False})
        until = time.monotonic() + 10
        while http.get("/vms/vm-1/snapshots").json()[0]["state"] != "ready":
            assert time.monotonic() < until, "the snapshot did not end"


class TestFailures:
    """What is said when the cluster is not there or is not the cluster."""

    def test_503_is_retryable_and_not_applied(self, driver, http, lun):
        """A cluster that refuses for now has done nothing."""
        http.put("/sim/defects", json={"unavailable": 1})
        error = failure(lambda: driver.introduce(lun, call()), Unavailable)
        assert (error.retryable, error.outcome) == (True, Outcome.NOT_APPLIED)

    def test_nobody_listens(self, lun):
        """Without a connection nothing was applied."""
        options = SimulatedHypervisorOptions(url="http://127.0.0.1:1")
        with closing(SimulatedHypervisorDriver(options)) as driver:
            assert failure(lambda: driver.introduce(lun, call()), Unavailable).outcome is Outcome.NOT_APPLIED

    def test_a_failed_change_is_unknown(self, driver, http):
        """500 for a change says nothing about what was done."""
        http.put("/sim/defects", json={"forget_missing_fails": True})
        error = failure(lambda: driver.forget(ObjectKind.VOLUME, "v1", H1, call()), Internal)
        assert error.outcome is Outcome.UNKNOWN

    @pytest.mark.parametrize(
        ("body", "kind", "error"),
        [
            (b"<html>login</html>", "text/html", Internal),
            (b"{", "application/json", Internal),
            (b"[1]", "application/json", Internal),
            (b'{"frozen": "yes"}', "application/json", Internal),
        ],
    )
    def test_answers_of_somebody_else(self, body, kind, error):
        """What is not the cluster's language is an error that says so, never a success."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        with answering(f"{head}Connection: close\r\n\r\n".encode() + body) as url:
            options = SimulatedHypervisorOptions(url=url, timeout=5)
            with closing(SimulatedHypervisorDriver(options)) as driver:
                failure(lambda: driver.guest_state(VM, call(5)), error)
                failure(lambda: driver.list_hosts(call(5)), error)


def test_introduced_is_what_attach_takes(driver, lun):
    """The answer of introduce names object, host and place."""
    known = driver.introduce(lun, call())
    assert known == Introduced(object_id="v1", host=H1, path=known.path)
    assert known.path.startswith("/dev/disk/by-id/")
