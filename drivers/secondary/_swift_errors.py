"""What Swift's answers and the HTTP client's exceptions mean in the taxonomy.

Messages carry the status only: URLs and texts of Swift name accounts and may carry tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.spi import Call, InvalidArgument, Outcome, StorageError, Unauthenticated, Unavailable
from ._http import retry_after, status_class

if TYPE_CHECKING:
    from swiftclient.exceptions import ClientException


def from_answer(error: ClientException, what: str) -> StorageError:
    """Return the typed error for a request that Swift refused."""
    status = int(error.http_status or 0)
    headers = {str(k).lower(): str(v) for k, v in dict(error.http_response_headers or {}).items()}
    return status_class(status)(
        f"{what}: the store answered {status or 'nothing sensible'} {error.http_reason or ''}".rstrip(),
        detail=f"transaction {headers.get('x-trans-id', '?')}",
        retry_after=retry_after(headers),
    )


def from_sign_in(error: ClientException) -> StorageError:
    """Return the typed error for a sign-in of version 1 that failed."""
    what, status = "signing in", int(error.http_status or 0)
    if status:
        cls = Unauthenticated if status in (401, 403) else status_class(status)
        return cls(f"{what}: the store answered {status}", outcome=Outcome.NOT_APPLIED)
    return Unavailable(f"{what}: the store answered nothing sensible", outcome=Outcome.NOT_APPLIED)


def from_connection(error: Exception, what: str, call: Call) -> StorageError:
    """Return the typed error for a request that got no answer, or half of one."""
    import requests

    kind = type(error).__name__
    if isinstance(error, requests.exceptions.SSLError):
        return Unauthenticated(f"{what}: the server's certificate is not trusted ({kind})")
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return InvalidArgument(f"{what}: option 'url' is not a URL of HTTP")
    call.check(Outcome.UNKNOWN)  # a timeout that the deadline set is told as the deadline's
    unsent = isinstance(error, requests.exceptions.ConnectTimeout) or "NewConnectionError" in str(error)
    outcome = Outcome.NOT_APPLIED if unsent else Outcome.UNKNOWN
    return Unavailable(f"{what}: the connection failed or broke ({kind})", outcome=outcome)
