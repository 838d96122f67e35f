"""The README's figure and table, made from the stored results: no number there is typed by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from reproduction.figures.methods import plot_dice_over_noise
from reproduction.paths import atomic_write, project_root
from reproduction.report.experiment import SCORE_HEADER, score_rows
from reproduction.report.results import pooled, stored_results
from reproduction.report.sources import short_commits
from reproduction.report.verdicts import constant_sentence
from reproduction.runs.statistics import empty_trainings, seeds_of
from reproduction.runs.tables import Results
from reproduction.text import markdown_table

PRESETS = ("openkbp_oesophagus", "hippocampus")  # real images
FIGURE = "book/_static/dice_over_noise.png"


def _source(preset: str, results: Results) -> str:
    """Say which cases, networks and intervals, and what a mean does not show."""
    cases, seeds = results.cases["case"].nunique(), len(seeds_of(results.cases))
    by = (
        f"networks that did not see it (mean over {seeds} training seeds)"
        if seeds > 1
        else "network that did not see it"
    )
    commit = short_commits(results.provenance["commit"])
    said = (
        f"[`{preset}`](results/{preset}/provenance.json): {cases} cases, each scored by the {by}, commit {commit}.",
        constant_sentence(results.differences),
        *empty_trainings(results.cases),
    )
    return " ".join(filter(None, said))


def readme_text(text: str, results: Mapping[str, Results]) -> str:
    """``text`` with what stands between the markers ``<!-- figure -->`` and ``<!-- table -->`` and their ends replaced.

    Raises
    ------
    ValueError
        If a marker is missing.
    """
    alt = "Mean test Dice against the noise strength: CE(0), SD(0), CE(*), constant shapes, and the ceiling"
    caption = (
        "Mean Dice against the noisy label with 95 % intervals over persons and folds, and the ceiling: the highest "
        "mean that any method can reach, up to a small covariance term. CONST(0) and CONST(*) never see the image: "
        "one shape for all, the mean training label at 1/2 and at its Dice threshold."
    )
    caption = "\n".join([caption, "", *(f"- {_source(preset, result)}" for preset, result in results.items())])
    summary = pooled(results, "summary")
    # Outside a formula GitHub shows the star of CE(*) as it is.
    table = markdown_table(SCORE_HEADER, score_rows(summary), left=2).replace(r"\*", "*")
    parts = {"figure": f"![{alt}]({FIGURE})", "table": f"{table}\n\n{caption}"}
    for name, content in parts.items():
        pattern = rf"<!-- {name} -->.*?<!-- /{name} -->"
        if not re.search(pattern, text, flags=re.DOTALL):
            raise ValueError(f"README.md has no <!-- {name} --> … <!-- /{name} -->")
        block = f"<!-- {name} -->\n{content}\n<!-- /{name} -->"
        text = re.sub(pattern, lambda _match, block=block: block, text, flags=re.DOTALL)
    return text


def readme_results() -> dict[str, Results]:
    """Read the stored results that the README shows."""
    stored = stored_results()
    return {preset: stored[preset] for preset in PRESETS}


def update_readme() -> None:
    """Bring README.md and its figure in step with the stored results."""
    results = readme_results()
    root = project_root()
    buffer = io.BytesIO()
    drawn = plot_dice_over_noise(pooled(results, "summary"))
    drawn.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    atomic_write(root / FIGURE, buffer.getvalue())
    atomic_write(root / "README.md", readme_text((root / "README.md").read_text(), results))


if __name__ == "__main__":
    update_readme()
