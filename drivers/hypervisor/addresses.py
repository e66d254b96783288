"""Where an object is, in the words of the cluster."""

from __future__ import annotations

from pathlib import Path

from ...core.spi import FileLocation, InvalidArgument, Location, NbdLocation, Unsupported
from .answers import Json


def address_of(location: Location) -> Json:
    """Return the cluster's address of a location.

    Raises:
        Unsupported: the simulated hosts cannot reach such a thing, or not without writing.
        InvalidArgument: a path that is not absolute.
    """
    if location.read_only:
        # What it cannot promise it does not take: a guest would write to the "read-only" object.
        raise Unsupported("the simulated hypervisor attaches for writing only")
    match location:
        case FileLocation(path=path, format=form):
            if not path.is_absolute():
                raise InvalidArgument("the location's path must be absolute")
            return {"path": str(path), "format": form}
        case NbdLocation(address=Path()):
            raise Unsupported("the simulated hypervisor reaches NBD over TCP only")
        case NbdLocation(address=(host, port), export=export):
            return {"host": host, "port": port, "export": export.reveal()}
        case _:
            raise Unsupported("the simulated hypervisor attaches files and NBD exports only")
