"""`ipmi` against the simulated BMC: what it promises, and each way in which a BMC can fail it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from bmc_rig import answers as bmc_answers
from bmc_rig import ended, eventually, ipmi
from bollard.core.plugins import load_driver
from bollard.core.spi import (
    Busy,
    Call,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Outcome,
    PermissionDenied,
    PowerState,
    StorageError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from bollard.drivers.fence.child import GRACE
from bollard.drivers.fence.ipmi.driver import IpmiFence
from bollard.simulators.bmc import BmcSimulator
from ports import free_port

SLACK = 10.0  # seconds that this machine may be late: pyghmi alone would take minutes


def test_entry_point():
    """The name `ipmi` leads to the driver."""
    assert load_driver("ipmi") is IpmiFence


def test_off_and_on(bmc: BmcSimulator):
    """Power goes off and on again, each confirmed by two readings after the command."""
    fence = ipmi(bmc.port)
    assert fence.power_state(Call.within()) is PowerState.ON
    fence.power_off(Call.within())
    assert bmc.chassis.log[1:] == ["power off", "read off", "read off"]
    fence.power_on(Call.within())
    assert bmc.chassis.on
    assert bmc.chassis.log[4:] == ["power on", "read on", "read on"]
    fence.close()


def test_each_exchange_is_a_session(bmc: BmcSimulator, monkeypatch):
    """The second reading shares no session with the first, and none is left on the BMC."""
    opened = []
    login = bmc._logins.rakp3

    def counted(payload: bytes) -> bytes | None:
        opened.append(payload)
        return login(payload)

    monkeypatch.setattr(bmc._logins, "rakp3", counted)
    ipmi(bmc.port).power_off(Call.within())
    assert len(opened) == 3
    eventually(lambda: bmc.sessions == 0)


def test_off_again(bmc: BmcSimulator):
    """Switching off what is off succeeds, and is confirmed once more."""
    for _ in range(2):
        ipmi(bmc.port).power_off(Call.within())
    assert bmc.chassis.log == ["power off", "read off", "read off"] * 2


def test_refused_because_it_is_off(bmc: BmcSimulator):
    """A BMC that answers "not in this state" to a host that is off has not failed."""
    bmc.chassis.switch(on=False)
    bmc.defects.update({"refuse_power": True})
    ipmi(bmc.port).power_off(Call.within())
    assert bmc.chassis.log[1:] == ["read off"] * 3


@pytest.mark.parametrize(
    "defects", [{"answers_sha1": True}, {"lose_power_reply": 1}, {"late": 0.7}, {"slow": 0.1}]
)
def test_odd_but_right(bmc: BmcSimulator, defects):
    """A BMC that is slow, late, of another hash or loses a reply fences all the same."""
    bmc.defects.update(defects)
    ipmi(bmc.port).power_off(Call.within())
    assert not bmc.chassis.on
    assert bmc.defects.lose_power_reply == 0


WRONG = [
    ({}, {"password": "not-this"}, Unauthenticated, Outcome.NOT_APPLIED),
    ({}, {"username": "nobody"}, Unauthenticated, Outcome.NOT_APPLIED),
    ({"ignore_unknown_user": True}, {"username": "nobody", "timeout": 1.5}, Unavailable, Outcome.NOT_APPLIED),
    ({}, {"username": "guest"}, PermissionDenied, Outcome.NOT_APPLIED),
    ({"late_role": True}, {"username": "guest"}, PermissionDenied, Outcome.NOT_APPLIED),
    ({}, {"host": "no-such-bmc.invalid"}, Unavailable, Outcome.NOT_APPLIED),
    ({}, {"host": "no..bmc"}, InvalidArgument, Outcome.NOT_APPLIED),
    ({"no_free_session": 2}, {}, Busy, Outcome.NOT_APPLIED),
    ({"silent": True}, {"timeout": 1.0}, Unavailable, Outcome.NOT_APPLIED),
    ({"freeze_login": True}, {"timeout": 1.5}, Unavailable, Outcome.NOT_APPLIED),
    ({"freeze_session": True}, {"timeout": 10.0}, Unavailable, Outcome.UNKNOWN),
    ({"refuse_power": True}, {}, Unsupported, Outcome.UNKNOWN),
    ({"deaf": True}, {}, Internal, Outcome.UNKNOWN),
    ({"deaf": True, "says_off": 1}, {}, Internal, Outcome.UNKNOWN),
    ({"comes_back": 0.5}, {"confirm_after": 0.8}, Internal, Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("defects", "options", "error", "outcome"), WRONG, ids=[str(w[:2]) for w in WRONG])
def test_never_counts_as_fenced(bmc: BmcSimulator, defects, options, error, outcome):
    """What is not confirmed is a typed error with a true outcome, in time; the host lives."""
    bmc.defects.update(defects)
    began = time.monotonic()
    with pytest.raises(error) as raised:
        ipmi(bmc.port, **{"settle": 0.5, **options}).power_off(Call.within(90))
    assert time.monotonic() - began < 60
    assert raised.type is error
    assert raised.value.outcome is outcome
    assert bmc.chassis.on
    assert bmc.defects.says_off == 0, "the BMC did not lie"
    assert bmc.defects.no_free_session == 0, "it found a session"


def test_stopped_bmc(bmc: BmcSimulator):
    """A closed port is `Unavailable`; when the BMC is back, the same driver fences."""
    fence = ipmi(bmc.port, timeout=15.0)
    bmc.stop()
    with pytest.raises(Unavailable) as raised:
        fence.power_off(Call.within())
    assert raised.value.outcome is Outcome.NOT_APPLIED
    with bmc:
        fence.power_off(Call.within())
    assert not bmc.chassis.on


@pytest.mark.slow
def test_pyghmi_gives_up_by_itself(bmc: BmcSimulator):
    """With time enough pyghmi's own timeout is heard, as `Unavailable`."""
    bmc.defects.update({"silent": True})
    with pytest.raises(Unavailable, match="does not answer"):
        ipmi(bmc.port, timeout=20).power_state(Call.within())


@pytest.mark.parametrize(
    ("defect", "seconds", "outcome"),
    [
        ("silent", 0.7, Outcome.NOT_APPLIED),
        ("freeze_login", 0.7, Outcome.NOT_APPLIED),
        ("freeze_session", 10.0, Outcome.UNKNOWN),
    ],
)
def test_deadline_is_kept(bmc: BmcSimulator, defect, seconds, outcome):
    """A call that ends before the BMC's time is up ends at its deadline, not later than by GRACE."""
    bmc.defects.update({defect: True})
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded) as raised:
        ipmi(bmc.port).power_off(Call.within(seconds))
    assert seconds <= time.monotonic() - began < seconds + GRACE + SLACK
    assert raised.value.outcome is outcome


def test_deadline_between_readings(bmc: BmcSimulator):
    """Off by one reading only is not fenced: the deadline passed before the second."""
    with pytest.raises(DeadlineExceeded) as raised:
        ipmi(bmc.port, confirm_after=30.0).power_off(Call.within(15.0))
    assert raised.value.outcome is Outcome.UNKNOWN
    assert bmc.chassis.log == ["power off", "read off"]


def test_frozen_between_readings(bmc: BmcSimulator, monkeypatch):
    """A BMC that freezes after the command leaves the outcome unknown, though a reading changes nothing."""
    reading = bmc.chassis.reading

    def last() -> bool:
        bmc.defects.update({"silent": True})
        return reading()

    monkeypatch.setattr(bmc.chassis, "reading", last)
    with pytest.raises(StorageError) as raised:
        ipmi(bmc.port, timeout=10.0).power_off(Call.within())
    assert raised.value.outcome is Outcome.UNKNOWN


def test_lies_are_told_in_words(bmc: BmcSimulator):
    """The error says what the BMC said."""
    bmc.defects.update({"deaf": True, "says_off": 1})
    with pytest.raises(Internal, match="said off and at the second reading on"):
        ipmi(bmc.port).power_off(Call.within())
    with pytest.raises(Internal, match=r"agreed to switch the power off, and 0\.5 s later it is on"):
        ipmi(bmc.port, settle=0.5).power_off(Call.within())


def test_power_on_is_confirmed(bmc: BmcSimulator):
    """`power_on` believes no BMC that only says yes."""
    bmc.chassis.switch(on=False)
    bmc.defects.update({"deaf": True})
    with pytest.raises(Internal, match="it is off"):
        ipmi(bmc.port, settle=0.3).power_on(Call.within())


def test_operator_may_switch(bmc: BmcSimulator):
    """An account with the privilege "operator" is enough, and no more is asked for unless told so."""
    ipmi(bmc.port, username="operator").power_off(Call.within())
    assert not bmc.chassis.on
    with pytest.raises(PermissionDenied):
        ipmi(bmc.port, username="operator", privilege="administrator").power_on(Call.within())


def test_bmc_made_with_pyghmi():
    """The server of pyghmi, which answers SHA-1 to an offer of SHA-256, can be fenced with."""
    port = free_port()
    code = (
        "from pyghmi.cmd.fakebmc import FakeBmc; import sys;"
        "b = FakeBmc({'admin': 'password'}, int(sys.argv[1])); b.powerstate = 'on'; b.listen()"
    )
    quiet = subprocess.DEVNULL
    with ended(subprocess.Popen([sys.executable, "-c", code, str(port)], stdout=quiet, stderr=quiet)):
        eventually(lambda: bmc_answers(port))
        fence = ipmi(port, password="password")
        assert fence.power_state(Call.within()) is PowerState.ON
        fence.power_off(Call.within())
        assert fence.power_state(Call.within()) is PowerState.OFF


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"username": ""}, "username"),
        ({"username": "x" * 17}, "username"),
        ({"password": ""}, "password"),
        ({"password": "x" * 21}, "password"),
        ({"host": " "}, "host"),
        ({"password": "xxxx\udcff"}, "password"),
        ({"port": 0}, "port"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_bad_options(options, names):
    """A bad option is refused by name before anything is sent, and a password is not shown."""
    with pytest.raises(InvalidArgument, match=names) as raised:
        ipmi(**{"port": 623, **options}).power_off(Call.within())
    assert "xxxx" not in str(raised.value)
