"""A catalog for the tests of recovery."""

from __future__ import annotations

import pytest


@pytest.fixture
def catalog_url(tmp_path) -> str:
    """Where a fresh catalog is."""
    return f"sqlite:///{tmp_path / 'catalog.sqlite'}"
