"""The shapes of CloudStack's commands and answers, with values of our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bollard.transfer_objects import (
    S3TO,
    PrimaryDataStoreTO,
    Secret,
    SnapshotObjectTO,
    VolumeObjectTO,
    decode,
)
from bollard.transfer_objects.cloudstack import Payload, meanings, native_id, s3_date
from bollard.transfer_objects.cloudstack.names import classes_by_java_name, classes_by_short_name, wire_class
from bollard.transfer_objects.commands import (
    Answer,
    Command,
    CopyCommand,
    DettachCommand,
    RemoveBitmapCommand,
)
from bollard.transfer_objects.shapes import fields_of

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


def _nodes(tree):
    """Every object within a native tree."""
    if isinstance(tree, dict):
        yield from [tree] if "type" in tree else []
        tree = list(tree.values())
    for item in tree if isinstance(tree, list) else []:
        yield from _nodes(item)


def test_fixtures_hold_every_field_by_its_name():
    """The names in the fixtures, which were not made from the table, are those of the table, each of them."""
    seen: dict[str, set[str]] = {}
    for path in FIXTURES:
        for node in _nodes(list(Payload.from_wire(path.read_bytes()).trees)):
            seen.setdefault(node["type"], set()).update(node)
    del seen["WireObject"]  # classes that nobody knows
    strange = {key for keys in seen.values() for key in keys if key.startswith("$wire.")}
    assert strange == {f"$wire.{key}" for key in ("newField", "futureFlag", "vmRunning")} | {
        "$wire.name",  # "db / old"
        "$wire.format",  # "QCOW3"
    }
    common = {field.name for field in fields_of(Answer)}
    for name, cls in classes_by_short_name().items():
        assert set(wire_class(cls).by_native) - seen[name] <= common, name
    assert common <= set().union(*seen.values())


def test_every_field_has_a_meaning():
    """`explain` has words for each field, and no words for fields that are gone."""
    fields = {(cls, name) for cls in classes_by_short_name().values() for name in wire_class(cls).by_native}
    assert all(meanings.meaning(cls, name) for cls, name in fields)
    assert set(meanings._MEANINGS) <= {name for _, name in fields}
    assert set(meanings._SPECIAL) <= {(cls.__name__, name) for cls, name in fields}


def test_fields_have_our_names():
    """A copy of a managed snapshot says what it is about in our words, whatever ids the array gave."""
    [copy, *_] = Payload.from_wire(_fixture("copy-managed-to-s3-and-swift")).objects()
    assert isinstance(copy, CopyCommand)
    match copy.source, copy.destination:
        case (
            SnapshotObjectTO(data_store=PrimaryDataStoreTO() as pool, volume=VolumeObjectTO(name=None)),
            SnapshotObjectTO(data_store=S3TO(secret_key=secret)),
        ):  # the volume's name, "db / old", is for people
            assert (pool.uuid, pool.managed) == (native_id("SolidFire_9D1f-77"), True)
            assert secret == Secret("s3cr3t-key")
        case other:
            pytest.fail(f"not a copy from a pool to S3: {other}")
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
    assert isinstance(by_alias, RemoveBitmapCommand)
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


@pytest.mark.parametrize(
    ("logged", "value"),
    [
        ("0", 0),
        ("(0 bytes) 0", 0),
        ("(-1 B) -1", -1),
        ("(1.50 KB) 1536", 1536),
        ("(1\u202f234,5\u00a0GB) 1325534019584", 1325534019584),
        ("(1.234,00 TB) 1356797348675584", 1356797348675584),
    ],
)
def test_logged_sizes(logged, value):
    """A size is read whatever the server's language writes into the brackets."""
    tree = _one("org.apache.cloudstack.storage.to.VolumeObjectTO", {"size": logged}).wire_tree()
    assert tree == [{"org.apache.cloudstack.storage.to.VolumeObjectTO": {"size": value}}]


@pytest.mark.parametrize(
    ("created", "meant"),
    [
        ("Apr 24, 2024 1:00:00 PM", "2024-04-24T13:00:00"),
        ("Apr 24, 2024, 1:00:00\u202fPM", "2024-04-24T13:00:00"),
        ("2024-04-24T13:00:00+0000", "2024-04-24T13:00:00+00:00"),
        ("24.04.2024 13:00:00", None),
    ],
)
def test_dates_are_kept_and_shown(created, meant):
    """A store's date is text that comes back as it was; known forms are understood for people's eyes."""
    tree = [{"com.cloud.agent.api.to.S3TO": {"bucketName": "b", "created": created}}]
    assert Payload.from_wire(json.dumps(tree)).wire_tree() == tree
    date = s3_date(created)
    assert (date.isoformat() if date else None) == meant


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"_url": "nfs://h/e", "_role": "Image"}, "NfsTO"),
        ({"uuid": "v", "volumeType": "ROOT", "somethingNew": 1}, "VolumeObjectTO"),
        ({"result": True, "details": "x", "wait": 0}, "Answer"),
        ({"path": "p", "quiescevm": True, "physicalSize": 1}, "SnapshotObjectTO"),
        ({"srcTO": {"x.Y": {}}, "options": {}}, "CopyCommand"),
    ],
)
def test_class_of_a_body_is_inferred(body, name):
    """The keys of a body tell its class."""
    payload = Payload.from_wire(json.dumps(body))
    assert payload.trees[0]["type"] == name
    assert payload.wire_tree() == body


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
    volume = decode(Payload.from_wire(text).native(), VolumeObjectTO)
    assert (volume.uuid, volume.size, volume.vm_name) == ("v-1", 5, "i-2")
