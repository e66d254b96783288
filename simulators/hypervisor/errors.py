"""The one way in which the simulated hypervisor says no."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not carried out.

    Args:
        status: HTTP status.
        code: stable word for programs ("in_use", "wrong_size"...).
        message: for people; never a secret.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def not_found(what: str, name: str) -> Refused:
    """404 for a thing that does not exist."""
    return Refused(404, "not_found", f"there is no {what} {name}")


def conflict(message: str) -> Refused:
    """409 for a name that is taken by something else."""
    return Refused(409, "conflict", message)


def failed(what: str) -> Refused:
    """500 for what a broken hypervisor cannot do."""
    return Refused(500, "internal", what)
