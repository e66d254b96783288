"""``python -m bollard.simulators.faults``: serve until SIGTERM, then say what was exchanged and not hit."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from . import Fault, FaultProxy, Proxy
from .ssh import SshProxy


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python -m bollard.simulators.faults",
        description="A fault proxy on 127.0.0.1. One JSON line when ready, one with the outcome at the end; "
        "exit status 1 when a planned fault was not hit.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("--upstream", required=True, metavar="URL", help="http(s)://HOST:PORT, tcp://... or ssh://USER@...")
    add("--upstream-ca", type=Path, metavar="FILE", help="authority to trust there (https)")
    add("--state", required=True, type=Path, help="directory of certificates and of large requests under way")
    add("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    add("--plan", type=Path, metavar="FILE", help='JSON: [{"kind": "lose_reply", "nth": 3}, ...]')
    add("--key", type=Path, metavar="FILE", help="private key to sign in with (ssh)")
    add("--host-key", metavar="LINE", help='the sshd\'s key, "ssh-ed25519 AAAA..." (ssh)')
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    options = parser()
    given = options.parse_args(arguments)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    try:
        proxy = _proxy(given)
        proxy.plan(_planned(given.plan))
    except (ValueError, TypeError) as error:
        options.error(str(error))
    with proxy:
        _say({"url": proxy.url, "pid": os.getpid(), **proxy.ready()})
        ending.wait()
    not_hit = proxy.not_hit()
    _say({"exchanges": [dataclasses.asdict(one) for one in proxy.exchanges], "not_hit": not_hit})
    return 1 if not_hit else 0


def _proxy(given: argparse.Namespace) -> Proxy:
    parts = urlsplit(given.upstream)
    if parts.scheme in {"http", "https"}:
        return FaultProxy.http(
            upstream=given.upstream, upstream_ca=given.upstream_ca, state=given.state, port=given.port
        )
    if parts.hostname is None or parts.port is None:
        raise ValueError("--upstream needs a host and a port")
    if parts.scheme == "tcp":
        return FaultProxy.tcp(parts.hostname, parts.port, listen=given.port)
    if parts.scheme != "ssh" or not (parts.username and given.key and given.host_key):
        raise ValueError("--upstream is http, https, tcp, or ssh://USER@HOST:PORT with --key and --host-key")
    return SshProxy(
        parts.hostname,
        parts.port,
        username=parts.username,
        key=given.key,
        host_key=given.host_key,
        state=given.state,
        listen=given.port,
    )


def _planned(path: Path | None) -> list[Fault]:
    if path is None:
        return []
    listed = json.loads(path.read_text())
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError(f"{path} is no list of faults")
    return [Fault.from_json(one) for one in listed]


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
