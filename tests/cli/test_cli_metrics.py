"""`bollard --metrics-file …`."""

from __future__ import annotations


def test_metrics_of_a_command_are_written(bollard, home, vol_1):
    """Bytes of the store and calls of both backends; success tells whether the exit code was 0."""
    path = home / "bollard.prom"
    assert bollard("--metrics-file", path, "archive", "create", "vol-1", "monday").code == 0
    text = path.read_text()
    assert 'bollard_bytes_total{backend="nightly",direction="sent",driver="nfs",kind="store"}' in text
    assert 'backend="files",driver="qcow2",kind="pool"' in text
    assert "bollard_command_success 1.0" in text

    assert bollard("--metrics-file", path, "archive", "show", "vol-1", "sunday").code == 4
    assert "bollard_command_success 0.0" in path.read_text()
    [part] = (home / "store" / "v1").rglob("*.zip")
    part.unlink()
    assert bollard("--metrics-file", path, "archive", "check-up").code == 8
    assert "bollard_command_success 0.0" in path.read_text()
