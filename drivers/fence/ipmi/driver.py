"""The fence driver `ipmi`."""

from __future__ import annotations

from dataclasses import dataclass

from ....core.spi import Call, InvalidArgument, option
from ..child import Exchange
from ..confirmed import ConfirmedFence, FenceOptions

# IPMI 2.0, tables 22-31 and 22-33. pyghmi would send more and fail with a message about something else.
_MAX_USERNAME = 16
_MAX_PASSWORD = 20
_PRIVILEGES = {"operator": 3, "administrator": 4}  # table 22-28


@dataclass(frozen=True, slots=True, kw_only=True)
class IpmiOptions(FenceOptions):
    """Where the BMC is and who we are there."""

    host: str = option(help="Name or address of the BMC", example="bmc-7.example.org")
    port: int = option(help="Its UDP port", default=623, minimum=1, maximum=65535)
    privilege: str = option(
        help="Asked for at login; operator is enough to switch the power",
        default="operator",
        choices=tuple(_PRIVILEGES),
    )


class IpmiFence(ConfirmedFence[IpmiOptions]):
    """A host behind a BMC that speaks IPMI 2.0 over LAN.

    What IPMI cannot carry (an empty host, a long name or password) is `InvalidArgument` at the first call.
    """

    spi = (1, 0)
    Options = IpmiOptions

    def _ask(self, act: str, call: Call) -> str:
        options = self.options
        _check(options)
        request = {
            "act": act,
            "host": options.host,
            "port": options.port,
            "username": options.username,
            "privilege": _PRIVILEGES[options.privilege],
        }
        return Exchange(f"{__package__}.session", request, options.password, options.timeout).run(call)


def _check(options: IpmiOptions) -> None:
    _check_length("username", options.username, _MAX_USERNAME)
    _check_length("password", options.password.reveal(), _MAX_PASSWORD)
    if not options.host.strip():
        raise InvalidArgument("option 'host' must not be empty")


def _check_length(name: str, text: str, most: int) -> None:
    # Not by strict encoding: the exception of half a surrogate pair carries the whole text.
    if not 1 <= len(text.encode(errors="replace")) <= most:
        raise InvalidArgument(f"option {name!r} must have 1 to {most} bytes: IPMI 2.0 carries no more")
    if text.encode(errors="ignore") != text.encode(errors="replace"):
        raise InvalidArgument(f"option {name!r} is not text in UTF-8")
