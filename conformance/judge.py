"""What happened in a check, as a result.

no capability                       refused (`pool.undeclared_refused` verifies it)
NotApplicable                       not-applicable
ContractBroken, any StorageError    fail: the driver did it
anything else                       error: the suite or the environment did it
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from ..core.spi import StorageError
from .hosting.failures import HostingError
from .lab import ContractBroken, NotApplicable
from .model import Check, Level, Result
from .settings import KnownFailure, expired

Judged = tuple[Result, str]


def judge_call(found: Check, call: pytest.CallInfo[None]) -> Judged:
    """Return result and message of a check that pytest has run."""
    if call.excinfo is None:
        return Result.PASS, ""
    error = call.excinfo.value
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, pytest.skip.Exception):
        return Result.REFUSED, str(error)
    if isinstance(error, NotApplicable):
        return Result.NOT_APPLICABLE, str(error)
    if isinstance(error, ContractBroken):
        return _broken(found, str(error))
    # HostingError: what the driver raised or returned could not even cross to the suite.
    if isinstance(error, StorageError | HostingError) and call.when == "call":
        return _broken(found, message)
    return Result.ERROR, f"{message} ({_place(error)})"


def _broken(found: Check, message: str) -> Judged:
    """A figure that could not be taken is told, and decides nothing."""
    return (Result.NOT_APPLICABLE if found.level is Level.MEASURE else Result.FAIL), message


def _place(error: BaseException) -> str:
    """Return where an unexpected exception came from: whoever reads it must find the bug in the suite."""
    frames: Sequence[Any] = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"


def with_known(judged: Judged, known: KnownFailure | None, today: date | None = None) -> Judged:
    """Return a result in the light of what the vendor said before.

    A failure that is known becomes a known failure until its last day; what was said to fail and passes is
    a failure itself: the list must shrink when the driver gets better.
    """
    result, message = judged
    if known is None or result not in (Result.FAIL, Result.PASS):
        return judged
    if result is Result.PASS:
        return Result.FAIL, f"it passes, though [[known_fail]] names it ({known.ticket}): remove the entry"
    if expired(known, today):
        return Result.FAIL, f"{message} (known as {known.ticket} until {known.expires}, which has passed)"
    return Result.KNOWN_FAIL, f"{message} (known: {known.reason}, {known.ticket}, until {known.expires})"
