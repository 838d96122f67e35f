"""The statements of the paper's section 5.4, made precise and judged by our results (chapter *The experiment*)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from reproduction.report.verdicts import BETWEEN, FEWEST, LOSSES, THRESHOLDS, Row, noisy, outcome, pick, verdict
from reproduction.text import short

ALIKE = 0.01  # methods whose means differ by less are alike
WORDS = ("agrees", "does not agree", "undecided", "not tested")


class Claim(NamedTuple):
    """A statement of the paper, what our results say to it (one of ``WORDS``), and the numbers behind that."""

    statement: str
    judgement: str
    evidence: str


def check_claims(differences: pd.DataFrame, organ: str) -> list[Claim]:
    """Judge the paper's statements for one organ by its paired differences.

    A statement on methods that were not scored is not tested. Methods are *alike* if the mean difference is below
    ``ALIKE`` or its interval contains 0.
    """
    d: Any = differences[(differences["organ"] == organ) & (differences["score"] == "dice_noisy")]
    if d["n"].min() < FEWEST:
        return [Claim("all of them", "undecided", f"{d['n'].min()} cases are too few")]
    claims = [_without_noise(d, organ)] if (d["a"] == 0).any() else []
    claims += [_soft_dice(d, organ), _threshold_instead(d, organ), _threshold(d, organ)]
    return claims + ([_growth(d, organ)] if len(_rows(d, organ, THRESHOLDS)) > 1 else [])


def _rows(d: Any, organ: str, name: str) -> list[Row]:
    """Rows of one difference from the weakest noise to the strongest, without the setting that has none."""
    rows = [pick(d, organ, a, name) for a in sorted(d.loc[d["a"] > 0, "a"].unique())]
    return [row for row in rows if row is not None]


def _without_noise(d: Any, organ: str) -> Claim:
    rows = [pick(d, organ, 0.0, name) for name in (THRESHOLDS, LOSSES, BETWEEN)]
    means: list[float] = [abs(row["mean"]) for row in rows if row is not None]
    statement = "without noise the three methods are alike"
    if len(means) < len(rows):
        return Claim(statement, "not tested", "not all three were scored")
    return Claim(
        statement, "agrees" if max(means) < ALIKE else "does not agree", f"largest difference {short(max(means), 4)}"
    )


def _soft_dice(d: Any, organ: str) -> Claim:
    statement, rows = "SD(0) is alike or better than CE(0)", _rows(d, organ, LOSSES)
    if not rows:
        return Claim(statement, "not tested", "not both were scored")
    above = [row for row in rows if outcome(row) == "better"]
    below = [row for row in rows if outcome(row) == "worse"]
    clearly = [row for row in below if row["mean"] <= -ALIKE]
    text = f"better at {len(above)} of {len(rows)}, worse at {len(below)}, by .01 or more at {len(clearly)}"
    return Claim(statement, "does not agree" if clearly else "agrees", text)


def _threshold_instead(d: Any, organ: str) -> Claim:
    statement = "where SD(0) beats CE(0), CE(*) is alike or better than SD(0)"
    above = {row["a"] for row in _rows(d, organ, LOSSES) if outcome(row) == "better"}
    rows = [row for row in _rows(d, organ, BETWEEN) if row["a"] in above]
    if not rows:
        return Claim(statement, "not tested", "SD(0) nowhere beats CE(0)")
    behind = [row for row in rows if outcome(row) == "worse"]
    clearly = [row for row in behind if row["mean"] <= -ALIKE]
    text = f"CE(*) − SD(0) at least {short(min(row['mean'] for row in rows), 4, '+')}; "
    text += f"behind at {len(behind)} of {len(rows)}, by .01 or more at {len(clearly)}"
    return Claim(statement, "does not agree" if clearly else "agrees", text)


def _threshold(d: Any, organ: str) -> Claim:
    a = d["a"].max()
    statement, last = f"CE(*) beats CE(0) at a = {short(a, 2)}", pick(d, organ, a, THRESHOLDS)
    if last is None:
        return Claim(statement, "not tested", "not both were scored")
    return Claim(
        statement, dict(better="agrees", worse="does not agree").get(outcome(last), "undecided"), verdict(last)
    )


def _growth(d: Any, organ: str) -> Claim:
    first, *_, last = _rows(d, organ, THRESHOLDS)
    decided = any(outcome(row) != "undecided" for row in (first, last))
    word = ("agrees" if last["mean"] > first["mean"] else "does not agree") if decided else "undecided"
    text = ", ".join(f"{short(row['mean'], 4, '+')} at a = {short(row['a'], 2)}" for row in (first, last))
    return Claim("the gain of CE(*) over CE(0) grows with the noise", word, text)


def agreement(claims: Sequence[Claim], differences: pd.DataFrame) -> str:
    """Count the judgements, and say in how many settings CE(*) could hardly fail to be alike."""
    found = [claim.judgement for claim in claims]
    parts = [f"“{word}” {found.count(word)}" for word in WORDS if word in found]
    text = f"Statements checked: {len(claims)}" + (f", of which {', '.join(parts)}." if parts else ".")
    gains = noisy(differences, LOSSES)
    gains = gains.loc[gains["lo"] > 0, "mean"]
    if not len(gains):
        return text
    return (
        f"{text} Methods count as alike if their means differ by less than .01, or the interval of the difference "
        f"contains 0; in {(gains < ALIKE).sum()} of the {len(gains)} noisy settings in which soft-Dice gains over "
        "CE(0), the whole gain is smaller than that, and cross-entropy with the Dice threshold could hardly fail."
    )
