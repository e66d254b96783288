"""The strict JSON form: what it writes, and everything that it refuses."""

import json
import pickle

import pytest

from bollard.transfer_objects import (
    S3TO,
    DecodeError,
    NfsTO,
    PrimaryDataStoreTO,
    Secret,
    SnapshotObjectTO,
    StoreId,
    SwiftTO,
    VMSnapshotTO,
    VMSnapshotType,
    VolumeObjectTO,
    decode,
    decode_tree,
    encode,
)
from bollard.transfer_objects.reader import MAX_DEPTH, _read_secret

NFS = '{"type":"NfsTO","url":"nfs://h/e"}'


def chain(length: int) -> VMSnapshotTO:
    """Return a VM snapshot with `length - 1` ancestors."""
    snapshot = None
    for number in range(length):
        snapshot = VMSnapshotTO(
            snapshot_name=f"s{number}", snapshot_type=VMSnapshotType.DISK, parent=snapshot
        )
    assert snapshot
    return snapshot


def test_written_form():
    """Class name first, fields in order, None left out, sets sorted."""
    volume = VolumeObjectTO(path="a.qcow2", checkpoint_image_store_urls=frozenset({"nfs://b/", "nfs://a/"}))
    tree = json.loads(encode(volume))
    assert list(tree)[:2] == ["type", "path"]
    assert "uuid" not in tree
    assert tree["checkpoint_image_store_urls"] == ["nfs://a/", "nfs://b/"]
    assert decode(encode(NfsTO(url="nfs://ä/e")).encode()) == NfsTO(url="nfs://ä/e")


DEEP_URL = (
    '{"type":"SnapshotObjectTO","path":"p","volume":{"type":"VolumeObjectTO","path":"p",'
    '"data_store":{"type":"NfsTO","url":"h"}}}'
)
LISTED_PATH = (
    '{"type":"VMSnapshotTO","snapshot_name":"s","snapshot_type":"Disk","volumes":['
    '{"type":"VolumeObjectTO","path":"-x"}]}'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"NfsTO","ulr":"nfs://h/e"}', "ulr: unknown key; did you mean 'url'?"),
        ('{"type":"NfsTO","URL":"nfs://h/e"}', "URL: unknown key; did you mean 'url'?"),
        ('{"type":"NfsTO","zzz":1}', "zzz: unknown key; valid are: type, uuid, url, role, nfs_version"),
        ('{"type":"NfsTO","a\\nb":1}', r"'a\nb': unknown key"),
        ('{"type":"NfsT","url":"nfs://h/e"}', "type: is no class that may stand here; did you mean 'NfsTO'?"),
        ('{"type":1}', "type: is no class"),
        ("{}", "type: is missing; valid are: NfsTO, SwiftTO"),
        ('{"type":"VMSnapshotTO","snapshot_name":"s"}', "snapshot_type: is missing"),
        ('{"type":"NfsTO"}', "NfsTO needs uuid or url"),
        ('{"type":"NfsTO","url":null}', "NfsTO needs uuid or url"),
        ('{"type":"NfsTO","uuid":"","url":"nfs://h/e"}', "uuid: must not be empty"),
        ('{"type":"NfsTO","uuid":null,"url":"nfs://h/e"}', "uuid: must be a string, not NoneType"),
        (
            '{"type":"NfsTO","url":"nfs://h/e","role":"Imag"}',
            "role: 'Imag' is no DataStoreRole; did you mean 'Image'?",
        ),
        (
            '{"type":"NfsTO","url":"nfs://h/e","role":"image"}',
            "role: 'image' is no DataStoreRole; did you mean 'Im",
        ),
        ('{"type":"NfsTO","url":"nfs://h/e","role":1}', "role: must be a string, not int"),
        ('{"type":"VolumeObjectTO","path":"p","size":-1}', "size: must not be negative"),
        ('{"type":"VolumeObjectTO","path":"p","size":"1"}', "size: must be an integer, not str"),
        ('{"type":"VolumeObjectTO","path":"p","size":true}', "size: must be an integer, not bool"),
        ('{"type":"VolumeObjectTO","path":"p","size":1.0}', "size: must be an integer, not float"),
        ('{"type":"VolumeObjectTO","path":"p","size":NaN}', "size: must be an integer, not float"),
        ('{"type":"VolumeObjectTO","path":"p","size":1e999}', "size: must be an integer, not float"),
        (
            '{"type":"VolumeObjectTO","path":"p","size":' + "9" * 9999 + "}",
            f"size: must be at most {2**63 - 1}",
        ),
        ('{"type":"VolumeObjectTO","path":"p","id":-' + "9" * 9999 + "}", f"id: must be at least {-(2**63)}"),
        (
            '{"type":"VolumeObjectTO","path":"p","deploy_as_is":1}',
            "deploy_as_is: must be true or false, not int",
        ),
        ('{"type":"VolumeObjectTO","path":"p","name":"../x"}', "name: must not contain '/'"),
        ('{"type":"VolumeObjectTO","path":"p","name":"a\\u0000"}', "name: must not contain NUL"),
        ('{"type":"VolumeObjectTO","path":"p","name":"\\ud800"}', "name: must be valid Unicode"),
        ('{"type":"VolumeObjectTO","path":"p","passphrase":"x"}', "passphrase: must be an object, not str"),
        (
            '{"type":"VolumeObjectTO","path":"p","passphrase":{"$secret":"x"}}',
            'passphrase: must be {"$revealed"',
        ),
        (
            '{"type":"VolumeObjectTO","path":"p","passphrase":{"$revealed":1}}',
            'passphrase: must be {"$revealed"',
        ),
        (
            '{"type":"VolumeObjectTO","path":"p","checkpoint_paths":"a"}',
            "checkpoint_paths: must be a list, not str",
        ),
        (
            '{"type":"VolumeObjectTO","path":"p","checkpoint_image_store_urls":["nfs://a","nfs://a"]}',
            "checkpoint_image_store_urls: must not hold the same item twice",
        ),
        ('{"type":"SnapshotObjectTO","path":"p","parents":["a",5]}', "parents[1]: must be a string, not int"),
        (DEEP_URL, "volume.data_store.url: must be a URL"),
        (
            '{"type":"SnapshotObjectTO","path":"p","volume":{"type":"VolumeObjectTO"}}',
            "volume: VolumeObjectTO needs uuid or path",
        ),
        (
            '{"type":"SnapshotObjectTO","path":"p","volume":{"type":"NfsTO","url":"nfs://h/e"}}',
            "volume.type: is no class that may stand here; valid are: VolumeObjectTO",
        ),
        (LISTED_PATH, "volumes[0].path: must not start with '-'"),
        (
            '{"type":"PrimaryDataStoreTO","uuid":"p","details":{"chapTargetSecret":"x"}}',
            "details.chapTargetSecret: must be a Secret, not str",
        ),
        (
            '{"type":"PrimaryDataStoreTO","uuid":"p","details":{"a":1}}',
            "details.a: must be a string, not int",
        ),
        (
            '{"type":"PrimaryDataStoreTO","uuid":"p","details":{"a b":{}}}',
            "details.'a b': must be {\"$revealed\"",
        ),
        ('{"type":"PrimaryDataStoreTO","uuid":"p","details":{"-a":"x"}}', "details: must not start with '-'"),
        ('{"type":"PrimaryDataStoreTO","uuid":"p","details":{"a":"1","a":"2"}}', "details.a: appears twice"),
        ('{"type":"NfsTO","url":"nfs://h/e","url":"nfs://h/f"}', "url: appears twice"),
        (
            '{"type":"SwiftTO","uuid":"s","key":{"$secret":"redacted","$secret":"redacted"}}',
            "key.'$secret': appears twice",
        ),
        ("[]", "must be an object, not list"),
        ("null", "must be an object, not NoneType"),
        ('{"type":', "must be JSON, which breaks at line 1 column 9"),
        ("[" * 100_000, "must not be nested deeper"),
    ],
)
def test_refused_documents(text, message):
    """Each is refused with the path of the field, the rule and, where it helps, what was meant."""
    with pytest.raises(DecodeError) as caught:
        decode(text)
    assert str(caught.value).startswith(message)


def test_a_null_that_is_not_the_default_is_written():
    """None survives where the default is something else (found by the round-trip property)."""
    snapshot = SnapshotObjectTO(path="p", physical_size=None)
    assert '"physical_size":null' in encode(snapshot)
    assert decode(encode(snapshot)) == snapshot


def test_bytes_must_be_utf_8():
    """Other encodings are refused, not guessed."""
    with pytest.raises(DecodeError, match="must be UTF-8, which breaks at byte 0"):
        decode(NFS.encode("utf-16"))


def test_expected_class():
    """The caller may insist on a class and gets it typed."""
    assert decode(NFS, NfsTO).url == "nfs://h/e"
    assert decode_tree(json.loads(NFS), NfsTO) == decode(NFS)
    with pytest.raises(DecodeError, match=r"^type: is no class that may stand here; did you mean 'S3TO'"):
        decode(NFS, S3TO)


def test_depth_is_limited_in_both_directions():
    """A chain that decode would refuse is refused by encode already."""
    longest = chain(MAX_DEPTH)
    assert decode(encode(longest)) == longest
    with pytest.raises(DecodeError, match="nested deeper"):
        encode(chain(MAX_DEPTH + 1))
    inner = json.loads(encode(longest))
    tree = {"type": "VMSnapshotTO", "snapshot_name": "x", "snapshot_type": "Disk", "parent": inner}
    with pytest.raises(DecodeError, match=r"^parent\.parent\..*nested deeper"):
        decode_tree(tree)


def test_secrets_are_written_only_on_demand():
    """By default a document shows no secret, and whoever reads it finds none."""
    details = {"chapTargetSecret": Secret("hunter2"), "iqn": "iqn.x"}
    pool = PrimaryDataStoreTO(uuid=StoreId("p"), details=details)
    swift = SwiftTO(uuid=StoreId("s"), key=Secret("hunter2"))
    for obj in (pool, swift):
        assert "hunter2" not in encode(obj)
        assert '{"$secret":"redacted"}' in encode(obj)
        assert decode(encode(obj, reveal_secrets=True)) == obj
    assert decode(encode(swift), SwiftTO).key is None
    assert dict(decode(encode(pool), PrimaryDataStoreTO).details) == {"iqn": "iqn.x"}


def test_a_needed_secret_must_not_be_redacted():
    """Where a secret is not optional, the redacted form is an error that says what to do."""
    with pytest.raises(
        DecodeError, match=r"was redacted by the writer, but is needed; encode with reveal_secrets"
    ):
        _read_secret({"$secret": "redacted"})


def test_errors_travel():
    """An error can be pickled (worker processes) and keeps its parts."""
    with pytest.raises(DecodeError) as caught:
        SnapshotObjectTO(path="p", parents=("..",))
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (copy.path, copy.rule, copy.hint) == ("parents[0]", "must not contain a '..' component", "")
