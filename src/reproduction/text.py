"""Numbers and tables as the pages show them: no zero before the point, a mean with its interval, Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def short(x: float, digits: int = 3, sign: str = "") -> str:
    """Format a number as the paper does, without the zero before the point; ``sign="+"`` shows a plus.

    Examples
    --------
    >>> short(0.7055, 4), short(-0.0125), short(1.5, 1), short(0.02, 2, "+")
    ('.7055', '−.013', '1.5', '+.02')
    """
    text = f"{x:{sign}.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if abs(x) < 1 else text


def interval(mean: float, lo: float, hi: float, digits: int = 3, sign: str = "") -> str:
    """Format a mean with its interval.

    Examples
    --------
    >>> interval(0.0123, 0.008, 0.0166, sign="+")
    '+.012 [.008, .017]'
    """
    return f"{short(mean, digits, sign)} [{short(lo, digits)}, {short(hi, digits)}]"


def percent(share: float, digits: int = 1, sign: str = "") -> str:
    """Format a share in percent; ``sign="+"`` shows a plus.

    Examples
    --------
    >>> percent(0.0333), percent(-0.5, 0)
    ('3.3 %', '−50 %')
    """
    return f"{100 * share:{sign}.{digits}f} %".replace("-", "−")


def duration(seconds: float) -> str:
    """Write a duration in seconds, in minutes from two minutes on, or in hours from one hour on.

    Examples
    --------
    >>> duration(8.6), duration(150.0), duration(5400)
    ('9 s', '2.5 min', '1.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    r"""Lay out rows of ready-made text as a Markdown table; the first ``left`` columns are names.

    The star of ``CE(*)`` is a star, and no emphasis.

    Examples
    --------
    >>> print(markdown_table(["method", "Dice"], [["CE(*)", ".7"]]))
    | method | Dice |
    | --- | ---: |
    | CE(\*) | .7 |
    """
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines).replace("(*)", r"(\*)")


def table(header: Sequence[object], rows: Iterable[Sequence[object]], left: int = 1) -> Any:
    """Show `markdown_table` as the output of a notebook's cell.

    Examples
    --------
    >>> table(["method", "Dice"], [["SD(0)", ".7"]]).data.splitlines()[-1]
    '| SD(0) | .7 |'
    """
    from IPython.display import Markdown

    return Markdown(markdown_table(header, rows, left))


def note(chapter: str, **texts: object) -> None:
    """Keep texts under ``<chapter>-<name>`` for the prose of a page, which shows them with the role ``glue:text``.

    An underscore in a name becomes a hyphen.

    Examples
    --------
    >>> note("errata", table_below="3")  # {glue:text}`errata-table-below`
    """
    from myst_nb import glue

    for name, text in texts.items():
        glue(f"{chapter}-{name}".replace("_", "-"), str(text), display=False)
