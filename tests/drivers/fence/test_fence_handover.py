"""A dead host's volumes on an array, given to another host after its BMC said twice that it is off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import bollard
from bmc_rig import QUICK
from bollard.core.events import Event
from bollard.core.fence import Fence, open_fence
from bollard.core.handover import Handover
from bollard.core.spi import (
    Call,
    DeadlineExceeded,
    Host,
    Internal,
    InUse,
    InvalidArgument,
    Outcome,
    Unauthenticated,
    Unavailable,
    VolumeSpec,
)
from bollard.simulators.array import ArraySimulator
from bollard.simulators.bmc import BmcSimulator
from bollard.transfer_objects.ids import HostId, VolumeId
from bollard.transfer_objects.secret import Secret

MIB = 2**20
WEB, DB = VolumeId("web"), VolumeId("db")


def host(name: str) -> Host:
    """A host with an initiator of its own."""
    iqn = f"iqn.2026-01.org.example:{name}"
    return Host(id=HostId(name), iqn=iqn, chap_user=name, chap_secret=Secret("correct-horse-battery"))


OLD, HEIR, THIRD = host("old"), host("heir"), host("third")


@pytest.fixture
def calls() -> list[str]:
    """What the pool was asked, and the BMC, in one order."""
    return []


@pytest.fixture
def pool(tmp_path: Path, calls: list[str]) -> Iterator[bollard.Pool]:
    """An array's pool with a volume that the old host has for writing."""

    def note(event: Event) -> None:
        if event.phase == "succeeded" and event.operation in ("volume.revoke", "volume.grant"):
            calls.append(event.operation)

    with ArraySimulator(tmp_path / "array", pools={"gold": 64 * MIB}) as array:
        options = {
            "url": array.url,
            "ca": str(array.ca),
            "username": array.admin_user,
            "password": array.admin_password,
            "pool": "gold",
        }
        with bollard.open_pool("gold", "array", options, observe=note) as opened:
            for volume in (WEB, DB):
                opened.volumes.create(VolumeSpec(id=volume, size=MIB))
                opened.volumes.grant(volume, OLD)
            calls.clear()
            yield opened


@pytest.fixture
def fence(bmc: BmcSimulator) -> Iterator[Fence]:
    """The old host's fence."""
    with closing(open_fence("old", "ipmi", {"host": "127.0.0.1", "port": bmc.port, **QUICK})) as opened:
        yield opened


@pytest.fixture
def handover(pool: bollard.Pool, fence: Fence) -> Handover:
    """From the old host."""
    return Handover(pool=pool, dead=OLD.id, fence=fence)


def owners(pool: bollard.Pool, volume: VolumeId) -> list[str]:
    """Who has the volume."""
    return sorted(grant.host for grant in pool.volumes.grants(volume))


def test_off_then_revoked_then_granted(handover, pool, bmc, calls) -> None:
    """The host is off before its access goes, and its access is gone before the heir gets the volume."""
    handover.take(WEB, HEIR, Call.within(60))
    assert not bmc.chassis.on
    assert bmc.chassis.log.count("read off") >= 2
    assert calls == ["volume.revoke", "volume.grant"]
    assert owners(pool, WEB) == [HEIR.id]
    assert owners(pool, DB) == [OLD.id]


def test_several_volumes_for_one_fencing(handover, pool, bmc) -> None:
    """All volumes of the dead host go at once, after one power-off."""
    assert handover.take_all([WEB, DB], HEIR, Call.within(60)).keys() == {WEB, DB}
    assert bmc.chassis.log.count("power off") == 1
    assert (owners(pool, WEB), owners(pool, DB)) == ([HEIR.id], [HEIR.id])


@pytest.mark.parametrize(
    ("defect", "error"),
    [({"deaf": True}, Internal), ({"deaf": True, "says_off": 1}, Internal), (None, Unauthenticated)],
)
def test_a_fence_that_does_not_say_off_leaves_all_as_it_was(
    handover, pool, bmc, calls, defect, error
) -> None:
    """A BMC that agrees and does nothing, that says OFF once, or that refuses us: the old host keeps it."""
    if defect is None:
        other = {"host": "127.0.0.1", "port": bmc.port, **QUICK, "password": "wrong"}
        handover = Handover(pool=pool, dead=OLD.id, fence=open_fence("old", "ipmi", other))
    else:
        bmc.defects.update(defect)
    with pytest.raises(error):
        handover.take(WEB, HEIR, Call.within(60))
    assert calls == []
    assert owners(pool, WEB) == [OLD.id]


def test_an_unreachable_bmc_leaves_all_as_it_was(pool, calls) -> None:
    """No answer is no power-off, however long it lasts; the call's deadline ends it."""
    closed = open_fence("old", "ipmi", {"host": "127.0.0.1", "port": 9, **QUICK, "timeout": 1.0})
    with pytest.raises((Unavailable, DeadlineExceeded)):
        Handover(pool=pool, dead=OLD.id, fence=closed).take(WEB, HEIR, Call.within(3))
    assert calls == []
    assert owners(pool, WEB) == [OLD.id]


def test_what_cannot_be_given_away_fences_nobody(handover, pool, bmc) -> None:
    """A third host that writes, or the dead host as its own heir, is found before any power is cut."""
    pool.volumes.revoke(WEB, OLD.id)
    pool.volumes.grant(WEB, THIRD)
    with pytest.raises(InUse, match="third"):
        handover.take(WEB, HEIR, Call.within(60))
    with pytest.raises(InvalidArgument, match="inherit"):
        handover.take(DB, OLD, Call.within(60))
    assert bmc.chassis.on
    assert bmc.chassis.log == []


def test_a_repeat_fences_again_and_ends_well(handover, pool, bmc, monkeypatch) -> None:
    """After a failure between fence and grant somebody switched the host on: the repeat switches it off."""
    granting = pool.driver.grant

    def fails(*_: object, **__: object) -> None:
        raise Internal("lost", outcome=Outcome.UNKNOWN)

    monkeypatch.setattr(pool.driver, "grant", fails)
    with pytest.raises(Internal):
        handover.take(WEB, HEIR, Call.within(60))
    assert owners(pool, WEB) == []
    bmc.chassis.switch(on=True)
    monkeypatch.setattr(pool.driver, "grant", granting)
    handover.take(WEB, HEIR, Call.within(60))
    assert not bmc.chassis.on
    assert owners(pool, WEB) == [HEIR.id]


def test_command_line(bmc, tmp_path, monkeypatch, capsys) -> None:
    """`bollard fence` lists, reads and switches; a fence that is not configured is named, and ends with 4."""
    from bollard import cli

    options = {"host": "127.0.0.1", "port": bmc.port, **QUICK, "password": {"env": "BMC_PASSWORD"}}
    text = ", ".join(f"{key} = {_toml(value)}" for key, value in options.items())
    config = tmp_path / "bollard.toml"
    config.write_text(f'[fences.host-7]\ndriver = "ipmi"\noptions = {{ {text} }}\n')
    monkeypatch.setenv("BOLLARD_CONFIG", str(config))
    monkeypatch.setenv("BMC_PASSWORD", QUICK["password"])

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["bollard", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    assert json.loads(run("fence", "list", "--json")[1]) == [{"host": "host-7", "driver": "ipmi"}]
    assert json.loads(run("fence", "status", "host-7", "--json")[1])["power"] == "on"
    assert run("fence", "off", "host-7") == (0, "host-7 is off\n")
    assert not bmc.chassis.on
    assert run("fence", "on", "host-7")[0] == 0
    assert bmc.chassis.on
    bmc.defects.update({"deaf": True})
    assert run("fence", "off", "host-7")[0] != 0
    assert run("fence", "off", "host-8", "--json")[0] == 4


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)
