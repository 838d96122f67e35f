"""The book as one PDF: Chromium prints the built pages, pypdf binds them with contents, bookmarks and links."""

from __future__ import annotations

import html as markup
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import yaml

import noisyseg
from reproduction.paths import atomic_write, project_root
from reproduction.report.binding import Chapter, bind
from reproduction.report.chapter_times import listed_pages
from reproduction.runs.notebook import BatchError

STYLE = "_static/print.css"
SCALE = 0.8  # of the size on a screen: 16 pixels become 9.6 points
WIDTH = 850  # pixels of a line of A4 between margins of 15 mm, at that scale
LINK = re.compile(r'href="([^"]+)"')

# Before anything is laid out: formulas take their size from the font that they find.
BOUND = """new MutationObserver((_, observer) => {
  if (!document.documentElement) return;
  document.documentElement.classList.add("bound");
  observer.disconnect();
}).observe(document, {childList: true});"""
# Links that nobody sees make Chromium store where their targets are. What is wider than the paper is made smaller.
PREPARE = """async ([ids, width]) => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await Promise.all([...document.images].map((image) => {
    image.loading = "eager";
    image.classList.toggle("tall", image.naturalHeight > 1.2 * image.naturalWidth);
    return image.decode().catch(() => {});
  }));
  for (const proof of all("details.of-a-statement")) proof.open = true;
  const parts = all("article section[id]").filter((part) => part.querySelector(":scope > h2"));
  const box = document.createElement("div");
  box.hidden = true;
  for (const id of new Set([...ids, ...parts.map((part) => part.id)]))
    box.append(Object.assign(document.createElement("a"), {href: `#${id}`}));
  document.body.append(box);
  for (const formula of all("article div.math mjx-container")) {
    const share = formula.clientWidth / formula.scrollWidth;
    if (share < 0.999) formula.style.fontSize = `${share * parseFloat(getComputedStyle(formula).fontSize)}px`;
  }
  for (const table of all("article table")) {
    const share = (width - table.getBoundingClientRect().left) / table.scrollWidth;
    if (share < 0.999) table.style.zoom = share;
  }
  for (const block of all("article :is(.cell_input, .cell_output, div.proof, details, .admonition, table)"))
    if (block.getBoundingClientRect().height < 300) block.classList.add("short");
  const words = (title) => {
    const copy = title.cloneNode(true);
    copy.querySelectorAll(".headerlink").forEach((link) => link.remove());
    return copy.textContent.trim();
  };
  return {title: words(document.querySelector("article h1")),
    sections: parts.map((part) => [part.id, words(part.querySelector("h2"))])};
}"""


def build_pdf(
    target: str | os.PathLike[str] = "_build/noisyseg.pdf", html: str | os.PathLike[str] = "_build/html"
) -> Path:
    """Print the built book and return the file.

    Parameters
    ----------
    target
        The PDF; an earlier one is replaced.
    html
        The built book (`reproduction.report.book.build_book`).

    Raises
    ------
    FileNotFoundError
        If ``html`` lacks a page that ``_toc.yml`` lists.
    BatchError
        If there is no Chromium, no playwright or no pypdf, each with what to install.
    """
    root, html = project_root(), Path(html).resolve()
    pages = listed_pages(root)
    missing = [name for _, name in pages if not (html / f"{name}.html").is_file()]
    if missing:
        raise FileNotFoundError(f"html is {html}, which lacks {missing[0]}.html; build the book first: make book")
    program = shutil.which("chromium")
    if program is None:
        raise BatchError("no chromium on the path, which prints the book; on Debian: apt install chromium")
    try:
        import pypdf  # noqa: F401
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BatchError(f"{error.name} is not installed; `make` installs it, with all of requirements.lock") from error
    with sync_playwright() as playwright, opened(playwright, program) as page:
        chapters = print_chapters(page, html, pages)
        front = print_front(page, root, html, chapters)
    config = book_config(root)
    return atomic_write(target, bind(front, chapters, config["title"], config["author"]))


@contextmanager
def opened(playwright: Any, program: str) -> Iterator[Any]:
    """Open a page that shows everything as it is printed."""
    # Chromium's sandbox refuses root; only our own pages are opened.
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    try:
        context = browser.new_context(viewport={"width": WIDTH, "height": 1000}, offline=True, color_scheme="light")
        page = context.new_page()
        page.emulate_media(media="print")
        page.add_init_script(BOUND)
        yield page
    finally:
        browser.close()


def prepared(page: Any, file: Path, ids: list[str]) -> dict[str, Any]:
    """Open a file of the book and make it fit the paper; give its title and its sections."""
    page.goto(file.as_uri())
    return page.evaluate(PREPARE, [ids, WIDTH])


def book_config(root: Path) -> dict[str, Any]:
    """Read ``_config.yml``."""
    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))


def wanted_ids(html: Path, names: list[str]) -> dict[Path, list[str]]:
    """Give the ids of each page that another page of the book, or the page itself, links to."""
    files = {(html / f"{name}.html").as_uri(): html / f"{name}.html" for name in names}
    found: dict[Path, dict[str, None]] = {file: {} for file in files.values()}
    for uri, file in files.items():
        for link in LINK.findall(file.read_text(encoding="utf-8")):
            target, _, fragment = urljoin(uri, markup.unescape(link)).partition("#")
            if fragment and target in files:
                found[files[target]][fragment] = None
    return {file: list(ids) for file, ids in found.items()}


def print_chapters(page: Any, html: Path, pages: list[tuple[str, str]]) -> list[Chapter]:
    """Print every page of the book with running titles and page numbers that go on from the one before."""
    from pypdf import PdfReader

    ids = wanted_ids(html, [name for _, name in pages])
    chapters: list[Chapter] = []
    start = 0
    for part, name in pages:
        file = html / f"{name}.html"
        found = prepared(page, file, ids[file])
        page.add_style_tag(content=running(found["title"], part, start))
        pdf = page.pdf(prefer_css_page_size=True, print_background=True, scale=SCALE)
        chapters.append(Chapter(part, file, found["title"], [tuple(s) for s in found["sections"]], start, pdf))
        start += len(PdfReader(io.BytesIO(pdf)).pages)
        print(f"pdf: {found['title']}, {start} pages so far", flush=True)
    return chapters


def running(title: str, part: str, start: int) -> str:
    """Give the style of a chapter's margins: part and title above, the number of the page below."""
    words = [text.replace("\\", "\\\\").replace('"', '\\"') for text in (part, title)]
    return f"""
      html {{ counter-reset: page {start}; }}
      @page {{ font: 11px "TeX Gyre Termes", "Liberation Serif", "Times New Roman", serif; color: #444;
               @top-left {{ content: "{words[0]}"; }} @top-right {{ content: "{words[1]}"; }}
               @bottom-center {{ content: counter(page); }} }}
      @page :first {{ @top-left {{ content: ""; }} @top-right {{ content: ""; }} }}"""


def print_front(page: Any, root: Path, html: Path, chapters: list[Chapter]) -> bytes:
    """Print the title page and the contents, which need the page numbers of all chapters."""
    config = book_config(root)
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    name, _, rest = config["title"].partition(": ")
    paper = citation["references"][0]
    rows, part = [], ""
    for chapter in chapters:
        if chapter.part != part:
            part = chapter.part
            rows.append(f"<h2>{markup.escape(part)}</h2>")
        link = f'<a href="{chapter.file.as_uri()}"><span>{markup.escape(chapter.title)}</span>'
        rows.append(f"<p>{link}<i></i><span>{chapter.start + 1}</span></a></p>")
    authors = ", ".join(f"{a['given-names']} {a['family-names']}" for a in paper["authors"])
    page.goto("about:blank")
    page.set_content(f"""<html lang="en" class="bound front"><style>{(html / STYLE).read_text(encoding="utf-8")}</style>
      <body><section class="title"><h1>{markup.escape(name)}</h1><p class="subtitle">{markup.escape(rest)}</p>
      <p class="abstract">{markup.escape(citation["abstract"])}</p>
      <p>After “{paper["title"]}” by {authors} ({paper["year"]}).</p>
      <p class="imprint">{markup.escape(config["author"])}. Version {noisyseg.__version__}.
      {config["html"]["extra_footer"]}</p></section>
      <section class="contents"><h1>Contents</h1>{"".join(rows)}</section></body></html>""")
    return page.pdf(prefer_css_page_size=True, print_background=True, scale=SCALE)
