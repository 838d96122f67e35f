"""Our values beside those of the paper's Table 1, and why they differ (book chapter *Deviations*)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reproduction.report.protocol import Protocol, codes
from reproduction.runs.tables import Results

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
