"""What a step of a history expects, and how a difference is told.

The text of this module and of a player become the reproducer of a failing history (`reproducer.py`): what
the suite saw and what the vendor's engineer sees at home is one piece of code. So both import nothing of
this package but each other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...core.spi import TAXONOMY, Outcome, StorageError
from ..settings import SuiteSettings, load_settings

T = TypeVar("T")

OK = "ok"
Expected = tuple[str, ...]
_CLASSES: dict[str, type[StorageError]] = {cls.__name__: cls for cls in TAXONOMY}


class Difference(AssertionError):
    """The driver did something else than the contract lets one expect."""


def expecting(expected: Expected, act: Callable[[], T]) -> T | None:
    """Return what `act` returns, or None if it was refused as expected.

    Args:
        expected: names of the errors that are right, and "ok" if success is.
        act: the call.

    Raises:
        Difference: it ended in another way.
    """
    names = " or ".join(expected)
    try:
        result = act()
    except StorageError as error:
        said = f"{type(error).__name__}: {error.message}"
        if not isinstance(error, tuple(_CLASSES[name] for name in expected if name != OK)):
            raise Difference(f"expected {names}, got {said}") from error
        if error.outcome is not Outcome.NOT_APPLIED:
            raise Difference(f"{said}: a refusal must claim 'not_applied', not {error.outcome}") from error
        return None
    if OK not in expected:
        raise Difference(f"expected {names}, but the call succeeded")
    return result


def replay(description: str, history: Callable[[SuiteSettings], None]) -> int:
    """Run a reproducer: its arguments, the history, and the exit code.

    Returns 1 with the difference on standard output, 0 if it does not show any more.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="the configuration of the conformance run")
    parser.add_argument("--driver", default="", help="the driver's name, if the configuration names none")
    given = parser.parse_args()
    settings = load_settings(given.driver, given.config)
    settings.require_test_pool()
    try:
        history(settings)
    except (Difference, StorageError) as error:
        sys.stdout.write(f"DIFFERENCE: {type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write("no difference: each step ended as the contract says\n")
    return 0
