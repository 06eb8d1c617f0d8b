"""The report in Chromium: no requests, no errors; it fits a phone, has contrast, and prints."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, browser
from report_folders import audit_folder, benchmark_folder, run_folder

from fedtransfer.simulations.report.page import write_report

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]

# For each text its contrast to what stands behind it, by WCAG's formula; returns those below 4.5.
FAINT = """(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c[3] !== 0) return c;
    }
  };
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (e.closest("title, desc, style")) continue;
    const ink = e.closest("svg") ? getComputedStyle(e).fill : getComputedStyle(e).color;
    const ground = behind(e.closest("svg") ? e.closest("figure") : e);
    const [a, b] = [light(rgb(ink)), light(ground)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push([e.tagName, e.textContent.slice(0, 40), ink]);
  }
  return JSON.stringify(faint);
})()"""


KINDS = ["run", pytest.param("audit", marks=pytest.mark.full), pytest.param("bench", marks=pytest.mark.full)]
OPENED = "document.querySelectorAll('details').forEach(one => { one.open = true })"
CUT = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the file of a page of some kind, which is written when it is first asked for."""
    home = tmp_path_factory.mktemp("pages")
    hostile = {
        "sites": ["<img src=x onerror=alert(1)>", "b" * 60, "c"],
        "classes": ["<script>alert(1)</script>", "dog", "cat"],
    }

    @cache
    def file(kind: str) -> Path:
        folder = home / kind
        if kind == "run":
            run_folder(folder, **hostile)
        elif kind == "audit":
            audit_folder(folder)
        else:
            benchmark_folder(folder, ("iid",), 1)
        write_report([folder], home / f"{kind}.html", "x")
        return home / f"{kind}.html"

    return file


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_asked_for_nothing_complains_and_texts_have_contrast(
    page_file: Callable[[str], Path], tab: Browser, kind: str, dark: bool
) -> None:
    page = page_file(kind)
    tab.open(page, dark=dark)
    assert [url for url in tab.requests if not url.startswith("data:image/png")] == [page.as_uri()]
    assert not tab.complaints
    assert json.loads(tab.value(FAINT)) == []
    paper = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_fits_a_phone_and_every_scrolling_part_is_reached_by_keyboard(
    page_file: Callable[[str], Path], tab: Browser, kind: str
) -> None:
    tab.open(page_file(kind), width=390)
    tab.value(OPENED)
    assert tab.value("document.documentElement.scrollWidth") <= 390
    scrolls = "[...document.querySelectorAll('.scroll, pre')].filter(e => e.scrollWidth > e.clientWidth)"
    assert tab.value(f"{scrolls}.filter(e => e.tabIndex < 0).length") == 0


def test_commands_and_fingerprints_break_on_a_phone(page_file: Callable[[str], Path], tab: Browser) -> None:
    tab.open(page_file("run"), width=390)
    tab.value(OPENED)
    parts = "[...document.querySelectorAll('pre, #repeat .scroll')]"
    assert tab.value(f"{parts}.length") > 2
    assert tab.value(f"{parts}.filter(e => e.scrollWidth > e.clientWidth + 1).length") == 0


def test_it_prints_in_light_with_its_configuration(page_file: Callable[[str], Path], tab: Browser) -> None:
    tab.open(page_file("run"), dark=True)
    assert tab.printed().startswith(b"%PDF")
    tab.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.value("document.querySelector('#configuration table').getBoundingClientRect().height") > 50
    assert tab.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    tab.call("Emulation.setEmulatedMedia", media="", features=[])


@pytest.mark.full
@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.usefixtures("no_drawings")
def test_scores_fit_a_window_and_the_paper(tmp_path: Path, tab: Browser, seeds: int) -> None:
    write_report([benchmark_folder(tmp_path / "bench", ("iid",), seeds)], tmp_path / "bench.html", "x")
    tab.open(tmp_path / "bench.html", width=1200)
    assert "calibration error" in tab.value("document.querySelector('#setting-0').textContent")
    assert tab.value(f"{CUT}.length") == 0
    tab.call("Emulation.setEmulatedMedia", media="print")
    tab.call("Emulation.setDeviceMetricsOverride", width=680, height=900, deviceScaleFactor=1, mobile=False)
    assert tab.value(f"{CUT}.length") == 0, "A4 less its margins"
    tab.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.full
@pytest.mark.usefixtures("no_drawings")
def test_a_phone_says_what_scrolls_and_stacks_the_settings(tmp_path: Path, tab: Browser, bench: Path) -> None:
    write_report([bench], tmp_path / "bench.html", "x")
    tab.open(tmp_path / "bench.html", width=390)
    previous = "e.previousElementSibling"
    seen = f"getComputedStyle({previous} ?? e).display === 'block' && {previous}?.matches('.sideways')"
    assert tab.value(f"{CUT}.length") > 1
    assert tab.value(f"{CUT}.filter(e => !({seen})).map(e => e.ariaLabel).join()") == ""
    glance = "document.querySelector('#glance .scroll')"
    assert tab.value(f"{glance}.scrollWidth - {glance}.clientWidth") <= 0
    before = f"getComputedStyle({glance}.querySelector('td:last-child'), '::before').content"
    assert "sites that do better alone" in tab.value(
        f"{glance}.querySelector('td:last-child').dataset.column"
    ), before
    assert tab.value(before) == 'attr(data-column) ": "' or "sites that do better alone" in tab.value(before)
    tab.open(tmp_path / "bench.html", width=1200)
    assert tab.value(
        "[...document.querySelectorAll('.sideways')].every(e => getComputedStyle(e).display === 'none')"
    )
