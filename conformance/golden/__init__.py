"""Archives of each version of the format, which must restore for ever (`moments.py`)."""

from .moments import ARCHIVES, MOMENTS, SIZE, VOLUME, disk, objects, write

__all__ = ["ARCHIVES", "MOMENTS", "SIZE", "VOLUME", "disk", "objects", "write"]
