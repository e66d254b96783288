"""[increments] and [directories] of the configuration: what is wrong is told before anything is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bollard.core.config import load_config
from bollard.core.service.increments import secondary_id, store_called
from bollard.core.settings import BACKUP_TO_SECONDARY, DELTA_MAX, INCREMENTAL_SNAPSHOT, Where
from bollard.core.spi import InvalidArgument, NotFound

BASE = """
[pools.files]
driver = "qcow2"
uuid = "11111111-0000-4000-8000-000000000001"
[pools.more]
driver = "qcow2"
[hypervisors.kvm-7]
driver = "kvm"
[stores.nightly]
driver = "s3"
[directories.nas]
path = "/mnt/nas/bollard"
"""
TABLE = '\n[increments.files]\nhypervisor = "kvm-7"\ndirectory = "/mnt/pool/increments"\n'


@pytest.fixture
def write(tmp_path) -> Callable[[str], Path]:
    """A function that writes the file and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "bollard.toml"
        path.write_text(BASE + text)
        path.chmod(0o600)
        return path

    return write


def test_settings_are_those_of_cloudstack(write):
    """Deltas in chains of 16 on primary storage; a place for backups is used unless `backup` says no."""

    def values(more: str) -> tuple[bool, int, bool]:
        settings = load_config(write(TABLE + more)).increments["files"].settings()
        return (
            settings.get(INCREMENTAL_SNAPSHOT, Where(pool="files")),
            settings.get(DELTA_MAX, Where()),
            settings.get(BACKUP_TO_SECONDARY, Where(zone="z")),
        )

    assert values("") == (True, 16, False)
    assert values('secondary = "nas"\nlongest_chain = 3') == (True, 3, True)
    assert values('secondary = "nas"\nbackup = false\nincremental = false') == (False, 16, False)


def test_stores_are_called_by_their_kind(write):
    """A directory and an archive of the configuration, by name or by id; others are not there."""
    config = load_config(write(TABLE + 'secondary = "nas"'))
    assert secondary_id(config, config.increments["files"]) == "directory:nas"
    assert store_called(config, "nas") == store_called(config, "directory:nas") == "directory:nas"
    assert store_called(config, "nightly") == store_called(config, "archive:nightly") == "archive:nightly"
    for name in ("weekly", "archive:nas", "directory:nightly"):
        with pytest.raises(NotFound, match="no directory and no store"):
            store_called(config, name)


def test_the_pool_is_chosen_as_others_are(write):
    """By name, by uuid, the default, or the only one with increments."""
    config = load_config(write(TABLE))
    assert [config.increments_of(name)[0] for name in ("", "files")] == ["files", "files"]
    assert config.increments_of("11111111-0000-4000-8000-000000000001")[0] == "files"
    with pytest.raises(NotFound, match=r"no pool with \[increments\] 'more'"):
        config.increments_of("more")
    two = TABLE + TABLE.replace("files", "more").replace("/mnt/pool", "/mnt/more")
    assert load_config(write(two + '[default]\npool = "more"')).increments_of()[0] == "more"
    with pytest.raises(InvalidArgument, match=r"name a pool with \[increments\]"):
        load_config(write(two)).increments_of()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("files", "fils"), r"increments.fils: there is no pool 'fils'; did you mean 'files'"),
        (TABLE.replace("kvm-7", "kvm-8"), r"increments.files.hypervisor: there is no hypervisor 'kvm-8'"),
        (TABLE + 'secondary = "nss"', r"increments.files.secondary: there is no directory or store 'nss'"),
        (TABLE + "backup = true", r"increments.files.backup is true, and increments.files.secondary names"),
        (TABLE + "longest_chain = 0", r"\[increments.files\]: option 'longest_chain' must be at least 1"),
        (TABLE + "longest_chain = 201", r"\[increments.files\]: option 'longest_chain' must be at most 200"),
        (
            TABLE + 'incremental = "yes"',
            r"\[increments.files\]: option 'incremental' must be of type boolean",
        ),
        (TABLE + "chain = 3", r"\[increments.files\]: option 'chain' is unknown"),
        (
            '\n[increments.files]\nhypervisor = "kvm-7"',
            r"\[increments.files\]: option 'directory' is required",
        ),
        (TABLE.replace("/mnt/pool/", ""), r"increments.files.directory must be an absolute path"),
        (TABLE.replace("/mnt/pool/", "/mnt/../"), r"increments.files.directory must be an absolute path"),
        (TABLE.replace("/mnt/pool/increments", "/mnt/nas/bollard"), r"are the same directory"),
        (TABLE + TABLE.replace("files", "more"), r"increments.files.directory and increments.more.directory"),
        ("\n[directories.tape]\npath = 'tape'", r"directories.tape.path must be an absolute path"),
        ("\n[directories]\ntape = 5", r"\[directories.tape\] must be a table"),
        ("\n[directories.nightly]\npath = '/n'" + TABLE + "secondary = 'nightly'", "a store as well"),
    ],
)
def test_what_is_wrong_is_told_with_place_and_rule(write, text, message):
    """The file, the key and what would be right."""
    path = write(text)
    with pytest.raises(InvalidArgument, match=message) as caught:
        load_config(path)
    assert str(caught.value).count(str(path)) == 1
