"""What all fault proxies share: a life, a plan, and the account of what happened."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Self

from .fault import Fault, FaultKind
from .links import Door, Link
from .plan import Exchange, FaultsNotHit, Plan


class Proxy(ABC):
    """A faithful proxy on 127.0.0.1 that does what its plan says and nothing else.

    Args:
        port: TCP port; 0 takes a free one.
        wait: called with seconds for every delay and drip; None sleeps until then or the end of the proxy.
    """

    offers: ClassVar[frozenset[FaultKind]]
    """The kinds of faults that make sense here."""

    def __init__(self, port: int = 0, wait: Callable[[float], None] | None = None) -> None:
        self._wanted_port = port
        self._wait = wait
        self._door: Door | None = None
        self.current = Plan()

    # -- life -----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin to accept connections."""
        if self._door is not None:
            raise RuntimeError("the proxy runs already")
        self._door = Door(self._wanted_port, self._serve)
        self._door.listen()
        return self

    def stop(self) -> None:
        """End all connections and threads; what was counted can still be read."""
        if self._door is not None:
            self._door.stop()
            self._door = None

    @property
    def door(self) -> Door:
        """The running port."""
        if self._door is None:
            raise RuntimeError("the proxy is not running")
        return self._door

    @property
    def port(self) -> int:
        """Where clients connect, on 127.0.0.1."""
        return self.door.port

    @property
    @abstractmethod
    def url(self) -> str:
        """What clients use in place of the backend's address."""

    def ready(self) -> dict[str, object]:
        """What the ready line says beside url and pid; nothing secret."""
        return {}

    def wait(self, seconds: float) -> None:
        """Let the time of a delay pass."""
        (self._wait or self.door.wait)(seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- plan -----------------------------------------------------------------------------------------

    def plan(self, faults: Iterable[Fault]) -> None:
        """Arm these faults and count from zero. Exchanges under way still belong to the plan before.

        Raises:
            ValueError: for a fault that this proxy does not have; nothing is changed.
        """
        armed = list(faults)
        for fault in armed:
            if fault.kind not in self.offers:
                raise ValueError(f"{type(self).__name__} has no {fault.kind}: {self._why_not(fault.kind)}")
        self.current = Plan(armed)

    def clear(self) -> None:
        """Disarm, and count from zero."""
        self.plan([])

    @property
    def exchanges(self) -> list[Exchange]:
        """What was exchanged since the plan was armed."""
        return self.current.exchanges

    def not_hit(self) -> list[str]:
        """The faults that struck less often than planned, in words."""
        return self.current.not_hit()

    def finish(self) -> None:
        """Check the plan.

        Raises:
            FaultsNotHit: naming each fault that struck less often than planned.
        """
        if missed := self.not_hit():
            raise FaultsNotHit(missed)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """The port is closed meanwhile: ECONNREFUSED, by the kernel, which tells nobody how often."""
        self.door.shut()
        try:
            yield
        finally:
            self.door.listen()

    # -- for the kinds of proxies ---------------------------------------------------------------------

    @abstractmethod
    def _serve(self, client: Link) -> None:
        """Runs one connection to its end."""

    def _why_not(self, kind: FaultKind) -> str:
        return f"choose from {', '.join(sorted(self.offers))}" if kind else ""
