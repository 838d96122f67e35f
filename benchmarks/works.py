"""What is compared with what, and the bars: the table that run.py works through.

Every function makes one `Task`: calls that are timed together and the pairs of them that are compared. "ours" is
`noisyseg`; bars are those that the project has set itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

import peers
from harness import Bar, Call, Pair, Row, Task, judged
from memory import FULL, make_label
from noisyseg import GaussianDeformation, dice_threshold, optimal_dice, optimal_labels
from noisyseg.optimal import regret
from reproduction.listings import listing_1, listing_2, listing_3
from steps import SIDE, training_step

B = 0.15 / np.sqrt(2)
STRENGTHS = (0.01, 0.02, 0.03)  # the paper's a
LABELS = ("ball", "large ball", "whole image")
MAPS = ("ball", "large ball", "noisy", "uniform")
SAMPLE_BAR = {64: 50.0, 128: 50.0, 256: 100.0}  # against Listing 2
BATCH = 8
CLASSES = 20  # of a label map, and the background


def make_map(side: int, name: str) -> NDArray[np.float32]:
    """Make a float32 map: exact marginals at a = .02, one as of a network with noise in every voxel, uniform noise."""
    rng = np.random.default_rng(0)
    if name == "uniform":
        return rng.random((side,) * 3, dtype=np.float32)
    m = GaussianDeformation(0.02).marginal(make_label(side, "ball" if name == "noisy" else name)).astype(np.float32)
    if name == "noisy":
        logit = 8 * (m - np.float32(0.4)) + rng.standard_normal(m.shape, dtype=np.float32)
        m = 1 / (1 + np.exp(-logit))
    return m


def peer(package: str, make: Callable[[], Any], **options: Any) -> Call:
    """Make the call of a package, or one that says that the package is not there."""
    note = peers.missing(package)
    return Call(None, note=note) if note else Call(make(), **options)


def sampling(side: int, whole: bool) -> Task:
    """One noisy label: all labels and strengths, against one label and strength of each peer (its cost is the same)."""
    rng = np.random.default_rng(0)
    calls: dict[str, Call] = {}
    for name in LABELS:
        label = make_label(side, name)
        for a in STRENGTHS:
            noise = GaussianDeformation(a)
            calls[f"{name}, a = {a}"] = Call(lambda noise=noise, label=label: noise.sample(label, rng))
    ours = list(calls)
    label, a = make_label(side, "ball"), 0.02
    others = {"Listing 2": Call(lambda: listing_2(label, a, rng), least=3)}
    others["MONAI"] = peer("MONAI", lambda: peers.monai(label, a, B))
    others["TorchIO"] = peer("TorchIO", lambda: peers.torchio(label, a, B))
    if peers.missing("GSTools"):
        others["GSTools"] = peer("GSTools", lambda: None)
    else:
        call, part = peers.gstools(label, a, B, whole or side <= 64)
        note = "" if part == 1 else f"measured on {part:g} of the image"
        others["GSTools"] = Call(call, per=part, note=note)
    bars: dict[str, Bar | None] = dict.fromkeys(others)
    if side in SAMPLE_BAR:
        bars = {name: Bar(">=", SAMPLE_BAR[side] if name == "Listing 2" else 20) for name in others}
    pairs = [Pair(name, name, other, bars[other]) for other in others for name in ours]
    return Task("sample", side, calls | others, pairs)


def short_correlation(side: int) -> Task:
    """One noisy label of a large ball with ever smaller b: the factors get wider, the filter of Listing 2 shorter."""
    rng = np.random.default_rng(0)
    label = make_label(side, "large ball")
    calls: dict[str, Call] = {}
    pairs = []
    for b in (B, 0.05, 0.02, 0.01, 0.005):
        noise = GaussianDeformation(0.02, b)
        name = f"b = {b:.3g}"
        calls[f"ours {name}"] = Call(lambda noise=noise: noise.sample(label, rng))
        calls[f"theirs {name}"] = Call(lambda b=b: listing_2(label, 0.02, rng, b))
        pairs.append(Pair(name, f"ours {name}", f"theirs {name}", name="Listing 2"))
    return Task("sample, small b", side, calls, pairs)


def batch(side: int) -> Task:
    """Many samples of one label against one at a time."""
    rng = np.random.default_rng(0)
    calls: dict[str, Call] = {}
    pairs = []
    for name in LABELS:
        label, noise = make_label(side, name), GaussianDeformation(0.02)
        calls[f"{name}, {BATCH}"] = Call(
            lambda label=label, noise=noise: noise.sample(label, rng, size=BATCH), per=BATCH, least=3
        )
        calls[f"{name}, 1"] = Call(lambda label=label, noise=noise: noise.sample(label, rng), least=3)
        pairs.append(
            Pair(name, f"{name}, {BATCH}", f"{name}, 1", Bar("<=", 1) if side in SAMPLE_BAR else None, "one at a time")
        )
    return Task(f"batch of {BATCH}", side, calls, pairs)


def marginal(side: int) -> Task:
    """The exact marginal against a sampled, truncated Gaussian filter of the same strength."""
    calls: dict[str, Call] = {}
    pairs = []
    bar = Bar(">=", 1) if side >= FULL else None
    for name in LABELS:
        label = make_label(side, name)
        for a in STRENGTHS:
            noise, case = GaussianDeformation(a), f"{name}, a = {a}"
            calls[f"ours, {case}"] = Call(lambda noise=noise, label=label: noise.marginal(label))
            calls[f"scipy, {case}"] = Call(
                lambda label=label, a=a: scipy.ndimage.gaussian_filter(
                    label, a * side, output=np.float64, mode="constant"
                )
            )
            pairs.append(Pair(case, f"ours, {case}", f"scipy, {case}", bar, "scipy gaussian_filter"))
    label = make_label(side, "ball")
    calls["Listing 1"] = Call(lambda: listing_1(label, 0.02))
    return Task("marginal", side, calls, [*pairs, Pair("ball, a = 0.02", "ours, ball, a = 0.02", "Listing 1")])


def against_sum(side: int, name: str) -> Task:
    """The threshold t of one map against one sum of it.

    Apart from the other peers: threads that they leave spinning would hold the core that our second thread needs.
    """
    m = make_map(side, name)
    calls = {"t": Call(lambda: dice_threshold(m)), "one p.sum()": Call(lambda: m.sum())}
    return Task("threshold", side, calls, [Pair(name, "t", "one p.sum()", Bar("<=", 6) if side >= FULL else None)])


def threshold(side: int, name: str) -> Task:
    """The threshold t of one map, against Listing 3 and rankseg; the mask against rankseg too."""
    m = make_map(side, name)
    double = m.astype(np.float64)
    calls = {
        "t": Call(lambda: dice_threshold(m)),
        "mask": Call(lambda: optimal_dice(m)),
        "Listing 3 (float64)": Call(lambda: listing_3(double)),
        "Listing 3 (float32)": Call(lambda: listing_3(m)),
    }
    full = side >= FULL
    pairs = [
        Pair(name, "t", "Listing 3 (float64)", Bar(">=", 10) if full else None),
        Pair(name, "t", "Listing 3 (float32)"),
    ]
    for solver, options in peers.SOLVERS.items():
        if options["solver"] != "RMA" and (name != "ball" or (side > 64 and options["solver"] != "BA")):
            continue  # slower by far, and far slower for wide maps

        def loss(mask: Any) -> str:
            return f"its mask loses {regret(mask.numpy(), m):.1e} of the Dice"

        calls[solver] = peer("rankseg", lambda solver=solver: peers.rankseg(m, solver), check=loss)
        bar = Bar(">=", 1) if full else None
        pairs += [Pair(name, "t", solver, bar), Pair(name, "mask", solver, bar, work="threshold and mask")]
    return Task("threshold", side, calls, pairs)


def make_classes(side: int, name: str) -> NDArray[np.float32]:
    """Make maps of a background, first, and 20 organs that touch, marginals at a = .02; or of uniform noise."""
    rng = np.random.default_rng(0)
    if name == "uniform":
        m = rng.standard_exponential((CLASSES + 1, *(side,) * 3), dtype=np.float32)
        return m / m.sum(axis=0)
    places = (np.arange(side) + 0.5) / side
    axes = np.meshgrid(places, places, places, indexing="ij", sparse=True)
    distances = [sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True)) for centre in rng.random((CLASSES, 3))]
    nearest = np.where(np.min(distances, axis=0) < 0.2**2, np.argmin(distances, axis=0), CLASSES)
    m = np.empty((CLASSES + 1, *nearest.shape), dtype=np.float32)
    for k in range(CLASSES):
        m[k + 1] = GaussianDeformation(0.02).marginal((nearest == k).astype(np.uint8))
    m[0] = (1 - m[1:].sum(axis=0)).clip(0, 1)
    return m


def label_map(side: int, name: str) -> Task:
    """One label map of 20 classes, against argmax, 20 masks at thresholds of their own, and rankseg."""
    m = make_classes(side, name)
    calls = {
        "labels": Call(lambda: optimal_labels(m)),
        "argmax": Call(lambda: m.argmax(axis=0)),
        "a threshold each": Call(lambda: [optimal_dice(x) for x in m[1:]]),
    }
    for solver in ("rankseg RMA", "rankseg RMA, screened"):
        calls[solver] = peer("rankseg", lambda solver=solver: peers.rankseg_labels(m, solver), least=3)
    bars = {"rankseg RMA": Bar(">=", 1)} if side >= 128 else {}
    pairs = [Pair(name, "labels", other, bars.get(other)) for other in list(calls)[1:]]
    return Task(f"label map of {CLASSES}", side, calls, pairs)


def exact_threshold(m: NDArray) -> np.longdouble:
    """Compute t by sorting, all sums in extended precision, in pieces."""
    falling = np.flip(np.sort(m, axis=None))
    pieces = [(start, falling[start : start + (1 << 20)].astype(np.longdouble)) for start in range(0, m.size, 1 << 20)]
    total = sum((piece.sum() for _, piece in pieces), np.longdouble(0))
    carried = best = np.longdouble(0)
    for start, piece in pieces:
        sums = carried + np.cumsum(piece)
        best = max(best, (sums / (np.arange(start + 1, start + piece.size + 1) + total)).max())
        carried = sums[-1]
    return best


def errors(side: int) -> Iterator[Row]:
    """The error of t against extended precision, for all maps in three precisions; Listing 3's beside it."""
    extended = np.finfo(np.longdouble).eps < 1e-18
    for name in MAPS:
        single = make_map(side, name)
        for dtype in ("float16", "float32", "float64"):
            m = single.astype(dtype)
            if dtype == "float64":
                m *= 1 - 2.0**-40  # values that float32 does not have
            exact = exact_threshold(m)
            found: dict[str, tuple[float, Bar | None]] = {"noisyseg": (dice_threshold(m), Bar("<=", 1e-12))}
            if dtype != "float16":  # its sums would overflow
                found["Listing 3"] = (listing_3(m), None)
            for who, (t, bar) in found.items():
                error = float(abs(np.longdouble(t) - exact))
                yield {
                    "work": "error of t",
                    "side": side,
                    "input": f"{name}, {dtype}",
                    "peer": who,
                    "t": f"{t:.15f}",
                    "quantity": "error",
                    "ratio": error,
                    **judged(bar, error),
                    "note": "" if extended else "extended precision is only that of float64 here",
                }


def training() -> Task:
    """An epoch of the ``hippocampus`` preset's network over four 32^3 cases, by case, with and without bfloat16.

    With one image at a time torch takes a slow path for convolutions in float32; with two it takes oneDNN.
    """
    from reproduction.config import Preset
    from reproduction.network.training import Trainer, reproducible

    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(4, 1, 32, 32, 32)).astype(np.float32))

    def step(precision: str, batch: int) -> Callable[[], Any]:
        config = Preset.load("hippocampus").run(a=0.02, loss="ce", fold=0, training_seed=1)
        config = type(config).from_dict({**config.to_dict(), "precision": precision, "batch_size": batch})
        trainer = Trainer(config, images, (images > 1).to(torch.uint8), torch.device("cpu"))

        def run() -> None:
            with reproducible(config.threads):
                trainer.run_epoch()

        return run

    calls: dict[str, Call] = {}
    pairs = []
    for batch, name in ((1, "four cases"), (2, "four cases, two at a time")):
        for precision in ("auto", "float32"):
            calls[f"{precision}, {batch}"] = Call(step(precision, batch), per=len(images))
        pairs.append(Pair(name, f"auto, {batch}", f"float32, {batch}", name="float32"))
    return Task("training step", 32, calls, pairs)


def on_device(side: int, device: str) -> Task:
    """The same functions on tensors of a device, against ours on NumPy arrays and against others on the device."""
    label, m, noise = make_label(side, "large ball"), make_map(side, "noisy"), GaussianDeformation(0.02)
    rng, generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
    on, p = torch.from_numpy(label).to(device), torch.from_numpy(m).to(device)

    def finished(run: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            result = run()
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize(device)
            return result

        return call

    def by_sorting() -> float:
        falling = p.flatten().sort(descending=True).values.double()
        k = torch.arange(1, falling.numel() + 1, device=p.device)
        return float((falling.cumsum(0) / (falling.sum() + k)).max())

    def loss(mask: Any) -> str:
        return f"its mask loses {regret(mask, p):.1e} of the Dice"

    calls = {
        "sample": Call(finished(lambda: noise.sample(on, generator))),
        "sample in NumPy": Call(lambda: noise.sample(label, rng)),
        "MONAI": peer("MONAI", lambda: finished(peers.monai(label, 0.02, B, device))),
        "marginal": Call(finished(lambda: noise.marginal(on))),
        "marginal in NumPy": Call(lambda: noise.marginal(label)),
        "t": Call(finished(lambda: dice_threshold(p))),
        "t in NumPy": Call(lambda: dice_threshold(m)),
        "one p.sum()": Call(finished(lambda: p.sum())),
        "sorting": Call(finished(by_sorting)),
        "rankseg": peer("rankseg", lambda: finished(peers.rankseg(p, "rankseg RMA, screened")), check=loss),
    }
    here = "ours on the processor"
    pairs = [
        Pair("large ball", "sample", "sample in NumPy", None, here, "sample"),
        Pair("large ball", "sample", "MONAI", None, "", "sample"),
        Pair("large ball", "marginal", "marginal in NumPy", None, here, "marginal"),
        Pair("noisy", "t", "t in NumPy", None, here, "threshold"),
        Pair("noisy", "t", "one p.sum()", None, "", "threshold"),
        Pair("noisy", "t", "sorting", None, "sorting on the device", "threshold"),
        Pair("noisy", "t", "rankseg", None, "rankseg RMA, screened", "threshold"),
    ]
    return Task("device", side, calls, pairs, device)


def tasks(
    sides: list[int], whole: bool = False, device: str | None = None, quick: bool = False
) -> Iterator[tuple[str, Callable[[], Task]]]:
    """Give everything that is timed, with the name that ``--only`` takes. Its inputs are made when it is called."""
    for side in sides:
        yield "sample", lambda side=side: sampling(side, whole)
    # The largest image would only repeat it, at eight times the price.
    yield "small-b", lambda: short_correlation(sides[-2:][0])
    for side in sides:
        yield "batch", lambda side=side: batch(side)
    for side in sides:
        yield "marginal", lambda side=side: marginal(side)
    for side in sides:
        for name in MAPS:
            yield "threshold", lambda side=side, name=name: against_sum(side, name)
            yield "threshold", lambda side=side, name=name: threshold(side, name)
    for side in [side for side in sides if side <= 128]:  # larger, the maps take gigabytes
        for name in ("organs", "uniform"):
            yield "labels", lambda side=side, name=name: label_map(side, name)
    if not quick:
        yield "training", training
    yield "step", lambda: training_step(32 if quick else SIDE)
    if device:
        for side in sides:
            yield "device", lambda side=side: on_device(side, device)
