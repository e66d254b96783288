"""report.html as text: one file, nothing from elsewhere, and whatever a driver says stays text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest

from bollard.conformance.model import CallRecord, Measure, Result, Tier, Verdict
from bollard.conformance.reports import environment, report_html
from bollard.conformance.reports.mutation import MutationScore
from bollard.conformance.reports.page import duration, prose, summary
from bollard.conformance.reports.plots import figure, plot, stacked_bar, ticks, timeline

Maker = Callable[..., Verdict]
CHECK = "vol.new_reads_zero"
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"' {{ 7*7 }} "
    "\u202eevil\u202c \x00 \ud800"
)


class _Elements(HTMLParser):
    """Collects elements with their attributes, and the text inside of style and script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.cdata_elem:
            self.inline[self.cdata_elem] = self.inline.get(self.cdata_elem, "") + data

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.found if name == tag)


def _page(verdict: Verdict, score: MutationScore | None = None) -> str:
    return report_html(verdict, environment(), score).decode()


def _parsed(page: str) -> _Elements:
    elements = _Elements()
    elements.feed(page)
    return elements


def test_one_file(make_verdict: Maker) -> None:
    """Nothing in the page leads out of it: no address, no import, no element that loads."""
    page = _page(make_verdict(broken=True))
    elements = _parsed(page)
    links = [a.get("href") or "" for a in elements.all("a")]
    ids = {a["id"] for _, a in elements.found if "id" in a}

    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= ids
    assert not {tag for tag, _ in elements.found} & {
        "iframe",
        "object",
        "embed",
        "base",
        "img",
        "audio",
        "video",
    }
    assert not re.search(r"https?:|url\(|@import", page)
    assert [a["href"] for a in elements.all("link")] == ["data:,"]


def test_policy_allows_its_own_style_and_script_only(make_verdict: Maker) -> None:
    """The policy's hashes are those of the one style and the one script, and it allows nothing else."""
    elements = _parsed(_page(make_verdict(broken=True)))
    policy = next(a["content"] or "" for a in elements.all("meta") if "http-equiv" in a)
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in elements.inline.items()
        if name in ("style", "script")
    }

    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{hashes['style']}'",
        f"script-src 'sha256-{hashes['script']}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert [name for _, a in elements.found for name in a if name == "style" or name.startswith("on")] == []
    assert sum(tag == "script" for tag, _ in elements.found) == 1


def test_hostile_text_stays_text(make_verdict: Maker) -> None:
    """Markup, template code and characters that reorder text are shown and do nothing."""
    call = CallRecord(at=0.0, call=HOSTILE, seconds=0.1, answer=HOSTILE, failed=True)
    measure = Measure(name=HOSTILE, value=1.0, unit=HOSTILE, series=((1.0, 2.0), (2.0, 3.0)))
    change = {
        "result": Result.KNOWN_FAIL,
        "message": HOSTILE,
        "reproducer": HOSTILE,
        "ticket": HOSTILE,
        "evidence": (call,),
        "measures": (measure,),
    }
    fields = dict.fromkeys(("driver", "distribution", "kind", "run"), HOSTILE)
    page = _page(make_verdict(change={CHECK: change}, capabilities=(HOSTILE,), **fields))
    tags = [tag for tag, _ in _parsed(page).found]

    assert tags.count("script") == 1
    assert "img" not in tags
    assert "{{ 7*7 }}" in page
    assert "[U+202E]evil[U+202C] [U+0000] [U+D800]" in page
    assert not re.search("[\u202a-\u202e\x00]", page)


def test_every_id_is_there_once(make_verdict: Maker) -> None:
    """Ids are unique, and every label of a section points at one."""
    elements = _parsed(_page(make_verdict(broken=True)))
    ids = [a["id"] for _, a in elements.found if "id" in a]
    pointed = {a["aria-labelledby"] for _, a in elements.found if "aria-labelledby" in a}

    assert len(ids) == len(set(ids))
    assert pointed <= set(ids)


def test_headings_skip_no_level(make_verdict: Maker) -> None:
    """One first heading, and each next one at most a level deeper."""
    levels = [
        int(t[1]) for t, _ in _parsed(_page(make_verdict(broken=True))).found if re.fullmatch("h[1-6]", t)
    ]

    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_huge_evidence_is_cut(make_verdict: Maker) -> None:
    """A message of 100 kB and thousands of calls are cut, and the page says where the rest is."""
    evidence = tuple(CallRecord(at=i * 0.01, call=f"call-{i}()", seconds=0.01) for i in range(5000))
    change = {CHECK: {"result": Result.FAIL, "message": "x" * 100_000, "evidence": evidence}}
    page = _page(make_verdict(change=change))

    assert len(page) < 800_000
    assert "92,000 more characters in evidence.zip" in page
    assert "The last 200 calls; 4800 before them are in evidence.zip." in page
    assert "call-4999()" in page


def test_score(make_verdict: Maker) -> None:
    """The score of the suite's own tests is told, and beside each check the defects that it found."""
    score = MutationScore(
        checks=(210, 211), mutants=(65, 66), by_check={CHECK: ("new_volume_shows_old_bytes",)}
    )
    page = _page(make_verdict(), score)

    assert "<b>65 of 66</b> defects" in page
    assert "<b>210 of 211</b> MUST checks" in page
    assert "<code>new_volume_shows_old_bytes</code>" in page
    assert "How the judge is tested" not in _page(make_verdict())


def test_empty_run() -> None:
    """A run without a single check makes a page, too."""
    assert "NOT CONFORMANT" in _page(Verdict(driver="acme", distribution=""))


def test_summaries(make_verdict: Maker) -> None:
    """The first sentences say in plain words what the verdict is and why."""
    musts = len(make_verdict().musts)
    broken = summary(make_verdict(broken=True))
    known = summary(make_verdict(change={CHECK: {"result": Result.KNOWN_FAIL}}))
    lost = summary(make_verdict(change={CHECK: {"result": Result.ERROR}}))

    assert summary(make_verdict())[0] == f"Every one of the {musts} checks that a driver must pass holds."
    assert broken[0] == f"1 of the {musts} checks that a driver must pass failed."
    assert broken[1].startswith("The driver does not offer QoS;")
    assert "not everything was looked at" in known[0]
    assert known[1] == "1 known failure must go before a certificate can be issued."
    assert lost[0].endswith("could not be judged: the environment got in the way.")
    assert "not everything was looked at" in summary(make_verdict(tier=Tier.SMOKE))[0]


def test_what_was_not_run_is_counted(make_verdict: Maker) -> None:
    """MUST checks that were not run need attention, as one line."""
    page = _page(make_verdict(change={CHECK: {"result": Result.NOT_RUN}}))

    assert "1 MUST check was not run." in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12 ms"), (1.26, "1.3 s"), (61.0, "1 min 1 s"), (math.nan, "unknown")],
)
def test_durations(seconds: float, text: str) -> None:
    """Durations are told in the unit that a person would take."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(61.0, "61"), (0.12345, "0.1235"), (12345.6, "12,346"), (math.inf, "not a number")]
)
def test_figures_as_text(value: float, text: str) -> None:
    """Figures have as many digits as mean something."""
    assert figure(value) == text


def test_code_in_prose() -> None:
    """What stands between backticks in a docstring is code, and markup in it stays text."""
    assert prose("gives `Not<Found>` & no") == "gives <code>Not&lt;Found&gt;</code> &amp; no"


def test_timeline_lanes() -> None:
    """Calls at the same time lie in different lanes, calls one after the other in one; a crowd shares."""
    apart = [CallRecord(at=float(i), call="c", seconds=0.5) for i in range(3)]
    together = [CallRecord(at=0.0, call="c", seconds=1.0) for _ in range(40)]

    assert len(set(re.findall(r' y="(\d+)" width', timeline(apart)))) == 1
    assert len(set(re.findall(r' y="(\d+)" width', timeline(together)))) == 12
    assert "Timeline of 0 calls" in timeline([])


def test_plots() -> None:
    """A series is drawn with its axis, evenly in powers of ten where it spans them; a lone point is not."""
    series = ((100.0, 1.0), (1000.0, 2.0), (10000.0, 4.0))
    drawn = plot(Measure(name="calls", value=4.0, unit="calls", series=series))
    many = tuple((float(i), float(i % 7)) for i in range(5000))

    assert re.findall(r'cx="([\d.]+)%"', drawn) == ["1.00", "50.00", "99.00"]
    assert "from 1 to 4 calls" in drawn
    assert plot(Measure(name="one", value=1.0, unit="", series=((1.0, 1.0),))) == ""
    assert plot(Measure(name="many", value=1.0, unit="", series=many)).count("<line") < 410
    assert "not a number" not in plot(
        Measure(name="flat", value=0.0, unit="", series=((1.0, 0.0), (1.0, 0.0)))
    )


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 0, [0]), (3, 4, [3.0, 3.2])]
)
def test_ticks(low: float, high: float, found: list[float]) -> None:
    """An axis has round numbers."""
    assert ticks(low, high)[: len(found)] == pytest.approx(found)


def test_one_failure_among_hundreds_is_seen() -> None:
    """Each result has a slice of the bar that can be seen."""
    drawn = stacked_bar({Result.PASS: 999, Result.FAIL: 1, Result.ERROR: 0})
    widths = [float(w) for w in re.findall(r'width="([\d.]+)%" height="12" rx', drawn)]

    assert len(widths) == 2
    assert widths[1] > 1
    assert sum(widths) == pytest.approx(100)
