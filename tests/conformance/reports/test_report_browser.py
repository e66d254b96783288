"""report.html in a real browser: what a reader clicks, sees and hears."""

from __future__ import annotations

import importlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# LEAD, for helper-32: replace selenium by playwright (sync_api, executable_path=/usr/bin/chromium, installed in
# .venv; selenium was uninstalled on purpose: it brings trio, which httpcore then imports, which runs ldconfig at
# import: tests/test_import.py fails). No chromedriver needed then. page.route/on('request') shows requests. dev extra:
# playwright instead of selenium; setup-system.sh: only `chromium`. Delete this comment.
from bollard.conformance.model import CallRecord, Result, Verdict
from bollard.conformance.reports import environment, report_html

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.real


def _selenium(module: str) -> Any:
    """Import a part of Selenium; without it these tests are left out, but never in CI."""
    name = f"selenium.webdriver.{module}"
    if os.environ.get("CI") == "true":
        return importlib.import_module(name)
    return pytest.importorskip(name, reason="needs Selenium: pip install '.[browser]'")


By = _selenium("common.by").By
Keys = _selenium("common.keys").Keys
WebDriverWait = _selenium("support.ui").WebDriverWait

Maker = Callable[..., Verdict]
FAILED = "check-vol.list_complete"
PHONE, DESK = (390, 844), (1280, 900)

# Every text that is seen: its colour against the nearest background that is not transparent.
_CONTRASTS = """
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
"""


def _open(
    chromium: WebDriver, page: Path, size: tuple[int, int] = DESK, scheme: str = "light", fragment: str = ""
) -> None:
    """Load the page anew, as a reader with this screen and colour scheme."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    motion = {"name": "prefers-reduced-motion", "value": "reduce"}
    features = [{"name": "prefers-color-scheme", "value": scheme}, motion]
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    chromium.get("about:blank")
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(f"{page.as_uri()}{fragment}")


def _id(chromium: WebDriver, name: str) -> Any:
    return chromium.find_element(By.ID, name)


def _shown(chromium: WebDriver) -> list[str]:
    script = "[...document.querySelectorAll('details.check')].filter(c => c.checkVisibility()).map(c => c.id)"
    return list(chromium.execute_script(f"return {script}"))


def _overflow(chromium: WebDriver) -> int:
    """How many pixels the page is wider than the window."""
    return int(chromium.execute_script("return document.documentElement.scrollWidth - innerWidth"))


@pytest.fixture
def page(chromium: WebDriver, report_page: Path) -> Iterator[WebDriver]:
    """The sample's report, opened on a desk; what a test made it remember is forgotten after it."""
    _open(chromium, report_page)
    yield chromium
    chromium.execute_script("localStorage.clear()")


def test_filters(page: WebDriver) -> None:
    """Result, group, level and search narrow the list, the count is told aloud, and clearing shows all."""
    everything = _shown(page)
    page.find_element(By.CSS_SELECTOR, ".chip[data-result=fail]").click()
    failed, told = _shown(page), _id(page, "shown").text
    page.find_element(By.CSS_SELECTOR, ".chip[data-result=refused]").click()
    both = _shown(page)
    _id(page, "reset").click()
    _id(page, "group").send_keys("Snapshots")
    snapshots = _shown(page)
    _id(page, "level").send_keys("should")
    fewer = _shown(page)
    _id(page, "reset").click()
    _id(page, "search").send_keys("PAGING stops")
    searched = _shown(page)
    _id(page, "search").send_keys(" and nothing like it")

    assert failed == searched == [FAILED]
    assert told == f"1 of {len(everything)} checks shown"
    assert _id(page, "shown").get_attribute("aria-live") == "polite"
    assert len(both) > 1
    assert all(name.startswith("check-snap.") for name in snapshots)
    assert len(fewer) < len(snapshots)
    assert _shown(page) == []
    assert _id(page, "nothing").is_displayed()
    _id(page, "reset").click()
    assert _shown(page) == everything


def test_matrix_leads_to_its_checks(page: WebDriver) -> None:
    """A click on a number of the matrix shows those checks and presses the filters that do it."""
    page.find_element(By.CSS_SELECTOR, ".matrix td a[data-group=vol][data-result=fail]").click()

    assert _shown(page) == [FAILED]
    assert _id(page, "group").get_attribute("value") == "vol"
    assert (
        page.find_element(By.CSS_SELECTOR, ".chip[data-result=fail]").get_attribute("aria-pressed") == "true"
    )


def test_open_a_check(page: WebDriver) -> None:
    """A click on a check shows contract, message, interpretation, field bug, calls and script."""
    details = _id(page, FAILED)
    details.find_element(By.TAG_NAME, "summary").click()
    text = details.text

    for words in (
        "Every volume of the pool is listed once",
        "100 volumes are listed and 104 were created",
        "look at the array's paging first",
        "cinder bug 1895035",
        "raised Unavailable, outcome unknown",
        "from bollard import open_pool",
    ):
        assert words in text
    assert details.find_element(By.CSS_SELECTOR, "svg.timeline").size["width"] > 300


def test_attention_opens_the_check(page: WebDriver, report_page: Path) -> None:
    """The link at the top opens its check although a filter hides it; so does an address with a fragment."""
    _id(page, "search").send_keys("snapshot")
    page.find_element(By.CSS_SELECTOR, f'.attention a[href="#{FAILED}"]').click()
    WebDriverWait(page, 5).until(lambda _: _id(page, FAILED).get_attribute("open"))
    assert _id(page, FAILED).is_displayed()

    _open(page, report_page, fragment=f"#{FAILED}")
    assert _id(page, FAILED).get_attribute("open")


def test_expand_and_collapse(page: WebDriver) -> None:
    """One button opens all that the filters show and closes them again."""
    _id(page, "group").send_keys("Quality of service")
    _id(page, "expand").click()
    opened = page.execute_script("return document.querySelectorAll('details[open]').length")
    count = len(_shown(page))
    _id(page, "expand").click()

    assert opened == count > 1
    assert page.execute_script("return document.querySelectorAll('details[open]').length") == 0


def test_copy(page: WebDriver) -> None:
    """The copy button puts the whole script onto the clipboard and says so."""
    _id(page, FAILED).find_element(By.TAG_NAME, "summary").click()
    button = _id(page, FAILED).find_element(By.CSS_SELECTOR, ".copy")
    button.click()
    WebDriverWait(page, 5).until(lambda _: button.text == "Copied")
    _id(page, "search").send_keys(Keys.CONTROL, "v")

    # A search field has one line.
    assert _id(page, "search").get_attribute("value").startswith("from bollard import open_pool")


def test_certificate_line_and_profiles(page: WebDriver) -> None:
    """The first screen says whether a certificate can be issued, and each profile draws its results."""
    line = page.find_element(By.CSS_SELECTOR, ".certificate").text
    profiles = page.find_elements(By.CSS_SELECTOR, ".profiles li")

    assert line == "No certificate can be issued yet: 1 thing stands in the way."
    assert profiles
    assert all(p.find_element(By.CSS_SELECTOR, "svg.stack").size["width"] > 50 for p in profiles)


def test_theme(page: WebDriver, report_page: Path) -> None:
    """The page follows the system, the button turns it around, and the choice outlives a reload."""
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.execute_script(background)
    _id(page, "theme").click()
    dark = page.execute_script(background)
    _open(page, report_page)

    assert _id(page, "theme").get_attribute("aria-pressed") == "true"
    assert page.execute_script(background) == dark != light
    page.execute_script("localStorage.clear()")
    _open(page, report_page, scheme="dark")
    assert page.execute_script(background) == dark


def test_nothing_is_requested(page: WebDriver) -> None:
    """Opening and using the page asks no network for anything, and breaks no rule of its own policy."""
    _id(page, "expand").click()
    _id(page, "theme").click()
    log = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {m["params"]["request"]["url"] for m in log if m["method"] == "Network.requestWillBeSent"}

    policy = page.find_element(By.CSS_SELECTOR, "meta[http-equiv=Content-Security-Policy]")

    assert policy.get_attribute("content").startswith("default-src 'none'; ")
    assert page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    assert {url.partition(":")[0] for url in urls} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in urls) == 1
    assert page.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_readable_everywhere(
    chromium: WebDriver, report_page: Path, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    """On phone and desk, light and dark: nothing sticks out, text has contrast, something is drawn."""
    _open(chromium, report_page, size, scheme)
    for name in (FAILED, "check-pool.capacity_sane"):
        chromium.execute_script("document.getElementById(arguments[0]).open = true", name)
    chromium.find_element(By.CSS_SELECTOR, ".chip[data-result=refused]").click()
    chromium.find_element(By.CSS_SELECTOR, ".chip[data-result=fail]").click()
    overflow, contrasts = _overflow(chromium), chromium.execute_script(_CONTRASTS)
    _id(chromium, "reset").click()
    shot = tmp_path / f"{scheme}-{size[0]}.png"
    chromium.save_screenshot(str(shot))

    assert overflow == 0
    assert _overflow(chromium) == 0
    assert len(contrasts) > 20
    assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
    assert shot.stat().st_size > 10_000
    assert len(zlib.compress(shot.read_bytes())) > 10_000


def test_keyboard(page: WebDriver) -> None:
    """Tab reaches skip link, navigation, filters and checks in this order, and Enter opens a check."""
    seen: list[str] = []
    script = "const e = document.activeElement; return e.id || e.className || e.textContent.trim()"
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    for _ in range(90):
        seen.append(page.execute_script(script))
        if page.execute_script("return document.activeElement.tagName") == "SUMMARY":
            break
        page.switch_to.active_element.send_keys(Keys.TAB)
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    page.switch_to.active_element.send_keys(Keys.ENTER)

    assert seen[0] == "skip"
    assert seen.index("Profiles") < seen.index("theme") < seen.index("search") < seen.index("expand")
    assert outline == "solid"
    assert page.execute_script("return document.activeElement.parentElement.open") is True


def test_without_javascript(page: WebDriver, report_page: Path) -> None:
    """Without scripts the page has all checks, which open, and shows no control that would do nothing."""
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        _open(page, report_page)
        hidden = [_id(page, name).is_displayed() for name in ("filters", "theme")]
        details = _id(page, FAILED)
        details.find_element(By.TAG_NAME, "summary").click()
        text = details.text
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert hidden == [False, False]
    assert "look at the array's paging first" in text


def test_hostile_driver(chromium: WebDriver, make_verdict: Maker, tmp_path: Path) -> None:
    """A driver that writes scripts, endless words and reversed text changes neither page nor layout."""
    hostile = "<script>document.title='owned'</script><style>*{display:none}</style>\u202e" + "W" * 5_000
    call = CallRecord(at=0.0, call=hostile, seconds=0.1, answer=hostile, failed=True)
    change = {"result": Result.FAIL, "message": hostile, "reproducer": hostile, "evidence": (call,)}
    verdict = make_verdict(driver=hostile[:200], distribution=hostile, change={"vol.list_complete": change})
    path = tmp_path / "report.html"
    path.write_bytes(report_html(verdict, environment()))
    _open(chromium, path, PHONE, fragment=f"#{FAILED}")

    assert "Bollard conformance report" in chromium.title
    assert _id(chromium, FAILED).get_attribute("open")
    assert _overflow(chromium) == 0
    assert chromium.get_log("browser") == []
