"""`bollard wire …` on files and standard input."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from bollard.transfer_objects import NfsTO, decode
from bollard.transfer_objects.cloudstack import Flags, Frame

FIXTURES = Path(__file__).parents[1] / "wire" / "fixtures"
MANAGED = FIXTURES / "copy-managed-to-s3-and-swift.json"
BODY = '{"uuid":"com.vendor.v1","vmName":"i-2","size":"(8.00 GB) 8589934592","later":[1]}'


@pytest.fixture
def stdin(monkeypatch):
    """Set what the next command reads from standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


def test_decode_and_encode_are_each_others_reverse(bollard, stdin):
    """A payload is the same JSON value after both; passwords are there only if asked for."""
    wire = json.loads(MANAGED.read_text())
    assert "s3cr3t" not in bollard("wire", "decode", MANAGED).out
    stdin(bollard("wire", "decode", MANAGED, "--reveal-secrets").out.encode())
    assert bollard("wire", "encode").json == wire
    assert bollard("wire", "decode", "--roundtrip", MANAGED).json == wire


def test_unknown_classes_survive(bollard):
    """A command that Bollard has never heard of comes back as it was."""
    path = FIXTURES / "unknown-classes.json"
    assert bollard("wire", "decode", "--roundtrip", path).json == json.loads(path.read_text())


@pytest.mark.parametrize("options", [(), ("--as", "VolumeObjectTO")])
def test_a_bare_body(bollard, stdin, options):
    """A body's class is told or inferred; `encode --bare` gives a body again."""
    stdin(BODY.encode())
    native = bollard("wire", "decode", *options)
    assert native.json["type"] == "VolumeObjectTO"
    assert (native.json["size"], native.json["$wire.later"]) == (8589934592, [1])
    stdin(native.out.encode())
    back = bollard("wire", "encode", "--bare").json
    assert back == json.loads(BODY) | {"size": 8589934592}
    stdin(native.out.encode())
    assert list(bollard("wire", "encode").json) == ["org.apache.cloudstack.storage.to.VolumeObjectTO"]


def test_a_class_keyed_object(bollard, stdin):
    """One object under its class's name becomes what `transfer_objects.decode` reads."""
    keyed = {"com.cloud.agent.api.to.NfsTO": {"_url": "NFS://h/e", "_role": "Image"}}
    stdin(json.dumps(keyed).encode())
    done = bollard("wire", "decode")
    assert decode(done.out, NfsTO).url == "NFS://h/e"
    stdin(json.dumps(keyed).encode())
    assert bollard("wire", "decode", "--roundtrip", "--as", "NfsTO").json == keyed


def test_explain(bollard, stdin):
    """Each field is shown with both names, type, meaning and value; secrets are stars."""
    done = bollard("wire", "explain", MANAGED, "--json")
    rows = {row["wire"]: row for row in done.json}
    assert rows["[0].srcTO.dataStore.uuid"] == {
        "wire": "[0].srcTO.dataStore.uuid",
        "native": "[0].source.data_store.uuid",
        "depth": 3,
        "type": "id",
        "meaning": "which one",
        "value": "SolidFire_9D1f-77",
    }
    assert rows["[0].destTO.dataStore.secretKey"]["value"] == "***"
    assert rows["[0].destTO.dataStore.created"]["value"].endswith("(2024-04-24T13:00:00)")
    assert "breaks a rule" in rows["[0].srcTO.volume.name"]["meaning"]
    assert "s3cr3t" not in done.out
    table = bollard("wire", "explain", MANAGED)
    assert table.code == 0
    assert "s3cr3t" not in table.out
    stdin(b'[{"com.example.New":{"a":1,"token":"s3cr3t"}}]')
    strange = bollard("wire", "explain", "--json").json
    assert [(row["wire"], row["value"]) for row in strange] == [
        ("[0]", ""),
        ("[0].a", "1"),
        ("[0].token", "***"),
    ]


def test_frames(bollard, home):
    """A file with a frame is decoded, explained and written again to the byte."""
    frame = Frame(body=MANAGED.read_bytes(), flags=Flags.REQUEST, sequence=4)
    path = home / "frame.bin"
    path.write_bytes(frame.encode())
    native = bollard("wire", "decode", path, "--reveal-secrets").json
    assert (native["type"], native["sequence"], len(native["messages"])) == ("Frame", 4, 3)
    rows = {row["wire"]: row["value"] for row in bollard("wire", "explain", path, "--json").json}
    assert (rows["header.flags"], rows["header.sequence"]) == ("REQUEST", "4")


def test_the_pages_python_runs():
    """The example of docs/wire.md does what it says."""
    page = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    exec(example, {})  # noqa: S102 - our own page


def test_refusals(bollard, stdin, home):
    """Bad input ends with code 2 and the path of the field; a missing file with code 4."""
    stdin(b'[{"com.cloud.agent.api.Answer":{"wait":"soon"}}]')
    done = bollard("wire", "decode")
    assert (done.code, done.out) == (2, "")
    assert "[0]['com.cloud.agent.api.Answer'].wait: must be an integer" in done.err
    stdin(b"[" * 100_000)
    assert bollard("wire", "explain", "--json").json["error"]["code"] == "invalid_argument"
    stdin(b'{"data":{}}')
    assert "may be " in bollard("wire", "decode").err
    assert bollard("wire", "decode", home / "none.json").code == 4
