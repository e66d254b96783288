"""Making a directory of the array a pool, if the machine has what it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import Refused
from .extents import changes
from .files import new_file, read_json, reflink, remove_tree, sync, write_json
from .pool import HOME, VERSION
from .tgt import Tgt

_TIMEOUT = 10.0


def prepare(root: Path, portal: str, socket: str) -> dict[str, Any]:
    """Check the machine, and write pool.json; a pool that is there keeps its identity.

    Args:
        root: where the file system is mounted.
        portal: HOST:PORT, as initiators reach tgtd.
        socket: tgtd's control socket.
    """
    if not os.path.ismount(root):
        raise Refused("not_found", f"nothing is mounted at {root}: a pool is a file system of its own")
    if any(mark in f"{root}{socket}" for mark in ", \n"):
        raise Refused("invalid_argument", "tgtd takes no commas or blanks in the pool's path")
    home = root / HOME
    home.mkdir(mode=0o700, exist_ok=True)
    home.chmod(0o700)
    _try_reflink(home)
    _try_tgtd(Path(socket))
    described = read_json(home / "pool.json") or {"version": VERSION, "identity": os.urandom(16).hex()}
    described |= {"portal": portal, "socket": socket}
    write_json(home / "pool.json", described)
    sync(home)
    return described


def _try_reflink(home: Path) -> None:
    """Make a snapshot of a file and compare both, as it is done later."""
    place = home / "trial"
    remove_tree(place)
    place.mkdir()
    try:
        new_file(place / "a", 2**20)
        (place / "a").write_bytes(b"bollard" * 4096)
        reflink(place / "a", place / "b")
        same = changes(place / "a", place / "b", 0, 1) == ([], None)
    except OSError as error:
        raise Refused(
            "unsupported", "the file system has no reflinks or no extent maps: mkfs.xfs -m reflink=1"
        ) from error
    finally:
        remove_tree(place)
    if not same:
        raise Refused("unsupported", "the file system does not share the blocks of a reflink")


def _try_tgtd(socket: Path) -> None:
    try:
        Tgt(socket, _TIMEOUT).targets()
    except Refused as error:
        raise Refused(
            "unavailable", f"tgtd does not answer on {socket}: apt install tgt, and start it", "not_applied"
        ) from error
