"""`bollard sweep`: what is told, and the exit code."""

from __future__ import annotations

import os
import time

from bollard.core.journal import Journal

DAY = 86_400


def _left(home, identity: str, volume: str) -> None:
    entry = Journal(home / "state" / "journal").begin("fill", pool=identity, volume=volume, host="mover-1")
    entry.release()  # as the kernel does when a process dies


def test_sweep_goes_through_all_pools_and_stores(bollard, vol_1, home):
    """12 says that something was found, by a dry run too, which removes nothing; then nothing is left: 0."""
    assert bollard("sweep").out == "Nothing was left behind.\n"
    bollard("pool", "create", "vol-2", "64MiB", "--pool", "ssd-1")
    for pool, volume in (("files", vol_1), ("ssd-1", "vol-2")):
        _left(home, bollard("pool", "show", "-p", pool, "--json").json["identity"], volume)
    upload = home / "store" / ".bollard-tmp" / "_v1%2Fvol-1%2Fmonday%2Fmanifest.json,aa"
    upload.parent.mkdir(exist_ok=True)
    upload.write_bytes(b"half")
    os.utime(upload, (time.time() - 2 * DAY,) * 2)

    planned = bollard("sweep", "--dry-run", "--json")
    assert planned.code == 12
    assert [(row["place"], row["kind"], row["name"], row["end"]) for row in planned.json["leftovers"]] == [
        ("pool files", "fill", "vol-1", "found"),
        ("pool ssd-1", "fill", "vol-2", "found"),
        ("store nightly", "upload", "v1/vol-1/monday/manifest.json", "found"),
    ]
    assert planned.json["leftovers"][0]["size"] == 64 * 2**20
    assert planned.json["leftovers"][2]["age"] >= 2 * DAY
    assert all(row["why"] and row["owner"] for row in planned.json["leftovers"])
    done = bollard("sweep", "--json")
    assert (done.code, {row["end"] for row in done.json["leftovers"]}) == (12, {"removed"})
    assert bollard("pool", "volumes", "--json").json == []
    assert not upload.exists()
    assert bollard("sweep", "--json").json == {"dry_run": False, "leftovers": [], "errors": []}


def test_sweep_goes_on_after_a_place_that_fails(bollard, vol_1, home):
    """The pool that is not there is told with its own exit code; the other one is swept."""
    _left(home, bollard("pool", "show", "--json").json["identity"], vol_1)
    (home / "other").rmdir()
    done = bollard("sweep")

    assert done.code == 4
    assert "pool ssd-1: error (not_found)" in done.err
    assert "removed" in done.out
    assert bollard("pool", "volumes", "--json").json == []


def test_a_younger_upload_stays_unless_asked_for(bollard, home):
    """--older-than is in hours."""
    upload = home / "store" / ".bollard-tmp" / "_v1%2Fvol-1%2Fmonday%2Fmanifest.json,aa"
    upload.parent.mkdir(exist_ok=True)
    upload.write_bytes(b"half")
    os.utime(upload, (time.time() - 7200,) * 2)

    assert bollard("sweep", "--older-than", "3").code == 0
    assert upload.exists()
    shown = bollard("sweep", "--older-than", "1")
    assert shown.code == 12
    assert "2 h" in shown.out
    assert not upload.exists()
