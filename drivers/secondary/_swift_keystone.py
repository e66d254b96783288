"""Signing in to Keystone, with keystoneauth1: swiftclient's own way ends in words instead of exceptions.

password of user, domain ── POST /v3/auth/tokens ──> token of project, domain + catalog ──> object store's URL
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.spi import Call, InvalidArgument, Outcome, StorageError, Unauthenticated, Unavailable
from ._http import status_class

if TYPE_CHECKING:
    from .swift import SwiftOptions

_WHAT = "signing in to Keystone"


def sign_in(options: SwiftOptions, timeouts: tuple[float, float], call: Call) -> tuple[str, str]:
    """Return storage URL and token.

    Args:
        timeouts: seconds to connect, and without a byte.

    Raises:
        Unauthenticated: user, key, project or a domain is wrong; Keystone does not say which.
        InvalidArgument: the catalog has no object store, or the package is missing.
        Unavailable: Keystone cannot be reached, or failed.
    """
    try:
        from keystoneauth1 import exceptions
        from keystoneauth1.session import Session
    except ImportError as error:
        raise InvalidArgument(
            f"{_WHAT}: auth_version 2 and 3 need the package keystoneauth1 (pip install bollard[keystone])"
        ) from error
    import requests

    ca = str(options.ca_file) if options.ca_file and options.verify_tls else options.verify_tls
    with requests.Session() as http:
        try:
            found = _plugin(options).get_access(Session(session=http, verify=ca, timeout=min(timeouts)))
            return options.storage_url or _endpoint(found, options.region), str(found.auth_token)
        except exceptions.SSLError as error:
            raise Unauthenticated(f"{_WHAT}: the server's certificate is not trusted") from error
        except exceptions.ConnectionError as error:
            call.check()  # a timeout that the deadline set is told as the deadline's
            kind = type(error).__name__
            raise Unavailable(
                f"{_WHAT}: the connection failed ({kind})", outcome=Outcome.NOT_APPLIED
            ) from error
        except exceptions.HttpError as error:
            raise _refused(int(error.http_status or 0)) from error
        except exceptions.ClientException as error:
            raise Unavailable(
                f"{_WHAT}: the answer is not Keystone's ({type(error).__name__})", outcome=Outcome.NOT_APPLIED
            ) from error


def _plugin(options: SwiftOptions) -> Any:
    from keystoneauth1.identity import v2, v3

    if not options.account:
        raise InvalidArgument(f"{_WHAT}: option 'account' must name the project")
    version = f"v{options.auth_version}{'.0' if options.auth_version == '2' else ''}"
    url = options.url.rstrip("/")
    url = url if url.endswith(version) else f"{url}/{version}"
    key = options.key.reveal()
    if options.auth_version == "2":
        return v2.Password(url, options.user_name, key, tenant_name=options.account)
    return v3.Password(
        url,
        key,
        username=options.user_name,
        project_name=options.account,
        user_domain_name=options.user_domain,
        project_domain_name=options.project_domain,
    )


def _endpoint(found: Any, region: str) -> str:
    from keystoneauth1.exceptions import CatalogException

    try:
        return str(
            found.service_catalog.url_for(
                service_type="object-store", interface="public", region_name=region or None
            )
        )
    except CatalogException as error:
        raise InvalidArgument(f"{_WHAT}: the catalog has no object store for this region") from error


def _refused(status: int) -> StorageError:
    if status in (401, 403):
        return Unauthenticated(f"{_WHAT}: user, key, account or domain is wrong (it answered {status})")
    return status_class(status)(f"{_WHAT}: it answered {status}", outcome=Outcome.NOT_APPLIED)
