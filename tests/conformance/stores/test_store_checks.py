"""Our own stores keep what the new checks of secondary storage ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bollard.conformance.checks import (
    compat,
    store_archive,
    store_instances,
    store_keys,
    store_lists,
    store_objects,
    store_security,
    store_uploads,
)
from bollard.conformance.lab import NotApplicable
from bollard.conformance.registry import ATTRIBUTE
from bollard.conformance.store_lab import StoreLab

pytestmark = pytest.mark.slow

MODULES = (
    compat,
    store_archive,
    store_instances,
    store_keys,
    store_lists,
    store_objects,
    store_security,
    store_uploads,
)
# What means nothing for a directory, for a server that lets everybody in, or without TLS.
MEANINGLESS = {
    "sec.store_files_not_for_all",
    "sec.store_tls_verified",
    "sec.store_wrong_credentials",
    "store.listing_trait_is_true",
    "store.open_unreachable",
}
CHECKS: dict[str, Callable[[Any], None]] = {
    found.id: function
    for module in MODULES
    for function in vars(module).values()
    if (found := getattr(function, ATTRIBUTE, None)) and found.kinds == ("image-store",)
}


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_store_passes(check: str, store_lab: StoreLab) -> None:
    """A healthy store passes each check, or the check says why it means nothing for it."""
    if check == "store.upload_is_streaming" and not hasattr(store_lab.store.driver.options, "path"):
        return  # the simulator lives in this process and keeps what it gets in memory
    try:
        CHECKS[check](store_lab)
    except NotApplicable:
        assert check in MEANINGLESS
