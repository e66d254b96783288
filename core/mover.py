"""This machine as a host: the identity under which it reads and writes volumes of managed pools.

It is made once and kept, because an array ties grants to it: with a fresh secret per process, two
processes on one machine would lock each other out.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import uuid
from pathlib import Path

import platformdirs

from ..transfer_objects.ids import HostId
from ..transfer_objects.secret import Secret
from .spi import Host, Internal

DRAFT = ".mover-"
"""How the name of an identity begins until it is whole."""


def state_directory() -> Path:
    """Return where this user's durable state lives: $BOLLARD_STATE, else the platform's place."""
    chosen = os.environ.get("BOLLARD_STATE")
    return Path(chosen) if chosen else platformdirs.user_state_path("bollard")


def mover_host(directory: Path | None = None) -> Host:
    """Return this machine's host identity, made on first use (file mode 0600)."""
    path = (directory or state_directory()) / "mover.json"
    if not path.exists():
        _create(path)
    try:
        stored = json.loads(path.read_text())
        return Host(
            id=HostId(stored["id"]),
            name=stored["id"],
            iqn=stored["iqn"],
            chap_user=stored["id"],
            chap_secret=Secret(stored["chap_secret"]),
        )
    except (ValueError, KeyError, TypeError):
        # Not chained: the text of a decoding error may quote the file. Not replaced: arrays know the old one.
        raise Internal(f"{path} is damaged: restore it, or delete it and revoke the old identity") from None


def _create(path: Path) -> None:
    """Write a new identity; of two processes at once the first wins (link refuses to overwrite)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"mover-{uuid.uuid4().hex[:12]}"
    # CHAP wants 12 to 16 bytes (RFC 7143 12.1.3 asks for 96 bits at least); many arrays stop at 16.
    identity = {"id": name, "iqn": f"iqn.2026-11.bollard:{name}", "chap_secret": secrets.token_hex(8)}
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=DRAFT)  # mkstemp makes it 0600
    with os.fdopen(fd, "w") as file:
        json.dump(identity, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()
