"""A whole site, and the real agent as a process over it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bollard.simulators.management import ManagementSimulator
from site_rig import SiteRig, site_rig


class AgentProcess:
    """`bollard agent`, connected to a simulated management server."""

    def __init__(self, rig: SiteRig, management: ManagementSimulator, state: Path) -> None:
        self._rig = rig
        self.management = management
        self._state = state
        self.child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it has introduced itself."""
        before = self.management.count("startup")
        files = self.management.agent_files
        arguments = ["--config", str(self._rig.config), "agent", "--grace", "20"]
        arguments += [
            "--connect",
            f"127.0.0.1:{self.management.port}",
            "--certificate",
            str(files.certificate),
        ]
        arguments += ["--key", str(files.key), "--authority", str(files.authority)]
        self.child = subprocess.Popen(
            [sys.executable, "-m", "bollard", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "BOLLARD_STATE": str(self._state)},
        )
        self.management.wait_for("startup", 60, before + 1)

    def ask(self, name: str, **fields: Any) -> dict[str, Any]:
        """Ask one command of the storage package, and return its answer's fields."""
        command = {f"org.apache.cloudstack.storage.command.{name}": fields}
        [answer] = self.management.ask([command], timeout_s=120)
        [told] = answer.values()
        return told

    def kill(self) -> None:
        """As kill -9 does."""
        assert self.child
        self.child.kill()
        self._reap()

    def stop(self) -> tuple[int, str]:
        """As SIGTERM does; returns exit code and what it had to say."""
        assert self.child
        self.child.terminate()
        return self._reap()

    def _reap(self) -> tuple[int, str]:
        assert self.child
        _, said = self.child.communicate(timeout=60)
        code, self.child = self.child.returncode, None
        return code, said


@pytest.fixture(scope="session")
def rig(tmp_path_factory) -> Iterator[SiteRig]:
    """The servers, for all tests of this process; each test has volumes of its own."""
    with site_rig(tmp_path_factory.mktemp("site")) as made:
        yield made


@contextmanager
def agent_process(rig: SiteRig, home: Path) -> Iterator[AgentProcess]:
    """An agent as a process."""
    with ManagementSimulator(home / "management") as management:
        agent = AgentProcess(rig, management, home / "state")
        agent.start()
        try:
            yield agent
        finally:
            if agent.child is not None:
                agent.kill()


@pytest.fixture(scope="module")
def running(rig, tmp_path_factory) -> Iterator[AgentProcess]:
    """One agent for all tests of a module that do it no harm."""
    with agent_process(rig, tmp_path_factory.mktemp("agent")) as agent:
        yield agent


@pytest.fixture
def mortal(rig, tmp_path) -> Iterator[AgentProcess]:
    """An agent that may be killed."""
    with agent_process(rig, tmp_path) as agent:
        yield agent
