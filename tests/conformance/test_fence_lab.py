"""What the checks of fence drivers stand on: settings, ways to the BMC and elsewhere, the host put back."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from bmc_rig import PASSWORD, QUICK, ipmi
from bollard.conformance.clean import Place, remove
from bollard.conformance.fence_gate import gate, nobody
from bollard.conformance.fence_lab import FenceSettings
from bollard.conformance.lab import NotApplicable
from bollard.conformance.ledger import Intent, Kind
from bollard.conformance.settings import SuiteSettings
from bollard.core.fence import fence_driver
from bollard.core.spi import Call, InvalidArgument, PowerState, Unavailable
from bollard.simulators.bmc import BmcSimulator

FENCED = Intent(kind=Kind.FENCED, id="host")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"patient": 1}, "did you mean 'patience'"),
        ({"patience": 0}, "above 0"),
        ({"patience": "1"}, "a number"),
    ],
)
def test_a_bad_table_is_told(table, words):
    """The error names the key and the rule."""
    with pytest.raises(InvalidArgument, match=words):
        FenceSettings.of(table)


def test_a_driver_of_another_kind_is_refused():
    """Only fence drivers are opened as such."""
    with pytest.raises(InvalidArgument, match="is not a fence driver"):
        fence_driver("qcow2", {})


def test_a_fenced_host_is_switched_on_again():
    """Removing what a run has fenced leaves the host on, whatever it was; a BMC that lies is told."""
    with BmcSimulator({"admin": PASSWORD}, on=False) as bmc:
        place = Place(fence=ipmi(bmc.port))
        for _ in range(2):
            assert remove(FENCED, place) == ""
            assert bmc.chassis.on
        bmc.defects.update({"says_off": 99})
        assert "the BMC agreed to switch the power on, and" in remove(FENCED, place)
    assert "names no fence driver" in remove(FENCED, Place())


def test_the_gate_counts_and_shuts(tmp_path: Path):
    """Through the gate the BMC is reached until its answers are lost."""
    with BmcSimulator({"admin": PASSWORD}) as bmc:
        known = {"host": "127.0.0.1", "port": bmc.port, **QUICK}
        suite = SuiteSettings(driver="ipmi", options=known)
        with gate(suite, known, tmp_path) as (way, options):
            assert fence_driver("ipmi", options).power_state(Call.within(60)) is PowerState.ON
            assert way.answers > 3
            assert not way.shut
            way.lose_from(2)
            # Seconds until it gives up: beside others pyghmi alone takes more than two to be imported.
            with pytest.raises(Unavailable):
                fence_driver("ipmi", {**options, "timeout": 6.0}).power_state(Call.within(60))
            assert way.shut


def test_a_port_that_is_taken_for_connections_is_not_used(monkeypatch):
    """The kernel's next free port for datagrams may be somebody's for connections: another one is found."""

    class Taken(socket.socket):
        left = 2

        def bind(self, address: Any) -> None:
            if self.type == socket.SOCK_STREAM and Taken.left:
                Taken.left -= 1
                raise OSError(errno.EADDRINUSE, "Address already in use")
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Taken)
    with nobody(SuiteSettings(driver="x"), {"host": "bmc", "port": 623}, silent=True) as changes:
        assert changes["port"] > 0
    assert Taken.left == 0


def test_elsewhere_is_made_of_what_the_options_are(tmp_path: Path):
    """A host and a port, or a URL, lead to a port of this machine; anything else does not apply."""
    suite = SuiteSettings(driver="x")
    with nobody(suite, {"host": "bmc", "port": 623}, silent=True) as changes:
        assert changes.keys() == {"host", "port"}
    with nobody(suite, {"url": "https://bmc/x"}, silent=False) as changes:
        assert changes["url"].startswith("https://127.0.0.1:")
        assert changes["url"].endswith("/x")
    with pytest.raises(NotApplicable), nobody(suite, {"serial": "/dev/ttyS0"}, silent=True):
        pass
    with pytest.raises(NotApplicable), gate(suite, {"serial": "/dev/ttyS0"}, tmp_path):
        pass
