"""What every command and every answer carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..base import TransferObject
from ..details import Details
from ..rules import Int64, Text
from ..secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TransferObject):
    """An order to the data plane, or the answer to one.

    Attributes:
        context: free pairs of the orchestrator, e.g. the hypervisor's type.
        wait: seconds; 0 leaves it to the receiver. CloudStack really waits twice as long.
        bypass_host_maintenance: run it on a host in maintenance as well.
        external_details: what extensions outside of CloudStack asked for, by extension (4.21 and later).
    """

    context: Mapping[str, str | Secret] = Details()
    wait: Int64 = 0
    bypass_host_maintenance: bool = False
    external_details: Mapping[str, Mapping[str, str | Secret]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Command):
    """How a command ended; the answer of those that have nothing else to tell.

    Attributes:
        result: True if it was done. An answer that does not say is a success, as in CloudStack.
        details: the reason of a failure, or a remark.
    """

    result: bool = True
    details: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedAnswer(Answer):
    """The receiver does not know the command."""
