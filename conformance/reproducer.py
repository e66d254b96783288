"""A script that shows one failed check again, and nothing else."""

from __future__ import annotations

from .model import Check
from .settings import SuiteSettings

_SCRIPT = '''\
"""Runs {check} of Bollard's conformance suite against {driver} again.

    python {check}.py [CONFIG.toml]        exit code 1: it fails again, 0: it does not
"""

import sys
from pathlib import Path

from bollard.conformance.model import Tier
from bollard.conformance.run import RunOptions, run_suite

config = Path(sys.argv[1] if len(sys.argv) > 1 else {config!r})
options = RunOptions(tier=Tier({tier!r}), select=({check!r},), seed={seed}, quiet=True)
for outcome in run_suite({driver!r}, config, options).outcomes:
    if outcome.check.id == {check!r}:
        print(outcome.result, outcome.message)
        sys.exit(outcome.result in ("fail", "known-fail"))
sys.exit(2)
'''


def reproducer_for_check(found: Check, settings: SuiteSettings) -> str:
    """Return a stand-alone script that runs one check again with the same random choices."""
    driver, config = settings.driver, settings.config
    where = str(config.absolute()) if config else f"{driver}.toml"
    return _SCRIPT.format(
        check=found.id, tier=found.tier.value, driver=driver, config=where, seed=settings.seed
    )
