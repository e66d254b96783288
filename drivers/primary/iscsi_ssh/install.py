"""Prepare an array: put the agent on it, check the machine, make the pool.

    python -m bollard.drivers.primary.iscsi_ssh.install --config c.toml \
        --portal 10.0.0.5:3260 [--socket /var/run/tgtd/socket.0]

`c.toml` holds the driver's options in a table [options]. On the array (Debian 12) it takes: python3, tgtd
running (apt install tgt), and XFS with reflinks mounted at the pool's path. It can be repeated: a pool keeps
its identity and its volumes, and gets the agent of this version beside the old one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tomllib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ....core.spi import Call, InvalidArgument, Outcome, StorageError, parse_options
from .array import (
    HOME,
    agent_command,
    agent_directory,
    agent_files,
    answer_of,
    request_of,
    result_of,
)
from .options import IscsiSshOptions, check_options
from .ssh import SshArray

_TIMEOUT = 60.0
_SOCKET = Path("/var/run/tgtd/socket.0")
_PACKAGE = "array_agent"
_MAIN = f"from {_PACKAGE}.main import main\n\nmain()\n"
# Runs on the array: writes the files of standard input beside their place and renames the directory there.
_UNPACK = """
import json, os, pathlib, shutil, sys
told = json.load(sys.stdin)
home, place = pathlib.Path(told["home"]), pathlib.Path(told["place"])
if not os.path.ismount(home.parent):
    sys.exit("nothing is mounted at " + str(home.parent))
home.mkdir(mode=0o700, exist_ok=True)
draft = place.with_name("." + place.name)
shutil.rmtree(draft, ignore_errors=True)
for name, text in told["files"].items():
    (draft / name).parent.mkdir(parents=True, exist_ok=True)
    (draft / name).write_text(text)
if not place.exists():
    draft.rename(place)
shutil.rmtree(draft, ignore_errors=True)
"""


def install(
    options: IscsiSshOptions, *, portal: str, socket: Path = _SOCKET, call: Call | None = None
) -> dict[str, Any]:
    """Prepare the array that the options name.

    Args:
        options: of the driver that will use it.
        portal: HOST:PORT, as initiators reach tgtd.
        socket: tgtd's control socket on the array.
        call: how long it may take.

    Returns:
        What the pool is: identity, portal, socket.

    Raises:
        NotFound: no file system is mounted at the pool's path.
        Unsupported: it has no reflinks.
        Unavailable: the array or its tgtd does not answer.
        InvalidArgument: the portal is none.
    """
    check_options(options)
    _check_portal(portal)
    call = call or Call.within(_TIMEOUT)
    with closing(SshArray(options)) as ssh:
        _unpack(ssh, options, call)
        told = {"portal": portal, "socket": str(socket)}
        agent = ssh.start(agent_command(options), call)
        lines = agent.ask(request_of(options, "prepare", call, told), call, Outcome.UNKNOWN)
        described: dict[str, Any] = result_of(answer_of(agent, lines, call, Outcome.UNKNOWN))
    return described


def _check_portal(portal: str) -> None:
    host, _, port = portal.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InvalidArgument(f"the portal must be HOST:PORT, got {portal!r}")


def _unpack(ssh: SshArray, options: IscsiSshOptions, call: Call) -> None:
    files = {f"{_PACKAGE}/{name}": text for name, text in agent_files().items()}
    told = {
        "home": str(options.pool / HOME),
        "place": str(agent_directory(options.pool)),
        "files": {**files, "__main__.py": _MAIN},
    }
    command = f"exec python3 -I -S -c {shlex.quote(_UNPACK)}"
    status, output = ssh.start(command, call).finish(json.dumps(told).encode(), call)
    if status:
        words = output.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise InvalidArgument(f"the array cannot be prepared: {words[-1]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0: the pool is ready."""
    parser = argparse.ArgumentParser(prog="install", description="Prepare an array for the driver iscsi_ssh.")
    parser.add_argument("--config", type=Path, required=True, help="TOML with the driver's [options]")
    parser.add_argument("--portal", required=True, help="HOST:PORT, as initiators reach tgtd")
    parser.add_argument("--socket", type=Path, default=_SOCKET, help=f"tgtd's control socket [{_SOCKET}]")
    given = parser.parse_args(arguments)
    try:
        raw = tomllib.loads(given.config.read_text())
        options = parse_options(IscsiSshOptions, raw.get("options", raw))
        described = install(options, portal=given.portal, socket=given.socket)
    except (StorageError, OSError, tomllib.TOMLDecodeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"The pool {options.pool} is ready; its identity is {described['identity']}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
