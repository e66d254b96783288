"""All reports of a run into one directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...transfer_objects.secret import Secret
from ..model import Verdict
from .badge import badge_json, badge_svg
from .bundle import evidence_files, evidence_zip
from .environment import environment
from .junit import junit_xml
from .mutation import mutation_score
from .page import own_words, report_html
from .redaction import Redact, demand_clean, redacted
from .result import result_bytes


def write_reports(
    verdict: Verdict,
    directory: Path,
    *,
    redact: Redact = str,
    secrets: Iterable[Secret] = (),
    logs: Iterable[Path] = (),
) -> None:
    """Write result.json, junit.xml, report.html, badge.svg, badge.json and evidence.zip.

    Args:
        redact: takes the secrets out of a text.
        secrets: looked for in everything once more, in all encodings.
        logs: of the driver's host processes.

    Raises:
        Internal: a secret would have been written; nothing was.
        OSError: the directory cannot be written.
    """
    made_with = environment()
    clean = redacted(verdict, redact)
    shown = {
        "result.json": result_bytes(clean, made_with),
        "junit.xml": junit_xml(clean),
        "report.html": report_html(clean, made_with, mutation_score()),
    }
    badges = {"badge.svg": badge_svg(clean), "badge.json": badge_json(clean)}
    bundled = shown | evidence_files(clean, made_with, logs, redact)
    demand_clean(clean, bundled | badges, own_words(clean), secrets)
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in (shown | badges | {"evidence.zip": evidence_zip(bundled)}).items():
        (directory / name).write_bytes(data)
