"""The built book in Debian's Chromium, from the disk, without a network: on a phone and wider, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from conftest import lacking
from reproduction.report.chapter_times import listed_pages

WIDTHS = (375, 768, 1400)
CHAPTER = "notebooks/optimal_segmentations"  # the one with most formulas
HEAVY = "book/index"  # a table of results, a figure in the page itself

# Everything that a test asks of a page at one width, in one pass over it.
MEASURE = """() => {
  const width = document.documentElement.clientWidth;
  const name = (e) => `${e.tagName.toLowerCase()}.${e.getAttribute("class")}: ${e.textContent.trim().slice(0, 40)}`;
  const scrolls = (e) => {
    for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(p).overflowX)) return true;
    return false;
  };
  const outside = [], cut = [];
  for (const e of document.querySelectorAll("main *")) {
    if (e.closest("dialog, .bd-sidebar-secondary, mjx-container > *, .highlight pre > *")) continue;
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    if (box.right > width + 1 && !scrolls(e)) outside.push(name(e));
    const style = getComputedStyle(e);
    if (["hidden", "clip"].includes(style.overflowX) && style.display !== "inline" && e.clientWidth > 1
        && e.scrollWidth > e.clientWidth + 1) cut.push(name(e));
  }
  return {width, page: document.documentElement.scrollWidth, outside, cut};
}"""
# Figures: whether a tap enlarges them, whether their colours are changed, and whether they are described.
FIGURES = """() => [...document.querySelectorAll("main img")].filter((e) => e.closest("figure, .cell_output, .output"))
  .map((e) => [e.closest("button.enlarge") !== null, getComputedStyle(e).filter, e.alt.length > 20])"""
# Stops of the tab key on formulas that do not scroll.
STOPS = """() => [...document.querySelectorAll("mjx-container[tabindex='0']")]
  .filter((e) => e.scrollWidth <= e.clientWidth + 1).length"""
IDS = """() => {
  const ids = [...document.querySelectorAll("[id]")].filter((e) => !e.closest("mjx-container, svg")).map((e) => e.id);
  return ids.filter((id, k) => ids.indexOf(id) !== k);
}"""
SETTLED = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await new Promise((done) => setTimeout(done, 150));
}"""
# Formulas are set apart from this: MathJax makes thousands of elements, which are the same everywhere.
AXE = """async () => (await axe.run(document, {
  resultTypes: ["violations"], rules: {"label-content-name-mismatch": {enabled: true}},
})).violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)])"""
# Everything open; of listings and of entries of the reference, which are all alike and take minutes, a few are left.
UNFOLD = """() => {
  document.querySelectorAll("details").forEach((box) => (box.open = true));
  for (const [alike, enough] of [["article .highlight", 6], ["article dl.py", 20]])
    [...document.querySelectorAll(alike)].slice(enough).forEach((e) => e.remove());
}"""
CONTRAST = AXE.replace("resultTypes:", 'runOnly: ["color-contrast"], resultTypes:').replace(
    'rules: {"label-content-name-mismatch": {enabled: true}},', ""
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        lacking("no browser: the book is looked at with Debian's package chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("no playwright: `make test` installs it, with all that requirements.lock names")
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses root, who runs CI; only our own pages are opened.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def names(html: Path) -> list[str]:
    """All pages but the front door, which only leads on, and the theme's templates; of the sources, which are all
    alike, those with the longest names."""
    found = [path.relative_to(html) for path in sorted(html.rglob("*.html"))]
    pages = [str(path.with_suffix("")) for path in found if path.parts[0] != "_static" and str(path) != "index.html"]
    sources = [page for page in pages if page.startswith("_modules/")]
    return [page for page in pages if page not in sources] + sorted(sources, key=len)[-6:]


class Visit:
    """A page in the browser, what went wrong on it, and what it asked for that is not on the disk."""

    def __init__(self, browser: Any, html: Path, name: str, width: int = 375, query: str = "", **settings: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 812}, offline=True, **settings)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.problems.append(said.text) if said.type in ("error", "warning") else None,
        )
        self.page.on(
            "request",
            lambda asked: self.foreign.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None,
        )
        self.url = (html / f"{name}.html").as_uri() + query

    def __enter__(self) -> Visit:
        self.page.goto(self.url)
        self.page.evaluate(SETTLED)
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()


@pytest.fixture(scope="module")
def seen(chromium, html) -> dict[str, dict[str, Any]]:
    """What every page is like at every width, in the dark; the pages with sources on a phone alone."""
    found: dict[str, dict[str, Any]] = {}
    for name in names(html):
        with Visit(chromium, html, name, color_scheme="dark") as visit:
            widths = WIDTHS[:1] if name.startswith("_modules/") else WIDTHS
            measured = {}
            for width in widths:
                if width != 375:
                    visit.page.set_viewport_size({"width": width, "height": 900})
                    visit.page.wait_for_timeout(250)
                measured[width] = visit.page.evaluate(MEASURE)
            stops, ids = visit.page.evaluate(STOPS), visit.page.evaluate(IDS)
            found[name] = {
                "measured": measured,
                "figures": visit.page.evaluate(FIGURES),
                "stops": stops,
                "ids": ids,
                "problems": visit.problems,
                "foreign": visit.foreign,
            }
    return found


@pytest.mark.slow
def test_no_script_fails_on_any_page(seen):
    assert not {name: page["problems"] for name, page in seen.items() if page["problems"]}


@pytest.mark.slow
def test_no_page_asks_for_anything_that_is_not_on_the_disk(seen):
    assert not {name: page["foreign"] for name, page in seen.items() if page["foreign"]}


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_screen(seen, width):
    pages = {name: page["measured"][width] for name, page in seen.items() if width in page["measured"]}
    assert len(pages) > 20
    assert not {name: (m["page"], m["outside"][:3]) for name, m in pages.items() if m["page"] > width or m["outside"]}


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off(seen, width):
    pages = {name: page["measured"][width] for name, page in seen.items() if width in page["measured"]}
    assert not {name: m["cut"][:3] for name, m in pages.items() if m["cut"]}


@pytest.mark.slow
def test_the_tab_key_stops_at_no_formula(seen):
    assert not {name: page["stops"] for name, page in seen.items() if page["stops"]}


@pytest.mark.slow
def test_ids_are_unique_once_the_scripts_have_run(seen):
    assert not {name: page["ids"] for name, page in seen.items() if page["ids"]}


@pytest.mark.parametrize("width", [375, 768])
def test_the_menu_opens_the_navigation_over_a_narrow_page(chromium, html, width):
    with Visit(chromium, html, CHAPTER, width) as visit:
        link = visit.page.locator("nav.bd-docs-nav a", has_text="Label noise").first
        assert not link.is_visible()
        visit.page.locator("button.primary-toggle:visible").click()
        link.wait_for(state="visible", timeout=3000)
        link.click()
        visit.page.wait_for_url("**/label_noise.html")
        assert not visit.problems


def test_the_menu_hides_and_shows_the_side_bar_of_a_wide_page(chromium, html):
    with Visit(chromium, html, CHAPTER, 1400) as visit:
        bar, button = visit.page.locator("#pst-primary-sidebar"), visit.page.locator("button.primary-toggle:visible")
        link = bar.locator("nav a", has_text="Volume").first
        assert link.is_visible()
        button.click()
        link.wait_for(state="hidden", timeout=3000)
        button.click()
        link.wait_for(state="visible", timeout=3000)


@pytest.mark.parametrize("width", [375, 1100])
def test_the_contents_of_a_page_open(chromium, html, width):
    with Visit(chromium, html, CHAPTER, width) as visit:
        visit.page.locator("button.secondary-toggle:visible").click()
        link = visit.page.locator("dialog[open] .page-toc a, dialog[open] nav a").first
        link.wait_for(state="visible", timeout=3000)
        visit.page.keyboard.press("Escape")
        link.wait_for(state="hidden", timeout=3000)
        assert not visit.problems


def results(visit: Visit) -> list[tuple[str, str]]:
    """The links and the texts of a search's results."""
    visit.page.wait_for_function("() => /finished|did not/.test(document.querySelector('.search-summary').innerText)")
    visit.page.wait_for_timeout(200)
    items = visit.page.locator("#search-results li")
    links = [link.get_attribute("href") or "" for link in items.locator("a").all()]
    return list(zip(links, items.all_inner_texts(), strict=True))


def test_search_from_the_disk_finds_the_function_before_pages_that_use_the_word(chromium, html):
    with Visit(chromium, html, "search", query="?q=threshold") as visit:
        links = [link for link, _ in results(visit)]
        assert links[0] == "book/api.html#noisyseg.dice_threshold", links[:5]
        assert any(link.startswith("notebooks/") for link in links)


def test_search_from_the_disk_finds_how_to_install(chromium, html):
    """Its page comes first, with the section, and a search for the command's name finds that page, too."""
    with Visit(chromium, html, "search", query="?q=install") as visit:
        links = [link for link, _ in results(visit)]
        assert links[0].startswith("book/files.html") and "book/files.html#install" in links[:3], links[:5]
    with Visit(chromium, html, "search", query="?q=threshold") as visit:
        pages = list(dict.fromkeys(link.split("#")[0] for link, _ in results(visit)))
        assert "book/files.html" in pages[:10], pages


def test_search_from_the_disk_shows_where_the_word_stands(chromium, html):
    with Visit(chromium, html, "search", query="?q=outline") as visit:
        found = results(visit)
        assert found and not visit.problems
        assert all("outline" in text.lower() and len(text) > 80 for _, text in found), found


@pytest.mark.slow
def test_a_tap_enlarges_every_figure_and_none_is_filtered(seen):
    figures = {name: page["figures"] for name, page in seen.items() if page["figures"]}
    assert sum(map(len, figures.values())) > 50
    assert not {name: found for name, found in figures.items() if set(map(tuple, found)) != {(True, "none", True)}}


@pytest.mark.parametrize("name", ["notebooks/label_noise", "notebooks/lidc", "notebooks/experiment"])
def test_letters_of_an_enlarged_figure_are_as_large_as_drawn(chromium, html, name):
    """On a phone a figure of 768 pixels is shown at less than half of its size, and at a tap in full."""
    with Visit(chromium, html, name) as visit:
        for button in visit.page.locator("button.enlarge").all():
            button.click()
            full = visit.page.locator("#full-figure img")
            full.wait_for(state="visible", timeout=3000)
            assert full.evaluate("(e) => e.getBoundingClientRect().width") >= 768
            visit.page.keyboard.press("Escape")
            full.wait_for(state="hidden", timeout=3000)


@pytest.mark.parametrize("name", [HEAVY, CHAPTER])
def test_a_figure_opens_in_full_size(chromium, html, name):
    with Visit(chromium, html, name) as visit:
        button = visit.page.locator("button.enlarge").first
        # A PNG has two pixels for one, and says how wide it is drawn.
        small = button.locator("img").evaluate(
            "(e) => [e.getBoundingClientRect().width, Number(e.getAttribute('width')) || e.naturalWidth]"
        )
        assert small[0] < 0.5 * small[1], "a figure is drawn for a wide page"
        button.focus()
        visit.page.keyboard.press("Enter")
        full = visit.page.locator("#full-figure img")
        full.wait_for(state="visible", timeout=3000)
        assert full.evaluate("(e) => e.getBoundingClientRect().width") >= small[1]
        assert full.get_attribute("alt")
        visit.page.keyboard.press("Escape")
        full.wait_for(state="hidden", timeout=3000)


def test_a_wide_table_scrolls_in_its_own_box_and_by_keyboard(chromium, html):
    with Visit(chromium, html, HEAVY) as visit:
        box = visit.page.locator("table.results").first.locator("xpath=..")
        assert box.get_attribute("tabindex") == "0"
        box.focus()
        for _ in range(3):
            visit.page.keyboard.press("ArrowRight")
        visit.page.wait_for_function("(e) => e.scrollLeft > 0", arg=box.element_handle(), timeout=3000)


def test_every_control_shows_that_it_has_the_focus(chromium, html):
    with Visit(chromium, html, CHAPTER, 1400) as visit:
        bare = []
        for _ in range(40):
            visit.page.keyboard.press("Tab")
            bare += visit.page.evaluate(
                """() => {
                  const e = document.activeElement, s = getComputedStyle(e);
                  if (e === document.body) return [];
                  return s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2 ? [e.outerHTML.slice(0, 120)] : [];
                }"""
            )
        assert not bare


@pytest.mark.parametrize("name", [CHAPTER, "notebooks/label_noise", "notebooks/classes", "book/index"])
def test_pictures_have_their_own_grey_values_in_the_dark(chromium, html, name):
    """The first figure of a page, a medical one in the chapter on label noise, has the same pixels in both themes: only
    at edges does the browser round otherwise, where the card has round corners."""
    pixels = {}
    for theme in ("light", "dark"):
        with Visit(chromium, html, name, 1400, color_scheme=theme) as visit:
            assert visit.page.evaluate("() => document.documentElement.dataset.theme") == theme
            figure = visit.page.locator("main :is(figure, .cell_output, .output) img").first
            pixels[theme] = imread(BytesIO(figure.screenshot()))[6:-6, 6:-6]
    assert pixels["light"].shape[1] > 600 and pixels["light"].std() > 0.05
    difference = abs(pixels["light"] - pixels["dark"])
    assert difference.mean() < 0.005 and (difference > 0.1).mean() < 0.02


def judged(visit: Visit, question: str) -> list[tuple[str, str, int, str]]:
    visit.page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    return [found for found in visit.page.evaluate(question) if found[0] != "minor"]


ACCESSIBLE = [name for _, name in listed_pages()] + ["_modules/noisyseg/expected", "genindex", "prf-prf", "search"]
DARK = (
    "book/index",
    "book/reproduce",
    "book/explorer",
    "book/status",
    "book/references",
    "notebooks/experiment",
    "notebooks/volume",
    "notebooks/speed",
    "notebooks/your_run",
    "_modules/noisyseg/expected",
    "prf-prf",
    "search",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCESSIBLE)
def test_axe_finds_nothing_critical_serious_or_moderate(chromium, html, name):
    visit = Visit(chromium, html, name, 1400)
    visit.page.route("**/mathjax/**", lambda route: route.abort())
    with visit:
        visit.page.evaluate(UNFOLD)
        assert not judged(visit, AXE)


@pytest.mark.slow
@pytest.mark.parametrize("name", DARK)
def test_contrast_is_enough_in_the_dark(chromium, html, name):
    visit = Visit(chromium, html, name, 1400, color_scheme="dark")
    visit.page.route("**/mathjax/**", lambda route: route.abort())
    with visit:
        visit.page.evaluate(UNFOLD)
        assert not judged(visit, CONTRAST)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["book/index", "notebooks/experiment", "notebooks/speed", "notebooks/deviations", "book/reproduce", "book/status"],
)
def test_nothing_is_lost_on_paper(chromium, html, name):
    """A4 with margins of a centimetre is 718 pixels wide: no table, formula or line of code may be wider."""
    with Visit(chromium, html, name, 718) as visit:
        visit.page.emulate_media(media="print")
        visit.page.wait_for_timeout(200)
        lost = visit.page.evaluate(
            """() => [...document.querySelectorAll("article :is(table, pre, img)")]
              .filter((e) => e.getBoundingClientRect().width && e.getBoundingClientRect().right > 719)
              .map((e) => e.tagName + " " + Math.round(e.getBoundingClientRect().right) + e.textContent.slice(0, 40))"""
        )
        hidden = visit.page.evaluate(
            """() => [...document.querySelectorAll("article *")]
              .filter((e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX)
                && e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert not lost and not hidden


@pytest.mark.parametrize("name", ["notebooks/experiment", CHAPTER])
def test_a_page_prints_its_title_and_no_box_without_its_content(chromium, html, name):
    with Visit(chromium, html, name, 718) as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.locator("article h1").first.is_visible()
        assert not visit.page.locator("#jb-print-docs-body").is_visible()
        boxes = visit.page.locator("article :is(.cell_input, .cell_output, details)")
        seen = [box for box in boxes.all() if box.is_visible()]
        assert seen and all(box.inner_text().strip() or box.locator("img").count() for box in seen)
        breaks = visit.page.evaluate(
            "() => [...document.querySelectorAll('article :is(table, pre, .highlight, .cell_input, div.proof)')]"
            ".map((e) => getComputedStyle(e).breakInside)"
        )
        assert set(breaks) == {"auto"}, "a long box that may not break leaves a page half empty"


def test_paper_is_light_at_night(chromium, html):
    with Visit(chromium, html, CHAPTER, color_scheme="dark") as visit:
        theme = "() => document.documentElement.dataset.theme"
        assert visit.page.evaluate(theme) == "dark"
        visit.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        assert visit.page.evaluate(theme) == "light"
        visit.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
        assert visit.page.evaluate(theme) == "dark"


# ---- folded proofs and code -----------------------------------------------------------------------------------------

INSIDE = "equation-eq-kl"  # a formula in the first proof of CHAPTER
SEES = """(e) => e.checkVisibility({contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true})"""


def sees(visit: Visit, selector: str) -> bool:
    return visit.page.locator(selector).first.evaluate(SEES)


def test_a_proof_opens_by_finger_and_by_keyboard(chromium, html):
    with Visit(chromium, html, CHAPTER) as visit:
        assert not sees(visit, f"#{INSIDE}")
        summaries = visit.page.locator("details.of-a-statement > summary, details.page-code > summary, .open-proofs")
        assert min(box["height"] for e in summaries.all() if (box := e.bounding_box())) >= 44
        visit.page.locator("#proof-1 > summary").focus()
        visit.page.keyboard.press("Enter")
        assert sees(visit, f"#{INSIDE}")
        visit.page.locator("#proof-1 > summary").click()
        assert not sees(visit, f"#{INSIDE}")


def test_proofs_open_without_a_script(chromium, html):
    visit = Visit(chromium, html, CHAPTER, java_script_enabled=False)
    visit.page.goto(visit.url)
    inside = visit.page.locator("#proof-1 > p").first
    assert not inside.is_visible()
    visit.page.locator("#proof-1 > summary").click()
    assert inside.is_visible()
    visit.context.close()


@pytest.mark.parametrize("fragment", [INSIDE, "proof-1"])
def test_an_address_opens_the_proof_that_it_leads_into(chromium, html, fragment):
    with Visit(chromium, html, CHAPTER, query=f"#{fragment}") as visit:
        assert sees(visit, f"#{INSIDE}") and not sees(visit, "#proof-2 > p")
        visit.page.evaluate("() => document.querySelector('#proof-1').open = false")
        visit.page.evaluate(f"() => {{ location.hash = 'x'; location.hash = '{fragment}'; }}")
        visit.page.wait_for_function("() => document.querySelector('#proof-1').open", timeout=3000)


def test_a_search_in_the_page_finds_words_of_a_closed_proof(chromium, html):
    """Chromium opens a box of its own accord for a fragment of text, by the rule that it has for a search."""
    with Visit(chromium, html, CHAPTER, query="#:~:text=divergence%20of%20two%20Bernoulli") as visit:
        visit.page.wait_for_function("() => document.querySelector('#proof-1').open", timeout=3000)


def test_one_button_opens_all_proofs_and_closes_them(chromium, html):
    with Visit(chromium, html, CHAPTER) as visit:
        button, proofs = visit.page.locator("button.open-proofs"), visit.page.locator("details.of-a-statement")
        assert button.inner_text() == f"Open all {proofs.count()} proofs"
        button.click()
        assert proofs.evaluate_all("(all) => all.every((e) => e.open)")
        visit.page.wait_for_function("() => /^Close/.test(document.querySelector('.open-proofs').textContent)")
        button.click()
        assert proofs.evaluate_all("(all) => all.every((e) => !e.open)")


def test_paper_has_all_proofs_open(chromium, html):
    """Also where a browser does not say beforehand that it prints; and the screen has them closed again afterwards."""
    with Visit(chromium, html, CHAPTER, 718) as visit:
        visit.page.emulate_media(media="print")
        lines = visit.page.locator("details.of-a-statement > p")
        assert lines.count() > 20 and lines.evaluate_all(f"(all) => all.every({SEES})")
        assert not sees(visit, ".open-proofs") and not sees(visit, "details.page-code")
        visit.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        proofs = visit.page.locator("details.of-a-statement")
        assert proofs.evaluate_all("(all) => all.every((e) => e.open)")
        visit.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
        assert proofs.evaluate_all("(all) => all.every((e) => !e.open)")


def test_the_link_to_the_code_of_a_figure_opens_the_code(chromium, html):
    with Visit(chromium, html, CHAPTER) as visit:
        link = visit.page.locator("a.code-link").first
        code = visit.page.locator(link.get_attribute("href") or "")
        assert not code.evaluate(SEES)
        link.click()
        visit.page.wait_for_function("() => document.querySelector('#page-code').open", timeout=3000)
        assert code.evaluate(SEES)


def test_a_caption_stays_in_sight_while_its_table_scrolls(chromium, html):
    with Visit(chromium, html, "notebooks/speed") as visit:
        wide = visit.page.evaluate(
            """() => {
              const box = [...document.querySelectorAll(".cell_output .pst-scrollable-table-container")]
                .find((e) => e.scrollWidth > 2 * e.clientWidth);
              box.scrollLeft = box.scrollWidth;
              const words = box.querySelector("caption > div").getBoundingClientRect();
              return [words.left, words.right, document.documentElement.clientWidth, box.scrollLeft];
            }"""
        )
        assert wide[3] > 100 and wide[0] >= 0 and wide[1] <= wide[2] + 1
