"""`bollard agent`: answers an orchestrator's framed commands over TLS, as CloudStack's agents do.

channel.py   frames on a stream: length, bounds, timeouts
control.py   startup, ping, ready and shutdown, which are answered at once
desk.py      executes the commands of a request, so many at a time
session.py   one connection: what comes in, in which order, what goes out
door.py      who comes in, of those who connect
agent.py     connects (and connects again) or listens, and stops in order
tls.py       both sides show a certificate of the one authority
"""

from .agent import Agent, AgentOptions
from .tls import TlsFiles, client_context, server_context

__all__ = ["Agent", "AgentOptions", "TlsFiles", "client_context", "server_context"]
