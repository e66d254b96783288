"""The table and the plots of `bench/README.md`, from the rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.rows import RESULTS, Row, document, kept_rows

_HERE = Path(__file__).parent
_BEGIN, _END = "<!-- compare: begin -->", "<!-- compare: end -->"


def publish(whole: Mapping[str, Any]) -> None:
    """Write the table between the markers of the README, and one plot per kind of row."""
    plots = [plot(whole["rows"], kind) for kind in ("peer", "limit")]
    readme = _HERE / "README.md"
    before, rest = readme.read_text().split(_BEGIN)
    after = rest.split(_END)[1]
    shown = [f"![{path.stem}](results/{path.name})" for path in plots if path]
    readme.write_text(f"{before}{_BEGIN}\n{table(whole)}\n" + "\n".join([*shown, _END]) + after)


def add(rows: Sequence[Row]) -> None:
    """Put rows into the results in the place of those of the same cases, and publish them."""
    before = json.loads(RESULTS.read_text())
    whole = {**before, "rows": kept_rows(RESULTS, rows) + document({}, rows, [])["rows"]}
    RESULTS.write_text(json.dumps(whole, indent=1) + "\n")
    publish(whole)


def table(whole: Mapping[str, Any]) -> str:
    """Return the rows as Markdown, and what they were taken with."""
    about = whole["machine"]
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    head = f"Taken {about['taken']} on {about['cpus']} cores ({about['processor']}), load {about['load']}, "
    head += f"with {versions}.\n\n"
    head += f"Of this run: {about['note']}.\n\n" if "note" in about else ""
    lines = [
        "| case | kind | against | ratio | ours, theirs (s) | peak (MiB) | runs | scale |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return head + "\n".join([*lines, *map(_line, whole["rows"])]) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    seconds = ", ".join(f"{one:.2f}" for one in row.get("seconds", ()))
    against = row["against"] + (f" ({row['note']})" if row.get("note") else "")
    peak, scale = f"{row['peak_mib']:.0f}", f"{row.get('scale', '')}"
    cells = (row["case"], row["kind"], against, ratio, seconds, peak, str(row["runs"]), scale)
    return f"| {' | '.join(cells)} |"


def plot(rows: Sequence[Mapping[str, Any]], kind: str) -> Path | None:
    """Draw the ratios of a kind, on a scale of doublings; None without matplotlib, or rows."""
    chosen = [row for row in rows if row["kind"] == kind and row["ratio"]]
    try:
        from matplotlib import rc_context  # an extra: `make setup` brings it
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not chosen:
        return None
    figure = Figure(figsize=(9, 0.6 + 0.26 * len(chosen)), layout="tight")
    axes = figure.subplots()
    values = [math.log2(row["ratio"]) for row in chosen]
    colours = ["#2f7d4f" if value >= 0 else "#b5533c" for value in values]
    axes.barh(range(len(chosen)), values, color=colours)
    axes.set_yticks(range(len(chosen)), [f"{row['case']} / {row['against']}" for row in chosen], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    ticks = range(math.floor(min(values)), math.ceil(max(values)) + 1)
    axes.set_xticks(list(ticks), [f"{2.0**tick:g}" for tick in ticks], fontsize=7)
    axes.set_xlabel("speed, ours over theirs" if kind == "peer" else "share of the limit")
    path = _HERE / "results" / f"{kind}.svg"
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bollard"}):  # smaller, and the same each time
        figure.savefig(path, metadata={"Date": None})
    return path
