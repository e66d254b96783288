"""Options of the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ....core.spi import InvalidArgument, option
from ....transfer_objects.secret import Secret

_OWNER = re.compile(r"[a-z0-9]{1,16}")
_SSH_PORT = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class IscsiSshOptions:
    """Where the array is, who we are there, and which pool is ours."""

    url: str = option(help="Where the array's sshd answers", example="ssh://array-1:22")
    known_host: str = option(
        help="The array's public host key, type and base64, as ssh-keyscan prints it behind the name",
        example="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI...",
    )
    identity_file: Path = option(help="The file of our private key", example="/etc/bollard/array-1.key")
    passphrase: Secret | None = option(help="What opens the private key", secret=True, default=None)
    pool: Path = option(help="Where the pool's file system is mounted on the array", example="/srv/pool")
    user: str = option(help="As whom to log in; tgtd obeys root only", default="root")
    owner: str = option(
        help="Marks our objects on the array; give each orchestrator its own (a-z, 0-9; at most 16)",
        default="bollard",
    )


@dataclass(frozen=True, slots=True)
class SshAddress:
    """Where to connect."""

    host: str
    port: int


def address_of(options: IscsiSshOptions) -> SshAddress:
    """Take the URL apart.

    Raises:
        InvalidArgument: it is no URL of that form.
    """
    try:
        url = urlsplit(options.url)
        port = url.port or _SSH_PORT
    except ValueError as error:
        raise InvalidArgument("option 'url' must be ssh://HOST or ssh://HOST:PORT") from error
    if url.scheme != "ssh" or not url.hostname or "@" in url.netloc or url.path.strip("/"):
        raise InvalidArgument("option 'url' must be ssh://HOST or ssh://HOST:PORT")
    return SshAddress(url.hostname, port)


def check_options(options: IscsiSshOptions) -> None:
    """Refuse what cannot work.

    Raises:
        InvalidArgument: naming the option and the rule.
    """
    address_of(options)
    if not _OWNER.fullmatch(options.owner):
        raise InvalidArgument(f"option 'owner' must be 1 to 16 of a-z and 0-9, got {options.owner!r}")
    if not options.pool.is_absolute():
        raise InvalidArgument(f"option 'pool' must be an absolute path, got {str(options.pool)!r}")
    if len(options.known_host.split()) != len(("type", "base64")):
        raise InvalidArgument("option 'known_host' must be a type and a key in base64, with a blank between")
