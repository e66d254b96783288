"""Counts exchanges, decides which fault strikes which, and remembers what was hit."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .fault import OF_CONNECTIONS, Fault, FaultKind

_SECRET = re.compile(
    r"(?i)([\w-]*(?:passw(?:or)?d|secret|token|signature|credential|temp_url_sig)[\w-]*(?:=|\s+))[^\s&]+"
)


class FaultsNotHit(AssertionError):
    """The test proved less than it planned to: these faults were planned and did not happen.

    Attributes:
        faults: the faults, as the message tells them.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__(f"planned and not hit: {'; '.join(faults)}")
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was received whole, one command, or one TCP connection.

    Attributes:
        number: from 1, in the order in which they were complete.
        method: of the request; ``exec`` for a command, ``connect`` for a connection.
        path: request target or command, without the values of what looks like a secret.
        status: what the backend answered, or what the proxy did in its place; None if nobody answered.
            A command's is its exit status.
        fault: what struck it, or its connection.
    """

    number: int
    method: str
    path: str
    status: int | None = None
    fault: FaultKind | None = None


class Plan:
    """The faults of one run and what became of them; safe for any number of threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = tuple(faults)
        self._lock = threading.Lock()
        self._counts = [0] * len(self._faults)
        self._hits = [0] * len(self._faults)
        self._exchanges: list[Exchange] = []

    @property
    def exchanges(self) -> list[Exchange]:
        """All exchanges so far."""
        with self._lock:
            return list(self._exchanges)

    def may_strike(self, method: str, path: str, kinds: frozenset[FaultKind]) -> bool:
        """Whether a fault of these kinds counts such an exchange."""
        return any(fault.kind in kinds and fault.matches(method, path) for fault in self._faults)

    def concerns_connections(self) -> bool:
        """Whether a fault waits for a new connection."""
        return any(fault.kind in OF_CONNECTIONS for fault in self._faults)

    def connected(self) -> Fault | None:
        """Counts a connection; the fault that strikes it, which counts as hit."""
        with self._lock:
            index = self._due(lambda fault: fault.kind in OF_CONNECTIONS)
            if index is None:
                return None
            self._hits[index] += 1
            return self._faults[index]

    def received(self, method: str, path: str, connection_fault: FaultKind | None = None) -> Strike:
        """Counts an exchange; the first fault of the plan that is due is the one to carry out."""
        with self._lock:
            index = self._due(lambda fault: fault.kind not in OF_CONNECTIONS and fault.matches(method, path))
            exchange = Exchange(len(self._exchanges) + 1, method, redacted(path), fault=connection_fault)
            self._exchanges.append(exchange)
            return Strike(self, exchange.number, index, None if index is None else self._faults[index])

    def _due(self, concerned: Callable[[Fault], bool]) -> int | None:
        due = None
        for index, fault in enumerate(self._faults):
            if concerned(fault):
                self._counts[index] += 1
                if due is None and fault.strikes(self._counts[index]):
                    due = index
        return due

    def not_hit(self) -> list[str]:
        """The faults that struck less often than planned, in words."""
        with self._lock:
            return [
                f"{fault} struck {hits} of {fault.needed} times ({count} matching exchanges)"
                for fault, hits, count in zip(self._faults, self._hits, self._counts, strict=True)
                if hits < fault.needed
            ]

    def struck(self, number: int, index: int) -> None:
        """The fault ``index`` took effect on exchange ``number``."""
        with self._lock:
            self._hits[index] += 1
            self._change(number, fault=self._faults[index].kind)

    def answered(self, number: int, status: int) -> None:
        """Exchange ``number`` has an answer."""
        with self._lock:
            self._change(number, status=status)

    def _change(self, number: int, **changes: int | FaultKind) -> None:
        self._exchanges[number - 1] = dataclasses.replace(self._exchanges[number - 1], **changes)  # type: ignore[arg-type] # mypy cannot follow names through **


@dataclass(frozen=True, slots=True)
class Strike:
    """An exchange that was counted, and the fault to carry out on it, if any."""

    _plan: Plan
    _number: int
    _index: int | None
    fault: Fault | None

    @property
    def kind(self) -> FaultKind | None:
        """Of the fault."""
        return None if self.fault is None else self.fault.kind

    def hit(self) -> None:
        """The fault takes effect now. Until this is called it does not count as hit."""
        if self._index is not None:
            self._plan.struck(self._number, self._index)

    def answered(self, status: int) -> None:
        """The exchange has an answer."""
        self._plan.answered(self._number, status)


def redacted(text: str) -> str:
    """The text without the values of ``password=``, ``--secret``, ``X-Amz-Signature=`` and the like."""
    return _SECRET.sub(r"\1...", text)
