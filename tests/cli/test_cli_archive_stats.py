"""`bollard archive stats`."""

from __future__ import annotations


def test_stats_of_two_snapshots(bollard, home, vol_1, write):
    """JSON has exact bytes and totals, the table what a person reads; a lost part is told with code 8."""
    bollard("archive", "create", "vol-1", "monday")
    write("vol-1", "0x77", "2M")
    bollard("archive", "create", "vol-1", "tuesday")

    [volume] = (found := bollard("archive", "stats", "--json").json)["volumes"]
    assert [row["snapshot"] for row in volume["snapshots"]] == ["monday", "tuesday"]
    assert found["total"]["stored"] == sum(row["cost"] for row in volume["snapshots"])
    assert found["total"]["logical"] == 2 * 64 * 2**20
    table = bollard("archive", "stats", "vol-1")
    assert "2 snapshots of 1 volumes" in table.out

    [part] = (home / "store" / "v1" / "vol-1" / "tuesday").rglob("*.zip")
    part.unlink()
    broken = bollard("archive", "stats")
    assert broken.code == 8
    assert part.name in broken.err
