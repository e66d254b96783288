"""The fence driver `redfish`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ....core.spi import Call, InvalidArgument, option
from ..child import Exchange
from ..confirmed import ConfirmedFence, FenceOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RedfishOptions(FenceOptions):
    """Where the BMC is, who we are there and which of its systems is the host."""

    url: str = option(help="Where the BMC answers, without a path", example="https://bmc-7.example.org")
    system: str = option(help="Id of the host below /redfish/v1/Systems; empty: the only one", default="")
    ca: Path | None = option(
        help="PEM file to trust instead of the system's: an authority or the BMC's own certificate",
        default=None,
    )
    verify: bool = option(
        help="Verify the BMC's certificate; without it, who stands between can say OFF", default=True
    )
    allow_http: bool = option(help="Accept http:// to this machine (simulators only)", default=False)


class RedfishFence(ConfirmedFence[RedfishOptions]):
    """A host behind a BMC that speaks Redfish.

    Raises:
        InvalidArgument: the url is not one, or has no TLS; the CA file cannot be read.
    """

    spi = (1, 0)
    Options = RedfishOptions

    def __init__(self, options: RedfishOptions) -> None:
        super().__init__(options)
        if not options.username:
            raise InvalidArgument("option 'username' must not be empty")
        if "/" in options.system:
            raise InvalidArgument("option 'system' must be an id, not a path")
        _check_url(options)
        if options.ca is not None and not options.ca.is_file():
            raise InvalidArgument(f"option 'ca': there is no file {str(options.ca)!r}")

    def _ask(self, act: str, call: Call) -> str:
        options = self.options
        request = {
            "act": act,
            "url": options.url,
            "system": options.system,
            "username": options.username,
            "verify": str(options.ca) if options.ca and options.verify else options.verify,
            "timeout": options.timeout,
        }
        return Exchange(f"{__package__}.session", request, options.password, options.timeout).run(call)


def _check_url(options: RedfishOptions) -> None:
    try:
        url = urlsplit(options.url)
        host = url.hostname if url.port != 0 else None  # looks at the port, which may be no number
    except ValueError as error:
        raise InvalidArgument("option 'url' is not a URL") from error
    if url.scheme not in ("https", "http") or not host or _more_than_a_place(url):
        raise InvalidArgument("option 'url' must be https://HOST or https://HOST:PORT")
    if url.scheme == "http" and not (options.allow_http and _is_loopback(host)):
        raise InvalidArgument(
            "option 'url' must be https; http needs 'allow_http' and an address of this machine"
        )


def _more_than_a_place(url: SplitResult) -> bool:
    return bool(url.username or url.password or url.query or url.fragment or url.path not in ("", "/"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
