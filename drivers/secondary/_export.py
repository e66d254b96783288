"""Where an NFS export is: `nfs://host[:port]/export[?version=3|4&mountport=…&uid=…&gid=…]`."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from ...core.spi import InvalidArgument

_ARGUMENTS = ("version", "mountport", "uid", "gid")


class Export(NamedTuple):
    """What the URL says; a port of 0 is asked of the server's portmapper (version 3) or 2049 (version 4)."""

    host: str
    port: int
    path: str
    version: int
    mountport: int
    uid: int
    gid: int


def parse_export(url: str) -> Export:
    """Read an URL of an export.

    Raises:
        InvalidArgument: naming the part that is wrong.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError as error:
        raise InvalidArgument(f"option 'url' is no URL: {error}") from error
    if parts.scheme != "nfs" or not host or "@" in parts.netloc or len(parts.path) < 2:
        raise InvalidArgument("option 'url' must be nfs://host[:port]/export")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, text in given.items():
        if name not in _ARGUMENTS or not text.isdecimal():
            raise InvalidArgument(
                f"option 'url' takes {', '.join(_ARGUMENTS)} with a number, not {name}={text!r}"
            )
    number = {"version": 3, "mountport": 0, "uid": os.getuid(), "gid": os.getgid()}
    number |= {name: int(text) for name, text in given.items()}
    if number["version"] not in (3, 4):
        raise InvalidArgument(f"option 'url' must ask for version 3 or 4, not {number['version']}")
    return Export(host, port, unquote(parts.path), **number)
