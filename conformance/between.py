"""A fault proxy between the driver and its backend: which options must change for it.

    driver ── url, ca of the proxy ──> fault proxy ── verified ──> backend

The configuration's [backend] names the options; without it, those that look like it are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..core.spi import InvalidArgument
from ..simulators.faults.http import HttpProxy
from .lab import not_applicable
from .settings import SuiteSettings

_ADDRESSES = ("url", "endpoint_url", "endpoint", "address")
_AUTHORITIES = ("ca", "ca_file", "ca_cert", "cacert")


@contextmanager
def fault_proxy(
    settings: SuiteSettings, directory: Path, *, tls_only: bool = False
) -> Iterator[tuple[HttpProxy, Mapping[str, Any]]]:
    """Start a proxy in front of the backend; yields it and the options with which a driver goes through it.

    Args:
        settings: the run's.
        directory: where the proxy keeps its certificates.
        tls_only: the check means nothing without certificates.

    Raises:
        NotApplicable: no option holds an http(s) address.
        InvalidArgument: [backend] names an option that the configuration does not set.
    """
    address = _address(settings)
    authority = _authority(settings)
    url = urlsplit(str(settings.options[address]))
    if tls_only and not (authority and url.scheme == "https"):
        not_applicable("the backend is reached without TLS, or no option names its authority")
    upstream_ca = settings.options.get(authority) if authority else None
    with HttpProxy(
        upstream=f"{url.scheme}://{url.netloc}",
        upstream_ca=Path(upstream_ca) if upstream_ca else None,
        state=directory,
    ) as proxy:
        through = dict(settings.options) | {address: proxy.url + url.path}
        if authority and url.scheme == "https":
            through[authority] = str(proxy.ca)
        yield proxy, through


def _address(settings: SuiteSettings) -> str:
    named = settings.backend.address
    if named and named not in settings.options:
        raise InvalidArgument(f"[backend]: address names {named!r}, which [options] does not set")
    for name in (named,) if named else _ADDRESSES:
        if str(settings.options.get(name, "")).startswith(("http://", "https://")):
            return name
    return not_applicable("no option holds an http(s) address; [backend] in the configuration may name it")


def _authority(settings: SuiteSettings) -> str:
    if settings.backend.ca:
        return settings.backend.ca
    return next((name for name in _AUTHORITIES if settings.options.get(name)), "")
