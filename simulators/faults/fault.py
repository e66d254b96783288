"""What can go wrong on one exchange, and which exchange it strikes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypedDict, Unpack

MUTATING = "POST|PUT|PATCH|DELETE"
"""For ``method=``: the requests that change something."""


class FaultKind(StrEnum):
    """The names of the faults, as a plan's file spells them."""

    LOSE_REPLY = "lose_reply"
    LOSE_REQUEST = "lose_request"
    DELAY = "delay"
    DRIP = "drip"
    TRUNCATE = "truncate"
    GARBLE = "garble"
    DUPLICATE = "duplicate"
    RESET = "reset"
    RESET_AFTER = "reset_after"
    STATUS = "status"
    HTML_LOGIN_PAGE = "html_login_page"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    BLACK_HOLE = "black_hole"
    REDIRECT = "redirect"
    EXPIRED_CERTIFICATE = "expired_certificate"
    WRONG_HOST_CERTIFICATE = "wrong_host_certificate"
    UNTRUSTED_CERTIFICATE = "untrusted_certificate"
    REFUSE = "refuse"


BAD_CERTIFICATES = frozenset(
    {FaultKind.EXPIRED_CERTIFICATE, FaultKind.WRONG_HOST_CERTIFICATE, FaultKind.UNTRUSTED_CERTIFICATE}
)
OF_CONNECTIONS = BAD_CERTIFICATES | {FaultKind.REFUSE}
"""These count connections instead of exchanges."""


class Selection(TypedDict, total=False):
    """Which exchanges a fault counts and how often it strikes; see :class:`Fault`."""

    method: str
    path: str
    times: int
    every: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One planned fault. The class methods make one of each kind.

        matching exchange   1  2  3  4  5  6  7
        nth=3               .  .  X  .  .  .  .
        nth=3, times=2      .  .  X  X  .  .  .
        nth=2, every=2      .  X  .  X  .  X  .  and so on

    Attributes:
        kind: what happens.
        nth: the first matching exchange that is struck, from 1.
        method: regular expression for the whole method; None matches any. SSH's only method is ``exec``.
        path: regular expression found anywhere in the request target with its query, or in the command.
        times: how often it strikes, and must strike to count as hit; None is once, with ``every`` no limit.
        every: strikes each so-many-th matching exchange from ``nth`` on.
        seconds: of ``delay``.
        bytes_per_second: of ``drip``.
        at: the byte of a TCP stream where ``reset``, ``truncate`` and ``garble`` strike, from 0.
        of_request: TCP only: the stream from the client is struck instead of the one to it.
        code: the HTTP status of ``status``.
        retry_after: seconds in its ``Retry-After``; None leaves the header out.
        to: where ``redirect`` leads, an origin.
        content_type: of ``wrong_content_type``.

    Raises:
        ValueError: for a number out of its range or a pattern that is no regular expression.
    """

    kind: FaultKind
    nth: int = 1
    method: str | None = None
    path: str | None = None
    times: int | None = None
    every: int | None = None
    seconds: float = 0.0
    bytes_per_second: float = 0.0
    at: int = 0
    of_request: bool = False
    code: int = 503
    retry_after: int | None = None
    to: str = ""
    content_type: str = ""

    def __post_init__(self) -> None:
        if (
            min(self.nth, 1 if self.times is None else self.times, 1 if self.every is None else self.every)
            < 1
        ):
            raise ValueError("nth, times and every count from 1")
        if self.seconds < 0 or self.at < 0:
            raise ValueError("seconds and at must not be negative")
        if self.kind is FaultKind.DRIP and self.bytes_per_second <= 0:
            raise ValueError("bytes_per_second must be more than 0")
        if self.kind is FaultKind.REDIRECT and not self.to:
            raise ValueError("redirect needs `to`")
        if not 200 <= self.code <= 599:
            raise ValueError("code must be a final HTTP status")
        for pattern in (self.method, self.path):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error

    # -- one constructor per kind ---------------------------------------------------------------------

    @classmethod
    def lose_reply(cls, nth: int = 1, **select: Unpack[Selection]) -> Self:
        """The backend does it and answers; the connection closes without a byte of the answer."""
        return cls(kind=FaultKind.LOSE_REPLY, nth=nth, **select)

    @classmethod
    def lose_request(cls, nth: int = 1, **select: Unpack[Selection]) -> Self:
        """The backend never sees it; the connection closes."""
        return cls(kind=FaultKind.LOSE_REQUEST, nth=nth, **select)

    @classmethod
    def delay(cls, nth: int = 1, *, seconds: float, **select: Unpack[Selection]) -> Self:
        """The backend answers at once; its answer arrives so many seconds later."""
        return cls(kind=FaultKind.DELAY, nth=nth, seconds=seconds, **select)

    @classmethod
    def drip(cls, nth: int = 1, *, bytes_per_second: float, **select: Unpack[Selection]) -> Self:
        """The answer, headers too, arrives at this pace."""
        return cls(kind=FaultKind.DRIP, nth=nth, bytes_per_second=bytes_per_second, **select)

    @classmethod
    def truncate(
        cls, nth: int = 1, *, at: int = 0, of_request: bool = False, **select: Unpack[Selection]
    ) -> Self:
        """Half of the answer's body, then the end; TCP: the first ``at`` bytes, then the end."""
        return cls(kind=FaultKind.TRUNCATE, nth=nth, at=at, of_request=of_request, **select)

    @classmethod
    def garble(
        cls, nth: int = 1, *, at: int = 0, of_request: bool = False, **select: Unpack[Selection]
    ) -> Self:
        """All bits of the answer's body are inverted, its length stays; TCP: those of the byte ``at``."""
        return cls(kind=FaultKind.GARBLE, nth=nth, at=at, of_request=of_request, **select)

    @classmethod
    def duplicate(cls, nth: int = 1, **select: Unpack[Selection]) -> Self:
        """The backend gets it twice, one after the other; the client sees the second answer."""
        return cls(kind=FaultKind.DUPLICATE, nth=nth, **select)

    @classmethod
    def reset(
        cls, nth: int = 1, *, at: int = 0, of_request: bool = False, **select: Unpack[Selection]
    ) -> Self:
        """RST, and the backend never sees it; TCP: RST after ``at`` bytes."""
        return cls(kind=FaultKind.RESET, nth=nth, at=at, of_request=of_request, **select)

    @classmethod
    def reset_after(cls, nth: int = 1, **select: Unpack[Selection]) -> Self:
        """The backend does it and answers; the client gets RST instead."""
        return cls(kind=FaultKind.RESET_AFTER, nth=nth, **select)

    @classmethod
    def status(
        cls, nth: int = 1, code: int = 503, *, retry_after: int | None = None, **select: Unpack[Selection]
    ) -> Self:
        """The proxy answers with this status; the backend never sees it."""
        return cls(kind=FaultKind.STATUS, nth=nth, code=code, retry_after=retry_after, **select)

    @classmethod
    def html_login_page(cls, nth: int = 1, **select: Unpack[Selection]) -> Self:
        """200 with a login page in HTML, as a captive portal answers; the backend never sees it."""
        return cls(kind=FaultKind.HTML_LOGIN_PAGE, nth=nth, **select)

    @classmethod
    def wrong_content_type(
        cls, nth: int = 1, *, content_type: str = "text/html", **select: Unpack[Selection]
    ) -> Self:
        """The true answer under another content type."""
        return cls(kind=FaultKind.WRONG_CONTENT_TYPE, nth=nth, content_type=content_type, **select)

    @classmethod
    def black_hole(cls, nth: int = 1, **select: Unpack[Selection]) -> Self:
        """Accepted and never answered, until the client hangs up; the backend never sees it."""
        return cls(kind=FaultKind.BLACK_HOLE, nth=nth, **select)

    @classmethod
    def redirect(cls, nth: int = 1, *, to: str, **select: Unpack[Selection]) -> Self:
        """307 to the same target at the origin ``to``; the backend never sees it."""
        return cls(kind=FaultKind.REDIRECT, nth=nth, to=to.rstrip("/"), **select)

    @classmethod
    def expired_certificate(cls, nth: int = 1, *, every: int = 1) -> Self:
        """Connections from the ``nth`` on get a certificate that ended yesterday."""
        return cls(kind=FaultKind.EXPIRED_CERTIFICATE, nth=nth, every=every)

    @classmethod
    def wrong_host_certificate(cls, nth: int = 1, *, every: int = 1) -> Self:
        """Connections from the ``nth`` on get a trusted certificate of another host."""
        return cls(kind=FaultKind.WRONG_HOST_CERTIFICATE, nth=nth, every=every)

    @classmethod
    def untrusted_certificate(cls, nth: int = 1, *, every: int = 1) -> Self:
        """Connections from the ``nth`` on get a certificate of an authority that nobody knows."""
        return cls(kind=FaultKind.UNTRUSTED_CERTIFICATE, nth=nth, every=every)

    @classmethod
    def refuse(cls, nth: int = 1, *, times: int | None = None, every: int | None = None) -> Self:
        """The connection is reset before a byte; see ``FaultProxy.refusing`` for a port that is closed."""
        return cls(kind=FaultKind.REFUSE, nth=nth, times=times, every=every)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What a plan's file says of one fault: its members are this class's fields.

        Raises:
            ValueError: for an unknown kind or member, or a value of another type.
        """
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        for name, member in value.items():
            if name not in known:
                raise ValueError(f"a fault has no {name!r}; it has {', '.join(known)}")
            if type(member).__name__ not in _JSON_TYPES[known[name]]:
                raise ValueError(f"{name} must be {known[name]}, not {member!r}")
        return cls(**{**value, "kind": FaultKind(value.get("kind", ""))})

    # -- when it strikes ------------------------------------------------------------------------------

    def matches(self, method: str, path: str) -> bool:
        """Whether it counts an exchange at all."""
        return (self.method is None or re.fullmatch(self.method, method) is not None) and (
            self.path is None or re.search(self.path, path) is not None
        )

    def strikes(self, count: int) -> bool:
        """Whether the ``count``-th matching exchange is struck."""
        rounds, rest = divmod(count - self.nth, self.every or 1)
        limit = self.times or (None if self.every else 1)
        return rounds >= 0 and rest == 0 and (limit is None or rounds < limit)

    @property
    def needed(self) -> int:
        """How many strikes make it hit."""
        return self.times or 1

    def __str__(self) -> str:
        told = [f"nth={self.nth}"]
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if value != field.default:
                told.append(f"{field.name}={value!r}")
        return f"{self.kind}({', '.join(told)})"


_JSON_TYPES = {
    "FaultKind": {"str"},
    "int": {"int"},
    "str": {"str"},
    "bool": {"bool"},
    "float": {"int", "float"},
    "int | None": {"int", "NoneType"},
    "str | None": {"str", "NoneType"},
}
