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

import filelock
import pandas as pd
import pytest
import yaml

import noisyseg
from reproduction.config import Preset
from reproduction.report.statements import checks, statements
from reproduction.runs.tables import Results, load_results, paired_differences, summarise, write_results
from reproduction.scoring.rules import METHODS, OTHER_RULES

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
THEORY = [
    f"notebooks/{name}"
    for name in (
        "losses_and_metrics",
        "optimal_segmentations",
        "volume",
        "gaussian_fields",
        "label_noise",
        "optimal_under_noise",
        "errata",
    )
]
NOTEBOOKS = {*THEORY, "notebooks/speed", "notebooks/experiment", "notebooks/deviations", "notebooks/cost"}
PAGES = NOTEBOOKS | {
    f"book/{name}" for name in ("index", "data", "reproduce", "statements", "api", "api_experiment", "references")
}
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
        self.pictures: list[dict[str, str | None]] = []
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get("id"):
            self.ids.add(a["id"])
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
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built book; all processes of one test run share one build."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    source, target = shared / "book-source", shared / "book-build"
    pages = target / "_build" / "html"
    with filelock.FileLock(shared / "book.lock"):
        if not (pages / "index.html").is_file():
            for name in ("book", "notebooks"):
                shutil.copytree(ROOT / name, source / name)
            for name in ("_config.yml", "_toc.yml"):
                shutil.copy2(ROOT / name, source / name)
            # Warnings are errors; unresolved references are warnings.
            command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
            command += ["-W", "-n", "--keep-going", "--path-output", str(target)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0, done.stdout[-4000:]
    return pages


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
            if name.startswith("_modules/") and parts.path.endswith("book/api.html"):
                # viewcode leads back under one name a module, though some functions are documented under the package's
                # and some under the module's: such a link opens the page, not always the entry.
                continue
            if not target.is_file() or (found and parts.fragment and unquote(parts.fragment) not in found.ids):
                broken.append((name, link))
    assert not broken


def test_reference_has_every_public_name_and_links_back(pages):
    api = pages["book/api"]
    assert {f"noisyseg.{name}" for name in noisyseg.__all__} <= api.ids
    for stated in statements():
        assert f"../{stated.page}.html#{stated.label}" in api.links, stated.label
        for _, name in stated.functions:
            assert name in api.ids, name
            assert f"../book/api.html#{name}" in pages[stated.page].links, name


def test_chapters_link_to_every_public_name(pages):
    links = {link for name in THEORY for link in pages[name].links}
    assert {f"../book/api.html#noisyseg.{name}" for name in noisyseg.__all__} <= links


def test_every_statement_is_listed_with_its_functions_and_tests(pages):
    page = pages["book/statements"]
    for stated in statements():
        assert f"../{stated.page}.html#{stated.label}" in page.links, stated.label
        assert {f"api.html#{name}" for _, name in stated.functions} <= set(page.links), stated.label
    for check in checks():
        assert check.anchor in page.ids and f"#{check.anchor}" in page.links, check.name
        first = check.source.splitlines()[0]
        assert re.sub(r"\s+", " ", first) in plain(page)


def test_definitions_are_those_of_the_paper(pages):
    text = plain(pages[THEORY[0]])
    for number, name in enumerate(("Cross-entropy", "Soft-Dice", "Accuracy", "Dice"), start=1):
        assert re.search(rf"Definition \d+ \({name}[;,] the paper’s Definition {number}\)", text), name


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_are_stored_with_clean_outputs(chapter):
    code = [cell for cell in chapter_cells(chapter.stem) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "not executed in order"
    for cell in code:
        kinds = {(output["output_type"], output.get("name")) for output in cell["outputs"]}
        assert ("error", None) not in kinds, cell["id"]
        assert ("stream", "stderr") not in kinds, cell["id"]
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
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
    if not (ROOT / "results" / preset / "provenance.json").is_file():
        assert f"{preset}: not run yet" in shown
        pytest.skip(f"results/{preset} is not there yet; the page says so")
    scope = sentences()
    summary = load_results(preset).summary
    for row in summary.to_dict("records"):
        text = scope["interval"](row["dice_noisy"], row["dice_noisy_lo"], row["dice_noisy_hi"])
        assert text in shown
        assert text in plain(pages["book/index"]) or row["method"] in OTHER_RULES
        if row["method"] in METHODS and row["organ"] in ("kidney", "aorta", "oesophagus"):
            assert text in plain(pages["notebooks/deviations"])
        if row.get("seeds", 1) > 1 and row["method"] in METHODS:
            spread = scope["short"](row["dice_noisy_seed_sd"], 4)
            assert f"{scope['short'](row['dice_noisy'])} ± {spread}" in shown
    for row in load_results(preset).differences.query("score == 'dice_noisy'").to_dict("records"):
        digits = 4 if "rank" in row["difference"] else 3
        assert scope["interval"](row["mean"], row["lo"], row["hi"], digits, "+") in shown


def sentences() -> dict:
    """The functions of the chapter that put results into words."""
    from IPython.display import HTML, Markdown

    scope: dict = {"pd": pd, "Markdown": Markdown, "HTML": HTML, "results": {}}
    exec(source_of("experiment", "experiment-sentences"), scope)
    return scope


def difference(mean, lo, hi, name="CE(*)-CE(0)", n=50, organ="kidney", a=0.03):
    return {"organ": organ, "a": a, "difference": name, "score": "dice_noisy", "n": n, "mean": mean, "lo": lo, "hi": hi}


@pytest.mark.parametrize(
    ("row", "words", "outcome"),
    [
        (difference(0.012, 0.008, 0.016), "CE(*) beats CE(0) by .012 [.008, .016]", "better"),
        (difference(-0.012, -0.016, -0.008), "CE(*) is worse than CE(0) by .012 [.008, .016]", "worse"),
        (difference(0.002, -0.001, 0.005), "CE(*) and CE(0) cannot be told apart (+.002 [−.001, .005])", "undecided"),
        (difference(0.0, 0.0, 0.0), "CE(*) and CE(0) cannot be told apart (+.000 [.000, .000])", "undecided"),
        (
            difference(0.2, 0.1, 0.3, n=4),
            "CE(*) against CE(0): +.200, on 4 cases, too few to say",
            "undecided",
        ),
    ],
)
def test_one_difference_in_words(row, words, outcome):
    scope = sentences()
    assert scope["verdict"](row) == words
    assert scope["outcome"](row) == outcome


def results_of(threshold, soft, between, n=50):
    rows = [
        difference(*threshold, "CE(*)-CE(0)", n),
        difference(*soft, "SD(0)-CE(0)", n),
        difference(*between, "CE(*)-SD(0)", n),
    ]
    table = pd.DataFrame([{**row, "a": a} for a in (0.02, 0.03) for row in rows])
    return Results(pd.DataFrame(), pd.DataFrame(), table, pd.DataFrame(), {})


UP, DOWN, NONE = (0.02, 0.01, 0.03), (-0.02, -0.03, -0.01), (0.0, -0.01, 0.01)


@pytest.mark.parametrize(
    ("results", "first", "also"),
    [
        (results_of(UP, UP, NONE), "**Yes:", "the threshold alone gives 100 and 100 % at"),
        (results_of(UP, (0.04, 0.03, 0.05), DOWN), "**In part:", "ahead in 2 of 2 noisy settings, by .020 at most.**"),
        (results_of(UP, (0.04, 0.03, 0.05), DOWN), "**In part:", "alone gives 50 and 50 % at a = .02 and .03."),
        (results_of(DOWN, UP, DOWN), "**No:", "gives −100 and −100 % at a = .02"),
        (results_of(NONE, NONE, NONE), "**Undecided: the two", "At a = .02 and .03 soft-Dice has no gain over CE(0)"),
        (results_of(UP, UP, NONE, n=4), "**Undecided: there are too few", "too few to say"),
    ],
)
def test_answer_follows_the_numbers(results, first, also):
    text = sentences()["answer"]("preset", results)
    assert text.startswith(first)
    assert also in text


def test_answer_is_mixed_where_the_settings_disagree():
    table = results_of(UP, NONE, NONE).differences
    table.loc[(table["a"] == 0.02) & (table["difference"] == "CE(*)-CE(0)"), ["mean", "lo", "hi"]] = DOWN
    text = sentences()["answer"]("preset", Results(pd.DataFrame(), pd.DataFrame(), table, pd.DataFrame(), {}))
    assert text.startswith("**Mixed:")
    assert "Over all 2 noisy settings CE(*) is better than CE(0) in 1, worse in 1 and undecided in 0." in text


def claims_of(table, organ="kidney"):
    scope = sentences()
    source = source_of("experiment", "experiment-agreement")
    exec(source[: source.index("\nrows = ")], scope)
    return {claim: word for claim, word, _ in scope["check_claims"](table, organ)}


def test_claims_of_the_paper_are_judged_by_the_numbers():
    good = claims_of(results_of(UP, UP, NONE).differences)
    assert good["SD(0) is alike or better than CE(0)"] == "agrees"
    assert good["where SD(0) beats CE(0), CE(*) is alike or better than SD(0)"] == "agrees"
    assert good["CE(*) beats CE(0) at a = .03"] == "agrees"
    bad = claims_of(results_of(DOWN, DOWN, DOWN).differences)
    assert bad["SD(0) is alike or better than CE(0)"] == "does not agree"
    assert bad["where SD(0) beats CE(0), CE(*) is alike or better than SD(0)"] == "not tested"
    assert bad["CE(*) beats CE(0) at a = .03"] == "does not agree"
    behind = claims_of(results_of(UP, UP, DOWN).differences)
    assert behind["where SD(0) beats CE(0), CE(*) is alike or better than SD(0)"] == "does not agree"
    slightly = claims_of(results_of(UP, UP, (-0.004, -0.006, -0.002)).differences)
    assert slightly["where SD(0) beats CE(0), CE(*) is alike or better than SD(0)"] == "agrees"  # alike: below .01
    assert set(claims_of(results_of(NONE, NONE, NONE).differences).values()) == {"agrees", "not tested", "undecided"}


def small_results() -> Results:
    """Results of the smoke preset that can be added up by hand: two methods at .5, CE(*) at .6, on six cases."""
    preset = Preset.load("smoke")
    score = {"CE(0)": 0.5, "SD(0)": 0.5, "CE(*)": 0.6}
    rows = []
    for k in range(6):
        for method, value in score.items():
            row = {"organ": "hippocampus", "a": 0.02, "fold": 0, "case": f"case_{k}", "method": method}
            row |= {"threshold": 0.5, "ceiling": 0.8, "ceiling_mc": 0.79}
            row |= {f"volume{part}": 100 for part in ("", "_noisy", "_clean", "_marginal")}
            row |= {f"dice_{part}": value + 0.01 * k for part in ("noisy", "clean", "marginal")}
            rows.append(row)
    cases = pd.DataFrame(rows)
    epochs = [{"loss": loss, "epoch": epoch} for loss in ("ce", "sd") for epoch in (0, 1)]
    history = pd.DataFrame(epochs).assign(organ="hippocampus", a=0.02, fold=0, train_loss=1.0, train_dice=0.1, lr=1.0)
    facts = {"preset": "smoke", "about": preset.about, "version": "0", "commit": "0" * 40, "created": "2026-01-01"}
    facts |= {"machine": {"cpu": "a processor", "cores": 2, "python": "3.11", "gpu": None}, "packages": {"numpy": "2"}}
    facts |= {"parameters": 1234, "config": {**preset.values, "grid": {k: list(v) for k, v in preset.grid.items()}}}
    run = {"wall_s": 30.0, "peak_memory_mib": 512.0, "precision": "float32"}
    facts |= {"runs": [{"run": loss, **run} for loss in ("ce", "sd")]}
    return Results(cases, summarise(cases), paired_differences(cases), history, facts)


def grown_results() -> Results:
    """The same with two seeds (the second .02 higher) and the other rules but rankseg's, also added up by hand."""
    small = small_results()
    gain = {"CE(0)": 0.0, "SD(0)": 0.0, "CE(*)": 0.0}
    parts = [small.cases]
    for method, base, more in (("CE(fold)", "CE(*)", 0.03), ("SD(fold)", "SD(0)", 0.04), ("CE(oracle)", "CE(*)", 0.2)):
        rows = small.cases[small.cases["method"] == base]
        parts.append(rows.assign(method=method, dice_noisy=rows["dice_noisy"] + more))
        gain[method] = more
    one = pd.concat(parts, ignore_index=True)
    cases = pd.concat([one.assign(training_seed=1), one.assign(training_seed=4, dice_noisy=one["dice_noisy"] + 0.02)])
    history = pd.concat([small.history.assign(training_seed=seed) for seed in (1, 4)])
    config = {name: value for name, value in small.provenance["config"].items() if name != "training_seed"}
    config["grid"] = {**config["grid"], "training_seed": [1, 4]}
    rules = {"runs": 4, "rankseg": ["not installed"]}
    facts = {**small.provenance, "config": config, "other_rules": rules}
    return Results(cases, summarise(cases), paired_differences(cases), history, facts)


def executed(name: str, folder: Path, **tables: Results) -> str:
    """Everything a chapter shows as Markdown when it is executed in a root that has these tables and no others."""
    root = folder / "root"
    shutil.copytree(ROOT / "workflow" / "presets", root / "workflow" / "presets")
    shutil.copytree(ROOT / "results" / "paper", root / "results" / "paper")
    for preset, results in tables.items():
        write_results(results, folder / "fresh" / preset)
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--log-level=ERROR"]
    command += ["--output-dir", str(folder), str(ROOT / "notebooks" / f"{name}.ipynb")]
    environment = {**os.environ, "NOISYSEG_ROOT": str(root), "NOISYSEG_RESULTS": str(folder / "fresh")}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    cells = json.loads((folder / f"{name}.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"], "a chapter executes without a warning"
    return "\n".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["nothing", "one seed", "two seeds and other rules"])
def test_experiment_executes_with_what_there_is(tmp_path, run):
    """A reader who has run one small preset, or none, gets a page that shows it and says what is missing."""
    tables = {"nothing": {}, "one seed": {"smoke": small_results()}}.get(run, {"smoke": grown_results()})
    shown = executed("experiment", tmp_path, **tables)
    assert "**hippocampus**: not run yet; `make reproduce PRESET=hippocampus`" in shown
    assert "paper .7055" in shown
    if run == "nothing":
        assert "No figure: no preset has been run yet." in shown
        assert "No preset has been scored under these rules yet." in shown
    elif run == "one seed":
        assert "| hippocampus | .02 | .525 [" in shown  # .5 + mean of 0, .01, …, .05
        assert r"CE(\*) beats CE(0) by .100 [.100, .100]" in shown
        assert "1,234" in shown
        assert "*smoke*: one seed only (1), so how much another training would change is not known." in shown
        assert "*smoke*: not scored under these rules." in shown
    else:
        assert "| hippocampus | .02 | .535 [" in shown, "a case counts once, with its mean over the seeds"
        # The means of the two trainings are .02 apart: a standard deviation of .02 / sqrt(2), whatever the method.
        assert r"| .02 | 2 | .535 ± .0141 | .535 ± .0141 | .635 ± .0141 | +.100 ± .0000 |" in shown
        assert "over 2 seeds the mean of a cell has a standard deviation of .0141 on average" in shown
        values = next(line for line in shown.splitlines() if line.startswith("| hippocampus | .02 | .635 ["))
        assert [cell.split()[0] for cell in values.split(" | ")[3:]] == [".665", ".575", "not", "not", ".835"]
        assert values.count("not installed") == 2 and "`rankseg` was not installed" in shown
        assert r"| hippocampus | CE(\*) − CE(fold) | **−.030 [−.030, −.030]** |" in shown
        assert r"| hippocampus | CE(oracle) − CE(\*) | **+.200 [.200, .200]** |" in shown
        assert "Over 1 noisy settings" not in shown and "no threshold, not even one per image" in shown


@pytest.mark.slow
@pytest.mark.parametrize("run", ["nothing", "phantoms", "the paper's protocol"])
def test_deviations_execute_with_what_there_is(tmp_path, run):
    quick = load_results("quick")
    plan = Preset.load("paper")
    config = {**plan.values, "grid": {axis: list(points) for axis, points in plan.grid.items()}}
    facts = {**quick.provenance, "config": config, "data_version": "v1"}
    same = Results(quick.cases, quick.summary, quick.differences, quick.history, facts)
    tables = {"nothing": {}, "phantoms": {"quick": quick}}.get(run, {"quick": quick, "paper": same})
    shown = executed("deviations", tmp_path, **tables)
    lines = [
        line.split(" | ") for line in shown.splitlines() if line.startswith(("| kidney", "| aorta", "| oesophagus"))
    ]
    assert len(lines) == 36 and lines[0][:4] == ["| kidney", ".00", "CE(0)", ".9611"]
    needs = "not run: needs the data"
    if run == "nothing":
        assert all(line[4] == needs and line[5].startswith(needs) for line in lines)
        assert shown.count("No figure: no preset with the paper's organs has been run yet.") == 2
    row = quick.summary.iloc[0]
    difference = sentences()["short"](row["dice_noisy"] - 0.9611, sign="+")
    ours = sentences()["interval"](row["dice_noisy"], row["dice_noisy_lo"], row["dice_noisy_hi"])
    if run == "phantoms":
        assert all(line[4] == needs for line in lines)
        assert lines[0][5] == f"{ours}, **{difference}**" and lines[0][6].startswith("quick: D1, D3, D4, D8")
        assert f"*paper*: {needs}; none of the 36 values" in shown
    if run == "the paper's protocol":
        assert needs not in shown and "the paper's protocol, has been run: 24 trainings" in shown
        # Twenty cases an organ is the one thing that differs there.
        assert lines[0][4] == f"{ours}, **{difference}**" and lines[0][6].startswith("paper: D4; quick: D1, D3, D4")
