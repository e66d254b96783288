"""kill -9 of the suite, of a driver host, of the simulator: `clean` leaves the backend exactly as before.

16 kills in CI, 106 with BOLLARD_LONG=1 (`make long`): ten take one to two minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from kill_backends import BACKENDS, Backend
from killing import Kill, Killed, kill_and_clean

BackendOf = Callable[[str], Backend]

# Busy checks of some tenths of a second each: clones, snapshots, grants, templates, adoptions, archives.
_PRIMARY = (
    "snap.volume_from_snapshot",
    "vol.adopt_existing",
    "vol.clone_of_clone",
    "vol.template_evicted_is_gone",
    "idem.release_repeat_from_other_process",
    "idem.take_group_repeat_after_success",
    "arc.increment_round_trip",
)
_STORE = (
    "store.archive_increments",
    "store.list_prefix_pages",
    "store.overwrite",
    "store.parallel_puts_keep_apart",
    "store.put_get_delete",
    "store.abort_spares_live_put",
)
CHECKS: Mapping[str, tuple[str, ...]] = {
    "array": (*_PRIMARY, "acl.grants_listable_and_match_array", "acl.single_writer"),
    "qcow2": tuple(c for c in _PRIMARY if c != "idem.take_group_repeat_after_success"),
    "swift": _STORE,
    "nfs": _STORE,
    "hypervisor": (
        "host.attach_twice_same",
        "host.introduce_then_use",
        "host.forget_in_use_refused",
        "vmsnap.delete_one_of_three",
        "vmsnap.revert_all_disks",
        "vmsnap.multi_disk_one_instant",
        "vmsnap.snapshot_keeps_freeze",
        "vmsnap.merge_dependents_keep_bytes",
        "vmsnap.agent_missing_as_requested",
        "host.power_start_twice",
        "host.migrate_there_and_back",
    ),
}
# Lines that any three of them write before the last is at its end.
_LINES = {"array": 14, "qcow2": 14, "swift": 6, "nfs": 6, "hypervisor": 8}
_THREE = ("suite", "host", "simulator")
_TWO = ("suite", "host")


def plan(group: int) -> list[tuple[str, str]]:
    """Return backend and victim of ten kills; ten groups have each pair."""
    return [
        *[("array", victim) for victim in _THREE],
        *[("qcow2", victim) for victim in _TWO],
        ("swift", "simulator"),
        ("swift", _TWO[group % 2]),
        ("nfs", _TWO[group % 2]),
        ("hypervisor", _THREE[group % 3]),
        ("hypervisor", _THREE[(group + 1) % 3]),
    ]


@pytest.fixture(scope="module")
def backend_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendOf]:
    """Backends by name, each started when it is first asked for."""
    with ExitStack() as stack:
        started: dict[str, Backend] = {}

        def backend(name: str) -> Backend:
            if name not in started:
                started[name] = stack.enter_context(BACKENDS[name](tmp_path_factory.mktemp(name)))
            return started[name]

        yield backend


def _killed(backend_of: BackendOf, home: Path, seed: str, name: str, victim: str) -> Killed:
    kill = Kill.of(seed, victim, CHECKS[name], most=_LINES[name])
    home.mkdir()
    killed = kill_and_clean(backend_of(name), home, kill)
    assert not killed.problems, f"{name}: {kill}:\n" + "\n".join(killed.problems)
    return killed


@pytest.mark.parametrize(
    ("name", "victim"),
    [
        ("array", "suite"),
        ("array", "simulator"),
        pytest.param("qcow2", "host", marks=pytest.mark.real),
        ("nfs", "suite"),
        ("hypervisor", "suite"),
        ("hypervisor", "host"),
    ],
)
def test_kill_once(backend_of: BackendOf, tmp_path: Path, name: str, victim: str) -> None:
    """After one kill of each kind `clean` leaves the backend as it was."""
    _killed(backend_of, tmp_path / "run", f"once {name} {victim}", name, victim)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("group", range(10 if os.environ.get("BOLLARD_LONG") else 1))
def test_kill_ten_times(backend_of: BackendOf, tmp_path: Path, group: int) -> None:
    """After each of ten kills `clean` leaves the backend as it was; and it has something to do."""
    done = [
        _killed(backend_of, tmp_path / str(number), f"{group}.{number}", name, victim)
        for number, (name, victim) in enumerate(plan(group))
    ]
    assert sum(len(killed.removed) for killed in done) >= 10
