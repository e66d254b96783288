"""The arithmetic of the mutation score, and what is said about what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catalogue import Mutant
from suite import Run

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One mutant, and the suite's runs on it and on what is the same without the defect."""

    mutant: Mutant
    broken: Run
    healthy: Run

    @property
    def killers(self) -> tuple[str, ...]:
        """The checks that fail on the mutant, and pass without the defect; an error kills nothing."""
        named = sorted(self.mutant.killed_by)
        return tuple(
            c for c in named if self.broken.results.get(c) == "fail" and self.healthy.results.get(c) == "pass"
        )

    @property
    def problems(self) -> list[str]:
        """Why the catalogue is not true of this mutant."""
        if self.broken.problem or self.healthy.problem:
            return [self.broken.problem or f"without the defect: {self.healthy.problem}"]
        found = [self._why_not(c) for c in sorted(set(self.mutant.killed_by) - set(self.killers))]
        told = [self.broken.messages[c] for c in self.killers]
        if told and not any(self.mutant.words in message for message in told):
            found.append(f"no message says {self.mutant.words!r}: {'; '.join(told)}")
        return found

    def _why_not(self, check: str) -> str:
        healthy = self.healthy.results.get(check, "not run")
        if healthy != "pass":
            return f"{check} is {healthy} without the defect: {self.healthy.messages.get(check, '')}"
        broken = self.broken.results.get(check, "not run")
        return f"{check}: {broken} {self.broken.messages.get(check, '')}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What all trials say together.

    Attributes:
        musts: the ids of all checks that decide.
    """

    trials: tuple[Trial, ...]
    musts: frozenset[str]

    @property
    def survivors(self) -> list[Trial]:
        """The mutants that no check kills."""
        return [t for t in self.trials if not t.killers]

    @property
    def killing(self) -> Mapping[str, list[str]]:
        """The mutants that each check kills."""
        found: dict[str, list[str]] = {check: [] for check in sorted(self.musts)}
        for trial in self.trials:
            for check in trial.killers:
                found.setdefault(check, []).append(trial.mutant.id)
        return found

    @property
    def idle(self) -> list[str]:
        """The MUST checks that kill nothing."""
        return [check for check, mutants in self.killing.items() if check in self.musts and not mutants]

    @property
    def perfect(self) -> bool:
        """Each MUST check kills, each mutant dies, and the catalogue is true."""
        return not (self.idle or self.survivors or any(t.problems for t in self.trials))

    def line(self) -> str:
        """Return the score in one line."""
        checks = _share(len(self.musts) - len(self.idle), len(self.musts))
        mutants = _share(len(self.trials) - len(self.survivors), len(self.trials))
        return f"mutation score: checks {checks}, mutants {mutants}"

    def to_json(self, version: str) -> dict[str, Any]:
        """Return what reports show; `version` is the suite's."""
        return {
            "format": FORMAT,
            "suite": version,
            "line": self.line(),
            "checks": {"total": len(self.musts), "killing": len(self.musts) - len(self.idle)},
            "mutants": {"total": len(self.trials), "killed": len(self.trials) - len(self.survivors)},
            "by_check": self.killing,
            "by_mutant": {t.mutant.id: _shown(t) for t in self.trials},
        }


def _shown(trial: Trial) -> dict[str, Any]:
    mutant = trial.mutant
    return {
        "backend": mutant.backend,
        "defect": mutant.defect or mutant.driver or mutant.words,
        "field_bug": mutant.field_bug,
        "killers": list(trial.killers),
    }


def _share(part: int, whole: int) -> str:
    """Return "99% (199/200)": rounded down, so that 100% means all."""
    return f"{100 * part // whole if whole else 0}% ({part}/{whole})"


def findings(trials: Iterable[Trial], idle: Iterable[str]) -> list[str]:
    """Return what is wrong, each in a line that says what was run."""
    found = [
        f"{'SURVIVES' if not t.killers else 'UNTRUE'} {t.mutant.id}: {problem}\n    ran: {t.broken.command}"
        for t in trials
        for problem in t.problems
    ]
    return [*found, *(f"KILLS NOTHING {check}" for check in idle)]
