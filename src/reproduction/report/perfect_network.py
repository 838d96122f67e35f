"""What the threshold 1/2 costs a perfect network, and whether ours gain more than that (chapter *The experiment*)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

import noisyseg as ns
from reproduction.data.phantoms.scenes import ct_phantom
from reproduction.report.verdicts import THRESHOLDS, pick
from reproduction.runs.tables import Results
from reproduction.text import interval, short

CASES = 6  # an organ
HEADER = ["organ (phantoms)", "a", "cost of 1/2 to a perfect network", "CE(*) − CE(0), measured"]
COLUMNS = ("organ", "a", "cost", "most", "mean", "lo", "hi")


def threshold_costs(results: Iterable[Results]) -> pd.DataFrame:
    r"""Compare the cost of the threshold 1/2 to a perfect network with what CE(*) gains over CE(0), on phantoms.

    A perfect network gives the marginal m itself. With the threshold 1/2 it loses
    :math:`D^* - D_m(\mathbf{1}_{m \geq 1/2})`, which can be computed where the clean label is known.

    Returns
    -------
    DataFrame
        ``organ, a``; ``cost``, the mean over ``CASES`` test cases, and ``most``, the largest; ``mean, lo, hi`` of the
        measured gain. Presets on other data than phantoms have no rows.
    """
    rows = []
    for result in results:
        config = result.provenance["config"]
        if config["dataset"] != "phantoms":
            continue
        for organ, group in result.cases.groupby("organ", sort=False):
            numbers = [int(case.rsplit("-", 1)[1]) for case in sorted(group["case"].unique())[:CASES]]
            size, first = config["phantom_size"], 100_000 * config["phantom_seed"]
            labels = [ct_phantom(str(organ), first + k, size, spacing_mm=192 / size).label for k in numbers]
            for a in sorted(group["a"].unique()):
                gain = pick(result.differences, str(organ), a, THRESHOLDS)
                if gain is not None:
                    noise = ns.GaussianDeformation(a, config["b"])
                    costs = [cost_of_half(noise.marginal(label).astype(float)) for label in labels]
                    ends = [gain[end] for end in ("mean", "lo", "hi")]
                    rows.append([organ, a, sum(costs) / len(costs), max(costs), *ends])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def cost_of_half(m) -> float:
    """Dice that the mask of m at 1/2 loses to the best mask.

    Examples
    --------
    >>> import numpy as np
    >>> cost_of_half(np.array([1.0, 0.0])), round(cost_of_half(np.array([0.4, 0.4])), 3)
    (0.0, 0.571)
    """
    return max(0.0, 2 * ns.dice_threshold(m) - ns.dice(ns.optimal_accuracy(m), m))


def cost_rows(costs: pd.DataFrame) -> list[list[str]]:
    """Lay out :func:`threshold_costs` as rows of text."""
    return [
        [row["organ"], short(row["a"], 2), short(row["cost"]), interval(row["mean"], row["lo"], row["hi"], sign="+")]
        for row in costs.to_dict("records")
    ]


def gains_beyond(costs: pd.DataFrame) -> str:
    """Name the settings whose gain is, with its interval, more than twice the cost; empty if there is none."""
    more: Any = costs[costs["lo"] > 2 * costs["most"]]
    if more.empty:
        return ""
    named = ", ".join(f"{row['organ']} at a = {short(row['a'], 2)}" for row in more.to_dict("records"))
    return (
        "On phantoms the gain of CE(*) over CE(0) is, with its whole interval, more than twice what the threshold 1/2 "
        f"costs a perfect network on any of six cases for {named}: there the networks do not give the "
        "marginal, and the gain measures more than the effect of label noise."
    )
