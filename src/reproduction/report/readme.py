"""The README's figure and table, made from the stored results: no number there is typed by hand."""

from __future__ import annotations

import io
import re

from reproduction.figures.methods import plot_dice_over_noise
from reproduction.paths import atomic_write, project_root
from reproduction.report.experiment import SCORE_HEADER, score_rows
from reproduction.report.results import stored_results
from reproduction.report.sources import short_commits
from reproduction.runs.statistics import empty_trainings, seeds_of
from reproduction.runs.tables import Results
from reproduction.text import markdown_table

PRESET = "hippocampus"
FIGURE = "book/_static/dice_over_noise.png"


def readme_text(text: str, results: Results) -> str:
    """``text`` with what stands between the markers ``<!-- figure -->`` and ``<!-- table -->`` and their ends replaced.

    Raises
    ------
    ValueError
        If a marker is missing.
    """
    cases = results.cases["case"].nunique()
    commit = results.provenance["commit"]
    alt = "Mean test Dice against the noise strength: CE(0), SD(0), CE(*), constant shapes, and the ceiling"
    seeds = len(seeds_of(results.cases))
    by = "network that did not see it"
    if seeds > 1:
        by = f"networks that did not see it (mean over {seeds} training seeds)"
    caption = (
        f"Mean Dice against the noisy label over {cases} cases, each scored by the {by}, and the ceiling: the highest "
        f"mean that any method can reach, up to a small covariance term. CONST(0) and CONST(*) never see the image: "
        f"one shape for all, the mean training label at 1/2 and at its Dice threshold. Preset `{PRESET}`, 95 % "
        f"intervals over persons and folds, from [results/{PRESET}](results/{PRESET}/provenance.json) "
        f"(commit {short_commits(commit)})."
    )
    caption = " ".join([caption, *empty_trainings(results.cases)])
    # Outside a formula GitHub shows the star of CE(*) as it is.
    table = markdown_table(SCORE_HEADER, score_rows(results.summary), left=2).replace(r"\*", "*")
    parts = {"figure": f"![{alt}]({FIGURE})", "table": f"{table}\n\n{caption}"}
    for name, content in parts.items():
        pattern = rf"<!-- {name} -->.*?<!-- /{name} -->"
        if not re.search(pattern, text, flags=re.DOTALL):
            raise ValueError(f"README.md has no <!-- {name} --> … <!-- /{name} -->")
        block = f"<!-- {name} -->\n{content}\n<!-- /{name} -->"
        text = re.sub(pattern, lambda _match, block=block: block, text, flags=re.DOTALL)
    return text


def update_readme() -> None:
    """Bring README.md and its figure in step with the stored results."""
    results = stored_results()[PRESET]
    root = project_root()
    buffer = io.BytesIO()
    plot_dice_over_noise(results.summary).savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    atomic_write(root / FIGURE, buffer.getvalue())
    atomic_write(root / "README.md", readme_text((root / "README.md").read_text(), results))


if __name__ == "__main__":
    update_readme()
