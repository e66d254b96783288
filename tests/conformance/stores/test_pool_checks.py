"""Our own pools keep what the checks of security, scale and compatibility ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bollard.conformance.checks import compat, scale, security, security_images, security_secrets
from bollard.conformance.lab import Lab, NotApplicable
from bollard.conformance.model import Check, Tier
from bollard.conformance.registry import ATTRIBUTE

pytestmark = pytest.mark.slow

FOUND: dict[str, tuple[Check, Callable[[Any], None]]] = {
    found.id: (found, function)
    for module in (compat, scale, security, security_images, security_secrets)
    for function in vars(module).values()
    if (found := getattr(function, ATTRIBUTE, None)) and found.kinds != ("image-store",)
}


# What means nothing for a directory, or while the driver runs in this process.
MEANINGLESS = {
    "pool.open_unreachable",
    "scale.calls_per_op_are_constant",
    "sec.tls_verified",
    "sec.wrong_credentials_typed",
}


@pytest.mark.parametrize("check", sorted(i for i, (c, _) in FOUND.items() if c.tier is not Tier.DEEP))
def test_pool_passes(check: str, pool_lab: Lab) -> None:
    """A healthy pool passes each check, or the check says why it means nothing for it."""
    found, function = FOUND[check]
    kind = "managed" if pool_lab.pool.managed else "host"
    lacking = [m for m in found.needs if not isinstance(pool_lab.pool.driver, m)]
    if kind not in found.kinds or lacking:
        assert found.kinds != ("managed", "host") or lacking
        return
    try:
        function(pool_lab)
    except NotApplicable:
        assert found.id in MEANINGLESS
