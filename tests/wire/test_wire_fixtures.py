"""The shapes of CloudStack's commands and answers, with values of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bollard.transfer_objects import Secret, SnapshotObjectTO, decode
from bollard.transfer_objects.cloudstack import Payload, native_id
from bollard.transfer_objects.cloudstack.names import classes_by_java_name
from bollard.transfer_objects.commands import Answer, Command, CopyCommand, DettachCommand

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
SECRETS = "s3cr3t"


def _fixture(name: str) -> str:
    return (Path(__file__).parent / "fixtures" / f"{name}.json").read_text()


def _one(java: str, body: dict) -> Payload:
    return Payload.from_wire(json.dumps([{java: body}]))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_fixture_survives(path):
    """Each payload comes back as the same JSON value, in the same order, also by way of our own JSON."""
    wire = json.loads(path.read_text())
    payload = Payload.from_wire(path.read_bytes())
    assert json.dumps(payload.wire_tree()) == json.dumps(wire)
    again = Payload.from_native(payload.native(reveal_secrets=True))
    assert json.dumps(again.wire_tree()) == json.dumps(wire)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_fixture_shows_no_secret(path):
    """Neither our JSON nor the repr shows a secret; what was not secret survives the redaction."""
    payload = Payload.from_wire(path.read_bytes())
    assert SECRETS not in payload.native()
    assert SECRETS not in repr(payload)
    assert SECRETS not in json.dumps(Payload.from_native(payload.native()).wire_tree())


@pytest.mark.parametrize("path", [p for p in FIXTURES if p.stem != "unknown-classes"], ids=lambda p: p.stem)
def test_fixture_becomes_objects(path):
    """Every command becomes an object of the class of its name, without secrets in its repr."""
    names = [next(iter(item)).rpartition(".")[2] for item in json.loads(path.read_text())]
    objects = Payload.from_wire(path.read_bytes()).objects()
    assert [type(obj).__name__ for obj in objects] == names
    assert SECRETS not in repr(objects)


def test_fixtures_hold_every_command():
    """No command or answer of the table is without an example."""
    shown = {name for path in FIXTURES for item in json.loads(path.read_text()) for name in item}
    table = {name for name, cls in classes_by_java_name().items() if issubclass(cls, Command)}
    assert table - shown == set()


def test_fields_have_our_names():
    """A copy of a managed snapshot says what it is about in our words, whatever ids the array gave."""
    [copy, *_] = Payload.from_wire(_fixture("copy-managed-to-s3-and-swift")).objects()
    assert isinstance(copy, CopyCommand)
    assert isinstance(copy.source, SnapshotObjectTO)
    assert copy.source.data_store.uuid == native_id("SolidFire_9D1f-77")
    assert copy.source.data_store.managed
    assert copy.source.volume.name is None  # "db / old" is for people
    assert copy.destination.data_store.secret_key == Secret("s3cr3t-key")
    assert copy.source_options["chapInitiatorSecret"] == Secret("s3cr3t-initiator")
    assert copy.wait == 10800


def test_odd_names():
    """The underscores of DettachCommand and the alias of RemoveBitmapCommand reach our fields."""
    dettach = Payload.from_wire(_fixture("attach-dettach")).objects()[2]
    assert isinstance(dettach, DettachCommand)
    assert (dettach.managed, dettach.iscsi_name, dettach.storage_port) == (
        True,
        "iqn.2010-01.com.example:vol.41",
        3260,
    )
    *_, by_source, by_alias = Payload.from_wire(_fixture("disk-only-and-incremental")).objects()
    assert by_source == by_alias
    assert by_alias.vm_running


def test_wrapping_follows_the_declared_type():
    """An interface's value is wrapped in its class; `volume`, `disk` and `volumeTOs` are bare."""
    [copy, _] = Payload.from_wire(_fixture("copy-backup-xenserver")).wire_tree()
    source = next(iter(next(iter(copy.values()))["srcTO"].values()))
    assert "uuid" in source["volume"]
    assert [key.rpartition(".")[2] for key in source["volume"]["dataStore"]] == ["PrimaryDataStoreTO"]


def test_log_style_is_read():
    """Numbers, booleans and sizes as the log shows them become what the wire has."""
    logged = {
        "newData": {
            "org.apache.cloudstack.storage.to.VolumeObjectTO": {
                "path": "p",
                "size": "(8.00 GB) 8589934592",
                "usableSize": "(8,00 GB) 8589934592",
                "deviceId": "0",
                "deployAsIs": "false",
                "uuid": None,
            }
        },
        "result": "false",
        "wait": "0",
    }
    [body] = _one("org.apache.cloudstack.storage.command.CopyCmdAnswer", logged).wire_tree()[0].values()
    [volume] = body["newData"].values()
    assert (body["result"], body["wait"]) == (False, 0)
    assert volume == {
        "path": "p",
        "size": 8589934592,
        "usableSize": 8589934592,
        "deviceId": 0,
        "deployAsIs": False,
    }


def test_text_is_written_as_gson_writes_it():
    """HTML's characters are escaped and no blank is written; what Gson wrote comes back byte for byte."""
    text = r'[{"com.cloud.agent.api.Answer":{"result":true,"details":"a\u003cb\u0026c\u003d\u0027é"}}]'
    assert Payload.from_wire(text).wire() == text


def test_an_answer_that_says_nothing_is_a_success():
    """CloudStack's answer without a result means success."""
    assert _one("com.cloud.agent.api.Answer", {}).objects() == (Answer(result=True),)


def test_our_json_is_the_native_form():
    """What holds nothing strange is read by `transfer_objects.decode` as it stands."""
    text = '{"org.apache.cloudstack.storage.to.VolumeObjectTO":{"uuid":"v-1","size":5,"vmName":"i-2"}}'
    volume = decode(Payload.from_wire(text).native())
    assert (volume.uuid, volume.size, volume.vm_name) == ("v-1", 5, "i-2")
