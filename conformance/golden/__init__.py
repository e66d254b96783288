"""An archive of the format's first version, which must restore for ever (`moments.py`)."""

from .moments import ARCHIVE, MOMENTS, SIZE, VOLUME, disk, objects, write

__all__ = ["ARCHIVE", "MOMENTS", "SIZE", "VOLUME", "disk", "objects", "write"]
