"""The README shows what the results say, and nothing else."""

from pathlib import Path

import pytest

from reproduction.report.readme import FIGURE, PRESET, readme_text
from reproduction.report.results import stored_results

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_is_in_step_with_the_results():
    text = (ROOT / "README.md").read_text()
    assert readme_text(text, stored_results()[PRESET]) == text, (
        "run `make notebooks` (or python -m reproduction.report.readme)"
    )
    assert (ROOT / FIGURE).is_file()


def test_a_missing_marker_is_named():
    with pytest.raises(ValueError, match="<!-- figure -->"):
        readme_text("no markers here", stored_results()[PRESET])
