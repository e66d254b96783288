"""What the routes work with, and how they ask who is calling."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ..core.catalog import Catalog
from ..core.jobs import Orders
from ..core.service.recovery_loop import Recovery
from ..core.spi.errors import Unauthenticated
from .figures import Figures
from .tokens import Scope, Token, Tokens

MAX_BODY = 4 * 2**20
_bearer = HTTPBearer(auto_error=False, description="A token of `bollard api token create`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """One server's.

    Attributes:
        max_body: bytes of a request.
        poll: seconds between two looks at a job that somebody waits for.
        recovery: the sync that this server does by itself; None: it does none.
        stopping: set when the server ends; whoever waits is answered.
    """

    catalog: Catalog
    orders: Orders
    tokens: Tokens
    figures: Figures
    max_body: int = MAX_BODY
    poll: float = 0.25
    recovery: Recovery | None = None
    stopping: threading.Event = field(default_factory=threading.Event)


def services(request: Request) -> Services:
    """Return the application's services."""
    found: Services = request.app.state.services
    return found


def needs(scope: Scope) -> Callable[..., Token]:
    """Return a dependency that gives the caller's token, if it has the scope."""

    def check(
        using: Annotated[Services, Depends(services)],
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Token:
        if given is None:
            raise Unauthenticated("send a token: Authorization: Bearer bollard_…")
        token = using.tokens.check(given.credentials)
        token.require(scope)
        return token

    return check


Using = Annotated[Services, Depends(services)]
Reader = Annotated[Token, Depends(needs(Scope.READ))]
Operator = Annotated[Token, Depends(needs(Scope.OPERATE))]
Admin = Annotated[Token, Depends(needs(Scope.ADMIN))]
