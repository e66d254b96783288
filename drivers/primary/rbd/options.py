"""Options of the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ....core.spi import InvalidArgument, option
from ....transfer_objects.secret import Secret

_OWNER = re.compile(r"[a-z0-9]{1,16}")
# Both go into capability strings, where a blank or a comma would begin something else.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# What Ceph's mon_host takes: HOST, HOST:PORT, v2:HOST:PORT/0, lists of them in brackets.
_MONITORS = re.compile(r"[A-Za-z0-9.:,/\[\]_-]{1,1024}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RbdOptions:
    """Where the cluster is, who we are there, and which pool is ours."""

    monitors: str = option(
        help="The monitors' addresses, as in `mon host` of ceph.conf; hosts use the same",
        example="10.0.0.1,10.0.0.2,10.0.0.3",
    )
    key: Secret = option(help="The cephx key of our user", secret=True)
    user: str = option(help="Our cephx user, without `client.`", default="bollard")
    pool: str = option(help="The pool, made with `rbd pool init`", default="rbd")
    owner: str = option(
        help="Marks our objects in the pool; give each orchestrator its own (a-z, 0-9; at most 16)",
        default="bollard",
    )
    python: Path = option(
        help="The Python that has the modules rados and rbd (Debian: python3-rados, python3-rbd)",
        default=Path("/usr/bin/python3"),
    )


def check_options(options: RbdOptions) -> None:
    """Refuse what cannot work.

    Raises:
        InvalidArgument: naming the option and the rule.
    """
    if not _MONITORS.fullmatch(options.monitors):
        raise InvalidArgument(
            "option 'monitors' must be addresses as in `mon host` of ceph.conf, without blanks"
        )
    for name, value in (("user", options.user), ("pool", options.pool)):
        if not _NAME.fullmatch(value):
            raise InvalidArgument(
                f"option {name!r} must be of letters, digits, '.', '_' and '-', got {value!r}"
            )
    if not _OWNER.fullmatch(options.owner):
        raise InvalidArgument(f"option 'owner' must be 1 to 16 of a-z and 0-9, got {options.owner!r}")
    if not options.python.is_absolute():
        raise InvalidArgument(f"option 'python' must be an absolute path, got {str(options.python)!r}")
