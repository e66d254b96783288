"""A gate between a fence driver and its BMC, which the suite can shut: the BMC seems frozen, or cut off.

    driver ──> gate ──> BMC        an option holds a URL: the HTTP fault proxy
                                   options `host` and `port`: a relay of datagrams (IPMI)

Shut from the n-th answer on, so a check can find the place in a conversation where it hurts most.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..core.spi import Internal
from ..simulators.faults.fault import Fault
from ..simulators.faults.http import HttpProxy
from ..simulators.faults.udp import UdpRelay
from .between import fault_proxy
from .lab import not_applicable
from .settings import SuiteSettings

_HOSTS = ("host", "address", "hostname", "bmc")
_PORT = "port"


class Gate(ABC):
    """What stands between driver and BMC; open until it is shut.

    Attributes:
        repeats: seconds for which a driver may be left alone with lost answers, before it is cancelled.
    """

    repeats: ClassVar[float]

    @property
    @abstractmethod
    def answers(self) -> int:
        """How many answers of the BMC it has seen since it was opened or shut last."""

    @property
    @abstractmethod
    def shut(self) -> bool:
        """Whether something was kept from the driver since then."""

    @abstractmethod
    def open(self) -> None:
        """Pass on everything, and count from zero."""

    @abstractmethod
    def lose_from(self, number: int) -> None:
        """Count from zero; the BMC does what it is asked, and answers from this number on are lost."""

    @abstractmethod
    def freeze_from(self, number: int) -> None:
        """Count from zero; from this answer on the driver hears nothing more, and no connection ends."""


class _HttpGate(Gate):
    repeats = 10.0  # the connection ends with the answer: it will know soon

    def __init__(self, proxy: HttpProxy) -> None:
        self._proxy = proxy
        self._armed = False

    @property
    def answers(self) -> int:
        return len(self._proxy.exchanges)

    @property
    def shut(self) -> bool:
        return self._armed and not self._proxy.not_hit()

    def open(self) -> None:
        self._armed = False
        self._proxy.clear()

    def lose_from(self, number: int) -> None:
        self._plan(Fault.lose_reply(number, every=1))

    def freeze_from(self, number: int) -> None:
        self._plan(Fault.black_hole(number, every=1))

    def _plan(self, fault: Fault) -> None:
        self._proxy.plan([fault])
        self._armed = True


class _UdpGate(Gate):
    repeats = 0.5  # silence: it asks again until its time is up

    def __init__(self, relay: UdpRelay) -> None:
        self._relay = relay

    @property
    def answers(self) -> int:
        return self._relay.answers

    @property
    def shut(self) -> bool:
        return self._relay.lost

    def open(self) -> None:
        self._relay.lose_from(0)

    def lose_from(self, number: int) -> None:
        self._relay.lose_from(number)

    def freeze_from(self, number: int) -> None:
        self._relay.lose_from(number)


@contextmanager
def gate(
    settings: SuiteSettings, known: Mapping[str, Any], directory: Path
) -> Iterator[tuple[Gate, Mapping[str, Any]]]:
    """Set up a gate; yields it and the options with which a driver goes through it.

    Args:
        settings: the run's.
        known: the driver's options with their defaults.
        directory: where the HTTP proxy keeps its certificates.

    Raises:
        NotApplicable: no option says where the BMC is, in a way that the suite understands.
    """
    host = _host(settings, known)
    if host is None:
        with fault_proxy(settings, directory) as (proxy, options):
            yield _HttpGate(proxy), options
        return
    with UdpRelay(str(known[host]), int(known[_PORT])) as relay:
        yield _UdpGate(relay), dict(settings.options) | {host: "127.0.0.1", _PORT: relay.port}


def _host(settings: SuiteSettings, known: Mapping[str, Any]) -> str | None:
    """Return the option that holds the BMC's name, if there is one for its port, too."""
    names = (settings.backend.address,) if settings.backend.address else _HOSTS
    host = next((name for name in names if known.get(name)), None)
    return None if host is None or "://" in str(known[host]) or _PORT not in known else host


@contextmanager
def nobody(settings: SuiteSettings, known: Mapping[str, Any], *, silent: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the options that lead to where no BMC is.

    Args:
        settings: the run's.
        known: the driver's options with their defaults.
        silent: what is sent there arrives, and is never answered; else the port is closed.

    Raises:
        NotApplicable: no option says where the BMC is, in a way that the suite understands.
    """
    with _both_kinds() as (port, end):
        host = _host(settings, known)
        names = (settings.backend.address,) if settings.backend.address else tuple(known)
        url = next((n for n in names if isinstance(known.get(n), str) and "://" in known[n]), None)
        if host is not None:
            changes: dict[str, Any] = {host: "127.0.0.1", _PORT: port}
        elif url is not None:
            changes = {url: urlsplit(known[url])._replace(netloc=f"127.0.0.1:{port}").geturl()}
        else:
            not_applicable("no option holds a URL, and none is called host beside one called port")
        if not silent:
            end()
        yield changes


@contextmanager
def _both_kinds() -> Iterator[tuple[int, Any]]:
    """Yield a port that takes datagrams and connections and answers neither, and what closes it."""
    datagrams, connections = _of_one_port()
    with datagrams, connections:
        connections.listen(16)

        def end() -> None:
            datagrams.close()
            connections.close()

        yield int(datagrams.getsockname()[1]), end


def _of_one_port(tries: int = 50) -> tuple[socket.socket, socket.socket]:
    """Return sockets for datagrams and connections; a port may be free for the one and not the other."""
    for _ in range(tries):
        with ExitStack() as opened, suppress(OSError):
            datagrams = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            connections = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            datagrams.bind(("127.0.0.1", 0))
            connections.bind(datagrams.getsockname())
            opened.pop_all()
            return datagrams, connections
    raise Internal(f"{tries} ports of this machine were tried, and none is free for TCP and UDP")
