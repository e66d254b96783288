"""The published JSON Schema: generated, valid, and as strict as JSON Schema can be."""

import runpy
import sys
from pathlib import Path

import jsonschema
import pytest

import bollard.transfer_objects
from bollard.transfer_objects.schema import json_schema, schema_text

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_published_file_is_current():
    """schema.json is what the code generates (else: see the module's docstring)."""
    published = Path(bollard.transfer_objects.__file__).with_name("schema.json")
    assert published.read_text(encoding="utf-8") == schema_text()


def test_module_prints_the_schema(monkeypatch, capsys):
    """`python -m bollard.transfer_objects.schema` writes what belongs into the file."""
    monkeypatch.delitem(sys.modules, "bollard.transfer_objects.schema")
    runpy.run_module("bollard.transfer_objects.schema", run_name="__main__")
    assert capsys.readouterr().out == schema_text()


def test_schema_is_valid():
    """It is a correct schema of its draft."""
    jsonschema.Draft202012Validator.check_schema(json_schema())


VOLUME = {"type": "VolumeObjectTO", "path": "p"}


@pytest.mark.parametrize(
    "tree",
    [
        {"url": "nfs://h/e"},
        {"type": "NfsTO"},
        {"type": "NfsTO", "url": None},
        {"type": "NfsTO", "url": "nfs://h/e", "ulr": 1},
        {"type": "NfsTO", "url": "nfs://h/e", "role": "image"},
        {"type": "NfsTO", "url": "nfs://u:p@h/e"},
        {"type": "NfsTO", "uuid": "", "url": "nfs://h/e"},
        {"type": "VMSnapshotTO", "snapshot_name": "s"},
        {"type": "DiskTO", "data": {"type": "NfsTO", "url": "nfs://h/e"}, "volume_type": "ROOT"},
        VOLUME | {"size": -1},
        VOLUME | {"size": 2**63},
        VOLUME | {"size": "1"},
        VOLUME | {"size": True},
        VOLUME | {"name": "a/b"},
        VOLUME | {"name": "a\n"},
        VOLUME | {"name": "-a"},
        VOLUME | {"name": "a..b"},
        VOLUME | {"name": "a" * 256},
        VOLUME | {"passphrase": "x"},
        VOLUME | {"passphrase": {"$secret": "x"}},
        VOLUME | {"checkpoint_image_store_urls": ["nfs://a", "nfs://a"]},
        {"type": "PrimaryDataStoreTO", "uuid": "p", "details": {"chapTargetSecret": "x"}},
        {"type": "PrimaryDataStoreTO", "uuid": "p", "details": {"a": 1}},
        {"type": "PrimaryDataStoreTO", "uuid": "p", "details": {"-a": "x"}},
        [],
    ],
)
def test_schema_refuses(tree):
    """Unknown and missing keys, wrong types, bad enums and bad values are refused by the schema as well."""
    assert not VALIDATOR.is_valid(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"type": "NfsTO", "uuid": "s1"},
        {"type": "NfsTO", "url": "NFS://h:2049/e", "role": "ImageCache"},
        VOLUME
        | {"size": None, "passphrase": {"$secret": "redacted"}, "data_store": {"type": "S3TO", "uuid": "s"}},
        {
            "type": "PrimaryDataStoreTO",
            "uuid": "p",
            "details": {"chapTargetSecret": {"$revealed": "x"}, "a": ""},
        },
    ],
)
def test_schema_accepts(tree):
    """Good documents pass."""
    VALIDATOR.validate(tree)
