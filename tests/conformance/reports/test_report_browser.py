"""report.html in a real browser: what a reader clicks, sees and hears."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import Page, expect

from bollard.conformance.model import CallRecord, Result, Verdict
from bollard.conformance.reports import environment, report_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator

pytestmark = pytest.mark.real

Maker = Callable[..., Verdict]
Visit = Callable[..., Page]
FAILED = "check-vol.list_complete"
PHONE, DESK = (390, 844), (1280, 900)

# Every text that is seen: its colour against the nearest background that is not transparent.
_CONTRASTS = """
() => {
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function rgb(colour) {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}
function luminance([r, g, b]) {
  const [R, G, B] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * R + 0.7152 * G + 0.0722 * B;
}
function background(element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return rgb("white");
}
const found = {};
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !element.checkVisibility() || element.closest("script, title")) continue;
  const style = getComputedStyle(element);
  const ink = luminance(rgb(element.closest("svg") ? style.fill : style.color));
  const paper = luminance(background(element));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  const name = `${element.tagName} ${element.getAttribute("class") ?? ""}`;
  found[name] = Math.min(found[name] ?? 99, ratio);
}
return found;
}
"""


def _shown(page: Page) -> list[str]:
    script = "[...document.querySelectorAll('details.check')].filter(c => c.checkVisibility()).map(c => c.id)"
    return list(page.evaluate(script))


def _overflow(page: Page) -> int:
    """How many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def _background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def _check(page: Page, name: str = FAILED) -> Locator:
    """A check's details, whose id has a dot that a selector would take for a class."""
    return page.locator(f'[id="{name}"]')


def _is_open(page: Page) -> bool:
    return _check(page).get_attribute("open") is not None


def _width(element: Locator) -> float:
    box = element.bounding_box()
    return box["width"] if box else 0


def _reopen(page: Page, path: Path, fragment: str = "") -> None:
    """Load the page anew: by itself, another fragment would not."""
    page.goto("about:blank")
    page.goto(f"{path.as_uri()}{fragment}")


def _requests(page: Page) -> list[str]:
    """The addresses that the page asks for from now on, with those that its policy then refuses."""
    urls: list[str] = []
    page.context.on("request", lambda request: urls.append(request.url))
    return urls


def _complaints(page: Page) -> list[str]:
    """What the browser writes to its console from now on: errors, and what the policy refused."""
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    page.on("pageerror", lambda error: lines.append(str(error)))
    return lines


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """A function that opens an empty window, with this screen and colour scheme and without a past."""
    contexts: list[BrowserContext] = []

    def open_window(
        size: tuple[int, int] = DESK, scheme: Literal["light", "dark"] = "light", *, scripts: bool = True
    ) -> Page:
        width, height = size
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            is_mobile=width < 500,
            color_scheme=scheme,
            reduced_motion="reduce",
            java_script_enabled=scripts,
        )
        contexts.append(context)
        return context.new_page()

    yield open_window
    for context in contexts:
        context.close()


@pytest.fixture
def page(visit: Visit, report_page: Path) -> Page:
    """The sample's report, opened on a desk."""
    window = visit()
    window.goto(report_page.as_uri())
    return window


def test_filters(page: Page) -> None:
    """Result, group, level and search narrow the list, the count is told aloud, and clearing shows all."""
    everything = _shown(page)
    page.locator(".chip[data-result=fail]").click()
    failed, told = _shown(page), page.locator("#shown").inner_text()
    page.locator(".chip[data-result=refused]").click()
    both = _shown(page)
    page.locator("#reset").click()
    page.locator("#group").press_sequentially("Snapshots")
    snapshots = _shown(page)
    page.locator("#level").press_sequentially("should")
    fewer = _shown(page)
    page.locator("#reset").click()
    page.locator("#search").press_sequentially("PAGING stops")
    searched = _shown(page)
    page.locator("#search").press_sequentially(" and nothing like it")

    assert failed == searched == [FAILED]
    assert told == f"1 of {len(everything)} checks shown"
    assert page.locator("#shown").get_attribute("aria-live") == "polite"
    assert len(both) > 1
    assert all(name.startswith("check-snap.") for name in snapshots)
    assert len(fewer) < len(snapshots)
    assert _shown(page) == []
    assert page.locator("#nothing").is_visible()
    page.locator("#reset").click()
    assert _shown(page) == everything


def test_matrix_leads_to_its_checks(page: Page) -> None:
    """A click on a number of the matrix shows those checks and presses the filters that do it."""
    page.locator(".matrix td a[data-group=vol][data-result=fail]").click()

    assert _shown(page) == [FAILED]
    assert page.locator("#group").input_value() == "vol"
    assert page.locator(".chip[data-result=fail]").get_attribute("aria-pressed") == "true"


def test_open_a_check(page: Page) -> None:
    """A click on a check shows contract, message, interpretation, field bug, calls and script."""
    details = _check(page)
    details.locator("summary").first.click()
    text = details.inner_text()

    for words in (
        "Every volume of the pool is listed once",
        "100 volumes are listed and 104 were created",
        "look at the array's paging first",
        "cinder bug 1895035",
        "raised Unavailable, outcome unknown",
        "from bollard import open_pool",
    ):
        assert words in text
    assert _width(details.locator("svg.timeline")) > 300


def test_attention_opens_the_check(page: Page, report_page: Path) -> None:
    """The link at the top opens its check although a filter hides it; so does an address with a fragment."""
    page.locator("#search").press_sequentially("snapshot")
    assert not _check(page).is_visible()
    page.locator(f'.attention a[href="#{FAILED}"]').click()
    expect(_check(page)).to_have_js_property("open", value=True)
    assert _check(page).is_visible()

    _reopen(page, report_page, fragment=f"#{FAILED}")
    assert _is_open(page)


def test_expand_and_collapse(page: Page) -> None:
    """One button opens all that the filters show and closes them again."""
    page.locator("#group").press_sequentially("Quality of service")
    page.locator("#expand").click()
    opened = page.locator("details[open]").count()
    count = len(_shown(page))
    page.locator("#expand").click()

    assert opened == count > 1
    assert page.locator("details[open]").count() == 0


def test_copy(page: Page) -> None:
    """The copy button puts the whole script onto the clipboard and says so."""
    _check(page).locator("summary").first.click()
    button = _check(page).locator(".copy")
    button.click()
    expect(button).to_have_text("Copied")
    page.locator("#search").press("Control+v")

    # A search field has one line.
    assert page.locator("#search").input_value().startswith("from bollard import open_pool")


def test_certificate_line_and_profiles(page: Page) -> None:
    """The first screen says whether a certificate can be issued, and each profile draws its results."""
    line = page.locator(".certificate").inner_text()
    profiles = page.locator(".profiles li").all()

    assert line == "No certificate can be issued yet: 1 thing stands in the way."
    assert profiles
    assert all(_width(profile.locator("svg.stack")) > 50 for profile in profiles)


def test_theme(page: Page, report_page: Path) -> None:
    """The page follows the system, the button turns it around, and the choice outlives a reload."""
    light = _background(page)
    page.locator("#theme").click()
    dark = _background(page)
    _reopen(page, report_page)

    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    assert _background(page) == dark != light
    page.evaluate("localStorage.clear()")
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    _reopen(page, report_page)
    assert _background(page) == dark


def test_nothing_is_requested(visit: Visit, report_page: Path) -> None:
    """Opening and using the page asks no network for anything, and breaks no rule of its own policy."""
    page = visit()
    requests, complaints = _requests(page), _complaints(page)
    page.goto(report_page.as_uri())
    page.locator("#expand").click()
    page.locator("#theme").click()
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")

    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert page.evaluate("performance.getEntriesByType('resource').map(e => e.name)") == []
    assert requests == [report_page.as_uri()]
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_readable_everywhere(
    visit: Visit, report_page: Path, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    """On phone and desk, light and dark: nothing sticks out, text has contrast, something is drawn."""
    page = visit(size, scheme)
    page.goto(report_page.as_uri())
    for name in (FAILED, "check-pool.capacity_sane"):
        _check(page, name).evaluate("check => { check.open = true; }")
    page.locator(".chip[data-result=refused]").click()
    page.locator(".chip[data-result=fail]").click()
    overflow, contrasts = _overflow(page), page.evaluate(_CONTRASTS)
    page.locator("#reset").click()
    shot = tmp_path / f"{scheme}-{size[0]}.png"
    page.screenshot(path=shot)

    assert overflow == 0
    assert _overflow(page) == 0
    assert len(contrasts) > 20
    assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
    assert shot.stat().st_size > 10_000
    assert len(zlib.compress(shot.read_bytes())) > 10_000


def test_keyboard(page: Page) -> None:
    """Tab reaches skip link, navigation, filters and checks in this order, and Enter opens a check."""
    seen: list[str] = []
    script = "(e => e.id || e.className || e.textContent.trim())(document.activeElement)"
    for _ in range(91):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(script))
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")

    assert seen[0] == "skip"
    assert seen.index("Profiles") < seen.index("theme") < seen.index("search") < seen.index("expand")
    assert outline == "solid"
    assert page.evaluate("document.activeElement.parentElement.open") is True


def test_without_javascript(visit: Visit, report_page: Path) -> None:
    """Without scripts the page has all checks, which open, and shows no control that would do nothing."""
    page = visit(scripts=False)
    page.goto(report_page.as_uri())
    visible = [page.locator(name).is_visible() for name in ("#filters", "#theme")]
    _check(page).locator("summary").first.click()
    text = _check(page).inner_text()

    assert visible == [False, False]
    assert "look at the array's paging first" in text


def test_hostile_driver(visit: Visit, make_verdict: Maker, tmp_path: Path) -> None:
    """A driver that writes scripts, endless words and reversed text changes neither page nor layout."""
    hostile = "<script>document.title='owned'</script><style>*{display:none}</style>\u202e" + "W" * 5_000
    call = CallRecord(at=0.0, call=hostile, seconds=0.1, answer=hostile, failed=True)
    change = {"result": Result.FAIL, "message": hostile, "reproducer": hostile, "evidence": (call,)}
    verdict = make_verdict(driver=hostile[:200], distribution=hostile, change={"vol.list_complete": change})
    path = tmp_path / "report.html"
    path.write_bytes(report_html(verdict, environment()))
    page = visit(PHONE)
    complaints = _complaints(page)
    page.goto(f"{path.as_uri()}#{FAILED}")

    assert "Bollard conformance report" in page.title()
    assert _is_open(page)
    assert _overflow(page) == 0
    assert complaints == []
