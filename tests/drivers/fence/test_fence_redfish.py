"""`redfish` against sushy-tools' emulator, over HTTP and over TLS."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import sushy

from bmc_rig import PASSWORD, emulator, redfish
from bollard.core.plugins import load_driver
from bollard.core.spi import (
    Call,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Outcome,
    PowerState,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from bollard.drivers.fence.redfish.driver import RedfishFence
from bollard.drivers.fence.redfish.session import exchange
from bollard.drivers.fence.wire import Problem
from bollard.simulators.array.tls import Certificates, certificates


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate for 127.0.0.1 and its authority."""
    return certificates(tmp_path_factory.mktemp("tls") / "made")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tls: Certificates) -> Iterator[str]:
    """An emulator with TLS, whose one host is on."""
    with emulator(tmp_path_factory.mktemp("bmc"), chain=str(tls.chain), key=str(tls.key)) as place:
        yield place


def test_entry_point():
    """The name `redfish` leads to the driver."""
    assert load_driver("redfish") is RedfishFence


def test_off_and_on(url: str, tls: Certificates):
    """Power goes off and on again, over TLS that is verified; off twice is off."""
    fence = redfish(url, ca=str(tls.ca))
    assert fence.power_state(Call.within()) is PowerState.ON
    for _ in range(2):
        fence.power_off(Call.within())
    assert fence.power_state(Call.within()) is PowerState.OFF
    fence.power_on(Call.within())
    fence.close()


def test_system_by_id(url: str, tls: Certificates):
    """A system is found by its id; one that is not there is `NotFound`."""
    fence = redfish(url, ca=str(tls.ca), system="27946b59-9e44-4fa7-8e91-f3527a1ef094")
    assert fence.power_state(Call.within()) is PowerState.ON
    with pytest.raises(NotFound) as raised:
        redfish(url, ca=str(tls.ca), system="37946b59-9e44-4fa7-8e91-f3527a1ef094").power_off(Call.within())
    assert raised.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("options", [{"password": "not-this"}, {"username": "nobody"}])
def test_not_let_in(url: str, tls: Certificates, options):
    """A wrong password or user is `Unauthenticated`, soon."""
    began = time.monotonic()
    with pytest.raises(Unauthenticated) as raised:
        redfish(url, ca=str(tls.ca), **options).power_off(Call.within())
    assert raised.value.outcome is Outcome.NOT_APPLIED
    assert time.monotonic() - began < 20


def test_certificate_is_verified(url: str):
    """A BMC whose certificate nobody vouches for is not asked, unless told so."""
    with pytest.raises(Unavailable, match="certificate is not trusted") as raised:
        redfish(url).power_off(Call.within())
    assert raised.value.outcome is Outcome.NOT_APPLIED
    assert redfish(url, verify=False).power_state(Call.within()) is PowerState.ON


@pytest.mark.parametrize(
    ("power", "error"),
    [("deaf", Internal), ("freezes", Unavailable), ("refuses", Unsupported), ("fails", Unavailable)],
)
def test_power_command_fails(tmp_path: Path, power, error):
    """A BMC that ignores, loses, refuses or spoils the command has not fenced; over HTTP, as loopback may."""
    with emulator(tmp_path, power=power) as place:
        fence = redfish(place, allow_http=True, settle=0.3, timeout=10.0)
        with pytest.raises(error) as raised:
            fence.power_off(Call.within(90))
        assert raised.value.outcome is Outcome.UNKNOWN
        assert fence.power_state(Call.within()) is PowerState.ON


def test_no_such_reset(url: str, tls: Certificates):
    """A BMC that offers only polite shutdowns is found out before anything is sent."""
    request = {"act": "off", "url": url, "system": "", "username": "admin", "password": PASSWORD}
    offered = "sushy.resources.system.system.System.get_allowed_reset_system_values"
    with (
        mock.patch(offered, return_value={sushy.ResetType.GRACEFUL_SHUTDOWN}),
        pytest.raises(Problem) as raised,
    ):
        exchange({**request, "verify": str(tls.ca), "timeout": 5.0}, [].append)
    assert raised.value.code == "unsupported"
    assert raised.value.certain


def test_between_on_and_off(tmp_path: Path):
    """A host that is going down is not down."""
    with emulator(tmp_path, power="refuses", state="PoweringOff") as place:
        fence = redfish(place, allow_http=True)
        assert fence.power_state(Call.within()) is PowerState.ON
        with pytest.raises(Unsupported, match="refuses"):
            fence.power_off(Call.within())


def test_refused_because_it_is_off(tmp_path: Path):
    """A BMC that refuses to switch off what is off has not failed."""
    with emulator(tmp_path, power="refuses", state="Off") as place:
        redfish(place, allow_http=True).power_off(Call.within())


def test_two_systems(tmp_path: Path):
    """Of two hosts behind one BMC none is switched by chance."""
    with emulator(tmp_path, systems=2) as place:
        with pytest.raises(InvalidArgument, match="2 systems"):
            redfish(place, allow_http=True).power_off(Call.within())
        one = redfish(place, allow_http=True, system="27946b59-9e44-4fa7-8e91-f3527a1ef094")
        other = redfish(place, allow_http=True, system="37946b59-9e44-4fa7-8e91-f3527a1ef094")
        one.power_off(Call.within())
        assert other.power_state(Call.within()) is PowerState.ON


def test_closed_port():
    """Nobody there is `Unavailable` at once, without sushy's 27 s of tries."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no connection") as raised:
            redfish(f"https://127.0.0.1:{nobody.getsockname()[1]}").power_off(Call.within())
    assert time.monotonic() - began < 20
    assert raised.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(
    ("timeout", "seconds", "error"), [(1.0, 60, Unavailable), (60.0, 1, DeadlineExceeded)]
)
def test_silent_server(timeout, seconds, error):
    """A BMC that takes connections and says nothing ends with its time or the call's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        fence = redfish(f"http://127.0.0.1:{server.getsockname()[1]}", allow_http=True, timeout=timeout)
        with pytest.raises(error) as raised:
            fence.power_off(Call.within(seconds))
    assert time.monotonic() - began < 20
    assert raised.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"url": "http://127.0.0.1"}, "url"),
        ({"url": "http://192.0.2.1", "allow_http": True}, "url"),
        ({"url": "ftp://bmc"}, "url"),
        ({"url": "https://admin:pw@bmc"}, "url"),
        ({"url": "https://bmc/redfish"}, "url"),
        ({"url": "https://bmc:nine"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://bmc", "username": ""}, "username"),
        ({"url": "https://bmc", "system": "../x"}, "system"),
        ({"url": "https://bmc", "ca": "/nowhere/ca.pem"}, "ca"),
    ],
)
def test_bad_options(options, names):
    """A bad option is refused by name before anything is sent."""
    with pytest.raises(InvalidArgument, match=f"'{names}'"):
        redfish(**options)
