"""The README shows what the results say, and nothing else."""

from pathlib import Path

import pytest

from reproduction.report.readme import FIGURE, PRESETS, readme_results, readme_text

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_is_in_step_with_the_results():
    text = (ROOT / "README.md").read_text()
    assert readme_text(text, readme_results()) == text, "run `make notebooks` (or python -m reproduction.report.readme)"
    assert (ROOT / FIGURE).is_file()
    for preset in PRESETS:
        assert f"results/{preset}/provenance.json" in text


def test_a_missing_marker_is_named():
    with pytest.raises(ValueError, match="<!-- figure -->"):
        readme_text("no markers here", readme_results())
