"""The statements of the paper's section 5.4, made precise and tested by our results (chapter *The experiment*).

Each statement is tested against a difference of `MARGIN` in Dice, with standard errors over persons and folds. Holm's
procedure adjusts the p-values of all statements on a page for their number. A statement *agrees* if its adjusted p is
below `ALPHA`; it *does not agree* if the opposite has such a p; else it is undecided. Of several settings that a
statement names the least favourable counts, so no adjustment is due within a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from reproduction.report.verdicts import BETWEEN, FEWEST, LOSSES, THRESHOLDS, Row, pick, tally
from reproduction.runs.statistics import estimate_of, mean_over
from reproduction.scoring.inference import Estimate, holm, slopes
from reproduction.text import interval, short

MARGIN = 0.005  # methods whose Dice differs by less are alike
ALPHA = 0.05
WORDS = ("agrees", "does not agree", "undecided", "not tested")


@dataclass(frozen=True)
class Claim:
    """A statement of the paper on one organ: the p-values for it and against it (None: not tested), and the numbers."""

    organ: str
    statement: str
    evidence: str
    p_for: float | None = None
    p_against: float | None = None

    @property
    def judgement(self) -> str:
        """One of ``WORDS``."""
        if self.p_for is None or self.p_against is None:
            return "not tested"
        return "agrees" if self.p_for < ALPHA else "does not agree" if self.p_against < ALPHA else "undecided"


def check_claims(differences: pd.DataFrame, cases: pd.DataFrame) -> list[Claim]:
    """Test the paper's statements on every organ of a table of differences, adjusted for their number.

    A statement on methods that were not scored, or on an organ with fewer than ``FEWEST`` cases, is not tested.
    """
    claims = [claim for organ in differences["organ"].unique() for claim in _of_organ(differences, cases, organ)]
    return adjusted(claims)


def adjusted(claims: Sequence[Claim]) -> list[Claim]:
    """Adjust the p-values of claims for their number, those for the statements and those against them apart."""
    tested = [k for k, claim in enumerate(claims) if claim.p_for is not None]
    p_for, p_against = (holm([getattr(claims[k], side) for k in tested]) for side in ("p_for", "p_against"))
    found = list(claims)
    for k, a, b in zip(tested, p_for, p_against, strict=True):
        found[k] = replace(claims[k], p_for=float(a), p_against=float(b))
    return found


def _of_organ(differences: pd.DataFrame, cases: pd.DataFrame, organ: str) -> list[Claim]:
    d: Any = differences[(differences["organ"] == organ) & (differences["score"] == "dice_noisy")]
    if d["n"].min() < FEWEST:
        return [Claim(organ, "all of them", f"{d['n'].min()} cases are too few")]
    claims = [_without_noise(d, organ)] if (d["a"] == 0).any() else []
    claims += [
        _not_worse(d, organ, LOSSES, "SD(0) is alike or better than CE(0)"),
        _not_worse(d, organ, BETWEEN, "CE(*) is alike or better than SD(0)"),
        _threshold(d, organ),
    ]
    return claims + ([_growth(cases, organ)] if len(_rows(d, organ, THRESHOLDS)) > 1 else [])


def _rows(d: Any, organ: str, name: str) -> list[Row]:
    """Rows of one difference from the weakest noise to the strongest, without the setting that has none."""
    rows = [pick(d, organ, a, name) for a in sorted(d.loc[d["a"] > 0, "a"].unique())]
    return [row for row in rows if row is not None]


def _numbers(rows: Iterable[Row]) -> str:
    return ", ".join(f"{interval(r['mean'], r['lo'], r['hi'], sign='+')} at a = {short(r['a'], 2)}" for r in rows)


def _opposite(p_values: Sequence[float]) -> float:
    """Give the p against a statement on several settings: that of the clearest one, times their number (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values))


def _without_noise(d: Any, organ: str) -> Claim:
    rows = [pick(d, organ, 0.0, name) for name in (THRESHOLDS, LOSSES, BETWEEN)]
    statement = "without noise the three methods are alike"
    found = [estimate_of(row) for row in rows if row is not None]
    if len(found) < len(rows):
        return Claim(organ, statement, "not all three were scored")
    largest = max(abs(one.mean) for one in found)
    apart = _opposite([min(one.p_above(MARGIN), one.p_below(-MARGIN)) for one in found])
    return Claim(
        organ, statement, f"largest difference {short(largest, 4)}", max(one.p_alike(MARGIN) for one in found), apart
    )


def _not_worse(d: Any, organ: str, name: str, statement: str) -> Claim:
    """Test that the first method of a pair is nowhere behind the second by the margin."""
    rows = _rows(d, organ, name)
    if not rows:
        return Claim(organ, statement, "not both were scored")
    found = [estimate_of(row) for row in rows]
    behind = _opposite([one.p_below(-MARGIN) for one in found])
    return Claim(organ, statement, _numbers(rows), max(one.p_above(-MARGIN) for one in found), behind)


def _threshold(d: Any, organ: str) -> Claim:
    a = d["a"].max()
    statement, last = f"CE(*) beats CE(0) at a = {short(a, 2)}", pick(d, organ, a, THRESHOLDS)
    if last is None:
        return Claim(organ, statement, "not both were scored")
    found = estimate_of(last)
    return Claim(organ, statement, _numbers([last]), found.p_above(), found.p_below())


def _growth(cases: pd.DataFrame, organ: str) -> Claim:
    """Test the trend: the slope, case by case, of the gain over the positive noise strengths."""
    found = trend(cases, organ, *THRESHOLDS.split("-"))
    low, high = (0.01 * bound for bound in found.interval)
    text = f"{interval(0.01 * found.mean, low, high, sign='+')} for every .01 of a"
    statement = "the gain of CE(*) over CE(0) grows with the noise"
    return Claim(organ, statement, text, found.p_above(), found.p_below())


def trend(cases: pd.DataFrame, organ: str, first: str, second: str) -> Estimate:
    """Estimate the mean slope, over the noise strengths above 0, of the difference of two methods in Dice.

    Raises
    ------
    ValueError
        If a case lacks one of the strengths, or there are fewer than two.
    """
    c: Any = cases[(cases["organ"] == organ) & (cases["a"] > 0) & cases["method"].isin([first, second])]
    means = c.pivot_table(index="case", columns=["method", "a"], values="dice_noisy")  # over seeds
    gains = means[first] - means[second]
    if gains.isna().any(axis=None):
        raise ValueError(f"{organ}: not every case was scored at every noise strength")
    return mean_over(c, slopes(gains.to_numpy(), np.array(gains.columns, dtype=float)))


def agreement(claims: Sequence[Claim]) -> str:
    """Count the judgements, and say how they were made."""
    found = [claim.judgement for claim in claims]
    parts = [f"“{word}” {found.count(word)}" for word in WORDS if word in found]
    text = f"Statements: {len(claims)}" + (f", of which {', '.join(parts)}." if parts else ".")
    return (
        f"{text} Alike means within ±{short(MARGIN)} in Dice; p-values come from the standard errors over persons and "
        f"over folds, whichever is larger, and are adjusted for the number of statements (Holm)."
    )


def pattern(paper: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Compare how often one method is ahead of another with noise, in the paper's table and with our intervals.

    Parameters
    ----------
    paper
        Columns ``organ, a, method, dice``.
    differences
        Our paired differences; of any organs.
    """
    noisy: Any = paper[paper["a"] > 0]
    wide = noisy.pivot(index=["organ", "a"], columns="method", values="dice")
    parts = []
    for name in (LOSSES, THRESHOLDS, BETWEEN):
        first, second = name.split("-")
        ours = tally(differences, name)
        if total := sum(ours.values()):
            ahead = (wide[first] > wide[second]).sum()
            parts.append(
                f"{first} is ahead of {second} in {ahead} of the paper's {len(wide)} cells with noise; in ours the "
                f"interval of the difference is above 0 in {ours['better']} of {total} and below in {ours['worse']}"
            )
    return f"{'. '.join(parts)}. The paper's differences have no intervals." if parts else ""
