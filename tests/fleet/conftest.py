"""A site for a night, whose drivers are closed in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.fleet import close_sites

from .fleet_rig import Night


@pytest.fixture
def night(tmp_path, monkeypatch) -> Iterator[Night]:
    """One site with two pools."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    made = Night(tmp_path, ("ssd-1", "ssd-2"))
    made.setup()
    yield made
    close_sites()
