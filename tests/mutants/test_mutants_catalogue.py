"""The catalogue is whole: each check, each defect and each name in it stands for something."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import BACKENDS, BROKEN
from bollard.core.plugins import check_driver
from bollard.simulators.array import Defect
from bollard.simulators.bmc.defects import BmcDefects
from bollard.simulators.hypervisor.defects import HypervisorDefects
from bollard.simulators.s3_defects import S3Defects
from bollard.simulators.swift.defects import SwiftDefects
from catalogue import Mutant, all_mutants, known_checks, must_checks, run_wide, unique
from iscsi_defects import EDITS

MUTANTS = all_mutants()
DEFECTS: dict[str, set[str]] = {
    "array": {defect.label for defect in Defect},
    "s3": set(S3Defects().as_dict()),
    "swift": set(SwiftDefects().as_dict()),
    "hypervisor": set(HypervisorDefects().as_dict()),
    "bmc": set(BmcDefects().as_dict()),
    "iscsi_ssh": set(EDITS),
    "redfish": {"open", "deaf", "fails"},
}
# No mutants: what a backend may do, and each driver has to live with. Fault checks bring such things about.
FAULTS = {
    "bmc.answers_sha1",
    "bmc.freeze_login",
    "bmc.freeze_session",
    "bmc.ignore_unknown_user",
    "bmc.late_role",
    "bmc.lose_power_reply",
    "bmc.no_free_session",
    "bmc.silent",
    "bmc.slow",
    "hypervisor.unavailable",
    "s3.unavailable",
    "swift.latency",
    "swift.listing_lag",
    "swift.token_expires_now",
    "swift.unavailable",
}


def test_two_of_one_id_are_refused() -> None:
    """No mutant hides another one of its name."""
    twice = MUTANTS[:1] * 2
    with pytest.raises(ValueError, match=re.escape(twice[0].id)):
        unique(twice)


def test_there_are_enough() -> None:
    """The catalogue has the sixty mutants that were promised, and more."""
    assert len(MUTANTS) >= 60


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.id)
def test_mutant_is_complete(mutant: Mutant) -> None:
    """A mutant names a backend, checks that exist, something to run, one defect and a field bug."""
    assert mutant.backend in BACKENDS
    assert mutant.killed_by
    assert set(mutant.killed_by) | set(mutant.during) <= known_checks().keys()
    assert {*mutant.killed_by, *mutant.during} - run_wide()
    assert any((mutant.defect, mutant.driver, mutant.patch, mutant.edit[0]))
    assert mutant.field_bug
    assert mutant.defect.partition("=")[0] in {"", *DEFECTS.get(mutant.backend, ())}


def test_each_must_check_has_a_mutant() -> None:
    """Nobody adds a check that nothing was ever seen to fail."""
    killing = {check for mutant in MUTANTS for check in mutant.killed_by}
    assert must_checks() - killing == set()


def test_each_defect_has_a_mutant() -> None:
    """Nobody adds a defect that no check finds."""
    used = {f"{m.backend}.{m.defect.partition('=')[0]}" for m in MUTANTS if m.defect}
    there = {f"{backend}.{name}" for backend, names in DEFECTS.items() for name in names}
    assert there - used == FAULTS


def test_broken_drivers_are_drivers_and_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each class of `broken/` is complete as a plug-in, says what is wrong with it, and has a mutant."""
    monkeypatch.syspath_prepend(BROKEN)
    found: dict[str, type] = {}
    for path in sorted(BROKEN.glob("broken_*.py")):
        module = importlib.import_module(path.stem)
        monkeypatch.delitem(sys.modules, path.stem)
        found |= {f"{path.stem}:{c.__name__}": c for c in _drivers(path, vars(module))}
    for target, cls in found.items():
        assert check_driver(target, "broken", cls).__doc__
    assert found.keys() == {m.driver for m in MUTANTS if m.driver}


def _drivers(path: Path, names: dict[str, object]) -> list[type]:
    return [
        c
        for name, c in names.items()
        if isinstance(c, type) and c.__module__ == path.stem and not name.startswith("_")
    ]


def test_healthy_twin_keeps_the_driver_that_trusts_the_backend() -> None:
    """A broken driver is compared with Bollard's; a broken backend with the same driver on a healthy one."""
    about: Callable[..., Mutant] = lambda **more: Mutant(  # noqa: E731 - one use
        id="x", backend="array", killed_by=("a.b",), field_bug="y", **more
    )
    assert about(driver="m:C").healthy.driver == ""
    assert about(driver="m:C", defect="d").healthy.driver == "m:C"
    assert about(driver="m:C", defect="d").healthy.defect == ""
