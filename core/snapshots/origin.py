"""The remark in a manifest about where a snapshot came from."""

from __future__ import annotations

LONGEST = 200


def origin_of(name: str) -> str:
    """Return what a manifest may say of a pool or file: printable ASCII, whatever people call theirs."""
    return "".join(c if " " <= c <= "~" else "?" for c in name)[:LONGEST]
