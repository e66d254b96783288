"""Stores without a uuid: two processes that mean the same place agree on its uuid."""

import dataclasses
import hashlib
import subprocess
import sys
import uuid

import pytest

from bollard.transfer_objects import (
    S3TO,
    DecodeError,
    ImageStoreTO,
    NfsTO,
    PrimaryDataStoreTO,
    StoragePoolType,
    StoreId,
    SwiftTO,
    identity,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hello", "5d41402a-bc4b-3a76-b971-9d911017c592"),
        ("", "d41d8cd9-8f00-3204-a980-0998ecf8427e"),
    ],
)
def test_name_uuid_is_javas(name, expected):
    """The values are those of UUID.nameUUIDFromBytes: the MD5 with version and variant bits replaced."""
    assert identity.name_uuid(name) == expected
    assert uuid.UUID(expected).version == 3


SAME_NFS = [
    "nfs://filer.example.org/export/a",
    "NFS://filer.example.org/export/a",
    "nfs://FILER.example.org/export/a",
    "nfs://filer.example.org:2049/export/a",
    "nfs://filer.example.org/export/a/",
    "nfs://someone@filer.example.org/export/a",
    "nfs://filer.example.org/export/a?vers=4.1",
    "nfs://filer.example.org/export/a#x",
]


@pytest.mark.parametrize("url", SAME_NFS)
def test_spellings_of_one_export_agree(url):
    """Case of scheme and host, default port, user, trailing slash and query make no difference."""
    assert NfsTO(url=url).uuid == identity.name_uuid("nfs://filer.example.org/export/a")


OTHER_NFS = [
    "nfs://filer.example.org/export/A",
    "nfs://filer.example.org:2050/export/a",
    "nfs://filer2/export/a",
]


@pytest.mark.parametrize("url", OTHER_NFS)
def test_other_exports_differ(url):
    """Another path (in another case), port or host is another store."""
    assert NfsTO(url=url).uuid != NfsTO(url=SAME_NFS[0]).uuid


def test_another_process_agrees():
    """A fresh interpreter with another hash seed derives the same uuid."""
    code = "from bollard.transfer_objects import NfsTO; print(NfsTO(url='nfs://h/e').uuid)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == NfsTO(url="nfs://h/e").uuid


def test_pool_uuid_is_cloudstacks():
    """A pool gets md5(host + path), which CloudStack stores for a pool registered as nfs://host/path."""
    expected = str(
        uuid.UUID(bytes=hashlib.md5(b"10.0.0.1/export/p", usedforsecurity=False).digest(), version=3)
    )
    assert PrimaryDataStoreTO(url="nfs://10.0.0.1/export/p").uuid == expected
    url = "NetworkFilesystem://10.0.0.1/export/p/?ROLE=Primary&STOREUUID=x"
    assert PrimaryDataStoreTO(url=url).uuid == expected


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("SharedMountPoint://localhost/mnt/x", None),
        ("nfs://localhost/mnt/x", StoragePoolType.SHARED_MOUNT_POINT),
        ("clvm://localhost/vg", StoragePoolType.CLVM),
        ("presetup://localhost/sr", None),
        ("file:///srv/pool", StoragePoolType.FILESYSTEM),
    ],
)
def test_pools_that_a_path_does_not_identify_need_a_uuid(url, kind):
    """The same path on two hosts never becomes one pool; with a uuid given, such a pool is fine."""
    with pytest.raises(DecodeError, match=r"^uuid: is required"):
        PrimaryDataStoreTO(url=url, pool_type=kind)
    assert PrimaryDataStoreTO(uuid=StoreId("p1"), url=url, pool_type=kind).uuid == "p1"


def test_swift_is_url_and_account():
    """The account is part of a Swift store's identity; user and policy are not."""
    one = SwiftTO(url="https://swift.example.org/v1", account="AUTH_a", user_name="u")
    two = SwiftTO(url="HTTPS://swift.example.org:443/v1/", account="AUTH_a", storage_policy="gold")
    assert one.uuid == two.uuid == identity.name_uuid("https://swift.example.org/v1/AUTH_a")
    assert SwiftTO(url="https://swift.example.org/v1", account="AUTH_b").uuid != one.uuid
    assert SwiftTO(url="https://swift.example.org/v1/AUTH_a").uuid == one.uuid


@pytest.mark.parametrize(
    ("endpoint", "https", "expected"),
    [
        ("s3.example.org", None, "https://s3.example.org/b"),
        ("S3.example.org:443", True, "https://s3.example.org/b"),
        ("https://s3.example.org/", False, "https://s3.example.org/b"),
        ("s3.example.org:80", False, "http://s3.example.org/b"),
        ("http://s3.example.org:9000", None, "http://s3.example.org:9000/b"),
        ("[FE80::1]:9000", None, "https://[fe80::1]:9000/b"),
        (None, None, "https://s3.amazonaws.com/b"),
    ],
)
def test_s3_is_endpoint_and_bucket(endpoint, https, expected):
    """An endpoint's own scheme wins over the flag; no endpoint means Amazon's."""
    assert S3TO(endpoint=endpoint, https=https, bucket_name="b").uuid == identity.name_uuid(expected)


def test_image_store_uses_its_uri():
    """ImageStoreTO and NfsTO of one place are one store."""
    assert ImageStoreTO(uri="nfs://h/e").uuid == NfsTO(url="nfs://h/e").uuid


def test_a_given_uuid_is_kept():
    """The uuid of the orchestrator wins over the derived one."""
    assert NfsTO(uuid=StoreId("given"), url="nfs://h/e").uuid == "given"


def test_canonical_form_wants_a_url():
    """The helper does not guess what text without a scheme might be."""
    with pytest.raises(ValueError, match="not a URL"):
        identity.canonical_url("filer/export")


def test_replacing_the_address_keeps_the_uuid_unless_asked():
    """A store's uuid stays its own; an empty one is derived anew."""
    store = NfsTO(url="nfs://h/e")
    assert dataclasses.replace(store, url="nfs://h/f").uuid == store.uuid
    assert dataclasses.replace(store, url="nfs://h/f", uuid="").uuid == NfsTO(url="nfs://h/f").uuid


@pytest.mark.parametrize("url", SAME_NFS)
def test_canonical_form_is_a_fixed_point(url):
    """Canonicalising twice changes nothing, and a pool is named by host and path in one piece."""
    once = identity.canonical_url(url)
    assert identity.canonical_url(once) == once == "nfs://filer.example.org/export/a"
    assert identity.canonical_pool(url) == "filer.example.org/export/a"
    assert identity.canonical_bucket(url, "b", https=None) == f"{once}/b"
