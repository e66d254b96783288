"""The suite judges rightly: good drivers pass, each defect of the array is found and told in words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bollard.simulators.array import ArraySimulator

pytestmark = pytest.mark.timeout(240)

# defect of the simulated array -> the check that must find it, and words that its verdict must have
DEFECTS = {
    "clone_empty": ("vol.clone_equals_source", "is zero, generation 1 was written"),
    "clone_shares_blocks_with_source": ("vol.clone_independent", "ANOTHER VOLUME"),
    "clone_loses_after_source_delete": ("vol.clone_outlives_source", "is zero, generation 1 was written"),
    "snapshot_not_point_in_time": ("snap.point_in_time", "newer than the expected 1"),
    "snapshot_delete_deletes_all": ("snap.delete_keeps_others", "left are []"),
    "revert_does_nothing": ("snap.revert_exact", "newer than the expected 1"),
    "revert_drops_newer_snapshots": ("snap.revert_exact", "a newer snapshot is gone"),
    "resize_reports_but_does_not_grow": ("vol.resize_grow", ""),
    "resize_loses_tail": ("vol.resize_grow", "is zero, generation 1 was written"),
    "delete_granted_allowed": ("acl.delete_granted_refused", "but the call succeeded"),
    "delete_says_ok_but_keeps": ("vol.create_read_write_delete", "but the call succeeded"),
    "revoke_keeps_sessions": ("acl.revoke_cuts_off", ""),
    "chap_not_checked": ("acl.only_that_host", "can read the volume"),
    "read_only_ignored": ("acl.read_only", "newer than the expected 1"),
    "changed_misses_blocks": ("inc.delta_covers_all_changes", "DATA LOSS"),
    "changed_unsorted": ("inc.delta_covers_all_changes", "must be sorted"),
    "create_wrong_size": ("vol.size_seen", ""),
    "new_volume_shows_old_bytes": ("vol.new_reads_zero", "ANOTHER VOLUME"),
    "list_misses_newest": ("vol.list_complete", "does not exist"),
    "capacity_in_mib": ("pool.capacity_sane", "is that bytes?"),
    "qos_ignored": ("qos.read_back", "the array shows"),
    "writes_lost_after_flush": ("vol.create_read_write_delete", "is zero, generation 1 was written"),
    "misdirected_write": ("vol.misdirected", "misdirected"),
}


# Asserted, so that discovery cannot lose a check.
EXPECTED_CHECKS = 67


@pytest.fixture
def array(tmp_path: Path) -> Iterator[ArraySimulator]:
    """A healthy array, over TLS."""
    with ArraySimulator(tmp_path / "array", pools={"gold": 8 * 2**30}) as sim:
        yield sim


def _config(sim: ArraySimulator, path: Path) -> Path:
    options = {
        "url": sim.url,
        "ca": str(sim.ca),
        "username": sim.admin_user,
        "password": sim.admin_password,
        "pool": "gold",
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    path.write_text("\n".join(['driver = "array"', "test_pool = true", "[options]", *lines]))
    path.chmod(0o600)
    return path


def _run(config: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the suite as a vendor does, and return exit code and result."""
    command = [sys.executable, "-m", "bollard", "conformance", "run", "--json", "--config", str(config)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def _failed(result: dict[str, Any]) -> dict[str, str]:
    return {c["id"]: c["message"] for c in result["checks"] if c["result"] != "pass"}


def test_array_is_conformant(array: ArraySimulator, tmp_path: Path) -> None:
    """The array driver passes every check against a healthy array, and leaves nothing on it."""
    code, result = _run(_config(array, tmp_path / "c.toml"), "--junit", str(tmp_path / "junit.xml"))
    assert _failed(result).keys() <= {"static.import_is_cheap"}  # httpx takes its time
    assert code == 0
    assert result["conformant"]
    assert len(result["checks"]) == EXPECTED_CHECKS
    assert "<testsuite" in (tmp_path / "junit.xml").read_text()


@pytest.mark.real
def test_qcow2_is_conformant(tmp_path: Path) -> None:
    """The qcow2 driver passes every check that applies; what it does not declare is refused."""
    (tmp_path / "pool").mkdir()
    config = tmp_path / "c.toml"
    config.write_text(f'driver = "qcow2"\ntest_pool = true\n[options]\npath = "{tmp_path}/pool"\n')
    code, result = _run(config)
    assert code == 0
    assert {c["id"] for c in result["checks"] if c["result"] == "refused"} == {
        "inc.delta_covers_all_changes",
        "inc.empty_when_unchanged",
        "qos.read_back",
    }
    assert result["counts"]["fail"] == result["counts"]["error"] == 0


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_defect_is_found(array: ArraySimulator, tmp_path: Path, defect: str) -> None:
    """An array with one defect is not conformant, and the verdict says what is wrong."""
    check, words = DEFECTS[defect]
    array.defects.set(defect)
    code, result = _run(_config(array, tmp_path / "c.toml"), "--select", check.partition(".")[2])
    assert code == 10
    assert not result["conformant"]
    failed = {c["id"]: c for c in result["checks"] if c["result"] == "fail"}
    assert check in failed, result["checks"]
    assert words in failed[check]["message"]
    assert failed[check]["rule"]
