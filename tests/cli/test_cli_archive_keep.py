"""`bollard archive retain`."""

from __future__ import annotations

import pytest


@pytest.fixture
def three(bollard, vol_1) -> None:
    """Three snapshots of today."""
    for name in ("s1", "s2", "s3"):
        assert bollard("archive", "create", "vol-1", name).code == 0


def _left(bollard) -> list[str]:
    return sorted(row["snapshot"] for row in bollard("archive", "list", "--json").json)


def test_retain_explains_and_deletes(bollard, three, home):
    """A dry run tells, the real one deletes; rules come from the options or from the configuration."""
    told = bollard("archive", "retain", "vol-1", "--keep-last", "2", "--dry-run", "--json").json
    assert [(row["snapshot"], row["reasons"]) for row in told["snapshots"]] == [
        ("s3", ["last 1"]),
        ("s2", ["last 2"]),
        ("s1", []),
    ]
    assert _left(bollard) == ["s1", "s2", "s3"]

    done = bollard("archive", "retain", "--all", "--keep-last", "2")
    assert "1 of 3 snapshots deleted" in done.out
    assert _left(bollard) == ["s2", "s3"]

    config = home / "bollard.toml"
    config.write_text(config.read_text() + "\n[stores.nightly.keep]\nlast = 1\n")
    assert bollard("archive", "retain", "--all").code == 0
    assert _left(bollard) == ["s3"]


def test_retain_refuses_what_it_cannot_know(bollard, three, home):
    """No rule, no volume, a policy that keeps nothing, a damaged manifest: nothing is deleted."""
    for arguments in (
        ("vol-1",),
        ("--keep-last", "1"),
        ("vol-1", "--all", "--keep-last", "1"),
        ("vol-1", "--keep", "s1"),
    ):
        assert bollard("archive", "retain", *arguments).code == 2
    manifest = home / "store" / "v1" / "vol-1" / "s2" / "manifest.json"
    manifest.chmod(0o600)
    manifest.write_text("{}")
    broken = bollard("archive", "retain", "--all", "--keep-last", "1", "--json")
    assert broken.code == 8
    assert [error["volume"] for error in broken.json["errors"]] == ["vol-1"]
    assert manifest.exists()
    assert len(list((home / "store" / "v1" / "vol-1").glob("*/manifest.json"))) == 3
