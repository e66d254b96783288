"""Verdicts as a run makes them, and a headless Chromium to look at the report with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bollard.conformance.model import CallRecord, Check, Level, Measure, Outcome, Result, Tier, Verdict
from bollard.conformance.registry import all_checks
from bollard.conformance.reports import write_reports

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Maker = Callable[..., Verdict]

_LIST_WHAT = """Every volume of the pool is listed once, whatever their number.

Why: orchestrators find what is left over by listing; a volume that is not listed is never cleaned up.

If it fails, look at the array's paging first: many return 100 objects and a token that is easy to overlook.
"""


@pytest.fixture(scope="session")
def calls() -> tuple[CallRecord, ...]:
    """Evidence: calls one after the other, two of them at the same time, one that raised."""
    found = [
        CallRecord(at=i * 0.21, call=f"create_volume(id='bct-1f-{i}')", seconds=0.18, answer="Volume(16 MiB)")
        for i in range(8)
    ]
    found.append(
        CallRecord(at=1.5, call="list_volumes(after=None)", seconds=0.4, answer="100 volumes, after=None")
    )
    raised = "Unavailable, outcome unknown: the array answered 503 Service Unavailable while it was listing"
    found.append(
        CallRecord(at=1.95, call="list_volumes(after='bct-1f-7')", seconds=0.05, answer=raised, failed=True)
    )
    return tuple(found)


def _special(check: Check, calls: tuple[CallRecord, ...]) -> Outcome | None:
    """What the sample says of a few checks; all others pass."""
    if check.id == "vol.list_complete":
        return Outcome(
            check=dataclasses.replace(
                check, what=_LIST_WHAT, field_bug="cinder bug 1895035: paging stops at 100"
            ),
            result=Result.FAIL,
            seconds=2.0,
            message="100 volumes are listed and 104 were created; bct-1f-7 is there and not listed",
            evidence=calls,
            reproducer="from bollard import open_pool\n\nopen_pool('p', 'acme', {}).close()\n",
        )
    if check.group == "qos":
        return Outcome(check=check, result=Result.REFUSED, seconds=0.01, message="qos is not declared")
    if check.id == "pool.capacity_sane":
        series = ((100.0, 12.0), (1000.0, 13.5), (10000.0, 61.0))
        measures = (
            Measure(name="calls per list", value=61.0, unit="calls", series=series),
            Measure(name="create, median", value=18.25, unit="ms"),
        )
        return Outcome(check=check, result=Result.PASS, seconds=0.4, measures=measures, evidence=calls[:3])
    return None


@pytest.fixture(scope="session")
def make_verdict(calls: tuple[CallRecord, ...]) -> Maker:
    """A function that makes the verdict of a standard run on a managed array; all checks pass by default.

    Its arguments: `broken` for the sample with a failure, a refusal and figures; `change` for outcomes by
    check id; anything else is a field of Verdict.
    """

    def make(
        *, broken: bool = False, change: dict[str, dict[str, Any]] | None = None, **fields: Any
    ) -> Verdict:
        outcomes = []
        for check in all_checks():
            if "managed" not in check.kinds or not Tier.STANDARD.includes(check.tier):
                continue
            outcome = (_special(check, calls) if broken else None) or Outcome(
                check=check, result=Result.PASS, seconds=0.25, started=1_795_000_000.0
            )
            outcomes.append(dataclasses.replace(outcome, **(change or {}).get(check.id, {})))
        given: dict[str, Any] = {
            "driver": "acme",
            "distribution": "acme-bollard 1.2",
            "kind": "managed",
            "run": "bct-0a1b2c3d",
            "seed": 4711,
            "started": 1_795_000_000.0,
            "seconds": 312.4,
            "capabilities": ("access_control", "capacity", "changed_blocks", "qos", "snapshots"),
            "artefact": "ab" * 32,
            "outcomes": tuple(outcomes),
        }
        return Verdict(**(given | fields))

    return make


@pytest.fixture(scope="session")
def must_check() -> Check:
    """Some MUST check of tier smoke that no sample treats in a special way."""
    return next(c for c in all_checks() if c.id == "vol.new_reads_zero" and c.level is Level.MUST)


@pytest.fixture(scope="session")
def report_page(make_verdict: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's report.html."""
    directory = tmp_path_factory.mktemp("report")
    write_reports(make_verdict(broken=True), directory)
    return directory / "report.html"


# For a module, not for the session: while Playwright runs, the main thread has a running event loop, and
# asyncio.run() in any later test would fail. One module uses it, so one browser is started all the same.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    from playwright.sync_api import sync_playwright  # only the browser's tests need it

    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]  # with its sandbox it cannot run as root
    with sync_playwright() as playwright:
        # Without the path, Playwright wants a Chromium that it has downloaded itself.
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=arguments, headless=True
        )
        yield browser
        browser.close()
