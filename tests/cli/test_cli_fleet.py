"""`bollard archive fleet`: a whole pool or a file of jobs, row by row."""

from __future__ import annotations

import json


def _lines(done) -> list[dict]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_a_run_says_what_became_of_each_and_a_repeat_finds_it_there(bollard, home, vol_1):
    """One line each and one for all; what failed is named, gives exit code 11, and stops nothing."""
    jobs = home / "jobs.json"
    jobs.write_text(json.dumps([{"volume": "vol-1"}, {"volume": "vol-2"}]))
    first = bollard("archive", "fleet", "--run", "mon", "--file", jobs, "--json")
    again = bollard(
        "archive", "fleet", "--run", "mon", "--all", "--pool", "files", "--engine", "threads:1", "--json"
    )
    table = bollard("archive", "fleet", "--run", "mon", "--file", jobs)

    rows = {line["volume"]: line for line in _lines(first)[:-1]}
    assert first.code == 11
    assert {volume: row["state"] for volume, row in rows.items()} == {"vol-1": "archived", "vol-2": "failed"}
    assert rows["vol-2"]["error"]["code"] == "not_found"
    assert _lines(first)[-1] == {"run": "mon", "volumes": 2, "failed": 1}
    assert again.code == 0
    assert [line.get("state") for line in _lines(again)] == ["there", None]
    assert table.code == 11
    assert "1 of 2 volumes are in the archive" in table.out
    assert "failed vol-2" in table.err


def test_bad_usage_is_told_before_anything_is_cut(bollard, vol_1):
    """Volumes must be named in one way, and an engine that is not there is an error of its own."""
    for options, code in [
        ((), 2),
        (("--all", "--file", "x.json"), 2),
        (("--file", "x.json"), 4),
        (("--all", "--engine", "ray://x"), 2),
    ]:
        assert bollard("archive", "fleet", "--run", "mon", *options).code == code
    assert bollard("pool", "snapshots", "vol-1", "--json").json == []


def test_a_plan_says_how_long_and_what_limits_and_a_store_is_measured(bollard, home):
    """The same figures for people and for programs."""
    file = home / "fleet.json"
    fleet = {
        "volumes": [{"pool": "p", "size": "1GiB", "count": 8, "full": True}],
        "pools": {"p": {"bandwidth": "64MiB", "tracks_changes": True}},
        "store": {},
        "workers": [{"pools": ["p"]}],
    }
    file.write_text(json.dumps(fleet))
    table, document = bollard("archive", "plan", file), bollard("archive", "plan", file, "--json")
    measured = bollard("archive", "plan", "--calibrate", "nightly", "--json").json

    assert document.json["seconds"] == 128.0
    assert document.json["limit"] == "pool bandwidth"
    assert "0:02:08" in table.out
    assert "pool bandwidth" in table.out
    assert set(measured) == {"store", "worker"}
    assert bollard("archive", "plan").code == 2
