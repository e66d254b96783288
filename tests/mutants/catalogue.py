"""The mutants: backends and drivers with one defect each, and the checks that must find it.

    mutant ── backend ──> a simulator with a defect switched on, or a directory
          └── driver ──> ours, a subclass of it with one method wrong, or an edited static driver
          └── patch ───> core itself is made lenient: some checks guard core's own promise

The suite is only worth what it kills. A check kills a mutant if it fails on it, in the words that are
stated, and passes on the same driver and backend without the defect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from bollard.conformance.leaks import RUN_CHECKS
from bollard.conformance.model import Check, Level
from bollard.conformance.registry import all_checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One defect, and what finds it.

    Attributes:
        id: unique; begins with the backend's or the driver's name.
        backend: key of `backends.BACKENDS`.
        killed_by: the checks that must fail, each of them.
        words: text that the message of one of them contains; what an engineer would act on.
        field_bug: the public bug that the mutant stands for.
        defect: switch of the backend's simulator, "" for none; "name=3" gives a switch a value.
        driver: "module:Class" below `broken/`; "" for Bollard's own driver.
        options: the driver's options beyond the backend's, as TOML values.
        during: checks to run that are not in `killed_by`: a run-wide result (leak.*) needs an occasion.
        edit: (old, new) in the source of the good static driver.
        patch: Python that runs first in every process of the suite.
    """

    id: str
    backend: str
    killed_by: tuple[str, ...]
    field_bug: str
    words: str = ""
    defect: str = ""
    driver: str = ""
    options: tuple[tuple[str, str], ...] = ()
    during: tuple[str, ...] = ()
    edit: tuple[str, str] = ("", "")
    patch: str = ""

    @property
    def healthy(self) -> Mutant:
        """What is the same without the defect.

        A broken driver is compared with Bollard's own; a defect of the backend with the same driver.
        """
        return Mutant(
            id=f"healthy {self.backend}",
            backend=self.backend,
            killed_by=self.killed_by,
            field_bug="",
            driver=self.driver if self.defect else "",
            options=self.options,
            during=self.during,
        )


def known_checks() -> dict[str, Check]:
    """Return all checks and all results of whole runs, by id."""
    return {c.id: c for c in (*all_checks(), *RUN_CHECKS)}


def must_checks() -> frozenset[str]:
    """Return the ids of those that decide."""
    return frozenset(c.id for c in known_checks().values() if c.level is Level.MUST)


def run_wide() -> frozenset[str]:
    """Return the ids of results that nobody can select: they are there in each run."""
    return frozenset(c.id for c in RUN_CHECKS)


def all_mutants() -> tuple[Mutant, ...]:
    """Return the whole catalogue.

    Raises:
        ValueError: two have one id.
    """
    files = sorted(Path(__file__).parent.glob("of_*.py"))
    return unique(m for file in files for m in import_module(file.stem).MUTANTS)


def unique(mutants: Iterable[Mutant]) -> tuple[Mutant, ...]:
    """Return the mutants if no two have one id.

    Raises:
        ValueError: naming the id.
    """
    found: dict[str, Mutant] = {}
    for mutant in mutants:
        if mutant.id in found:
            raise ValueError(f"two mutants are called {mutant.id!r}")
        found[mutant.id] = mutant
    return tuple(found.values())
