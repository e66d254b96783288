"""A site opens what a configuration names, once, and takes uuids for names."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from bollard.core.config import load_config
from bollard.core.site import Site
from bollard.core.spi import Call, Conflict, InvalidArgument, NotFound, StorageError
from bollard.transfer_objects.enums import StoragePoolType
from bollard.transfer_objects.secret import Secret
from bollard.transfer_objects.stores import S3TO, NfsTO, PrimaryDataStoreTO, SwiftTO
from site_rig import ARRAY_UUID, CLUSTER_UUID, FILES_UUID, NFS_UUID, S3_UUID, SiteRig, site_rig

SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Iterator[SiteRig]:
    """A whole site with a bucket."""
    with site_rig(tmp_path_factory.mktemp("site"), s3=True) as made:
        yield made


@pytest.fixture
def site(rig, tmp_path, monkeypatch) -> Iterator[Site]:
    """A site whose backends are closed in the end."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    with rig.site() as opened:
        yield opened


def test_name_and_uuid_are_one_backend(site):
    """A backend is the same open object by its name and by each of its uuids."""
    assert site.pool("array") is site.pool(ARRAY_UUID)
    assert site.pool("files") is site.pool(FILES_UUID)
    assert site.store("nfs") is site.store(NFS_UUID)
    assert site.hypervisor() is site.hypervisor("cluster") is site.hypervisor(CLUSTER_UUID)


def test_foreign_uuids_are_ids_as_on_the_wire(site):
    """A uuid that is no id of Bollard's is found under the id that the wire makes of it."""
    assert site.store("cs----4fld--5f--4eame") is site.store("nfs")


def test_a_store_by_its_uuid_alone(site):
    """A store TO that carries nothing but its uuid is resolved from the configuration."""
    assert site.store_for(NfsTO(uuid=NFS_UUID)) is site.store("nfs")
    assert site.store_for(S3TO(uuid=S3_UUID)) is site.store("s3")


def test_an_archive_by_the_uuid_of_its_store(site):
    """The archive on a store is found as the store is."""
    assert list(site.archive_for(NfsTO(uuid=NFS_UUID)).list(Call.within(30))) == []


def test_the_same_credentials_may_travel(site, rig):
    """Credentials and address that are the configured ones are no conflict."""
    options = load_config(rig.config).store("s3").options
    travelled = S3TO(
        uuid=S3_UUID,
        bucket_name="archive",
        endpoint=options["endpoint_url"],
        access_key=Secret("who"),
        secret_key=Secret(SECRET),
    )
    assert site.store_for(travelled) is site.store("s3")


@pytest.mark.parametrize(
    ("store", "field"),
    [
        (S3TO(uuid=S3_UUID, secret_key=Secret("another-one-altogether")), "secret key"),
        (S3TO(uuid=S3_UUID, access_key=Secret("somebody-else")), "access key"),
        (S3TO(uuid=S3_UUID, bucket_name="other"), "bucket"),
        (S3TO(uuid=S3_UUID, endpoint="https://elsewhere.example.org"), "endpoint"),
    ],
)
def test_what_travels_must_be_what_is_configured(site, store, field):
    """Another address or credential under a known uuid is a conflict that names the field and no secret."""
    with pytest.raises(Conflict, match=field) as caught:
        site.store_for(store)
    assert "another-one" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_field_that_a_driver_has_not_cannot_differ(site):
    """A URL is not compared with a driver that is configured by a mounted directory."""
    assert site.store_for(NfsTO(uuid=NFS_UUID, url="nfs://filer/export")) is site.store("nfs")


def test_unknown_uuids_are_told(site):
    """A uuid that nobody configured is not found, in each section."""
    unknown = "99999999-0000-4000-8000-000000000009"
    for ask in (site.pool, site.store, site.hypervisor):
        with pytest.raises(NotFound):
            ask(unknown)
    with pytest.raises(NotFound):
        site.store_for(SwiftTO(uuid=unknown))


def test_primary_and_secondary_are_not_mixed_up(site):
    """A pool's TO is no store, and a command that takes a pool of files for an array is refused."""
    files = PrimaryDataStoreTO(uuid=FILES_UUID, pool_type=StoragePoolType("NetworkFilesystem"), managed=True)
    with pytest.raises(InvalidArgument, match="primary"):
        site.store_for(files)
    with pytest.raises(InvalidArgument, match="not managed"):
        site.pool_for(files)


def test_the_host_that_commands_are_about(site, rig, tmp_path):
    """It is the configured one; without a word about it there must be only one."""
    assert site.host_for(site.hypervisor()).id == "h1"
    assert {one.host.id for one in site.hosts()} == {"h1", "h2"}
    text = rig.config.read_text().replace('host = "h1"\n', "")
    config = tmp_path / "bollard.toml"
    config.write_text(text)
    config.chmod(0o600)
    with Site.open(load_config(config)) as silent, pytest.raises(InvalidArgument, match="h1, h2"):
        silent.host_for(silent.hypervisor())


def test_each_backend_is_opened_once_by_many_threads(site, monkeypatch):
    """Eight threads that ask at once get the same pool."""
    start = threading.Barrier(8)
    found = []

    def ask() -> None:
        start.wait()
        found.append(site.pool("array"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_backend_that_hangs_delays_no_other(site, monkeypatch):
    """While one pool is being opened, another one can be had."""
    hangs, goes_on = threading.Event(), threading.Event()
    open_pool = Site._open_pool

    def slow(self, backend):
        if backend.name == "array":
            hangs.set()
            goes_on.wait(30)
        return open_pool(self, backend)

    monkeypatch.setattr(Site, "_open_pool", slow)
    thread = threading.Thread(target=site.pool, args=("array",))
    thread.start()
    assert hangs.wait(30)
    assert site.pool("files").name == "files"
    goes_on.set()
    thread.join()


def test_a_failed_opening_is_tried_again(site, rig):
    """A pool that could not be opened is opened by the next who asks."""
    directory = rig.home / "files"
    hidden = rig.home / "hidden"
    directory.rename(hidden)
    try:
        with pytest.raises(StorageError):
            site.pool("files").volumes.get("nobody")
    finally:
        hidden.rename(directory)
    assert list(site.pool("files").volumes.list()) == []


def test_closed_backends_are_opened_anew(site):
    """After `close` the next question opens a new one."""
    before = site.pool("files")
    site.close()
    assert site.pool("files") is not before


@pytest.mark.parametrize(
    "text",
    [
        '[pools.a]\ndriver = "x"\nuuid = "u1"\n[pools.b]\ndriver = "x"\nuuid = ["u2", "u1"]',
        '[stores.a]\ndriver = "x"\n[stores.b]\ndriver = "x"\nuuid = "a"',
        '[hypervisors.a]\ndriver = "x"\nuuid = 7',
        '[hypervisors.a]\ndriver = "x"\nuuid = ""',
        '[fences.a]\ndriver = "x"\nuuid = "u"',
    ],
)
def test_bad_uuids_are_refused(tmp_path, text):
    """Uuids must be texts, of one backend each, and are for what commands can name."""
    config = tmp_path / "bollard.toml"
    config.write_text(text)
    with pytest.raises(InvalidArgument, match="uuid"):
        load_config(config)
