"""What holds of this driver without any storage."""

import subprocess
import sys


def test_static_tier_passes() -> None:
    """Class, options and packaging obey the contract; nothing is opened."""
    command = [sys.executable, "-m", "bollard", "conformance", "run"]
    command += ["--driver", "zenith", "--tier", "static"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
