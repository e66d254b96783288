"""junit.xml: the verdict in the words that CI systems understand.

pass                        a test case
fail                        failure          counts
error                       error            counts
known-fail                  skipped          the message says so; a certificate still counts it
refused, not-…              skipped
"""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from ..model import Level, Outcome, Result, Verdict
from .text import xml_text

_SKIPPED = (Result.KNOWN_FAIL, Result.REFUSED, Result.NOT_APPLICABLE, Result.NOT_RUN)


def junit_xml(verdict: Verdict) -> bytes:
    """Return the verdict as JUnit XML."""
    suite = ET.Element("testsuite", _counts(verdict) | {"name": xml_text(f"bollard {verdict.driver}")})
    if verdict.started:
        suite.set("timestamp", f"{datetime.fromtimestamp(verdict.started, UTC):%Y-%m-%dT%H:%M:%S}")
    _properties(suite, distribution=verdict.distribution, tier=verdict.tier, verdict=verdict.word())
    for outcome in verdict.outcomes:
        suite.append(_case(outcome))
    root = ET.Element("testsuites", _counts(verdict))
    root.append(suite)
    ET.indent(root)
    document = f"<?xml version='1.0' encoding='UTF-8'?>\n{ET.tostring(root, encoding='unicode')}\n"
    return document.encode()


def _counts(verdict: Verdict) -> dict[str, str]:
    return {
        "tests": str(len(verdict.outcomes)),
        "failures": str(verdict.count(Result.FAIL)),
        "errors": str(verdict.count(Result.ERROR)),
        "skipped": str(sum(verdict.count(r) for r in _SKIPPED)),
        "time": f"{verdict.seconds:.3f}",
    }


def _case(outcome: Outcome) -> ET.Element:
    check = outcome.check
    named = {"classname": f"bollard.{check.group}", "name": check.id, "time": f"{outcome.seconds:.3f}"}
    case = ET.Element("testcase", named)
    _properties(case, rule=check.rule, level=check.level, tier=check.tier, ticket=outcome.ticket)
    message = xml_text(outcome.message)
    if outcome.result is Result.FAIL:
        kind = "must" if check.level is Level.MUST else "should"
        failure = ET.SubElement(case, "failure", {"message": message, "type": kind})
        failure.text = xml_text(f"{check.contract}\n\n{outcome.message}")
    elif outcome.result is Result.ERROR:
        ET.SubElement(case, "error", {"message": message, "type": "suite"}).text = message
    elif outcome.result in _SKIPPED:
        ET.SubElement(case, "skipped", {"message": f"{outcome.result}: {message}"})
    return case


def _properties(parent: ET.Element, **values: str) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        if value:
            ET.SubElement(properties, "property", {"name": name, "value": xml_text(value)})
