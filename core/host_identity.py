"""What a host proves itself with to arrays: CHAP, made once for each host and kept by this machine.

A hypervisor tells a host's initiator name, and no secret. An array ties a host's grants to its secret, so it
must stay the same over all commands; it is kept beside the mover's own identity, mode 0600.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import replace
from pathlib import Path

from ..transfer_objects.secret import Secret
from .checks import check_id
from .spi import Host, Internal


def identified(host: Host, directory: Path) -> Host:
    """Return a host with user and secret for CHAP; one that has them stays as it is.

    Raises:
        Internal: what was kept is damaged.
    """
    if host.chap_secret is not None:
        return host
    check_id("host", host.id)
    path = directory / "hosts" / f"{host.id}.json"
    if not path.exists():
        _create(path, str(host.id))
    try:
        kept = json.loads(path.read_text())
        return replace(host, chap_user=str(kept["chap_user"]), chap_secret=Secret(kept["chap_secret"]))
    except (ValueError, KeyError, TypeError):
        # Not chained: the text of a decoding error may quote the file. Not replaced: arrays know the old one.
        message = f"{path} is damaged: restore it, or delete it and revoke the host's access everywhere"
        raise Internal(message) from None


def _create(path: Path, user: str) -> None:
    """Write a new secret; of two processes at once the first wins (link refuses to overwrite)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".host-")  # mkstemp makes it 0600
    try:
        with os.fdopen(fd, "w") as file:
            # 16 characters: CHAP wants at least 12 bytes, and many arrays stop at 16.
            json.dump({"chap_user": user, "chap_secret": secrets.token_hex(8)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()
