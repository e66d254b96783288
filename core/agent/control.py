"""Startup, ping, ready, cron and shutdown: about the connection, not about storage.

    we connected    StartupCommand ──>            <── StartupAnswer: our number, seconds between pings
                    PingCommand, every so often ──>                    <── PingAnswer
    either          <── PingCommand, ReadyCommand     PingAnswer, ReadyAnswer ──>     at once, whatever runs
    we stop         ShutdownCommand ──>

CloudStack's bodies hold much about a host's memory, networks and VMs, which a storage agent has not got: ours
hold what identifies it. There is nothing that this agent does by the clock, so CronCommand is not supported.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...transfer_objects.cloudstack.frame import Flags, Frame
from ...transfer_objects.cloudstack.text import parse
from ...transfer_objects.errors import DecodeError

_PACKAGE = "com.cloud.agent.api."
_ANSWERED = {_PACKAGE + "PingCommand": "PingAnswer", _PACKAGE + "ReadyCommand": "ReadyAnswer"}
STARTUP, SHUTDOWN = _PACKAGE + "StartupCommand", _PACKAGE + "ShutdownCommand"
PING, STARTUP_ANSWER = _PACKAGE + "PingCommand", _PACKAGE + "StartupAnswer"
TYPE = "Storage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What the orchestrator says to our startup.

    Attributes:
        agent_id: our number from now on.
        ping_interval: seconds; 0 leaves it to us.
    """

    agent_id: int = 0
    ping_interval: float = 0.0


def command(class_name: str, **fields: Any) -> bytes:
    """Return the body of a request of ours."""
    return json.dumps([{class_name: fields}]).encode()


def answers(body: bytes) -> bytes | None:
    """Return the answers to a request that is made of control commands alone; None: it is not."""
    names = _names(body)
    if not names or not all(name in _ANSWERED for name in names):
        return None
    told = [{_PACKAGE + _ANSWERED[name]: {"result": True, "details": "", "wait": 0}} for name in names]
    return json.dumps(told).encode()


def started(response: Frame) -> Started | None:
    """Return what a startup's answer says; None: it is a refusal, or none.

    The number of seconds is bounded: a peer must not have us ping a thousand times a second, or never.
    """
    found = _first(response.body, STARTUP_ANSWER)
    if found is None or found.get("result") is False:
        return None
    number, interval = found.get("hostId"), found.get("pingInterval")
    return Started(
        agent_id=number if type(number) is int and 0 <= number < 2**63 else 0,
        ping_interval=min(max(float(interval), 1.0), 3600.0)
        if type(interval) is int and interval > 0
        else 0.0,
    )


def request(sequence: int, body: bytes, agent_id: int = 0) -> Frame:
    """Return a request of ours as a frame."""
    return Frame(body=body, flags=Flags.REQUEST | Flags.CONTROL, sequence=sequence, agent_id=agent_id)


def _first(body: bytes, name: str) -> dict[str, Any] | None:
    """Return the fields of a body's first object, if it is of that class."""
    try:
        tree = parse(body)
    except DecodeError:
        return None
    if not isinstance(tree, list) or not tree or not isinstance(tree[0], dict):
        return None
    fields = tree[0].get(name)
    return fields if isinstance(fields, dict) else None


def _names(body: bytes) -> list[str]:
    """Return the classes of a body's objects; none if it is no payload."""
    try:
        tree = parse(body)
    except DecodeError:
        return []
    if not isinstance(tree, list) or not all(isinstance(one, dict) and one for one in tree):
        return []
    return [next(iter(one)) for one in tree]
