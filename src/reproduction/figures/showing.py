"""How a figure is stored and shown: of one width, as SVG or as a picture, the same bytes whenever it is drawn again."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.transforms import Bbox

from reproduction.figures.palette import SERIES

SVG, PNG = "image/svg+xml", "image/png"
WIDTH = 8.0  # inches of every figure
PIXELS = 96  # of a page, an inch
LETTERS = 10  # points; at ticks and in legends one less
_STYLE: Any = {
    "figure.dpi": PIXELS,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": LETTERS,
    "axes.titlesize": LETTERS,
    "axes.prop_cycle": cycler(color=SERIES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "xtick.labelsize": LETTERS - 1,
    "ytick.labelsize": LETTERS - 1,
    "legend.fontsize": LETTERS - 1,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "image.interpolation": "none",  # an SVG has the image's own pixels
    "image.composite_image": False,
    "svg.fonttype": "path",  # letters look the same everywhere
    "svg.hashsalt": "noisyseg",
}
_COMMENTS = re.compile(r"<!--.*?-->", flags=re.DOTALL)
_IMAGES = re.compile(r"(?<=base64,)[^\"]*")
_OUTLINES = re.compile(r' (?:d|x|y)="[^"]*"')
_LONG = re.compile(r"(\.\d\d)\d+")


@contextmanager
def book_style() -> Iterator[None]:
    """Set the book's style, and the user's again at the end."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


class BookFigure(Figure):
    """A figure that a cell shows as the book stores it."""

    def _ipython_display_(self) -> None:
        from IPython.display import display  # only notebooks have it

        mime, content = encoded(self)
        text = content.decode() if mime == SVG else base64.b64encode(content).decode()
        about = {} if mime == SVG else {mime: {"width": round(self.get_figwidth() * PIXELS)}}
        display({mime: text, "text/plain": str(self)}, metadata=about, raw=True)


def encoded(figure: Figure) -> tuple[str, bytes]:
    """Give the media type of a figure and its content: SVG or, where that is smaller, PNG of two pixels for one.

    The figure is as wide as it was made, and as high as what is drawn on it.
    """
    svg = _compact(_saved(figure, "svg", {"Date": None, "Creator": None, "Format": None, "Type": None}))
    png = as_png(figure)
    return (SVG, svg) if 3 * len(svg) <= 4 * len(png) else (PNG, png)  # a PNG is stored to the base 64


def as_png(figure: Figure) -> bytes:
    """Give a figure as a PNG of two pixels for one, to be stored in a file."""
    return _saved(figure, "png", {"Software": None})


def as_html(figure: Figure, alt: str) -> str:
    """Give a figure as an element that has its content and its description within it."""
    mime, content = encoded(figure)
    width = round(figure.get_figwidth() * PIXELS)
    return f'<img alt="{alt}" width="{width}" src="data:{mime};base64,{base64.b64encode(content).decode()}">'


def _saved(figure: Figure, form: str, metadata: Any) -> bytes:
    buffer = io.BytesIO()
    with book_style():
        drawn = figure.get_tightbbox()
        box = Bbox.from_extents(0, drawn.y0 - 0.04, figure.get_figwidth(), drawn.y1 + 0.04)
        figure.savefig(buffer, format=form, dpi=2 * PIXELS, bbox_inches=box, metadata=metadata)
    return buffer.getvalue()


def _compact(svg: bytes) -> bytes:
    """Take what nobody sees off an SVG: comments, line ends, indents, and digits below a hundredth of a point."""
    text = _IMAGES.sub(lambda image: "".join(image[0].split()), _COMMENTS.sub("", svg.decode()))
    text = _OUTLINES.sub(lambda numbers: _LONG.sub(r"\1", numbers[0]), text)
    return " ".join(text.split()).replace("> <", "><").encode()
