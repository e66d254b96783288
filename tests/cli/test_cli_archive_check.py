"""`bollard archive check-up`."""

from __future__ import annotations


def test_runs_go_round(bollard, home, vol_1):
    """The place to go on from is kept between runs; a bad state file is refused, damage is code 8."""
    bollard("archive", "create", "vol-1", "monday")
    seen = [bollard("archive", "check-up", "--percent", "40", "--json").json for _ in range(3)]

    assert [one["cursor"]["run"] for one in seen] == [1, 2, 3]
    assert seen[-1]["cursor"]["turn"] == 1
    assert {one["parts"] for one in seen} == {1}
    assert 1 <= sum(one["read"] for one in seen) <= 2
    assert "turn takes 30 runs" in bollard("archive", "check-up").out

    state = home / "state" / "check-up" / "nightly.json"
    state.write_text("{}")
    assert bollard("archive", "check-up").code == 2
    [part] = (home / "store" / "v1").rglob("*.zip")
    part.unlink()
    broken = bollard("archive", "check-up", "--state", home / "own.json", "--budget", "1MiB")
    assert broken.code == 8
    assert part.name in broken.err
    assert (home / "own.json").exists()
