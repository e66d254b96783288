"""QEMU's own monitor, for the few things that libvirt has no call for. It marks the domain as tainted."""

from __future__ import annotations

import json
from typing import Any

import libvirt_qemu  # type: ignore[import-untyped, unused-ignore]  # libvirt-python ships no type information

from ....core.spi import Call, Internal, Outcome
from .machine import Machine


def qmp_ask(machine: Machine, command: str, call: Call, **arguments: Any) -> Any:
    """Send a command that changes nothing."""
    text = _text(command, arguments)
    said = machine.ask(call, lambda domain: _send(domain, text), command)
    return _content(said, command, Outcome.NOT_APPLIED)


def qmp_act(machine: Machine, command: str, call: Call, **arguments: Any) -> Any:
    """Send a command that changes something; QEMU does it wholly or refuses it."""
    text = _text(command, arguments)
    said = machine.act(call, lambda domain: _send(domain, text), command)
    return _content(said, command, Outcome.NOT_APPLIED)


def _text(command: str, arguments: dict[str, Any]) -> str:
    return json.dumps({"execute": command, "arguments": arguments} if arguments else {"execute": command})


def _send(domain: Any, text: str) -> Any:
    return libvirt_qemu.qemuMonitorCommand(domain, text, 0)


def _content(said: str, command: str, outcome: Outcome) -> Any:
    answer = json.loads(said)
    if "error" in answer:
        raise Internal(f"QEMU refuses {command}: {answer['error'].get('desc', '')[:300]}", outcome=outcome)
    return answer["return"]
