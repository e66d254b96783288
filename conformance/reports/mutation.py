"""The mutation score of the suite: how well the judge itself is tested.

`make mutants` writes conformance/mutation_score.json; a report without the file says nothing of it.

    {"checks": {"total": n, "killing": n}, "mutants": {"total": m, "killed": m},
     "by_check": {"vol.clone_equals_source": ["array.clone_empty"]}, ...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[1] / "mutation_score.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationScore:
    """Counts as (killing or killed, all).

    Attributes:
        checks: MUST checks that found at least one defect.
        mutants: defects that at least one check found.
        by_check: the defects that each check found.
    """

    checks: tuple[int, int]
    mutants: tuple[int, int]
    by_check: Mapping[str, tuple[str, ...]]


def mutation_score(path: Path = FILE) -> MutationScore | None:
    """Return the score of this release of the suite, or None if it has none."""
    if not path.exists():
        return None
    value = json.loads(path.read_bytes())
    checks, mutants = value["checks"], value["mutants"]
    return MutationScore(
        checks=(checks["killing"], checks["total"]),
        mutants=(mutants["killed"], mutants["total"]),
        by_check={check: tuple(killed) for check, killed in value["by_check"].items()},
    )
