"""evidence.zip: everything that an engineer far away needs, in one file with the same bytes each time.

result.json  report.html  junit.xml
evidence/vol.zero.jsonl        the calls, one JSON object a line
reproducers/vol.zero.py        scripts that show a failure
logs/host-1.log                what the driver host processes wrote
environment.json
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..model import Outcome, Verdict
from .environment import Environment
from .redaction import Redact

# The end of a log is where the reason is.
LONGEST_LOG = 4 * 2**20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
# ZIP knows no time before; a constant keeps the bytes the same.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def evidence_files(
    verdict: Verdict, made_with: Environment, logs: Iterable[Path], redact: Redact
) -> dict[str, bytes]:
    """Return the members of the bundle that no other report has.

    Args:
        verdict: redacted already.
        redact: takes the secrets out of the logs.
    """
    files = {"environment.json": _json_line(dataclasses.asdict(made_with))}
    for outcome in verdict.outcomes:
        name = _UNSAFE.sub("_", outcome.check.id)
        if outcome.evidence:
            files[f"evidence/{name}.jsonl"] = _calls(outcome)
        if outcome.reproducer:
            files[f"reproducers/{name}.py"] = outcome.reproducer.encode("utf-8", "backslashreplace")
    for number, path in enumerate(sorted(logs), start=1):
        files[f"logs/{number:02}-{_UNSAFE.sub('_', path.name)}"] = _log(path, redact)
    return files


def evidence_zip(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP archive of these files; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, date_time=_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, whatever made it
            member.external_attr = 0o100644 << 16
            archive.writestr(member, files[name])
    return buffer.getvalue()


def _calls(outcome: Outcome) -> bytes:
    return b"".join(_json_line(dataclasses.asdict(call)) for call in outcome.evidence)


def _json_line(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _log(path: Path, redact: Redact) -> bytes:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LONGEST_LOG))
            if log.tell():
                log.readline()  # what is left of it may be half a secret
            text = log.read().decode("utf-8", "replace")
    except OSError as error:
        text = f"this log could not be read: {error.strerror}\n"
    return redact(text).encode()
