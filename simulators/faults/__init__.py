"""A faithful man in the middle that breaks what its plan says: HTTP(S), SSH commands and plain TCP.

    with FaultProxy.http(upstream=array.url, upstream_ca=array.ca, state=directory) as proxy:
        proxy.plan([Fault.lose_reply(1, method=MUTATING)])
        driver_at(proxy.url, ca=proxy.ca).create_volume(...)
        proxy.finish()  # raises FaultsNotHit when the test proved less than it planned to

docs/fault-proxy.md is the reference; ``python -m bollard.simulators.faults --help`` runs it.
"""

from .base import Proxy
from .fault import MUTATING, Fault, FaultKind
from .http import HttpProxy
from .plan import Exchange, FaultsNotHit
from .tcp import TcpProxy

__all__ = [
    "MUTATING",
    "Exchange",
    "Fault",
    "FaultKind",
    "FaultProxy",
    "FaultsNotHit",
    "HttpProxy",
    "Proxy",
    "TcpProxy",
]


class FaultProxy:
    """Two of the kinds; `ssh.SshProxy` is the third, apart because paramiko takes 0.2 s to import."""

    http = HttpProxy
    tcp = TcpProxy
