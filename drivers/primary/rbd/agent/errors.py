"""What the agent refuses, in the words of core/spi/errors.py, which the system's Python cannot import."""

from __future__ import annotations


class Refused(Exception):
    """A request that was not carried out.

    Args:
        code: of the taxonomy, e.g. "not_found".
        message: safe to show to a tenant.
        outcome: "not_applied", or "unknown" if a part may have been done.
    """

    def __init__(self, code: str, message: str, outcome: str = "not_applied") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.outcome = outcome


def not_found(what: str) -> Refused:
    """Return the error for something that does not exist."""
    return Refused("not_found", f"{what} does not exist")
