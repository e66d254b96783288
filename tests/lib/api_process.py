"""`bollard api serve` as a process that is killed, and a client of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

BOLLARD = [sys.executable, "-m", "bollard"]
_PATIENCE = 90.0


class ApiProcess:
    """A server with its client; close it.

    Args:
        home: holds bollard.toml, and the state.
        options: of `bollard api serve`.
    """

    def __init__(self, home: Path, catalog: str, *options: str) -> None:
        self._token = home / "token"
        self._environment = {
            **os.environ,
            "BOLLARD_CONFIG": str(home / "bollard.toml"),
            "BOLLARD_STATE": str(home / "state"),
            "BOLLARD_CATALOG": catalog,
        }
        if not self._token.exists():
            made = self.run("api", "token", "create", "test", "--scope", "admin", "--json")
            self._token.write_text(made["token"])
        with (home / "api.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*BOLLARD, "api", "serve", "--port", "0", "--json", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )
        told = ""
        assert self._process.stdout is not None
        while "}" not in told:
            line = self._process.stdout.readline()
            assert line, (home / "api.log").read_text()
            told += line
        self.client = httpx.Client(
            base_url=json.loads(told)["url"],
            headers={"Authorization": f"Bearer {self._token.read_text()}"},
            timeout=_PATIENCE,
            trust_env=False,
        )

    def run(self, *words: str) -> Any:
        """Return what a command of the same machine prints as JSON."""
        command = [*BOLLARD, *words]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def kill(self) -> None:
        """SIGKILL."""
        self.kill_now()
        self.close()

    def kill_now(self) -> None:
        """SIGKILL; `close` is still to come, from the thread that made it."""
        self._process.kill()

    def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        self._process.terminate()
        return self.close()

    def close(self) -> int:
        """Wait until the process has ended; it is killed if it does not."""
        self.client.close()
        try:
            return self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()

    def order(self, command: Mapping[str, Any], key: str) -> str:
        """Order a command; return where its job is."""
        answer = self.client.post("/v1/commands", json=command, headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Location"])

    def ended(self, place: str) -> Mapping[str, Any]:
        """Wait until a job is over."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            job: Mapping[str, Any] = self.client.get(place, params={"wait": 20}).json()
            if job["over"]:
                return job
        raise AssertionError(f"{place} does not end: {job}")
