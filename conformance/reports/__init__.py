"""A verdict on paper: for programs, for CI, for a README, for a manager and for an engineer.

write_reports(verdict, directory)
    result.json    everything, with a published schema; read_result() and merge() take it from there
    junit.xml      for CI systems
    report.html    one file for people
    badge.svg/.json
    evidence.zip   all of it with the calls, the reproducers and the logs
"""

from __future__ import annotations

from .diff import difference
from .environment import environment
from .junit import junit_xml
from .merge import merge, merge_stored
from .mutation import mutation_score
from .page import report_html
from .result import (
    read_result,
    result_bytes,
    result_json,
    result_schema,
    stored_result,
    verdict_of,
    write_result,
)
from .write import write_reports

__all__ = [
    "difference",
    "environment",
    "junit_xml",
    "merge",
    "merge_stored",
    "mutation_score",
    "read_result",
    "report_html",
    "result_bytes",
    "result_json",
    "result_schema",
    "stored_result",
    "verdict_of",
    "write_reports",
    "write_result",
]
