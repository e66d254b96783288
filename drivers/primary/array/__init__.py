"""A managed array over HTTPS and JSON; the model for vendors."""

from .driver import ArrayDriver
from .options import ArrayOptions

__all__ = ["ArrayDriver", "ArrayOptions"]
