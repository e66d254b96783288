"""The real agent as a process, over an array, a pool of files and a directory, in CloudStack's JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bollard.core.commands.dispatcher import TABLE
from bollard.transfer_objects.cloudstack.names import wire_class
from bollard.transfer_objects.objects import VolumeObjectTO
from command_rig import ARRAY, FILES, Orders, noise, volume
from site_rig import ARRAY_UUID, FILES_UUID, NFS_UUID

FIXTURES = sorted((Path(__file__).parents[1] / "wire" / "fixtures").glob("*.json"))
TO = "org.apache.cloudstack.storage.to."
MIB = 2**20
SECRETS = ("s3cr3t", "correct-horse")


def _pool(uuid: str, *, managed: bool) -> dict[str, Any]:
    return {f"{TO}PrimaryDataStoreTO": {"uuid": uuid, "isManaged": managed}}


POOLS = {"array": _pool(ARRAY_UUID, managed=True), "files": _pool(FILES_UUID, managed=False)}
STORE = {"com.cloud.agent.api.to.NfsTO": {"uuid": NFS_UUID, "_role": "Image"}}


def _volume(uuid: str, pool: str, **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "size": 4 * MIB, "dataStore": POOLS[pool]} | more


def _wrapped(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {f"{TO}{kind}ObjectTO": fields}


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_every_example_is_answered(running, path):
    """Each command of the wire's examples has an answer of its class, which says why, and shows no secret."""
    known = {wire_class(command).name: wire_class(row.answer).name for command, row in TABLE.items()}
    commands = [one for one in json.loads(path.read_text()) if not next(iter(one)).endswith("Answer")]
    for command in commands:
        [answer] = running.management.ask([command])
        [(name, fields)] = answer.items()
        assert name == known.get(next(iter(command)), "com.cloud.agent.api.UnsupportedAnswer")
        assert fields["result"] is False
        assert fields["details"]
        assert not any(secret in json.dumps(answer) for secret in SECRETS)


@pytest.mark.parametrize("pool", POOLS)
def test_a_life_of_a_volume(running, pool):
    """Each step of a life, twice: whatever was done may be asked for again."""
    volume = _volume(f"life-{pool}", pool)
    created = running.ask("CreateObjectCommand", data=_wrapped("Volume", volume))
    assert created["result"], created
    assert created["data"][f"{TO}VolumeObjectTO"]["size"] == 4 * MIB
    taken = {"id": 70 if pool == "array" else 71, "name": "s", "volume": volume, "dataStore": POOLS[pool]}
    there = taken | {"dataStore": STORE}
    steps = [
        ("CreateObjectCommand", {"data": _wrapped("Snapshot", taken)}),
        ("CopyCommand", {"srcTO": _wrapped("Snapshot", taken), "destTO": _wrapped("Snapshot", there)}),
        ("RevertSnapshotCommand", {"data": there, "dataOnPrimaryStorage": taken}),
        (
            "CopyCommand",
            {"srcTO": _wrapped("Snapshot", there), "destTO": _wrapped("Volume", _volume(f"r-{pool}", pool))},
        ),
        ("IntroduceObjectCmd", {"dataTO": _wrapped("Volume", volume)}),
        ("ForgetObjectCmd", {"dataTO": _wrapped("Volume", volume)}),
        ("AttachCommand", {"disk": _disk(volume), "vmName": "vm-1"}),
        ("DettachCommand", {"disk": _disk(volume), "vmName": "vm-1"}),
        ("DeleteCommand", {"data": _wrapped("Snapshot", taken)}),
        ("DeleteCommand", {"data": _wrapped("Snapshot", there)}),
        ("DeleteCommand", {"data": _wrapped("Volume", _volume(f"r-{pool}", pool))}),
        ("DeleteCommand", {"data": _wrapped("Volume", volume)}),
    ]
    for name, fields in steps:
        for _ in range(2):
            told = running.ask(name, **fields)
            assert told["result"], (name, told["details"])


def _disk(volume: dict[str, Any]) -> dict[str, Any]:
    return {"data": _wrapped("Volume", volume), "diskSeq": 1, "type": "DATADISK"}


def _in_process(rig, tmp_path, monkeypatch, act: Callable[[Orders], None]) -> None:
    """Look at, or write to, what the agent works on, as another machine."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "other"))
    with rig.site() as site:
        act(Orders(site))


def _until_exists(orders: Orders, of: VolumeObjectTO) -> None:
    end = time.monotonic() + 60
    while not orders.exists(of):
        assert time.monotonic() < end


def _compare(orders: Orders, of: VolumeObjectTO, content: bytes) -> None:
    assert orders.read(of) == content
    assert orders.leftovers() == []


def test_a_repeat_after_kill_ends_right(mortal, rig, tmp_path, monkeypatch):
    """A copy whose agent is killed in its midst is whole when the next one has answered the same command."""
    source = _volume("killed-source", "files", size=64 * MIB)
    target = _volume("killed-target", "array", size=64 * MIB)
    assert mortal.ask("CreateObjectCommand", data=_wrapped("Volume", source))["result"]
    here, there = volume("killed-source", FILES), volume("killed-target", ARRAY)
    content = noise("killed", 64 * MIB)
    _in_process(rig, tmp_path, monkeypatch, lambda orders: orders.write(here, content))
    copy = {"srcTO": _wrapped("Volume", source), "destTO": _wrapped("Volume", target)}
    mortal.management.begin([{"org.apache.cloudstack.storage.command.CopyCommand": copy}])
    _in_process(rig, tmp_path, monkeypatch, lambda orders: _until_exists(orders, there))
    mortal.kill()
    mortal.management.wait_for("end")
    mortal.start()
    assert mortal.ask("CopyCommand", **copy)["result"]
    _in_process(rig, tmp_path, monkeypatch, lambda orders: _compare(orders, there, content))
    for one in (target, source):
        assert mortal.ask("DeleteCommand", data=_wrapped("Volume", one))["result"]


def test_sigterm_ends_it_in_order(mortal):
    """It says goodbye, ends with 0, and has nothing to complain about."""
    code, said = mortal.stop()
    mortal.management.wait_for("shutdown")
    assert (code, said) == (0, "")
