"""report.html: one file for a vendor's manager and for the engineer, without a network and without a server.

    Verdict ── view of it (this module) ──> report.html.jinja + report.css + report.js ──> bytes

Everything is in the file; a Content-Security-Policy allows its own style and script by their hashes and
nothing else, so that text of a driver could not load or run anything even if it got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ..model import CallRecord, Level, Measure, Outcome, Result, Verdict
from ..profiles import PROFILES, ProfileVerdict, by_profile
from ..registry import all_checks
from .environment import Environment
from .mutation import MutationScore
from .obstacles import claimable, is_open, obstacles
from .plots import figure, plot, stacked_bar, timeline
from .text import clipped, visible

HERE = Path(__file__).parent
# What one check may take up; everything is in evidence.zip.
_LONGEST_TEXT = 8_000
_MOST_CALLS = {True: 200, False: 25}

GROUPS: Mapping[str, str] = {
    "static": "The class and its package",
    "pool": "Pool and driver life cycle",
    "vol": "Volumes",
    "hostpool": "Pools shared by hosts",
    "store": "Image stores",
    "host": "Hypervisor objects",
    "fence": "Fencing",
    "snap": "Snapshots",
    "arc": "Archive",
    "inc": "Incremental and changed blocks",
    "vmsnap": "VM snapshots by the hypervisor",
    "group": "Snapshots of all volumes of a VM",
    "acl": "Access control and fencing",
    "cap": "Capacity",
    "qos": "Quality of service",
    "conc": "Concurrency",
    "fault": "Faults on the way to the backend",
    "idem": "Repeating operations",
    "crash": "Crash recovery",
    "leak": "Nothing left behind",
    "outcome": "Errors that say what happened",
    "sec": "Security",
    "scale": "Scale",
    "compat": "Upgrade and compatibility",
    "model": "Random histories against a model",
}
SYMBOLS: Mapping[Result, str] = {
    Result.PASS: "✓",
    Result.FAIL: "✕",
    Result.KNOWN_FAIL: "!",
    Result.REFUSED: "⊘",
    Result.NOT_APPLICABLE: "-",
    Result.ERROR: "?",
    Result.NOT_RUN: "○",
}
SEALS: Mapping[str, str] = {"good": "✓", "bad": "✕", "open": "○"}
# What needs eyes first.
_ATTENTION = (Result.FAIL, Result.ERROR, Result.KNOWN_FAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView:
    """One check as the page shows it."""

    outcome: Outcome
    contract: str
    interpretation: tuple[str, ...]
    message: str
    calls: Sequence[CallRecord]
    left_out: int
    timeline: Markup
    plots: Sequence[tuple[Measure, Markup]]
    kills: Sequence[str]
    search: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A row of the matrix, and a heading of the list."""

    name: str
    title: str
    counts: Counter[Result]
    checks: Sequence[CheckView]


def report_html(verdict: Verdict, made_with: Environment, score: MutationScore | None = None) -> bytes:
    """Return report.html.

    Args:
        verdict: redacted already.
        score: how well the suite itself is tested.
    """
    css, js = _source("report.css"), _source("report.js")
    page = _template().render(
        verdict=verdict,
        tone=_tone(verdict),
        seal=SEALS[_tone(verdict)],
        summary=summary(verdict),
        certificate=certificate_line(verdict),
        profiles=by_profile(verdict),
        results=[r for r in Result if verdict.count(r)],
        counts={r: verdict.count(r) for r in Result},
        bar=stacked_bar({r: verdict.count(r) for r in Result}),
        groups=_groups(verdict, score),
        attention=[o for o in verdict.outcomes if o.result in _ATTENTION],
        not_run=sum(is_open(o) and o.result is Result.NOT_RUN for o in verdict.outcomes),
        measured=[(o.check.id, m) for o in verdict.outcomes for m in o.measures],
        score=score,
        facts=_facts(verdict, made_with),
        started=moment(verdict.started),
        css=Markup(css),  # noqa: S704 - our own file
        js=Markup(js),  # noqa: S704 - idem
        policy=_policy(css, js),
    )
    return page.encode("utf-8", "replace")


def own_words(verdict: Verdict) -> str:
    """Return every text of a report that no driver had a hand in: see `redaction.py`."""
    checks = [f"{o.check.id} {o.check.rule} {o.check.what} {o.check.field_bug}" for o in verdict.outcomes]
    sources = [_source(name) for name in ("report.html.jinja", "report.css", "report.js")]
    code = [path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.py"))]
    return "\n".join([*checks, *sources, *code, *(profile.title for profile in PROFILES)])


def summary(verdict: Verdict) -> list[str]:
    """Return the verdict in a few sentences for somebody who has never heard of the suite."""
    broken = [o for o in verdict.musts if o.result in (Result.FAIL, Result.ERROR)]
    failed = sum(o.result is Result.FAIL for o in broken)
    sentences = []
    if failed:
        sentences.append(f"{_of(failed, len(verdict.musts))} that a driver must pass failed.")
    if errors := len(broken) - failed:
        sentences.append(
            f"{_of(errors, len(verdict.musts))} could not be judged: the environment got in the way."
        )
    if not broken and verdict.conformant:
        sentences.append(f"Every one of the {len(verdict.musts)} checks that a driver must pass holds.")
    elif not broken:
        sentences.append("Nothing that a driver must do is broken, but not everything was looked at.")
    return sentences + _remarks(verdict)


def certificate_line(verdict: Verdict) -> str:
    """Return whether `bollard conformance certify` would sign this run, and what stands in the way."""
    found = obstacles(verdict, claimable(verdict), all_checks())
    if not found:
        return "A certificate can be issued: nothing stands in the way."
    things = f"{len(found)} thing{'s stand' if len(found) > 1 else ' stands'} in the way"
    of_run = "; ".join(o.message for o in found if not o.check)
    return f"No certificate can be issued yet: {things}{f' ({of_run})' if of_run else ''}."


def prose(text: str) -> Markup:
    """Return text of a docstring as HTML; what stands between backticks is code."""
    parts = [escape(visible(part)) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def moment(seconds: float) -> str:
    """Return a time as people and machines read it; "" if it is not known."""
    if not seconds or not math.isfinite(seconds):
        return ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """Return seconds as people read them."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _of(count: int, total: int) -> str:
    return f"{count} of the {total} checks"


def _remarks(verdict: Verdict) -> list[str]:
    remarks = []
    refused = [p.profile.title for p in by_profile(verdict) if p.word == "refused"]
    if refused:
        remarks.append(
            f"The driver does not offer {', '.join(refused)}; that it says so cleanly was verified."
        )
    if known := verdict.count(Result.KNOWN_FAIL):
        remarks.append(
            f"{known} known failure{'s' * (known > 1)} must go before a certificate can be issued."
        )
    shoulds = sum(o.result is Result.FAIL and o.check.level is Level.SHOULD for o in verdict.outcomes)
    if shoulds:
        remarks.append(
            f"{shoulds} recommendation{'s are' if shoulds > 1 else ' is'} not followed; none decides."
        )
    return remarks


def _tone(verdict: Verdict) -> str:
    if verdict.conformant:
        return "good"
    return "open" if verdict.clean else "bad"


def _groups(verdict: Verdict, score: MutationScore | None) -> list[GroupView]:
    names = list(GROUPS)
    found: dict[str, list[Outcome]] = {}
    for outcome in verdict.outcomes:
        found.setdefault(outcome.check.group, []).append(outcome)
    order = sorted(found, key=lambda g: (names.index(g) if g in names else len(names), g))
    return [
        GroupView(
            name=group,
            title=GROUPS.get(group, group),
            counts=Counter(o.result for o in found[group]),
            checks=[_check(o, score) for o in sorted(found[group], key=lambda o: o.check.id)],
        )
        for group in order
    ]


def _check(outcome: Outcome, score: MutationScore | None) -> CheckView:
    check = outcome.check
    most = _MOST_CALLS[outcome.result in _ATTENTION]
    calls = outcome.evidence[-most:]  # the last ones are those before the failure
    message = clipped(outcome.message, _LONGEST_TEXT, "evidence.zip")
    words = f"{check.id} {check.rule} {check.contract} {message[:500]} {check.field_bug}"
    return CheckView(
        outcome=outcome,
        contract=check.contract,
        interpretation=tuple(" ".join(p.split()) for p in check.what.split("\n\n")[1:]),
        message=message,
        calls=calls,
        left_out=len(outcome.evidence) - len(calls),
        timeline=timeline(calls) if calls else Markup(""),
        plots=[(m, plot(m)) for m in outcome.measures],
        kills=score.by_check.get(check.id, ()) if score else (),
        search=visible(words).lower(),
    )


def _facts(verdict: Verdict, made_with: Environment) -> list[tuple[str, str]]:
    facts = [
        ("Driver", f"{verdict.driver} ({verdict.kind or 'kind unknown'})"),
        ("Distribution", verdict.distribution or "unknown"),
        ("Artefact (SHA-256)", verdict.artefact or "none: not from an installed distribution"),
        ("Capabilities", ", ".join(verdict.capabilities) or "none"),
        ("Tier", verdict.tier.value),
        ("Started", moment(verdict.started) or "unknown"),
        ("Took", duration(verdict.seconds)),
        ("Run", verdict.run or "nothing was opened"),
        ("Seed", str(verdict.seed)),
        ("Suite", f"Bollard {made_with.suite}, contract {made_with.spec}, driver interface {made_with.spi}"),
        ("Python", made_with.python),
        ("Platform", made_with.platform),
    ]
    return [(name, value) for name, value in facts if value]


@cache
def _source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _policy(css: str, js: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(js)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals |= {
        "symbol": SYMBOLS,
        "figure": figure,
        "duration": duration,
        "word_of": _profile_word,
        "bar_of": _profile_bar,
    }
    environment.filters["clip"] = lambda text: clipped(text, _LONGEST_TEXT, "evidence.zip")
    environment.filters["brief"] = lambda text: textwrap.shorten(text[:1000], 240, placeholder=" …")
    environment.filters["prose"] = prose
    return environment.from_string(_source("report.html.jinja"))


def _shown(value: Any) -> Any:
    """Every text that a template prints loses its hidden characters first; then it is escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _profile_word(profile: ProfileVerdict) -> str:
    return {"conformant": "good", "not conformant": "bad"}.get(profile.word, "open")


def _profile_bar(profile: ProfileVerdict) -> Markup:
    counts = Counter(o.result for o in profile.outcomes)
    return stacked_bar({r: counts[r] for r in Result})
