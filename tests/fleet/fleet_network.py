"""Machines of a fleet: network namespaces on one bridge, whose links can be cut.

ctl (scheduler, coordinator, store)      ann            bob
 bridge 10.77.0.1 ─┬──────────────────── 10.77.0.2
                   └────────── cut ────────────────────  10.77.0.3
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Self

_NET = "10.77.0"
HUB = f"{_NET}.1"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"ip {arguments}: {done.stderr}"


class Network:
    """Namespaces of our own: nothing of this machine's network is touched.

    Args:
        names: of the machines besides the hub; their addresses count up from 10.77.0.2.
    """

    def __init__(self, *names: str) -> None:
        self._ours = f"bollard-{os.getpid()}"
        self._addresses = {name: f"{_NET}.{number}" for number, name in enumerate(names, 2)}
        self._made: list[str] = []

    def inside(self, name: str) -> Sequence[str]:
        """Return what runs a command on a machine; `ctl` is the hub."""
        return ["ip", "netns", "exec", self._space(name)]

    def address(self, name: str) -> str:
        """Return its address."""
        return self._addresses[name]

    def cut(self, name: str) -> None:
        """Pull its cable: packets vanish, nobody is told."""
        _ip("-n", self._space("ctl"), "link", "set", f"to-{name}", "nomaster", "down")

    def _space(self, name: str) -> str:
        return f"{self._ours}-{name}"

    def _make(self, name: str) -> str:
        space = self._space(name)
        _ip("netns", "add", space)
        self._made.append(space)
        _ip("-n", space, "link", "set", "lo", "up")
        return space

    def __enter__(self) -> Self:
        try:
            hub = self._make("ctl")
            _ip("-n", hub, "link", "add", "hub", "type", "bridge")
            _ip("-n", hub, "addr", "add", f"{HUB}/24", "dev", "hub")
            _ip("-n", hub, "link", "set", "hub", "up")
            for name, address in self._addresses.items():
                self._connect(hub, self._make(name), name, address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self, hub: str, space: str, name: str, address: str) -> None:
        peer = ["peer", "name", "eth0", "netns", space]
        _ip("-n", hub, "link", "add", f"to-{name}", "type", "veth", *peer)
        _ip("-n", hub, "link", "set", f"to-{name}", "master", "hub", "up")
        _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")

    def __exit__(self, *error: object) -> None:
        for space in reversed(self._made):
            _ip("netns", "del", space)
