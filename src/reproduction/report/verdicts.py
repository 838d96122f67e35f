"""What paired differences between methods say, in words, and the answer to the question of the book."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reproduction.runs.statistics import empty_trainings
from reproduction.runs.tables import Results
from reproduction.text import interval, short

Row = Mapping[str, Any]  # of a table of differences: organ, a, difference, score, n, mean, lo, hi
FEWEST = 5  # with fewer cases an interval says too little
OUTCOMES = ("better", "worse", "undecided")
THRESHOLDS, LOSSES, BETWEEN = "CE(*)-CE(0)", "SD(0)-CE(0)", "CE(*)-SD(0)"
OVER_CONSTANT = ("CE(*)-CONST(*)", "SD(0)-CONST(*)")
#: How the front page names the data of a preset.
SOURCES = {
    "openkbp_oesophagus": "On the oesophagus in CT",
    "openkbp": "On parotid and spinal cord in CT",
    "hippocampus": "On the hippocampus in MRI",
    "openkbp_offcentre": "In CT, with organs anywhere in the patch",
    "phantoms": "On phantoms",
}


def listed(parts: Iterable[str]) -> str:
    """Join words as in a sentence.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def outcome(row: Row) -> str:
    """Classify one paired difference (``mean, lo, hi, n``): better, worse, or undecided if 0 is in its interval.

    Examples
    --------
    >>> [outcome({"n": n, "lo": lo, "hi": hi}) for n, lo, hi in ((50, 0.1, 0.2), (50, -0.1, 0.2), (4, 0.1, 0.2))]
    ['better', 'undecided', 'undecided']
    """
    if row["n"] < FEWEST:
        return "undecided"
    return "better" if row["lo"] > 0 else "worse" if row["hi"] < 0 else "undecided"


def verdict(row: Row) -> str:
    """Say in words what one paired difference shows; ``row`` has ``difference, mean, lo, hi, n``.

    Examples
    --------
    >>> verdict({"difference": "CE(*)-CE(0)", "mean": 0.012, "lo": 0.008, "hi": 0.016, "n": 50})
    'CE(*) beats CE(0) by .012 [.008, .016]'
    """
    first, second = row["difference"].split("-")
    mean, lo, hi = row["mean"], row["lo"], row["hi"]
    if row["n"] < FEWEST:
        return f"{first} against {second}: {short(mean, sign='+')}, on {row['n']} cases, too few to say"
    if lo > 0:
        return f"{first} beats {second} by {interval(mean, lo, hi)}"
    if hi < 0:
        return f"{first} is worse than {second} by {interval(-mean, -hi, -lo)}"
    return f"{first} and {second} cannot be told apart ({interval(mean, lo, hi, sign='+')})"


def pick(differences: pd.DataFrame, organ: str, a: float, name: str) -> Row | None:
    """Find the row of one difference in Dice against the noisy labels; None if a method of the pair was not scored."""
    d: Any = differences
    found = d[(d["organ"] == organ) & (d["a"] == a) & (d["difference"] == name) & (d["score"] == "dice_noisy")]
    return found.to_dict("records")[0] if len(found) else None


def noisy(differences: pd.DataFrame, name: str) -> Any:
    """Select the rows of one difference in Dice against the noisy labels in the settings with noise, a > 0."""
    d: Any = differences
    return d[(d["difference"] == name) & (d["score"] == "dice_noisy") & (d["a"] > 0)]


def tally(differences: pd.DataFrame, name: str) -> dict[str, int]:
    """Count better, worse and undecided over all organs and positive noise strengths."""
    found = [outcome(row) for row in noisy(differences, name).to_dict("records")]
    return {word: found.count(word) for word in OUTCOMES}


def tally_sentence(differences: pd.DataFrame, name: str) -> str:
    """Say the counts of :func:`tally`, without the full stop; empty if there is no such difference.

    Examples
    --------
    >>> row = {"difference": "CE(*)-CE(0)", "score": "dice_noisy", "a": 0.01, "n": 9, "lo": 0.1, "hi": 0.2}
    >>> tally_sentence(pd.DataFrame([row, row]), "CE(*)-CE(0)")
    'Over all 2 noisy settings CE(*) is better than CE(0) in 2, worse in 0 and undecided in 0'
    """
    first, second = name.split("-")
    counts = tally(differences, name)
    total = sum(counts.values())
    if not total:
        return ""
    over = f"Over all {total} noisy settings" if total > 1 else "Over the one noisy setting"
    return (
        f"{over} {first} is better than {second} in {counts['better']}, worse in {counts['worse']} and undecided in "
        f"{counts['undecided']}"
    )


def recovered(differences: pd.DataFrame, organ: str) -> str:
    """Say how much of what soft-Dice gains over cross-entropy the threshold alone gives, at every noise strength."""
    shares, none = {}, []
    for a in sorted(a for a in set(differences.loc[differences["organ"] == organ, "a"]) if a > 0):
        gain, ours = (pick(differences, organ, a, name) for name in (LOSSES, THRESHOLDS))
        if gain is None or ours is None:
            continue
        if outcome(gain) == "better":
            shares[short(a, 2)] = short(100 * ours["mean"] / gain["mean"], 0)
        else:
            none.append(short(a, 2))
    sentences = []
    if shares:
        share = listed(shares.values())
        sentences.append(f"Of the gain of soft-Dice the threshold alone gives {share} % at a = {listed(shares)}.")
    if none:
        sentences.append(f"At a = {listed(none)} soft-Dice has no gain over CE(0) that the cases support.")
    return " ".join(sentences)


def headline(differences: pd.DataFrame) -> str:
    """Answer the question of the book in one sentence: can cross-entropy with the Dice threshold replace soft-Dice?"""
    up, same = tally(differences, THRESHOLDS), tally(differences, BETWEEN)
    if not sum(up.values()):
        return "No answer: nothing was trained with cross-entropy on noisy labels."
    if max(differences["n"]) < FEWEST:
        return "Undecided: there are too few cases."
    if up["better"] and up["worse"]:
        return "Mixed: the Dice threshold lifts cross-entropy in some settings and lowers it in others."
    if up["better"] and not sum(same.values()):
        return "Half an answer: the Dice threshold lifts cross-entropy, and nothing was trained with soft-Dice."
    if up["better"] and same["worse"]:
        behind = noisy(differences, BETWEEN)["mean"].min()
        return (
            "In part: the Dice threshold lifts cross-entropy, but soft-Dice stays ahead in "
            f"{same['worse']} of {sum(same.values())} noisy settings, by {short(-behind)} at most."
        )
    if up["better"]:
        return "Yes: the Dice threshold lifts cross-entropy, and soft-Dice is ahead of it nowhere."
    if up["worse"]:
        return "No: here the Dice threshold lowers the score of cross-entropy."
    return "Undecided: the two thresholds for cross-entropy cannot be told apart."


def constant_sentence(differences: pd.DataFrame) -> str:
    """Name the settings where no network is better than the constant shape at its best threshold; empty if none is.

    Examples
    --------
    >>> row = {"organ": "aorta", "a": 0.03, "score": "dice_noisy", "n": 9, "lo": -0.1, "hi": 0.1}
    >>> constant_sentence(pd.DataFrame([{**row, "difference": name} for name in OVER_CONSTANT])).partition(", ")[0]
    'At a = .03 on the aorta neither CE(*) nor SD(0) is shown to be better than CONST(*)'
    """
    d: Any = differences
    settings = d[d["difference"].isin(OVER_CONSTANT) & (d["score"] == "dice_noisy")]
    names: dict[str, list[str]] = {}
    for (organ, a), rows in settings.groupby(["organ", "a"], sort=False):
        if len(rows) == len(OVER_CONSTANT) and "better" not in map(outcome, rows.to_dict("records")):
            names.setdefault(str(organ), []).append(short(a, 2))
    where = listed(f"a = {listed(strengths)} on the {organ}" for organ, strengths in names.items()) if names else ""
    said = "neither CE(*) nor SD(0) is shown to be better than CONST(*), a constant shape that never sees the image."
    return f"At {where} {said}" if where else ""


def answer(result: Results) -> str:
    """Answer the question of the book in one paragraph of Markdown, from the results of one preset."""
    d: Any = result.differences
    sentences = [f"**{headline(d)}**"]
    for organ in d["organ"].unique():
        a = d.loc[d["organ"] == organ, "a"].max()
        rows = [row for name in (THRESHOLDS, BETWEEN) if (row := pick(d, organ, a, name)) is not None]
        if rows:
            said = ", and ".join(map(verdict, rows))
            sentences.append(f"At a = {short(a, 2)} on the {organ}, {said}. {recovered(d, organ)}".rstrip())
    for name in (THRESHOLDS, BETWEEN):
        if sum(tally(d, name).values()) > 1:
            sentences.append(f"{tally_sentence(d, name)}.")
    return " ".join(filter(None, [*sentences, constant_sentence(d), *empty_trainings(result.cases)]))


def front_page(results: Mapping[str, Results]) -> str:
    """Put the answers of presets, in a sentence or two each, into paragraphs of HTML."""
    html = ""
    for preset, result in results.items():
        d = result.differences
        sentences = [f"<b>{headline(d)}</b>", constant_sentence(d), *empty_trainings(result.cases)]
        html += f"<p>{SOURCES.get(preset, preset)}: {' '.join(filter(None, sentences))}</p>"
    return html or "<p>No preset has been run yet.</p>"
