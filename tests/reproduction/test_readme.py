"""The README shows what the results say, and nothing else."""

from pathlib import Path

import pytest

from reproduction.report.readme import FIGURE, PRESET, readme_text, table_text
from reproduction.runs.tables import load_results

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_is_in_step_with_the_results():
    text = (ROOT / "README.md").read_text()
    assert readme_text(text, load_results(PRESET)) == text, (
        "run `make notebooks` (or python -m reproduction.report.readme)"
    )
    assert (ROOT / FIGURE).is_file()


def test_every_row_of_the_table_is_a_row_of_the_summary():
    results = load_results(PRESET)
    rows = table_text(results).splitlines()[2:]
    assert len(rows) == len(results.summary.drop_duplicates(["organ", "a"]))
    first = results.summary.iloc[0]
    assert f"{first['dice_noisy']:.3f} [{first['dice_noisy_lo']:.3f}, {first['dice_noisy_hi']:.3f}]" in rows[0]


def test_a_missing_marker_is_named():
    with pytest.raises(ValueError, match="<!-- figure -->"):
        readme_text("no markers here", load_results(PRESET))
