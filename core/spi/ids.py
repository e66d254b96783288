"""What every driver asks of an id before it makes a name, a path or a request of it."""

from __future__ import annotations

from typing import TypeVar

from ...transfer_objects.ids import ID_RULE, is_valid_id
from .errors import InvalidArgument

Id = TypeVar("Id", bound=str)


def checked_id(kind: str, text: Id) -> Id:
    """Return an id that is one.

    Args:
        kind: whose it is, for the message: "volume", "snapshot".
        text: the id.

    Raises:
        InvalidArgument: it is none.
    """
    if not is_valid_id(text):
        raise InvalidArgument(f"{kind} id {text!r} is not valid: {ID_RULE}")
    return text
