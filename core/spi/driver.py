"""What all five kinds of driver share: options, a version, a life cycle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, final

from .call import Call
from .capabilities import Capability

# (major, minor). A new optional mix-in is a minor; a new mandatory method is a major. Core supports
# the present and the previous major.
SPI_VERSION = (1, 1)

O = TypeVar("O")  # noqa: E741 - reads as "options" wherever it is used


class Driver(ABC, Generic[O]):
    """A driver instance serves one pool, store, hypervisor or BMC.

    [drv.entry] The name MUST lead to one class, offered by one distribution. [drv.import] Importing
    its module MUST change nothing outside of it: no connection, thread, process or file, no signal
    handler, log set-up, working directory, environment, locale; warning filters go behind those that
    are there. [drv.import-fast] It SHOULD take less than 300 ms: each listing of drivers pays for it.
    [drv.spi] `spi` MUST be a version that Bollard speaks, and SHOULD be stated by the driver: what
    is inherited from here claims each newer version without anybody having read it.
    [drv.signatures] Methods MUST take what those of the SPI take: names, kinds, defaults.
    [drv.mixins] Capabilities MUST be those of the mix-ins inherited, no more and no less.
    [drv.metadata] The distribution SHOULD tell version, summary, licence and supported Pythons.

    [drv.cheap] Constructing MUST open nothing and start nothing. [drv.close-twice] `close` MUST be
    repeatable. [drv.isolated] Two instances MUST share neither sessions nor credentials.
    """

    spi: ClassVar[tuple[int, int]] = SPI_VERSION
    Options: ClassVar[type[Any]]

    def __init__(self, options: O) -> None:
        self.options = options

    @abstractmethod
    def close(self) -> None:
        """Release what is held. [drv.close-all] No session, socket, file, thread, process MUST be left."""

    def unavailable(self, call: Call) -> Mapping[Capability, str]:  # noqa: ARG002 - for overriders
        """Return the declared capabilities that this instance lacks, each with its reason.

        [drv.narrow] It MUST only narrow: a licence is missing, the firmware is too old.
        """
        return {}

    @final
    @classmethod
    def declared(cls) -> frozenset[Capability]:
        """Return the capabilities that the class declares: computed from its bases, cannot drift."""
        return frozenset(c for base in cls.__mro__ if (c := base.__dict__.get("provides")) is not None)
