"""Our own drivers keep each sentence of the contract that these checks are about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bollard.conformance.lab import Lab
from bollard.conformance.model import Check, Level

MODULES = (
    "access_hosts",
    "adoption",
    "archive_chain",
    "archive_damage",
    "archive_reads",
    "archive_restores",
    "capacity",
    "changed_blocks",
    "clones",
    "conflicts",
    "groups",
    "host_pools",
    "idempotency",
    "pool_life",
    "sizes",
    "snapshot_life",
)
# One of each kind, quick enough for each run of the tests; test_suite_verdicts.py takes them all.
QUICK = (
    "acl.revoke_one_of_two_hosts",
    "arc.restore_with_standard_tools",
    "cap.thin_reported",
    "group.one_or_none",
    "idem.adopt_repeat_after_success",
    "idem.same_name_other_spec_conflicts",
    "inc.after_grow",
    "pool.foreign_not_listed",
    "snap.while_attached",
    "vol.list_survives_deletion",
    "vol.template_cache_seed",
)
QUICK_ON_IMAGES = (
    "hostpool.delete_leaves_no_file",
    "idem.clone_repeat_from_other_process",
    "vol.size_odd_bytes",
)

Checks = dict[str, tuple[Check, Callable[[Lab], None]]]


@pytest.fixture
def found(checks: Checks) -> Checks:
    """The checks of these modules, by id."""
    ours = {f"bollard.conformance.checks.{name}" for name in MODULES}
    return {name: both for name, both in checks.items() if both[1].__module__ in ours}


def test_no_check_is_lost(found: Checks) -> None:
    """The operations make two checks each, and all others are found once."""
    repeats = [name for name in found if "_repeat_" in name]
    assert len(repeats) == 40
    assert len(found) == 153


def test_each_check_has_its_words(found: Checks) -> None:
    """A check's first paragraph is a sentence, and one that decides says how to read a failure or why."""
    for check, _ in found.values():
        assert check.contract.endswith("."), check.id
        assert check.level is Level.MEASURE or len(check.contract) > 30, check.id


@pytest.mark.parametrize("name", QUICK)
def test_quick_ones_pass_on_the_array(found: Checks, array_lab: Lab, name: str) -> None:
    """A conformant managed driver passes."""
    found[name][1](array_lab)


@pytest.mark.real
@pytest.mark.parametrize("name", QUICK_ON_IMAGES)
def test_quick_ones_pass_on_images(found: Checks, qcow2_lab: Lab, name: str) -> None:
    """A conformant driver of a host pool passes."""
    found[name][1](qcow2_lab)
