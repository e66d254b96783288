"""What a benchmark says, one row per comparison, as `bench/results/latest.json` has it.

    {"machine": {...}, "rows": [{"case", "kind", "against", "ratio", "peak_mib", "runs", ...}]}

`ratio` is ours over theirs in speed: above 1 ours is faster. Of a limit it is the share that was reached, of
memory the promised 256 MiB over the peak. It is None where the peer is missing or cannot do the job; `note`
says why.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KINDS = ("peer", "limit", "memory", "scale")
RESULTS = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        peak_mib: MiB of our whole process tree, at its peak over all runs.
        runs: how many runs of each the medians are of.
        seconds: ours and theirs.
        scale: of `compare.py`: sizes and counts are this part of the whole benchmark's.
    """

    case: str
    kind: str
    against: str
    ratio: float | None
    peak_mib: float
    runs: int
    seconds: tuple[float, float] | None = None
    note: str = ""
    scale: float | None = None


def compared(
    case: str, kind: str, against: str, ours: Sequence[float], theirs: Sequence[float], peak: float, note: str
) -> Row:
    """Return the row of two series of seconds."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(
        case=case,
        kind=kind,
        against=against,
        ratio=round(other / mine, 3),
        peak_mib=round(peak, 1),
        runs=min(len(ours), len(theirs)),
        seconds=(round(mine, 3), round(other, 3)),
        note=note,
    )


def problems(document: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the shape of a result; nothing, if all is well."""
    found = [] if document.get("machine") else ["there is no machine"]
    for number, row in enumerate(document.get("rows", [])):
        where = f"row {number} ({row.get('case')}, {row.get('against')})"
        texts = all(isinstance(row.get(name), str) and row[name] for name in ("case", "kind", "against"))
        if not texts or row["kind"] not in KINDS:
            found.append(f"{where}: case, kind and against must be texts, kind one of {', '.join(KINDS)}")
        if row.get("ratio") is None and not row.get("note"):
            found.append(f"{where}: without a ratio it must say why")
        numbers = [row.get(name) for name in ("peak_mib", "runs")] + [row.get("ratio") or 0.0]
        if not all(isinstance(one, int | float) and one >= 0 for one in numbers):
            found.append(f"{where}: ratio, peak_mib and runs must be numbers")
    return found if document.get("rows") else [*found, "there are no rows"]


def machine(versions: Mapping[str, str], scale: float) -> dict[str, Any]:
    """Return where and with what the rows were taken."""
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[1], 1),
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "scale": scale,
        "versions": dict(versions),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def document(
    about: Mapping[str, Any], rows: Sequence[Row], kept: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the whole; `kept` are rows of other scripts."""
    taken = [{name: value for name, value in asdict(row).items() if value not in (None, "")} for row in rows]
    return {"machine": dict(about), "rows": [{"ratio": None, **row} for row in taken] + list(kept)}


def kept_rows(path: Path, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows of a result from before whose cases were not measured now."""
    if not path.exists():
        return []
    cases = {row.case for row in rows}
    return [row for row in json.loads(path.read_text()).get("rows", []) if row.get("case") not in cases]
