"""Our values and those of the paper's Table 1, and why they differ (chapter *Deviations*)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reproduction.report.protocol import ITEMS, Protocol, codes
from reproduction.runs.tables import Results
from reproduction.text import interval, short

PRESET = "paper"
NOT_RUN = "not run: needs the data"


def deviations(paper: pd.DataFrame, results: Mapping[str, Results]) -> pd.DataFrame:
    """Compare every value of the paper's Table 1 with ours.

    Parameters
    ----------
    paper
        Columns ``organ, a, method, dice``, as in ``results/paper/table1.csv``.
    results
        Preset to tables. Rows of organs that the paper does not have are ignored.

    Returns
    -------
    DataFrame
        One row for each value of the paper and each preset that has it, and always one for the preset ``paper``:
        ``organ, a, method, paper, preset, ours, lo, hi, difference, inside, reason``. ``difference`` is ours - paper,
        ``inside`` whether the paper's value lies in our 95 % interval, ``reason`` the items in which the preset is not
        the paper's protocol (``codes``). Where the preset ``paper`` was not run, numbers are NaN,
        ``inside`` is None and the reason says so.

    Examples
    --------
    >>> paper = pd.DataFrame({"organ": ["kidney"], "a": [0.0], "method": ["CE(0)"], "dice": [0.9611]})
    >>> deviations(paper, {}).loc[0, ["preset", "reason"]].tolist()
    ['paper', 'not run: needs the data']
    """
    order = [PRESET, *(name for name in results if name != PRESET)]
    rows = []
    for value in paper.to_dict("records"):
        for preset in order:
            row: dict[str, Any] = {name: value[name] for name in ("organ", "a", "method")}
            row |= {"paper": value["dice"], "preset": preset}
            ours = None
            if preset in results:
                s = results[preset].summary
                here = (s["organ"] == value["organ"]) & (s["a"].round(4) == round(value["a"], 4))
                found = s[here & (s["method"] == value["method"])]
                ours = found.iloc[0] if len(found) else None
            if ours is not None:
                mean, lo, hi = (float(ours[f"dice_noisy{end}"]) for end in ("", "_lo", "_hi"))
                inside = lo <= value["dice"] <= hi
                reason = ", ".join(codes(Protocol.of_results(results[preset])))
                reason = reason or ("the paper's protocol" if inside else "the paper's protocol: other trainings")
                row |= {"ours": mean, "lo": lo, "hi": hi, "difference": mean - value["dice"], "inside": inside}
                rows.append({**row, "reason": reason})
            elif preset == PRESET:
                nothing = dict.fromkeys(("ours", "lo", "hi", "difference"), math.nan)
                rows.append({**row, **nothing, "inside": None, "reason": NOT_RUN})
    return pd.DataFrame(rows)


def gains(paper: pd.DataFrame, results: Mapping[str, Results]) -> pd.DataFrame:
    """Compare the paper's differences between methods with ours.

    What a method gains over another depends less on the images than its value does.

    Parameters
    ----------
    paper, results
        As for :func:`deviations`.

    Returns
    -------
    DataFrame
        ``organ, a, difference, paper, preset, mean, lo, hi``: the paper's difference of two means, which has no
        interval, and ours, paired. One row for each preset that has the organ and a; no row where none has.
    """
    wide = paper.pivot(index=["organ", "a"], columns="method", values="dice")
    rows = []
    for organ, a in dict.fromkeys(zip(paper["organ"], paper["a"], strict=True)):
        for preset, result in results.items():
            d = result.differences
            here = (d["organ"] == organ) & (d["a"].round(4) == round(a, 4)) & (d["score"] == "dice_noisy")
            for found in d.loc[here].to_dict("records"):
                first, second = found["difference"].split("-")
                if first in wide and second in wide:
                    published = float(wide.loc[(organ, a), first] - wide.loc[(organ, a), second])
                    row = {"organ": organ, "a": a, "difference": found["difference"], "paper": round(published, 4)}
                    rows.append({**row, "preset": preset, **{end: found[end] for end in ("mean", "lo", "hi")}})
    columns = ["organ", "a", "difference", "paper", "preset", "mean", "lo", "hi"]
    return pd.DataFrame(rows, columns=columns)


def status(results: Mapping[str, Results], protocols: Mapping[str, Protocol], organs: Iterable[str]) -> str:
    """Say in Markdown whether the paper's protocol was run, and which other presets have one of its ``organs``."""
    if PRESET in results:
        count = len(results[PRESET].provenance["runs"])
        text = f"The preset `{PRESET}`, the paper's protocol, has been run: {count} trainings."
    else:
        text = (
            f"The preset `{PRESET}`, the paper's protocol with its {protocols[PRESET].runs()} trainings, was "
            f"**{NOT_RUN}** (TotalSegmentator, 23.6 GB). `make reproduce PRESET={PRESET}` runs it; this page then "
            "shows it."
        )
    organs, data = set(organs), ITEMS[0].ours  # the item "data" of a protocol, in words
    alike = [name for name, result in results.items() if name != PRESET and organs & set(result.summary["organ"])]
    others = ", ".join(f"`{name}` ({data(protocols[name])})" for name in alike)
    return f"{text} Organs of the same names were run in other presets: {others}." if others else text


def differing_rows(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Lay out the items of :func:`reproduction.report.protocol.protocol_table` in which a preset is not the paper's.

    The preset ``paper`` has a column only if it differs in an item. What differs is bold.
    """
    items = [item for item in table.to_dict("records") if item["differs"]]
    presets = [name for name in _presets(table) if name != PRESET or not is_papers(table)]
    rows = []
    for item in items:
        ours = [f"**{item[name]}**" if name in item["differs"] else item[name] for name in presets]
        rows.append([item["code"], item["item"], item["published"], *ours, item["reason"]])
    return ["", "item", "paper", *presets, "why"], rows


def is_papers(table: pd.DataFrame) -> bool:
    """Whether the preset ``paper`` differs in no item from what the paper prints."""
    return not any(PRESET in (differs or ()) for differs in table["differs"])


def silent_rows(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Lay out the items that the paper does not print."""
    presets = _presets(table)
    items = [item for item in table.to_dict("records") if item["differs"] is None]
    rows = [[item["item"], item["published"], *(item[name] for name in presets), item["reason"]] for item in items]
    return ["item", "paper", *(f"preset {name}" for name in presets), "note"], rows


def _presets(table: pd.DataFrame) -> list[str]:
    return [name for name in table if name not in ("code", "item", "published", "reason", "differs")]


def value_rows(known: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Lay out :func:`deviations`: the paper's value, then ours and ours − paper for each preset, then the reasons."""
    records = known.to_dict("records")
    names = [PRESET, *dict.fromkeys(row["preset"] for row in records if row["preset"] != PRESET)]
    rows = []
    for value in (row for row in records if row["preset"] == PRESET):
        same = [row for row in records if all(row[key] == value[key] for key in ("organ", "a", "method"))]
        found = {row["preset"]: row for row in same if row["reason"] != NOT_RUN}
        absent = {PRESET: NOT_RUN}
        ours = [_ours(found[name]) if name in found else absent.get(name, "—") for name in names]
        reasons = [f"{name}: {found[name]['reason']}" for name in names if name in found]
        cells = [value["organ"], short(value["a"], 2), value["method"], short(value["paper"], 4)]
        rows.append([*cells, *ours, "; ".join(reasons) or NOT_RUN])
    return ["organ", "a", "method", "paper", *(f"preset {name}" for name in names), "reason"], rows


def _ours(row: Mapping[Any, Any]) -> str:
    difference = short(row["difference"], 3, "+")
    return f"{interval(row['ours'], row['lo'], row['hi'])}, {difference if row['inside'] else f'**{difference}**'}"


def agreement(preset: str, known: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Count how often the paper's values and differences (:func:`deviations`, :func:`gains`) and ours agree."""
    d: Any = compared[compared["preset"] == preset]
    v: Any = known[(known["preset"] == preset) & known["ours"].notna()]
    decided = d[(d["lo"] > 0) | (d["hi"] < 0)]
    same_sign = ((decided["mean"] > 0) == (decided["paper"] > 0)).sum()
    inside = ((d["lo"] <= d["paper"]) & (d["paper"] <= d["hi"])).sum()
    ahead = d[(d["difference"] == "CE(*)-SD(0)") & (d["a"] > 0)]
    text = (
        f"{int(v['inside'].sum())} of the paper's {len(v)} values lie within our intervals; the largest "
        f"difference is {short(v['difference'].abs().max())}. Of {len(d)} differences between methods the paper's lies "
        f"within our interval in {inside}; of our {len(decided)} whose interval does not contain 0 the paper's has the "
        f"same sign in {same_sign}. On average a value differs from the paper's by "
        f"{short(v['difference'].abs().mean())}, a difference between methods by "
        f"{short((d['mean'] - d['paper']).abs().mean())}, where the paper's own are {short(d['paper'].abs().mean())} "
        "large."
    )
    if not len(ahead):
        return text
    return (
        f"{text} With noise CE(*) is ahead of SD(0) in {(ahead['paper'] > 0).sum()} of {len(ahead)} cells of the "
        f"paper, and in ours with its whole interval in {(ahead['lo'] > 0).sum()}."
    )
