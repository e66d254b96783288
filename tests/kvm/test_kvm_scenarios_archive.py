"""Scenario C11, and A3 and A7, with an archive on an object store: S3 (moto) and Swift (the simulator)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import swiftclient

from bollard.core.catalog.snapshots import Reason, Ref
from bollard.core.snapshots import kvm
from bollard.core.spi import Call, ImageStoreDriver, parse_options
from bollard.drivers.secondary.s3 import S3Driver
from bollard.drivers.secondary.swift import SwiftDriver
from bollard.simulators.s3 import S3Simulator
from bollard.simulators.swift import SwiftSimulator
from chain_site import VOLUME
from kvm_driving import call
from kvm_lab import Host, Lab
from kvm_scenario import Scenario, Story

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow]

MIB = 1024 * 1024
KEY = "correct-horse-battery"


def _s3(state: Path) -> Iterator[ImageStoreDriver[Any]]:
    with S3Simulator(state, buckets=["archive"]) as server:
        options = {"endpoint_url": server.url, "bucket": "archive", "access_key": "a", "secret_key": KEY}
        yield S3Driver(parse_options(S3Driver.Options, options))


def _swift(state: Path) -> Iterator[ImageStoreDriver[Any]]:
    with SwiftSimulator(state, users={"test:tester": KEY}) as server:
        connection = swiftclient.Connection(authurl=server.auth_url, user="test:tester", key=KEY)
        connection.put_container("archive")
        connection.close()
        account = {"account": "test", "user_name": "tester", "key": KEY, "container": "archive"}
        yield SwiftDriver(parse_options(SwiftDriver.Options, {"url": server.auth_url, **account}))


@pytest.fixture(scope="module", params=[_s3, _swift], ids=["s3", "swift"])
def story(
    kvm_lab: Lab, kvm_host: Host, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """The life of one guest, with its snapshots on this store."""
    for driver in request.param(tmp_path_factory.mktemp("store")):
        driver.open(Call.within(30))
        rig = Scenario(kvm_lab, kvm_host, backup=True, archive=driver)
        yield Story(rig, (a1, a2, a3, a7, gone))
        rig.close()
        driver.close()


def a1(rig: Scenario) -> Ref:
    """Running, file 1, snapshot 1."""
    rig.write("file-1", 2048)
    return rig.take("s1")


def a2(rig: Scenario) -> Ref:
    """Running, file 2, snapshot 2; both are read back."""
    rig.write("file-2")
    ref = rig.take("s2")
    rig.look("s1", "s2")
    return ref


def a3(rig: Scenario) -> Ref:
    """File 3, stop, snapshot 3."""
    rig.write("file-3")
    rig.stop()
    return rig.take("s3")


def a7(rig: Scenario) -> None:
    """The stopped VM is reverted to 2, and started."""
    rig.revert("s2")
    rig.start()


def gone(rig: Scenario) -> None:
    """All are deleted."""
    for snapshot in ("s1", "s3", "s2"):
        rig.delete(snapshot)


def test_c11_a_full_goes_straight_to_the_object_store(story: Story) -> None:
    """Snapshot 1 of a running guest is a full in the archive, and a volume made from it has file 1."""
    seen = story.after("a1")
    assert seen.ref
    assert (seen.ref.store, seen.ref.parent, seen.ref.full_reason) == ("archive", None, Reason.FIRST)
    assert (seen.left, seen.bitmaps) == ([], ["s1"])
    story.after("a2")
    assert story.rig.restored["s1"] == story.rig.written["s1"]


def test_c11_an_increment_on_an_object_store(story: Story) -> None:
    """Snapshot 2 is based on 1 and takes about what was written since; it has both files."""
    first, seen = story.after("a1").ref, story.after("a2")
    assert seen.ref
    assert first
    assert seen.ref.parent == first.id
    assert 64 * 1024 <= seen.ref.physical_size < MIB < first.physical_size
    assert story.rig.restored["s2"] == story.rig.written["s2"]
    assert len(story.rig.written["s2"]) == 2


def test_a3_of_a_stopped_vm_on_an_object_store(story: Story) -> None:
    """Snapshot 3 is an increment, and the end of its chain."""
    second, seen = story.after("a2").ref, story.after("a3")
    assert seen.ref
    assert second
    assert (seen.ref.parent, seen.ref.end_reason) == (second.id, Reason.LENGTH)
    assert seen.left == []


def test_a7_revert_from_an_object_store(story: Story) -> None:
    """Put back to an increment in the archive the guest boots with the files of that time."""
    seen = story.after("a7")
    assert seen.files == story.rig.written["s2"]
    assert (seen.left, seen.bitmaps) == ([], [])


def test_a11_nothing_is_left_on_the_object_store(story: Story) -> None:
    """After all are deleted the archive holds nothing of them, and no text of a checkpoint."""
    assert set(story.after("gone").states.values()) == {"Destroyed"}
    kvm.free(story.rig.site(), VOLUME, call())
    assert story.rig.archived() == []
