"""The rules of values, as constructors apply them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.transfer_objects import (
    S3TO,
    DecodeError,
    Details,
    DiskTO,
    ImageFormat,
    NfsTO,
    PrimaryDataStoreTO,
    Secret,
    SnapshotObjectTO,
    StoreId,
    SwiftTO,
    VMSnapshotTO,
    VMSnapshotType,
    VolumeObjectTO,
    VolumeType,
)
from bollard.transfer_objects.ids import is_valid_id
from bollard.transfer_objects.rules import ENDPOINT, ID, INT64, LABEL, NAME, PATH, PORT, TEXT, URL
from bollard.transfer_objects.shapes import is_secret_detail

BAD_NAMES = [
    ("", "must not be empty"),
    ("a/b", "must not contain '/'"),
    ("..", r"must not contain '\.\.'"),
    ("a..b", r"must not contain '\.\.'"),
    ("a\0b", "control characters"),
    ("a\n", "control characters"),
    ("a\x85b", "control characters"),
    ("a\u2028b", "control characters"),
    ("-rf", "must not start with '-'"),
    ("x" * 256, "longer than 255 bytes"),
    ("ä" * 128, "longer than 255 bytes"),
    ("\ud800", "valid Unicode"),
]


@pytest.mark.parametrize(("name", "rule"), BAD_NAMES)
def test_bad_names_are_refused_by_the_constructor(name, rule):
    """A name that could leave its directory, become an option or break a line is refused, naming the rule."""
    with pytest.raises(DecodeError, match=f"^name: .*{rule}"):
        VolumeObjectTO(path="p", name=name)


@pytest.mark.parametrize("name", ["a", "a-b", "ROOT-12", "ä" * 127, "x" * 255, "a.b", "disk 1", "💾"])
def test_good_names_pass(name):
    """Everything else is a name, up to 255 bytes."""
    assert VolumeObjectTO(path="p", name=name).name == name


@pytest.mark.parametrize("path", ["../x", "a/../b", "a/..", "..", "a\\..\\b", "-o", "a\nb", "x" * 4097])
def test_bad_paths_are_refused(path):
    """A path may have slashes but no '..' component, control character or leading '-'."""
    assert PATH.problem(path)


@pytest.mark.parametrize(
    "path", ["/iqn.2010-01.org:vol/0", "pool/img@snap", "SfSnapshotId=5", "a..b/c", "[ds] a/b"]
)
def test_good_paths_pass(path):
    """Paths of all the hypervisors and vendors pass."""
    assert PATH.problem(path) is None


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("filer/export", "scheme"),
        ("nfs://user:pw@h/e", "password"),
        ("cifs://h/e?user=u&password=p", "password"),
        ("cifs://h/e?Password=p", "password"),
        ("nfs://h/a/../b", "component"),
        ("nfs://h/a/%2e%2E/b", "component"),
        ("nfs://h/a%00", "encoded NUL"),
        ("nfs://h/a b", "blanks"),
        ("nfs://h:65536/a", "scheme"),
        ("nfs://h:x/a", "scheme"),
        ("nfs://a@b@h/", "scheme"),
        ("", "empty"),
    ],
)
def test_bad_urls_are_refused(url, rule):
    """A URL carries no password, no tricks, and a port that exists."""
    assert rule in (URL.problem(url) or "")


@pytest.mark.parametrize(
    "url", ["nfs://h/e", "NFS://h:2049/e/", "file:///srv", "nfs://u@[::1]:65535/e", "rbd://h"]
)
def test_good_urls_pass(url):
    """Usual URLs pass, in any case, with IPv6 hosts and all ports."""
    assert URL.problem(url) is None


@pytest.mark.parametrize("endpoint", ["u@h", "http://u@h", "-h", "", "h:70000", "http://"])
def test_bad_endpoints_are_refused(endpoint):
    """An endpoint has a host and no user."""
    assert ENDPOINT.problem(endpoint)


def test_text_may_be_empty_and_have_lines():
    """Free text is limited in length only; NUL is refused."""
    assert TEXT.problem("") is None
    assert TEXT.problem("a\nb") is None
    assert TEXT.problem("a\0b") == "must not contain NUL"


@given(st.text(st.sampled_from("az09-A\n "), max_size=70))
def test_id_rule_is_that_of_ids(text):
    """The pattern published in the schema and `ids.is_valid_id` agree."""
    assert (ID.problem(text) is None) == is_valid_id(text)


@pytest.mark.parametrize("rule", [NAME, PATH, LABEL, URL, ENDPOINT, ID])
@pytest.mark.parametrize(
    "unit", ["a", ":", "@", "://", "?", "&a", "/", "../", "://a:", "password", "%2e", "]", "a@:"]
)
def test_hostile_texts_cost_little(rule, unit):
    """No pattern backtracks: 4096 characters of anything are judged at once."""
    begin = time.perf_counter()
    rule.problem((unit * 4096)[:4096])
    rule.problem("h://" + (unit * 4092)[:4092])
    assert time.perf_counter() - begin < 10  # backtracking would take minutes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VolumeObjectTO(path="p", size=-1), "size: must not be negative"),
        (lambda: VolumeObjectTO(path="p", size=True), "size: must be an integer, not bool"),
        (lambda: VolumeObjectTO(path="p", size=1.0), "size: must be an integer, not float"),
        (lambda: VolumeObjectTO(path="p", size=2**63), f"size: must be at most {2**63 - 1}"),
        (lambda: VolumeObjectTO(path="p", id=-(2**63) - 1), f"id: must be at least {-(2**63)}"),
        (lambda: VolumeObjectTO(path="p", deploy_as_is=1), "deploy_as_is: must be true or false, not int"),
        (lambda: VolumeObjectTO(path="p", format="RAW"), "format: must be a ImageFormat, not str"),
        (lambda: VolumeObjectTO(path=b"p"), "path: must be a string, not bytes"),
        (lambda: VolumeObjectTO(path="p", passphrase="x"), "passphrase: must be a Secret, not str"),
        (
            lambda: VolumeObjectTO(path="p", checkpoint_paths=["a"]),
            "checkpoint_paths: must be a tuple, not list",
        ),
        (
            lambda: SnapshotObjectTO(path="p", parents=("a", "..")),
            "parents[1]: must not contain a '..' component",
        ),
        (lambda: SnapshotObjectTO(path="p", data_store="nfs"), "data_store: must be NfsTO or SwiftTO or"),
        (lambda: SnapshotObjectTO(path="p", id=None), "id: must be an integer, not NoneType"),
        (lambda: SwiftTO(url="http://h", key="k"), "key: must be a Secret, not str"),
        (lambda: PrimaryDataStoreTO(url="nfs://h/e", port=65536), "port: must be at most 65535"),
        (lambda: PrimaryDataStoreTO(url="nfs://h/e", details=[]), "details: must be a mapping, not list"),
        (
            lambda: PrimaryDataStoreTO(url="nfs://h/e", details={"chapTargetSecret": "x"}),
            "details.chapTargetSecret: must be a Secret, not str",
        ),
        (lambda: DiskTO(data="x", volume_type=VolumeType.ROOT), "data: must be VolumeObjectTO or"),
        (lambda: VolumeObjectTO(), "VolumeObjectTO needs uuid or path"),
        (lambda: NfsTO(), "NfsTO needs uuid or url"),
        (lambda: S3TO(endpoint="h"), "S3TO needs uuid or bucket_name"),
    ],
)
def test_constructors_obey_the_rules(make, message):
    """A bad value given in Python is refused with the field's name and the rule."""
    with pytest.raises(DecodeError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_a_uuid_alone_is_a_store():
    """A store may travel by its uuid: nothing else is needed."""
    for cls in (NfsTO, SwiftTO, S3TO, PrimaryDataStoreTO):
        assert cls(uuid=StoreId("s1")).uuid == "s1"


def test_details_are_frozen_and_hashable():
    """The caller's dict is copied; the object can go into a set and does not show its secrets."""
    given_details = {"iqn": "iqn.x", "chapTargetSecret": Secret("hunter2")}
    pool = PrimaryDataStoreTO(uuid=StoreId("s"), details=given_details)
    given_details["iqn"] = "changed"
    assert pool.details["iqn"] == "iqn.x"
    assert len(pool.details) == 2
    assert len({pool, PrimaryDataStoreTO(uuid=StoreId("s"), details=dict(pool.details))}) == 1
    assert "hunter2" not in repr(pool)
    assert "iqn.x" in repr(Details(pool.details))


@pytest.mark.parametrize(
    "key", ["chapInitiatorSecret", "chapTargetSecret", "PASSWORD", "luksPassphrase", "secretKey"]
)
def test_secret_details_are_known_by_name(key):
    """CHAP secrets and everything named alike must be a Secret."""
    assert is_secret_detail(key)
    assert not is_secret_detail("storageMigrateSecretConsumer")


def test_errors_never_show_the_value():
    """A password typed into the wrong field does not end in a message."""
    for make in (
        lambda: NfsTO(url="nfs://u:hunter2@h/e"),
        lambda: VolumeObjectTO(path="p", name="hunter2/"),
        lambda: VolumeObjectTO(path="p", passphrase=Secret("hunter2\0")),
        lambda: VolumeObjectTO(path="p", passphrase="hunter2"),
    ):
        with pytest.raises(DecodeError) as caught:
            make()
        assert "hunter2" not in f"{caught.value!r}{caught.value}"


def test_cache_mode_follows_the_hypervisor():
    """HYPERVISOR_DEFAULT means something on KVM only; elsewhere it becomes NONE."""
    from bollard.transfer_objects import DiskCacheMode, HypervisorType

    def mode(hypervisor):
        return VolumeObjectTO(
            path="p", cache_mode=DiskCacheMode.HYPERVISOR_DEFAULT, hypervisor_type=hypervisor
        ).cache_mode

    assert mode(HypervisorType.KVM) is DiskCacheMode.HYPERVISOR_DEFAULT
    assert mode(None) is DiskCacheMode.HYPERVISOR_DEFAULT
    assert mode(HypervisorType.VMWARE) is DiskCacheMode.NONE


def test_objects_tell_what_they_are():
    """The questions that CloudStack's DataTO and DataStoreTO answer have answers here."""
    from bollard.transfer_objects import DataStoreRole, TemplateObjectTO

    store = NfsTO(url="nfs://h/e")
    volume = VolumeObjectTO(path="p", format=ImageFormat.RAW, passphrase=Secret("x"))
    template = TemplateObjectTO(path="t", image_data_store=store)
    assert (volume.object_type, volume.requires_encryption) == ("VOLUME", True)
    assert not VolumeObjectTO(path="p").requires_encryption
    assert SnapshotObjectTO(path="p").object_type == "SNAPSHOT"
    assert (template.object_type, template.data_store) == ("TEMPLATE", store)
    assert store.role.is_image_store
    assert PrimaryDataStoreTO(uuid=StoreId("p")).role is DataStoreRole.PRIMARY
    assert SwiftTO(uuid=StoreId("p")).role is S3TO(uuid=StoreId("p")).role is DataStoreRole.IMAGE


def test_vm_snapshots_form_a_chain():
    """A VM snapshot holds its parent, up to the root."""
    root = VMSnapshotTO(snapshot_name="a", snapshot_type=VMSnapshotType.DISK)
    child = VMSnapshotTO(snapshot_name="b", snapshot_type=VMSnapshotType.DISK_AND_MEMORY, parent=root)
    assert child.parent is root


def test_int_rules_name_their_ends():
    """Both ends are inclusive."""
    assert PORT.problem(65535) is None
    assert INT64.problem(-(2**63)) is None
