"""The book: it builds without warnings, loads nothing from elsewhere, and says what the result tables say."""

from __future__ import annotations

import csv
import html as html_lib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
import yaml

import noisyseg
from reproduction.config import Preset
from reproduction.report.chapter_times import read_costs
from reproduction.report.results import stored_results
from reproduction.report.statements import checks, statements
from reproduction.report.trust import cost_of
from reproduction.runs.tables import Results, write_results
from reproduction.scoring.rules import METHODS, OTHER_RULES
from reproduction.scoring.scores import DIFFERENCES
from reproduction.text import interval, short
from small_results import grown_results, one_loss_results, small_results

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
THEORY = [
    f"notebooks/{name}"
    for name in (
        "losses_and_metrics",
        "optimal_segmentations",
        "volume",
        "classes",
        "soft_dice",
        "calibration",
        "other_metrics",
        "discretisation",
        "gaussian_fields",
        "label_noise",
        "optimal_under_noise",
        "raters",
        "errata",
    )
]
NOTEBOOKS = {
    *THEORY,
    *(
        f"notebooks/{name}"
        for name in ("annotators", "speed", "experiment", "volume_bias", "deviations", "lean_unet", "cost", "lidc")
    ),
}
YOUR_RUN = "notebooks/your_run"  # has no picture until there is a run
PROSE = (
    "index",
    "explorer",
    "files",
    "when_not",
    "data",
    "reproduce",
    "status",
    "notation",
    "statements",
    "concordance",
    "api",
    "api_experiment",
    "references",
)
PAGES = {*NOTEBOOKS, YOUR_RUN, *(f"book/{name}" for name in PROSE)}
# What Sphinx adds by itself: the index, the search, the front door, the sources that [source] leads to.
EXTRAS = re.compile(r"^(genindex|search|index|prf-prf|py-modindex|_modules/.*)$")


class Page(HTMLParser):
    """What the tests need of a page: its resources, links, ids and pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.text = path.read_text()
        self.resources: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.repeated: set[str] = set()
        self.metadata: dict[str, str] = {}
        self.pictures: list[dict[str, str | None]] = []
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get("id"):
            (self.repeated if a["id"] in self.ids else self.ids).add(a["id"])
        if tag == "meta" and a.get("name"):
            self.metadata[a["name"]] = a.get("content") or ""
        if tag in ("script", "iframe", "img", "source", "video", "audio", "embed") and a.get("src"):
            self.resources.append(a["src"])
        if tag == "object" and a.get("data"):
            self.resources.append(a["data"])
        if tag == "link" and a.get("href") and a.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.resources.append(a["href"])
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if tag == "img":
            self.pictures.append(a)


@pytest.fixture(scope="session")
def pages(html: Path) -> dict[str, Page]:
    """Every page, by its name without the suffix."""
    files = sorted(file for file in html.rglob("*.html") if "_static" not in file.parts)
    return {str(file.relative_to(html).with_suffix("")): Page(file) for file in files}


def plain(page: Page) -> str:
    """The words of a page, without markup."""
    return re.sub(r"\s+", " ", html_lib.unescape(re.sub(r"<[^>]*>", "", page.text)))


def chapter_cells(name: str) -> list[dict]:
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]


def source_of(name: str, cell_id: str) -> str:
    return "".join(next(cell for cell in chapter_cells(name) if cell["id"] == cell_id)["source"])


def test_every_chapter_ends_with_the_command_that_executes_it(pages):
    costs = read_costs()
    for name in (*NOTEBOOKS, YOUR_RUN):
        text = plain(pages[name])
        chapter = name.removeprefix("notebooks/")
        assert f"Run this yourself.venv/bin/python -m reproduction notebooks {name}.ipynb" in re.sub(
            r"\s*(?=\.venv)", "", text
        )
        assert (f"It takes {cost_of(costs[chapter])}" if chapter in costs else "has not been measured") in text
        assert "../book/status.html" in pages[name].links


def test_the_status_page_has_every_chapter_and_every_table(pages):
    text = plain(pages["book/status"])
    assert {f"../{name}.html" for name in NOTEBOOKS} <= set(pages["book/status"].links)
    assert all(path.stem in text for path in (ROOT / "results").rglob("*.csv"))
    assert "BSD 3-Clause" in text and "CC BY 4.0" in text


def test_only_the_intended_pages_are_built(pages):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])}
    assert listed == PAGES
    assert {name for name in pages if not EXTRAS.match(name)} == PAGES


def test_pages_load_nothing_from_elsewhere(pages):
    foreign = {(name, url) for name, page in pages.items() for url in page.resources if re.match(r"(?i)(\w+:)?//", url)}
    assert not foreign


def test_everything_a_page_loads_is_in_the_book(pages):
    missing = []
    for name, page in pages.items():
        for url in page.resources:
            if not url.startswith("data:") and not (page.path.parent / unquote(urlsplit(url).path)).is_file():
                missing.append((name, url))
    assert not missing


def test_style_sheets_load_nothing_from_elsewhere(html):
    for sheet in html.rglob("*.css"):
        text = sheet.read_text()
        assert not re.search(r"(?i)(@import\s*|url\(\s*)['\"]?(https?:)?//", text), sheet.relative_to(html)


def test_formulas_are_set_by_the_book_itself(html, pages):
    script = "_static/mathjax/tex-chtml.js"
    assert any(url.endswith(script) for url in pages[THEORY[0]].resources)
    assert "MathJax" in (html / script).read_text()
    assert list((html / "_static/mathjax").rglob("MathJax_Main-Regular.woff"))


def test_every_picture_says_in_words_what_it_shows(pages):
    pictures = [(name, picture) for name in PAGES for picture in pages[name].pictures]
    assert not [(name, a.get("src", "")[:60]) for name, a in pictures if len(a.get("alt") or "") < 40]
    assert all(pages[name].pictures for name in NOTEBOOKS)


def test_every_figure_has_a_caption(pages):
    for name in NOTEBOOKS:
        # The side bar has captions too, those of the parts: a figure's is in its figcaption.
        captions = re.findall(r'<figcaption>.*?<span class="caption-text">(.*?)</span><a', pages[name].text, re.S)
        assert len(captions) == pages[name].text.count("<figure") >= len(pages[name].pictures)
        assert all(len(re.sub(r"<.*?>", "", caption)) > 40 for caption in captions)


def test_an_id_stands_once_on_a_page(pages):
    assert not {name: page.repeated for name, page in pages.items() if page.repeated}


def test_every_page_has_a_description_of_its_own_and_an_icon(html, pages):
    described = {name: page.metadata.get("description", "") for name, page in pages.items() if name != "index"}
    assert not [name for name, text in described.items() if not 8 <= len(text) <= 162]
    assert len({described[name] for name in PAGES}) == len(PAGES)
    icons = [url for url in pages["book/index"].resources if url.endswith("favicon.svg")]
    assert icons and (html / "book" / icons[0]).is_file()


def test_no_link_is_broken(pages):
    by_path = {page.path.resolve(): page for page in pages.values()}
    broken = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link == "#":
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
            found = by_path.get(target)
            if not target.is_file() or (found and parts.fragment and unquote(parts.fragment) not in found.ids):
                broken.append((name, link))
    assert not broken


def reference(name: str) -> str:
    """The page that documents a function: the library and the experiment have one each."""
    return "api" if name.startswith("noisyseg.") else "api_experiment"


def test_reference_has_every_public_name_and_links_back(pages):
    assert {f"noisyseg.{name}" for name in noisyseg.__all__} <= pages["book/api"].ids
    for stated in statements():
        linking = {link for page in ("api", "api_experiment") for link in pages[f"book/{page}"].links}
        assert f"../{stated.page}.html#{stated.label}" in linking, stated.label
        for _, name in stated.functions:
            assert name in pages[f"book/{reference(name)}"].ids, name
            assert f"../book/{reference(name)}.html#{name}" in pages[stated.page].links, name


def test_chapters_link_to_every_public_name(pages):
    links = {link for name in THEORY for link in pages[name].links}
    assert {f"../book/api.html#noisyseg.{name}" for name in noisyseg.__all__} <= links


def test_every_statement_is_listed_with_its_functions_and_tests(pages):
    page = pages["book/statements"]
    for stated in statements():
        assert f"../{stated.page}.html#{stated.label}" in page.links, stated.label
        functions = {f"{reference(name)}.html#{name}" for _, name in stated.functions}
        assert functions <= set(page.links), stated.label
    for check in checks():
        assert check.anchor in page.ids and f"#{check.anchor}" in page.links, check.name
        first = check.source.splitlines()[0]
        assert re.sub(r"\s+", " ", first) in plain(page)


def test_the_concordance_leads_to_every_place_and_function(pages):
    """Every reference of the page's source has become a link, in a row of its own."""
    source = (ROOT / "book" / "concordance.md").read_text(encoding="utf-8")
    rows = [line for line in source.splitlines() if line.startswith("| ") and not line.startswith("| item")]
    built = re.findall(r"<tr class=.*?</tr>", pages["book/concordance"].text, re.S)
    built = [row for row in built if "<td" in row]
    assert len(built) == len(rows) > 30
    for row, made in zip(rows, built, strict=True):
        assert made.count("<a ") == len(re.findall(r"\{(?:prf:ref|ref|eq|py:\w+)\}`", row)), row


def test_definitions_are_those_of_the_paper(pages):
    text = plain(pages[THEORY[0]])
    for number, name in enumerate(("Cross-entropy", "Soft-Dice", "Accuracy", "Dice"), start=1):
        assert re.search(rf"Definition \d+ \({name}[;,] the paper’s Definition {number}\)", text), name


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_code_cells_are_short(chapter):
    """A cell is read without scrolling; what is longer belongs into the package, with a test."""
    cells = chapter_cells(chapter.stem)
    code = ["".join(cell["source"]).splitlines() for cell in cells if cell["cell_type"] == "code"]
    lengths = [sum(bool(line.strip()) for line in lines) for lines in code]
    assert max(lengths) <= 25, f"the code cell {lengths.index(max(lengths)) + 1} has {max(lengths)} lines"
    assert sum(lengths) <= 250 or chapter.stem != "experiment"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_are_stored_with_clean_outputs(chapter):
    code = [cell for cell in chapter_cells(chapter.stem) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "not executed in order"
    for cell in code:
        kinds = {(output["output_type"], output.get("name")) for output in cell["outputs"]}
        assert ("error", None) not in kinds, cell["id"]
        assert ("stream", "stderr") not in kinds, cell["id"]
        for output in cell["outputs"]:
            if {"image/png", "image/svg+xml"} & output.get("data", {}).keys():
                assert cell["metadata"]["mystnb"]["image"]["alt"], cell["id"]
    text = re.sub(r'"image/png": ".*?"|base64,[^>]*', "", chapter.read_text())
    assert not re.search(r"(?<![\w.*])/(home|root|tmp|work|Users|usr|opt)/", text), "a path of one machine"


@pytest.mark.parametrize("chapter", THEORY)
def test_theory_has_checked_outputs(chapter):
    cells = chapter_cells(Path(chapter).name)
    assert sum("nbval-check-output" in cell["metadata"].get("tags", []) for cell in cells) >= 2


def test_table_1_of_the_paper_is_whole():
    rows = list(csv.DictReader((ROOT / "results/paper/table1.csv").read_text().splitlines()))
    keys = {(r["organ"], r["a"], r["method"]) for r in rows}
    assert keys == {
        (organ, a, method)
        for organ in ("kidney", "aorta", "oesophagus")
        for a in ("0.00", "0.01", "0.02", "0.03")
        for method in ("CE(0)", "SD(0)", "CE(*)")
    }
    assert len(rows) == 36
    # The columns of the paper's table, added up.
    values = pd.DataFrame(rows).assign(dice=lambda d: d["dice"].astype(float))
    assert values.groupby("method")["dice"].sum().round(4).to_dict() == {
        "CE(0)": 8.5971,
        "SD(0)": 8.863,
        "CE(*)": 8.9424,
    }


@pytest.mark.parametrize("preset", ["hippocampus", "phantoms"])
def test_stored_pages_show_the_stored_results(preset, pages):
    """A number in a page that is not in the tables, or the other way round, is a page that was not executed again."""
    shown = plain(pages["notebooks/experiment"])
    results = stored_results()[preset]
    for row in results.summary.to_dict("records"):
        text = interval(row["dice_noisy"], row["dice_noisy_lo"], row["dice_noisy_hi"])
        if preset == "phantoms" and row["method"] in OTHER_RULES:
            continue  # the appendix has the paper's methods
        assert text in shown
        if preset != "phantoms" and row["method"] in METHODS and row["a"] == results.summary["a"].max():
            assert short(row["dice_noisy"]) in plain(pages["book/index"])
        if row["method"] in METHODS and row["organ"] in ("kidney", "aorta", "oesophagus"):
            assert text in plain(pages["notebooks/deviations"])
        if row.get("seeds", 1) > 1 and row["method"] in METHODS:
            spread = short(row["dice_noisy_seed_sd"], 4)
            assert f"{short(row['dice_noisy'])} ± {spread}" in shown
    for row in results.differences.query("score == 'dice_noisy'").to_dict("records"):
        if preset == "phantoms" and tuple(row["difference"].split("-")) not in DIFFERENCES:
            continue
        digits = 4 if "rank" in row["difference"] else 3
        assert interval(row["mean"], row["lo"], row["hi"], digits, "+") in shown


def executed(name: str, folder: Path, **tables: Results) -> str:
    """Everything a chapter shows as Markdown when it is executed in a root that stores these tables and no others."""
    root = folder / "root"
    shutil.copytree(ROOT / "workflow" / "presets", root / "workflow" / "presets")
    shutil.copytree(ROOT / "results" / "paper", root / "results" / "paper")
    for preset, results in tables.items():
        write_results(results, root / "results" / preset)
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--log-level=ERROR"]
    command += ["--output-dir", str(folder), str(ROOT / "notebooks" / f"{name}.ipynb")]
    environment = {**os.environ, "NOISYSEG_ROOT": str(root)}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    cells = json.loads((folder / f"{name}.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"], "a chapter executes without a warning"
    return "\n".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["nothing", "one seed", "one loss", "two seeds and other rules"])
def test_experiment_executes_with_what_there_is(tmp_path, run):
    """A reader who has run one small preset, or none, gets a page that shows it and says what is missing."""
    made = {"one seed": small_results, "one loss": one_loss_results, "two seeds and other rules": grown_results}
    tables = {"smoke": made[run]()} if run in made else {}
    shown = executed("experiment", tmp_path, **tables)
    assert "**hippocampus**: not run yet; `make reproduce PRESET=hippocampus`" in shown
    assert "paper .7055" not in shown, "the paper's values stand below ours of the same organ, and nowhere else"
    if run == "nothing":
        assert "No figure: no preset has been run yet." in shown
        assert "No preset has been scored under these rules yet." in shown
    elif run == "one seed":
        assert "| hippocampus | .02 |  |  | .525 [" in shown  # .5 + mean of 0, .01, …, .05
        assert r"CE(\*) beats CE(0) by .100 [.100, .100]" in shown
        assert "1,234" in shown
        assert "*smoke*: one seed only (1), so how much another training would change is not known." in shown
        assert "*smoke*: not scored under these rules." in shown
    elif run == "one loss":
        assert "| hippocampus | .02 |  |  | .525 [" in shown and "nothing was trained with soft-Dice" in shown
        assert r"| hippocampus | CE(\*) beats CE(0) at a = .02 | agrees |" in shown
    else:
        assert "| hippocampus | .02 |  |  | .535 [" in shown, "a case counts once, with its mean over the seeds"
        # The means of the two trainings are .02 apart: a standard deviation of .02 / sqrt(2), whatever the method.
        assert r"| .02 | 2 | .535 ± .0141 | .535 ± .0141 | .635 ± .0141 | +.100 ± .0000 |" in shown
        assert "over 2 seeds the mean of a cell has a standard deviation of .0141 on average" in shown
        values = next(line for line in shown.splitlines() if line.startswith("| hippocampus | .02 | .635 ["))
        assert [cell.split()[0] for cell in values.split(" | ")[3:]] == [".665", ".575", "not", "not", ".835", "not"]
        assert values.count("not installed") == 2 and "`rankseg` was not installed" in shown
        assert r"| hippocampus | CE(\*) − CE(fold) | **−.030 [−.030, −.030]** |" in shown
        assert r"| hippocampus | CE(oracle) − CE(\*) | **+.200 [.200, .200]** |" in shown
        assert "Over 1 noisy settings" not in shown and "no threshold, not even one per image" in shown


@pytest.mark.slow
@pytest.mark.parametrize("run", ["nothing", "phantoms", "the paper's protocol"])
def test_deviations_execute_with_what_there_is(tmp_path, run):
    phantoms = stored_results()["phantoms"]
    plan = Preset.load("paper")
    config = {**plan.values, "grid": {axis: list(points) for axis, points in plan.grid.items()}}
    facts = {**phantoms.provenance, "config": config, "data_version": "v1"}
    same = Results(phantoms.cases, phantoms.summary, phantoms.differences, phantoms.history, facts)
    tables = {"nothing": {}, "phantoms": {"phantoms": phantoms}}.get(run, {"phantoms": phantoms, "paper": same})
    shown = executed("deviations", tmp_path, **tables)
    lines = [
        line.split(" | ") for line in shown.splitlines() if line.startswith(("| kidney", "| aorta", "| oesophagus"))
    ]
    assert len(lines) == 36 and lines[0][:4] == ["| kidney", ".00", "CE(0)", ".9611"]
    needs = "not run: needs the data"
    if run == "nothing":
        assert all(line[4] == needs and line[5].startswith(needs) for line in lines)
        assert shown.count("No figure: no preset with the paper's organs has been run yet.") == 2
    row = phantoms.summary.iloc[0]
    difference = short(row["dice_noisy"] - 0.9611, sign="+")
    ours = interval(row["dice_noisy"], row["dice_noisy_lo"], row["dice_noisy_hi"])
    if run == "phantoms":
        assert all(line[4] == needs for line in lines)
        assert lines[0][5] == f"{ours}, **{difference}**" and lines[0][6].startswith("phantoms: D1, D3, D6, D12")
        assert f"*paper*: {needs}; none of the 36 values" in shown
    if run == "the paper's protocol":
        assert needs not in shown and "the paper's protocol, has been run: 120 trainings" in shown
        # A hundred cases an organ is the one thing that differs there.
        assert lines[0][4] == f"{ours}, **{difference}**" and lines[0][6].startswith("paper: D6; phantoms: D1, D3, D6")


@pytest.mark.slow
@pytest.mark.parametrize("run", ["the stored preset", "one loss, nothing stored"])
def test_your_run_shows_what_was_just_made(tmp_path, monkeypatch, run):
    made, stored = (small_results(), {"smoke": small_results()}) if "stored preset" in run else (one_loss_results(), {})
    write_results(made, tmp_path / "runs" / "smoke")
    monkeypatch.setenv("NOISYSEG_RESULTS", str(tmp_path / "runs" / "smoke"))
    shown = executed("your_run", tmp_path, **stored)
    assert "The preset **smoke** with 2 trainings" in shown and r"CE(\*) beats CE(0) by .100 [.100, .100]" in shown
    if stored:
        assert "**Your 3 means are the stored ones**" in shown and "<small>stored .625, +.000</small>" in shown
        assert "|  | yours | stored, smoke |" in shown
    else:
        assert "so there are none to compare with" in shown and "|  | yours |" in shown
