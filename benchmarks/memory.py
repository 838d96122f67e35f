"""Peak extra memory of one call, in a process of its own.

    python benchmarks/memory.py '{"work": "sample", "who": "noisyseg", "side": 256, "input": "ball"}'

The input is made and the same call made on a small input, so that libraries and their threads are there. Then the
kernel's record of the largest resident size is reset (``/proc/self/clear_refs``), the call is made, and the record is
read (``VmHWM``): what it exceeds the resident size before the call by is the extra memory, results and everything that
libraries allocate included. Where the record cannot be reset, ``getrusage`` gives the largest size of the process so
far, and the note says so. For NumPy alone, ``tracemalloc`` counts a second call independently.
"""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import scipy.ndimage
from numpy.typing import NDArray

from harness import Bar, Row, judged

SMALL = 32
FULL = 256  # the side that the bars are for; in small images the pages that libraries touch first count for more
MIB = 1 << 20
A, B = 0.02, 0.15 / np.sqrt(2)
SAMPLERS = ("noisyseg", "Listing 2", "MONAI", "TorchIO")


def plan(sides: list[int], large: int) -> list[Row]:
    """List the cases: samples at the largest side, thresholds there and at side `large`, with their bars."""
    side = max(sides)
    cases: list[Row] = []
    for who in SAMPLERS:
        inputs = ("ball", "large ball", "whole image") if who == "noisyseg" else ("ball",)
        for name in inputs:
            cases.append({"work": "sample", "who": who, "side": side, "input": name})
    cases.append({"work": "marginal", "who": "noisyseg", "side": side, "input": "whole image"})
    cases.append({"work": "marginal", "who": "scipy gaussian_filter", "side": side, "input": "whole image"})
    for size, dtype in ((side, "float16"), (side, "float32"), (large, "float16"), (large, "float32")):
        for name in ("ball", "uniform"):
            case = {"work": "threshold", "who": "noisyseg", "side": size, "input": name, "dtype": dtype}
            cases.append(case)
    cases.append({"work": "threshold", "who": "Listing 3", "side": side, "input": "ball", "dtype": "float32"})
    cases.append(
        {"work": "threshold", "who": "rankseg RMA, screened", "side": side, "input": "ball", "dtype": "float32"}
    )
    return cases


def bar_of(case: Row) -> Bar | None:
    """Give the bar of a case: 3 labels in float32 for a sample, input and extra memory 1.5 inputs for a threshold."""
    if case["who"] != "noisyseg" or case["work"] == "marginal" or case["side"] < FULL:
        return None
    return Bar("<=", 3.0 if case["work"] == "sample" else 1.5)


def make_label(side: int, name: str) -> NDArray[np.uint8]:
    """Make a label: a ball, a large ball, or 1 everywhere. Slab by slab, so that little memory is needed."""
    label = np.ones((side,) * 3, dtype=np.uint8)
    if name != "whole image":
        radius = {"ball": 0.2, "large ball": 0.45}[name]
        square = ((np.arange(side) + 0.5) / side - 0.5) ** 2
        plane = square[:, None] + square
        for k in range(side):
            label[k] = plane + square[k] < radius**2
    return label


def make_map(side: int, name: str, dtype: str) -> NDArray:
    """Make a map of probabilities: uniform noise, or a smooth ball like the marginal of one. Slab by slab."""
    m = np.empty((side,) * 3, dtype=dtype)
    square = ((np.arange(side) + 0.5) / side - 0.5) ** 2
    plane = square[:, None] + square
    rng = np.random.default_rng(0)
    for k in range(side):
        if name == "uniform":
            m[k] = rng.random((side, side), dtype=np.float32)
        else:
            m[k] = 1 / (1 + np.exp((np.sqrt(plane + square[k]) - 0.2) / (A / 1.7)))
    return m


def make_call(case: Row) -> tuple[Callable[[], Any], int]:
    """Give the call of a case and the number of bytes that its extra memory is compared with."""
    import peers
    from noisyseg import GaussianDeformation, dice_threshold
    from reproduction.listings import listing_2, listing_3

    side, name, who = case["side"], case["input"], case["who"]
    if case["work"] == "threshold":
        m = make_map(side, name, case["dtype"])
        if who == "noisyseg":
            return lambda: dice_threshold(m), m.nbytes
        if who == "Listing 3":
            return lambda: listing_3(m), m.nbytes
        import peers

        return peers.rankseg(m, who), m.nbytes
    label = make_label(side, name)
    noise = GaussianDeformation(A)
    if case["work"] == "marginal":
        if who == "noisyseg":
            return lambda: noise.marginal(label), 4 * label.size
        return (
            lambda: scipy.ndimage.gaussian_filter(label, A * side, output=np.float64, mode="constant"),
            4 * label.size,
        )
    if who == "noisyseg":
        return lambda: noise.sample(label, 0), 4 * label.size
    if who == "Listing 2":
        return lambda: listing_2(label, A, 0), 4 * label.size
    import peers  # torch, which the others do without

    return {"MONAI": peers.monai, "TorchIO": peers.torchio}[who](label, A, B), 4 * label.size


def high_water() -> int:
    """Give the largest resident size since the last reset, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("no VmHWM in /proc/self/status")


def reset_high_water() -> str:
    """Reset the kernel's record if it can be, and give the name of the method to be used."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        if high_water() < psutil.Process().memory_info().rss + 4 * MIB:
            return "VmHWM"
    except OSError:
        pass
    return "getrusage"


def limit_memory() -> None:
    """Let this process ask for no more than four fifths of the memory that is free now.

    A peer that wants more (MONAI asks for 50 GB at 256^3 if torch has one thread) then fails with a message, where the
    kernel would otherwise choose a process to kill. Not where there is a GPU, whose memory is mapped into the process.
    """
    limit = psutil.Process().memory_info().vms + psutil.virtual_memory().available * 4 // 5
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def measure(case: Row) -> Row:
    """Measure one case in this process: bytes of extra memory, by which method, and of the reference."""
    small, _ = make_call({**case, "side": SMALL})
    small()
    call, reference = make_call(case)
    gc.collect()
    method = reset_high_water()
    before = psutil.Process().memory_info().rss
    result = call()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = high_water() if method == "VmHWM" else unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del result
    traced = None
    if case["who"] == "noisyseg":
        tracemalloc.start()
        result = call()
        traced = tracemalloc.get_traced_memory()[1]
        del result
    return {"extra": peak - before, "traced": traced, "reference": reference, "method": method}


def row_of(case: Row, found: Row) -> Row:
    """Turn a measurement, or the note of one that failed, into a row of the table."""
    row = {name: case.get(name) for name in ("work", "side", "input", "dtype")}
    row["peer"] = case["who"]
    bar = bar_of(case)
    threshold = case["work"] == "threshold"
    quantity = "(input + extra) / input" if threshold else "extra / label in float32"
    if "extra" not in found:
        empty = dict.fromkeys(("extra_mib", "traced_mib", "reference_mib"))
        judgement = judged(bar, float("inf"))
        return {**row, **empty, "quantity": quantity, "ratio": None, **judgement, "note": found["note"]}
    ratio = found["extra"] / found["reference"] + threshold
    return {
        **row,
        "extra_mib": found["extra"] / MIB,
        "traced_mib": None if found["traced"] is None else found["traced"] / MIB,
        "reference_mib": found["reference"] / MIB,
        "quantity": quantity,
        "ratio": ratio,
        **judged(bar, ratio),
        "note": found["method"],
    }


def in_process(case: Row, limit_s: float = 300) -> Row:
    """Measure one case in a fresh process."""
    command = [sys.executable, __file__, json.dumps(case)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return row_of(case, {"note": f"failed: more than {limit_s:g} s"})
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return row_of(case, {"note": f"failed: {said[-1][:200]}"})
    return row_of(case, json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    limit_memory()
    print(json.dumps(measure(json.loads(sys.argv[1]))))
