"""`bollard archive copy`: from one store of the configuration to another."""

from __future__ import annotations

import pytest

MIB = 2**20


@pytest.fixture(autouse=True)
def two_stores(home):
    """A second store, `offsite`."""
    (home / "offsite").mkdir()
    with (home / "bollard.toml").open("a") as file:
        file.write(f'\n[stores.offsite]\ndriver = "nfs"\noptions = {{ path = "{home}/offsite" }}\n')


def test_copy_and_restore_from_the_copy(bollard, vol_1, write):
    """All snapshots arrive; a second run sends nothing; each is the same image and verifies there."""
    at = ("--store", "nightly")
    assert bollard("archive", "create", "vol-1", "monday", *at).code == 0
    write("vol-1", "0x77", "2M")
    assert bollard("archive", "create", "vol-1", "tuesday", *at).code == 0

    between = ("--from", "nightly", "--to", "offsite", "--json")
    done = bollard("archive", "copy", "vol-1", *between)
    assert [(row["snapshot"], row["parts"]) for row in done.json] == [("monday", 1), ("tuesday", 1)]
    assert [row["parts"] for row in bollard("archive", "copy", "vol-1", "tuesday", *between).json] == [0]
    for name in ("monday", "tuesday"):
        shown = [
            bollard("archive", "show", "vol-1", name, "--store", s, "--json").json
            for s in ("nightly", "offsite")
        ]
        assert shown[0] == shown[1]
        assert bollard("archive", "verify", "vol-1", name, "--level", "5", "--store", "offsite").code == 0


def test_bad_requests(bollard):
    """The same store twice is bad input, an unknown snapshot is not found, no snapshot at all is said."""
    assert bollard("archive", "copy", "vol-1", "--from", "offsite", "--to", "offsite").code == 2
    assert bollard("archive", "copy", "vol-1", "monday", "--from", "nightly", "--to", "offsite").code == 4
    done = bollard("archive", "copy", "vol-1", "--from", "nightly", "--to", "offsite")
    assert (done.code, "no snapshot" in done.out) == (0, True)
