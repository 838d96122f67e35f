"""Several runs on one GPU: what a run takes, how many fit, and which run gets which device (book chapter *Reproduce*).

A **slot**, ``<device>-<number>``, is room for one run on one device. A run holds its slot by a file lock, which is free
again when the process ends, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import psutil

from reproduction.config import RunConfig
from reproduction.paths import is_locked

if TYPE_CHECKING:
    from torch import Tensor, nn

#: MiB of every run, whatever its network: CUDA context, libraries, workspaces of the convolutions.
PROCESS_MIB = 1024
CPU = "cpu"


class NoDeviceError(RuntimeError):
    """There is no device, or none on which a run fits; the message says what to do."""


def estimate_mib(config: RunConfig) -> int:
    """Estimated memory of a run on its device, in MiB; rather too much than too little.

    The sum of ``PROCESS_MIB``; 20 bytes a weight (weight, gradient, Adam's two moments, the copy of the best epoch);
    twice the tensors that autograd keeps of one batch, counted in float32 on torch's ``meta`` device, which computes
    nothing; and the cases, 5 bytes a voxel (9 in main memory, where the data set lies, too).

    Examples
    --------
    >>> from reproduction.config import Preset
    >>> 1900 < estimate_mib(Preset.load("paper").run(organ="kidney", a=0.0, loss="ce", fold=0)) < 2300
    True
    """
    import torch

    from reproduction.network.lunet import make_network

    cases, side = expected_patches(config)
    with torch.device("meta"):
        network = make_network(config)
        forward = kept_bytes(network, torch.zeros(config.batch_size, 1, side, side, side))
    total = 20 * sum(weight.numel() for weight in network.parameters()) + 2 * forward
    total += (9 if os.environ.get("NOISYSEG_DEVICE") == CPU else 5) * cases * side**3
    return PROCESS_MIB + -(-total // 2**20)


def kept_bytes(network: nn.Module, image: Tensor) -> int:
    """Bytes of the tensors that autograd keeps of one pass, without the weights.

    On torch's ``meta`` device nothing is computed: network and image of any size are counted at once.
    """
    import torch

    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no later tensor has its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    return sum(storage.nbytes() for number, storage in kept.items() if number not in weights)


def expected_patches(config: RunConfig) -> tuple[int, int]:
    """Cases an organ of the data set that a run trains on, and voxels a side of a case, once it is made."""
    from reproduction.data import hippocampus
    from reproduction.data.openkbp import patches as openkbp
    from reproduction.data.openkbp import sources
    from reproduction.data.totalsegmentator import cutting, patches

    known = {
        "totalsegmentator": (patches.CASES, cutting.CELLS),
        "hippocampus": (hippocampus.CASES, hippocampus.SIDE // 2),
        **dict.fromkeys(openkbp.SETS, (sources.PATIENTS, openkbp.CELLS)),
    }
    return known.get(config.dataset, (config.phantom_cases, config.phantom_size))


# torch counts GPUs as the runs will, and in a process that ends, so that its own share is free again.
_ASK = "import torch; print(*(torch.cuda.mem_get_info(k)[0] // 2**20 for k in range(torch.cuda.device_count())))"


def free_memory(environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Free memory, in MiB, of the devices that runs may share, by the name that ``CUDA_VISIBLE_DEVICES`` has for them.

    All GPUs that torch sees, or the one of ``NOISYSEG_DEVICE=cuda:N``; with ``NOISYSEG_DEVICE=cpu`` nine tenths of the
    available main memory, as ``cpu``.

    Raises
    ------
    NoDeviceError
        If there is no such GPU.
    """
    wanted = environment.get("NOISYSEG_DEVICE", "cuda")
    if wanted == CPU:
        return {CPU: int(0.9 * psutil.virtual_memory().available / 2**20)}
    command = [sys.executable, "-c", _ASK]
    answer = subprocess.run(command, env={**environment}, capture_output=True, text=True, check=False)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NoDeviceError(f"torch cannot ask the GPUs for their memory: {reason}")
    free = [int(mib) for mib in answer.stdout.split()]
    if not free:
        raise NoDeviceError(
            "torch finds no GPU here, and the profile shares GPUs; --profile local trains on the processor "
            "(NOISYSEG_DEVICE=cpu with this profile: as many runs as the main memory holds)"
        )
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else map(str, range(len(free)))
    found = {name.strip(): mib for name, mib in zip(names, free, strict=False)}
    allowed = {"cuda": found} | {f"cuda:{k}": {name: mib} for k, (name, mib) in enumerate(found.items())}
    if wanted not in allowed:
        raise NoDeviceError(f"NOISYSEG_DEVICE is {wanted!r}; expected one of cpu, {', '.join(allowed)}")
    return allowed[wanted]


def device_of(slot: str) -> str:
    """Device of a slot."""
    return slot.rpartition("-")[0]


def make_slots(free_mib: Mapping[str, int], need_mib: int, folder: Path) -> list[str]:
    """Slots for runs of ``need_mib`` MiB; devices take turns, so that few runs are spread over all of them.

    A slot that a run still holds, of a command that was killed, is one of them: its memory is not free.

    Raises
    ------
    NoDeviceError
        If not even one run fits.

    Examples
    --------
    >>> make_slots({"0": 5000, "1": 3500}, 1600, Path("no-such-folder"))
    ['0-0', '1-0', '0-1', '1-1', '0-2']
    """
    slots_of = []
    for name, mib in free_mib.items():
        locks = [path for path in folder.glob("*.lock") if device_of(path.stem) == name]
        held = sorted(path.stem for path in locks if is_locked(path))
        others = (slot for slot in (f"{name}-{k}" for k in count()) if slot not in held)
        slots_of.append([*held, *islice(others, mib // need_mib)])
    slots = [slot for turn in zip_longest(*slots_of) for slot in turn if slot]
    if not slots:
        listed = ", ".join(f"{name} has {mib} MiB free" for name, mib in free_mib.items())
        raise NoDeviceError(
            f"a run takes {need_mib} MiB and fits nowhere: {listed}; free some memory, "
            "or set gpu_mib of run in the profile's set-resources, if the estimate is too large"
        )
    return slots


@contextmanager
def take_slot(slots: Sequence[str], folder: Path) -> Iterator[None]:
    """Hold one of the slots, and let this process see its device alone; wait while all are taken.

    The variables stay set: a process does one run. Without any slots nothing happens.
    """
    if not slots:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    slot, lock = _wait_for_one(slots, folder)
    if device_of(slot) != CPU:
        os.environ.update(CUDA_VISIBLE_DEVICES=device_of(slot), NOISYSEG_DEVICE="cuda")
    try:
        yield
    finally:
        lock.release()


def _wait_for_one(slots: Sequence[str], folder: Path) -> tuple[str, filelock.BaseFileLock]:
    while True:
        for slot in slots:
            with suppress(filelock.Timeout):
                return slot, filelock.FileLock(folder / f"{slot}.lock", timeout=0).acquire().lock
        time.sleep(0.2)
