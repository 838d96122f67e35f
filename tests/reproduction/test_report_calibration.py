"""What the chapter on calibration says of the networks: gaps that a person can add up."""

from __future__ import annotations

import pandas as pd
import pytest

from noisyseg.calibration import KINDS
from reproduction.report import calibration as page
from reproduction.runs.calibration import COLUMNS, NONE, TEST, TRAIN, gap, write_calibrations
from reproduction.scoring.inference import estimate


def made_up() -> pd.DataFrame:
    """Two settings of two folds, to be added up by hand: CE(*) is .10 and .02 behind, beta closes half of the first."""
    rows = []
    for a, behind in ((0.0, 0.1), (0.01, -0.02)):
        for fold in (0, 1, 2):
            point = {"organ": "kidney", "a": a, "fold": fold, "model": "unet", "training_seed": 1, "cases": 4}
            rest = {"promised": 0.8, "bias": 0.1, "error": 0.2}
            base = 0.7 + 0.01 * fold
            rows.append({**point, "loss": "sd", "calibration": NONE, "fitted_on": "", "dice_half": base, "dice_t": 0.1})
            for kind in (NONE, *KINDS):
                gain = behind / 2 if kind == "beta" else 0.0
                for on in [""] if kind == NONE else [TRAIN, TEST]:
                    scores = {"dice_half": 0.5, "dice_t": base - behind + gain, **rest}
                    rows.append({**point, "loss": "ce", "calibration": kind, "fitted_on": on, **scores})
    table = pd.DataFrame(rows)
    return table.assign(**{name: table[name].fillna(0.0) for name in COLUMNS})


def bins() -> pd.DataFrame:
    """Two strengths and losses; the last bin is empty, and in the others a map of 1/4 means 1/2."""
    point = {"voxels": 8, "soft_volume": 2.0, "foreground": 4}
    rows = [{"organ": "kidney", "a": a, "loss": loss, "bin": 0, **point} for a in (0.0, 0.01) for loss in ("ce", "sd")]
    return pd.DataFrame([*rows, *({**row, "bin": 1, **dict.fromkeys(point, 0)} for row in rows)])


def test_the_diagram_shows_every_bin_that_has_voxels(tmp_path):
    write_calibrations(made_up(), bins(), tmp_path / "results" / "some")
    table = page.stored_reliability(tmp_path)["some"]
    figure = page.plot_reliability(table, "kidney")
    assert [ax.get_title() for ax in figure.axes] == ["cross-entropy", "soft-Dice"]
    for ax in figure.axes:
        diagonal, *lines = ax.lines
        assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
        assert [line.get_xydata().tolist() for line in lines] == [[[0.25, 0.5]]] * 2
        assert [line.get_label() for line in lines] == ["a = 0", "a = 0.01"]


def test_gaps_and_sentences_by_hand(tmp_path):
    table = made_up()
    write_calibrations(table, bins(), tmp_path / "results" / "some")
    found = page.stored_calibrations(tmp_path)
    assert list(found) == ["some"]
    assert gap(found["some"], "beta")["kidney", 0.0] == pytest.approx([-0.05] * 3)
    assert estimate(gap(found["some"], NONE)["kidney", 0.01]).mean == pytest.approx(0.02)
    rows = page.gap_rows(found["some"])
    assert [row[:2] for row in rows] == [["kidney", ".00"], ["kidney", ".01"]]
    assert rows[0][3].startswith("−.100") and rows[0][5].startswith("−.050") and len(rows[0]) == len(page.HEADER)
    said = page.sentences("some", found["some"])
    assert "behind SD(0) in 1 of 2 settings" in said
    assert "After beta calibration 50 % of the gap is closed on average, and 1 stay behind" in said
    assert "After isotonic calibration 0 %" in said.replace("−0 %", "0 %")
    assert "no gap to close" in page.sentences("some", table[table["loss"] == "ce"])
    assert "no gap to close" in page.sentences("some", table[table["a"] > 0])
    assert len(page.promise_rows(table)) == 4 and len(page.promise_rows(table)[0]) == len(page.PROMISE_HEADER)
    figure = page.plot_gaps(found)
    assert len(figure.axes) == 1 and "kidney" in figure.axes[0].get_title()
