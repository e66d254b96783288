"""Random requests out of the API's own document, against the running server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bollard.api.tokens import Scope

pytestmark = pytest.mark.slow

LONG = bool(os.environ.get("BOLLARD_LONG"))
PROGRAM = str(Path(sys.executable).with_name("schemathesis"))

# A stream ends with its job, and a random one may take until it is cancelled. A command's schema holds all
# commands with all their objects: its boundary cases alone take minutes.
OTHERS = ("--exclude-operation-id", "followJob", "--exclude-operation-id", "orderCommand")
COMMANDS = ("--include-operation-id", "orderCommand")


@pytest.mark.parametrize(
    ("phases", "which", "examples"),
    [("coverage,fuzzing", OTHERS, 5), ("fuzzing", COMMANDS, 15)],
    ids=["others", "commands"],
)
def test_random_requests_find_nothing(running, tmp_path, phases, which, examples):
    """No 5xx; status, types, headers and bodies as documented; bad input refused; nothing without a token."""
    (tmp_path / "schemathesis.toml").touch()
    command = [
        *(PROGRAM, "run", f"{running.url}/openapi.json", *which, "--phases", phases, "--seed", "7"),
        *("--header", f"Authorization: Bearer {running.secrets[Scope.ADMIN]}"),
        *("--max-examples", str(100 * examples if LONG else examples)),
        # What a schema cannot say (lengths in bytes, secrets), only the server refuses.
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--request-timeout", "30", "--generation-database", "none", "--no-color"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
