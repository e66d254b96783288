"""Sizes as people type them."""

from __future__ import annotations

import re

import typer

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d+)\s*(?:([kmgt])(?:ib|b)?|b)?", re.IGNORECASE)


def Size(text: str | int) -> int:  # noqa: N802 - Typer shows the parser's name as the metavar
    """Return bytes from "1073741824", "1GiB", "1G"; units are powers of 1024."""
    if isinstance(text, int):  # Typer passes defaults through the parser, too
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size: write bytes or 512MiB, 10GiB, 1TiB")
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def Range(text: str) -> tuple[int, int]:  # noqa: N802 - as above
    """Return offset and length in bytes from "1GiB:64MiB"."""
    offset, colon, length = text.partition(":")
    if not colon:
        raise typer.BadParameter(f"{text!r} is no range: write OFFSET:LENGTH, such as 1GiB:64MiB")
    return Size(offset), Size(length)
