"""The conformance suite on servers that nobody here wrote: Swift's own, their S3 face, and NFS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Store

pytestmark = [pytest.mark.real(root=True), pytest.mark.slow, pytest.mark.timeout(1800)]
# Smoke takes half a minute for each, and NFSv4 differs from NFSv3 in nothing that it looks at.
LONG = bool(os.environ.get("BOLLARD_LONG"))
TIER, KINDS = ("standard", ["real_nfs4"]) if LONG else ("smoke", [])


@pytest.mark.parametrize("kind", ["real_nfs", "real_s3", "real_swift", *KINDS])
def test_the_suite_finds_nothing(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """Every check of the tier passes or does not apply, and nothing is left on the server."""
    store: Store = request.getfixturevalue(f"{kind}_store")
    config, ledger = tmp_path / "c.toml", tmp_path / "ledger"
    lines = [f"{key} = {json.dumps(value)}" for key, value in store.options.items()]
    config.write_text("\n".join([f'driver = "{store.kind}"', "test_pool = true", "[options]", *lines]))
    config.chmod(0o600)  # there is a key in it
    command = [sys.executable, "-m", "bollard", "conformance", "run", "--json", "--tier", TIER]
    command += ["--config", str(config), "--ledger", str(ledger)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    fine = ("pass", "refused", "not-applicable", "not-run")
    assert {c["id"]: c["message"] for c in result["checks"] if c["result"] not in fine} == {}
    assert done.returncode == 0
    assert store.names() == []
