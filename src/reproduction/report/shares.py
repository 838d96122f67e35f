"""How much of what is possible a method reaches, and which part of a gain is the paper's (chapter *The experiment*).

Two networks that nobody trained frame the others. The constant shape CONST(*) does not look at the image: what a method
scores above it, the method owes to the image. The perfect network gives the marginal m itself: its masks at t reach the
ceiling, and what it loses at the threshold 1/2 is what label noise alone makes the threshold worth.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from reproduction.report.experiment import ABSENT, cells
from reproduction.report.verdicts import listed
from reproduction.scoring.inference import Estimate, estimate, ratio
from reproduction.scoring.rules import METHODS
from reproduction.text import interval, short

CONSTANT = "CONST(*)"
WAY_HEADER = ["organ", "a", *METHODS]
GAIN_HEADER = [
    "organ",
    "a",
    "CE(*) − CE(0)",
    "share of SD(0) − CE(0), %",
    "cost of 1/2 to a perfect network",
    "share of CE(*) − CE(0), %",
]


def by_case(cell: Any) -> Any:
    """Put the scores of one organ and a side by side: a row a case, with the means over seeds of its Dice.

    The columns are the methods, ``ceiling``, ``ceiling_half`` where it was scored, ``person`` and ``fold``.
    """
    table = cell.pivot_table(index="case", columns="method", values="dice_noisy")
    one = cell.drop_duplicates("case").set_index("case").reindex(table.index)
    known = [name for name in ("ceiling", "ceiling_half", "fold") if name in one]
    return table.join(one[known]).assign(person=one["person"] if "person" in one else table.index)


def _ratio(above: Any, below: Any, table: Any) -> Estimate | None:
    """Estimate a share in per cent; None where the interval of what it is a share of contains 0."""
    try:
        return ratio(100 * above.to_numpy(), below.to_numpy(), table["person"].to_numpy(), table["fold"].to_numpy())
    except ValueError:
        return None


def _estimate(values: Any, table: Any) -> Estimate:
    return estimate(values.to_numpy(), table["person"].to_numpy(), table["fold"].to_numpy())


def _cost_of_half(table: Any) -> Any:
    """Give, case by case, what a perfect network loses at 1/2; None where that was not scored."""
    known = "ceiling_half" in table and table["ceiling_half"].notna().all()
    return table["ceiling"] - table["ceiling_half"] if known else None


def _shown(found: Estimate | None, digits: int) -> str:
    return ABSENT if found is None else interval(found.mean, *found.interval, digits)


def way_rows(cases: pd.DataFrame) -> list[list[str]]:
    """Lay out how far each method goes from the constant shape to the ceiling, in per cent; rows as ``WAY_HEADER``.

    .. math:: (D - D_{const}) / (D_{ceiling} - D_{const})

    of the means over cases. Settings without the constant have no row.
    """
    rows = []
    for organ, a, cell in cells(cases):
        table = by_case(cell)
        if CONSTANT not in table or table[CONSTANT].isna().any():
            continue
        whole = table["ceiling"] - table[CONSTANT]
        shares = [_ratio(table[m] - table[CONSTANT], whole, table) if m in table else None for m in METHODS]
        rows.append([organ, short(a, 2), *(_shown(share, 0) for share in shares)])
    return rows


def gain_rows(cases: pd.DataFrame) -> list[list[str]]:
    """Lay out the gain of the threshold, its share of soft-Dice's, and what 1/2 costs a perfect network.

    Rows as ``GAIN_HEADER``. A share is left out where the interval of what it is a share of contains 0.
    """
    rows = []
    for organ, a, cell in cells(cases):
        table = by_case(cell)
        if not {"CE(0)", "CE(*)"} <= set(table):
            continue
        gain = table["CE(*)"] - table["CE(0)"]
        soft = _ratio(gain, table["SD(0)"] - table["CE(0)"], table) if "SD(0)" in table else None
        lost = _cost_of_half(table)
        cost, share = (None, None) if lost is None else (_estimate(lost, table), _ratio(lost, gain, table))
        texts = [_shown(_estimate(gain, table), 3), _shown(soft, 0), _shown(cost, 4), _shown(share, 0)]
        rows.append([organ, short(a, 2), *texts])
    return rows


def gains_beyond(cases: pd.DataFrame) -> str:
    """Name the settings whose gain is, with its interval, more than what 1/2 costs a perfect network; or none."""
    named: dict[str, list[str]] = {}
    for organ, a, cell in cells(cases):
        table = by_case(cell)
        lost = _cost_of_half(table)
        if lost is None or not {"CE(0)", "CE(*)"} <= set(table):
            continue
        if _estimate(table["CE(*)"] - table["CE(0)"] - lost, table).interval[0] > 0:
            named.setdefault(organ, []).append(short(a, 2))
    if not named:
        return ""
    where = listed(f"the {organ} at a = {listed(strengths)}" for organ, strengths in named.items())
    return (
        f"The gain of CE(*) over CE(0) is larger than what the threshold 1/2 costs a perfect network on "
        f"{where}: there the networks do not give the marginal, and the gain measures more than label noise."
    )
