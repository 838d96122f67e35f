"""Maps compared with their labels: are they probabilities, is the promise of t kept, and what should be done."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from itertools import zip_longest

import numpy as np

from noisyseg._core.arrays import Array, check_array
from noisyseg.calibration.fitting import LEVELS, LIMIT, fit_tallies, host, sigmoid, tally
from noisyseg.metrics import dice
from noisyseg.optimal import dice_threshold, optimal_dice

EDGES = np.array([0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
CENTRES = sigmoid((np.arange(LEVELS) + 0.5) * (2 * LIMIT / LEVELS) - LIMIT)
BINS = np.searchsorted(EDGES[1:-1], CENTRES, side="right")  # of every level
CERTAIN = 0.99
KEPT = 0.02  # a promise this close to the Dice that is achieved is kept
ENOUGH = 5  # images; standard errors of fewer say nothing


@dataclass(frozen=True)
class ImageCheck:
    """What is found on one image. Volumes are in voxels; a field that an empty label leaves without sense is NaN."""

    image: str
    voxels: int
    volume: int  # of the label
    soft_volume: float  # sum of the map
    bias: float  # soft volume over volume, minus 1
    error: float  # sum over the bins of |sum of map - label|, over the volume: 0 if calibrated within the image
    certain: float  # share of the soft volume in voxels of .99 and more
    t: float
    promised: float  # Dice at t by the map, 2 t
    dice_t: float
    dice_half: float
    dice_recalibrated: float  # at the t of the map after a beta calibration on the other half of the images


@dataclass(frozen=True)
class Report:
    """What `check` found: an `ImageCheck` for every image, and the bins of all together."""

    images: tuple[ImageCheck, ...]
    bins: np.ndarray  # (3, bins): voxels, sum of the maps, foreground

    @cached_property
    def _present(self) -> list[ImageCheck]:
        return [row for row in self.images if row.volume]

    def _mean(self, first: str, minus: str | None = None) -> tuple[float, float]:
        """Mean over the images that are not empty of a field, or of a difference, and twice its standard error."""
        x = np.array([getattr(r, first) - (getattr(r, minus) if minus else 0.0) for r in self._present])
        return float(x.mean()), 2 * float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.inf

    @cached_property
    def verdict(self) -> str:
        """``recalibrate``, ``use t`` or ``keep 1/2``; ``too few images`` below five labels that are not empty.

        Recalibrate, if t after recalibration beats both t and 1/2. Otherwise use t, if it does not lose to 1/2 and
        either the promise is kept or t beats 1/2. Otherwise keep 1/2. One mean Dice beats another if their mean
        difference over the images exceeds two standard errors; the promise is kept if it is within .02, or within two
        standard errors, of the mean Dice at t.
        """
        if len(self._present) < ENOUGH:
            return "too few images"
        gain, noise = self._mean("dice_t", "dice_half")
        gap, gap_noise = self._mean("promised", "dice_t")
        better = [self._mean("dice_recalibrated", other) for other in ("dice_t", "dice_half")]
        if all(mean > error for mean, error in better):
            return "recalibrate"
        kept = abs(gap) <= max(KEPT, gap_noise)
        return "use t" if gain >= -noise and (kept or gain > noise) else "keep 1/2"

    @property
    def sentence(self) -> str:
        """The verdict and its reason."""
        if self.verdict == "too few images":
            found = len(self._present)
            return f"Too few images for a verdict: expected {ENOUGH} labels or more that are not empty, got {found}."
        t, half, promised, new = (
            self._mean(name)[0] for name in ("dice_t", "dice_half", "promised", "dice_recalibrated")
        )
        at = f"the mean Dice is {t:.3f} at t and {half:.3f} at 1/2"
        return {
            "use t": f"Use t: {at}, and the maps promise {promised:.3f}.",
            "recalibrate": f"Recalibrate first: t after recalibration has a mean Dice of {new:.3f}; now {at}.",
            "keep 1/2": f"Keep 1/2: {at}, the maps promise {promised:.3f}, and recalibration gives {new:.3f}.",
        }[self.verdict]

    @property
    def warnings(self) -> list[str]:
        """What a mean over the images does not show."""
        empty = len(self.images) - len(self._present)
        return [
            f"{empty} of {len(self.images)} labels are empty. They are left out of the means: t never gives an empty "
            "mask, so each of them has Dice 0 at t. Decide first whether there is anything to find."
        ] * bool(empty)

    def csv(self) -> str:
        """Write a row for every image."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(field.name for field in fields(ImageCheck))
        table.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in astuple(row)] for row in self.images)
        return text.getvalue()

    def text(self) -> str:
        """Write the report that a person reads: means, the bins of all images together, and the verdict."""
        lines = [f"{len(self.images)} image{'s' * (len(self.images) != 1)}"]
        if self._present:
            lines += [f"{'':34}{'mean':>8}{'least':>8}{'most':>8}"]
            for name, words in WORDS.items():
                x = [asdict(row)[name] for row in self._present]
                if not np.isnan(x).all():  # too few images are not recalibrated
                    lines.append(f"{words:34}" + "".join(f"{v:8.3f}" for v in (np.mean(x), min(x), max(x))))
        lines += ["", f"{'values of the map':20}{'voxels':>12}{'mean':>8}{'foreground':>12}"]
        for low, high, (n, soft, truth) in zip(EDGES, EDGES[1:], self.bins.T, strict=False):
            if n:
                lines.append(f"{f'{low:g} to {high:g}':20}{int(n):12}{soft / n:8.3f}{truth / n:12.3f}")
        return "\n".join([*lines, "", *self.warnings, self.sentence]) + "\n"


WORDS = {
    "promised": "Dice that the map promises, 2 t",
    "dice_t": "Dice at t",
    "dice_half": "Dice at 1/2",
    "dice_recalibrated": "Dice at t, recalibrated",
    "t": "t",
    "bias": "bias of the soft volume",
    "error": "calibration error within the image",
    "certain": f"share of the soft volume >= {CERTAIN:g}",
}


def check(maps: Iterable[Array], labels: Iterable[Array], names: Iterable[str] | None = None) -> Report:
    r"""Compare probability maps with their labels: reliability, volume, promise and verdict.

    A map that is calibrated within its image, c = E[L | c] over the voxels, keeps its promise: the mask ``c >= t`` has
    the Dice 2 t, and no mask made from c has more. The report says how far the maps are from that, each and together,
    and in one sentence what to do: use t, recalibrate first, or keep 1/2 (`Report.verdict` has the rule). Take images
    that the network was not trained on. Book: ``thm-within``, ``prop-within-error``.

    Parameters
    ----------
    maps : iterable of arrays in [0, 1]
        They may be read one by one; none is kept.
    labels : iterable of arrays of 0 and 1
        In the same order.
    names : iterable of str, optional
        Of the images, for the report and for errors.

    Raises
    ------
    ValueError
        If a map is none, a label is none, their shapes or their numbers differ, or there is none; it names the image.

    Examples
    --------
    >>> c = np.array([0.75, 0.75, 0.75, 0.75, 0.0, 0.0])
    >>> report = check([c] * 6, [np.roll([1, 1, 1, 0], k).tolist() + [0, 0] for k in range(6)])
    >>> report.sentence
    'Use t: the mean Dice is 0.857 at t and 0.857 at 1/2, and the maps promise 0.857.'
    >>> report.images[0].error
    0.0
    """
    rows, tallies = [], []
    for k, triple in enumerate(zip_longest(maps, labels, *([] if names is None else [names]))):
        for what, x in zip(("maps", "labels", "names"), triple, strict=False):
            if x is None:
                raise ValueError(f"{what}: expected as many as of the others, got {k} {what} and more of the others")
        name = f"{k}" if names is None else str(triple[2])
        c, label = (host(check_array(f"{what} {name}", x)) for what, x in zip(("map", "label"), triple, strict=False))
        counts = tally(c, label, name)
        t = dice_threshold(c)
        voxels, soft, volume = counts.sum(axis=1).tolist()
        bins = np.stack([np.bincount(BINS, row, len(EDGES) - 1) for row in counts])
        rows.append(
            ImageCheck(
                image=name,
                voxels=int(voxels),
                volume=int(volume),
                soft_volume=soft,
                bias=soft / volume - 1 if volume else math.nan,
                error=float(np.abs(bins[1] - bins[2]).sum()) / volume if volume else math.nan,
                certain=float(counts[1, CENTRES >= CERTAIN].sum()) / soft if soft else math.nan,
                t=t,
                promised=2 * t,
                dice_t=dice(optimal_dice(c), label),
                dice_half=dice(c >= 0.5, label),
                dice_recalibrated=math.nan,
            )
        )
        tallies.append(counts)
    if not rows:
        raise ValueError("maps: expected at least one map with its label, got none")
    used = [k for k, row in enumerate(rows) if row.volume]
    if len(used) >= ENOUGH:
        for k, value in _cross_fitted([tallies[k] for k in used]):
            rows[used[k]] = ImageCheck(**{**asdict(rows[used[k]]), "dice_recalibrated": value})
    return Report(tuple(rows), np.stack([np.bincount(BINS, row, len(EDGES) - 1) for row in np.sum(tallies, axis=0)]))


def _cross_fitted(tallies: list[np.ndarray]) -> Iterable[tuple[int, float]]:
    """Give every image's Dice at the t of its recalibrated map; each half of them is fitted on the other half."""
    for half in (0, 1):
        calibration = fit_tallies(tallies[1 - half :: 2], "beta")
        for k in range(half, len(tallies), 2):
            count, soft, truth = tallies[k][:, ::-1]
            used = count > 0
            count, truth, c = count[used], truth[used], soft[used] / count[used]
            voxels, mass = np.cumsum(count), np.cumsum(calibration(c) * count)
            best = int(np.argmax(mass / (voxels + mass[-1])))
            yield k, float(2 * np.cumsum(truth)[best] / (voxels[best] + truth.sum()))
