"""Where the catalog is when nobody says so."""

from __future__ import annotations

import os

from ..mover import state_directory


def default_url() -> str:
    """Return $BOLLARD_CATALOG, else a file in the directory of this machine's state, which is made."""
    if chosen := os.environ.get("BOLLARD_CATALOG"):
        return chosen
    directory = state_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"sqlite:///{directory / 'catalog.db'}"


def has_default() -> bool:
    """Tell whether somebody named a catalog, or has made one on this machine; nothing is made."""
    return bool(os.environ.get("BOLLARD_CATALOG")) or (state_directory() / "catalog.db").exists()
