"""The vocabularies: wire names, and parsing without regard to case."""

import pytest

from bollard.transfer_objects import (
    DataObjectType,
    DataStoreRole,
    DecodeError,
    HypervisorType,
    SnapshotLocation,
    SnapshotType,
    StoragePoolType,
    VMSnapshotType,
)


@pytest.mark.parametrize("text", ["Standard", "STANDARD", "primary", "PRIMARY", "Primary"])
def test_standard_location(text):
    """The older and the shipped spelling mean the same, in any case."""
    assert SnapshotLocation.parse(text) is SnapshotLocation.STANDARD


@pytest.mark.parametrize("text", ["Archive", "archive", "secondary", "SECONDARY"])
def test_archive_location(text):
    """The older and the shipped spelling mean the same, in any case."""
    assert SnapshotLocation.parse(text) is SnapshotLocation.ARCHIVE


@pytest.mark.parametrize("text", ["", "Tertiary", "primary "])
def test_unknown_location_names_the_valid_ones(text):
    """The error lists both spellings."""
    with pytest.raises(DecodeError, match="valid are: Standard, Archive, PRIMARY, SECONDARY"):
        SnapshotLocation.parse(text)


def test_parse_ignores_case_and_hints():
    """Any enum parses in any case; a near miss is recognised."""
    assert DataStoreRole.parse("imagecache") is DataStoreRole.IMAGE_CACHE
    assert StoragePoolType.parse("networkfilesystem") == "NetworkFilesystem"
    assert VMSnapshotType.parse("DISKANDMEMORY") is VMSnapshotType.DISK_AND_MEMORY
    with pytest.raises(DecodeError, match="'Imagge' is no DataStoreRole; did you mean 'Image'"):
        DataStoreRole.parse("Imagge")


def test_unknown_hypervisor_is_none():
    """CloudStack maps strangers to None; known ones parse in any case."""
    assert HypervisorType.parse("kvm") is HypervisorType.KVM
    assert HypervisorType.parse("bochs") is HypervisorType.NONE


def test_values_are_wire_names():
    """A member is its wire name, misspellings included."""
    assert f"{HypervisorType.PARALLELS}" == "Parralels"
    assert DataObjectType("SNAPSHOT") is DataObjectType.SNAPSHOT
    assert SnapshotType("FROM_GROUP") is SnapshotType.FROM_GROUP


def test_image_roles():
    """Secondary storage and its cache are image stores; nothing else is."""
    assert [r for r in DataStoreRole if r.is_image_store] == [DataStoreRole.IMAGE, DataStoreRole.IMAGE_CACHE]
