"""What a child says to its parent: one JSON object per line, on a pipe that nothing else writes to.

    {"stage": "command"}                                the next packet may change the host
    {"answer": "off"}                                   the last line of a child that did its work
    {"stage": "refused"}                                the BMC said that it did not do it
    {"error": "permission_denied", "message": "..."}    the last line of one that did not

Known to the child too, so nothing here may import the SPI: it would cost each child 0.1 s.
"""

from __future__ import annotations

import json
from collections.abc import Callable

COMMAND = "command"
DONE = "done"
REFUSED = "refused"  # the BMC will not do it as things stand; often because it is done already

Stage = Callable[[str], None]


class Problem(Exception):
    """What went wrong in the child.

    Args:
        code: the code of an error of the taxonomy, e.g. "unavailable".
        message: safe to show.
        certain: the BMC itself said that it did nothing.
    """

    def __init__(self, code: str, message: str, *, certain: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.certain = certain


def line(**fields: str) -> bytes:
    """Return one line for the pipe."""
    return json.dumps(fields).encode() + b"\n"
