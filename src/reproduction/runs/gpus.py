"""Several runs on one GPU: what a run takes, what the GPUs have, and who gets which (book chapter *Reproduce*).

A **slot** is room for one run on one device. A run holds its slot by a file lock, which is free again when the process
ends, however that ends: a run that outlived its Snakemake keeps its share of the memory until then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import psutil

from reproduction.config import RunConfig
from reproduction.paths import is_locked, read_json, write_json

#: MiB of every run, whatever its network: CUDA context, libraries, workspaces of the convolutions.
PROCESS_MIB = 1024
CPU = "cpu"


class NoRoomError(RuntimeError):
    """There is no device, or none with room for a run; the message says what to do."""


@dataclass(frozen=True)
class Device:
    """A GPU as ``CUDA_VISIBLE_DEVICES`` names it, or ``cpu``, and the memory that is free there, in MiB."""

    name: str
    free_mib: int


def estimate_mib(config: RunConfig) -> int:
    """Estimated memory of a run on its device, in MiB; rather too much than too little.

    The sum of

    - ``PROCESS_MIB``: CUDA context, libraries, workspaces of the convolutions;
    - 20 bytes a weight: weight, gradient, Adam's two moments, the copy of the best epoch, in float32;
    - twice what the backward pass needs of the forward pass of one batch: the tensors that autograd keeps, counted in
      float32 on torch's ``meta`` device, which computes nothing, and as much again for gradients and intermediate
      results;
    - the cases: on a GPU 5 bytes a voxel (image in float32, label), on the processor, where the data set lies in the
      same memory, 9 (the image as read and normalised, the label).

    Examples
    --------
    >>> from reproduction.config import Preset
    >>> 1900 < estimate_mib(Preset.load("paper").run(organ="kidney", a=0.0, loss="ce", fold=0)) < 2300
    True
    """
    import torch

    from reproduction.network.unet import UNet

    side = patch_side(config)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no later tensor has its number
        return tensor

    with torch.device("meta"):
        network = UNet(config.features, fast=config.fast_layers)
        image = torch.zeros(config.batch_size, 1, side, side, side)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    forward = sum(storage.nbytes() for number, storage in kept.items() if number not in weights)
    total = 20 * sum(weight.numel() for weight in network.parameters()) + 2 * forward
    total += (9 if os.environ.get("NOISYSEG_DEVICE") == CPU else 5) * case_count(config) * side**3
    return PROCESS_MIB + -(-total // 2**20)


def patch_side(config: RunConfig) -> int:
    """Voxels a side of the patches that a run trains on.

    Examples
    --------
    >>> from reproduction.config import Preset
    >>> patch_side(Preset.load("smoke").run(loss="ce"))
    32
    """
    from reproduction.data.totalsegmentator import cutting
    from reproduction.data import hippocampus

    return {
        "totalsegmentator": cutting.CELLS,
        "hippocampus": hippocampus.SIDE // 2,
        "phantoms": config.phantom_size,
    }[config.dataset]


def case_count(config: RunConfig) -> int:
    """Cases an organ of the data set that a run trains on, once it is made.

    Examples
    --------
    >>> from reproduction.config import Preset
    >>> case_count(Preset.load("paper").run(organ="aorta", a=0.0, loss="ce", fold=0))
    400
    """
    from reproduction.data import hippocampus
    from reproduction.data.totalsegmentator import patches as totalsegmentator

    counts = {"totalsegmentator": totalsegmentator.CASES, "hippocampus": hippocampus.CASES}
    return counts.get(config.dataset, config.phantom_cases)


# torch counts GPUs as the runs will, and in a process that ends, so that its own share is free again.
_ASK = """
import json, torch
print(json.dumps([torch.cuda.mem_get_info(k)[0] // 2**20 for k in range(torch.cuda.device_count())]))
"""


def devices(environment: Mapping[str, str] = os.environ) -> list[Device]:
    """The devices that runs may share, with the memory that is free now.

    All GPUs that torch sees (``CUDA_VISIBLE_DEVICES`` limits them); the one that ``NOISYSEG_DEVICE=cuda:N`` names; with
    ``NOISYSEG_DEVICE=cpu`` the main memory, nine tenths of what is available.

    Raises
    ------
    NoRoomError
        If there is no such GPU.

    Examples
    --------
    >>> [device.name for device in devices({"NOISYSEG_DEVICE": "cpu"})]
    ['cpu']
    """
    wanted = environment.get("NOISYSEG_DEVICE", "cuda")
    if wanted == CPU:
        return [Device(CPU, int(0.9 * psutil.virtual_memory().available / 2**20))]
    answer = subprocess.run(
        [sys.executable, "-c", _ASK], env={**environment}, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NoRoomError(f"torch cannot ask the GPUs for their memory: {reason}")
    free = json.loads(answer.stdout.splitlines()[-1])
    return name_devices(free, wanted, environment.get("CUDA_VISIBLE_DEVICES"))


def name_devices(free_mib: Sequence[int], wanted: str = "cuda", visible: str | None = None) -> list[Device]:
    """GPUs in torch's order, named as ``CUDA_VISIBLE_DEVICES`` has to name them.

    Parameters
    ----------
    free_mib
        Free memory of every GPU that torch sees.
    wanted
        ``cuda``, or ``cuda:N`` for one of them.
    visible
        What ``CUDA_VISIBLE_DEVICES`` says now.

    Examples
    --------
    >>> name_devices([20000, 9000], visible="3,5")
    [Device(name='3', free_mib=20000), Device(name='5', free_mib=9000)]
    """
    if not free_mib:
        raise NoRoomError(
            "torch finds no GPU here, and the profile shares GPUs; --profile local trains on the processor "
            "(NOISYSEG_DEVICE=cpu with this profile: as many runs as the main memory holds)"
        )
    names = visible.split(",") if visible else [str(number) for number in range(len(free_mib))]
    found = [Device(name.strip(), free) for name, free in zip(names, free_mib, strict=False)]
    kind, _, number = wanted.partition(":")
    if kind != "cuda" or (number and not (number.isdecimal() and int(number) < len(found))):
        raise NoRoomError(f"NOISYSEG_DEVICE is {wanted!r}; expected cpu, cuda, or cuda:0 to cuda:{len(found) - 1}")
    return [found[int(number)]] if number else found


def make_slots(free: Sequence[Device], need_mib: int) -> list[str]:
    """One device name a slot; devices take turns, so that few runs are spread over all of them.

    Raises
    ------
    NoRoomError
        If not even one run fits.

    Examples
    --------
    >>> make_slots([Device("0", 5000), Device("1", 3500)], 1600)
    ['0', '1', '0', '1', '0']
    """
    if need_mib < 1:
        raise ValueError(f"need_mib is {need_mib}; expected at least 1")
    counts = [device.free_mib // need_mib for device in free]
    slots = [
        device.name
        for turn in range(max(counts, default=0))
        for device, count in zip(free, counts, strict=True)
        if turn < count
    ]
    if not slots:
        there = ", ".join(f"{device.name} has {device.free_mib} MiB free" for device in free)
        raise NoRoomError(
            f"a run takes {need_mib} MiB and fits nowhere: {there}; free some memory, "
            "or set gpu_mib of run in the profile's set-resources, if the estimate is too large"
        )
    return slots


def keep_slots(slots: Sequence[str], folder: str | os.PathLike[str]) -> None:
    """Write down which slots runs are started with, for :func:`kept_slots`."""
    write_json(Path(folder) / "slots.json", {"slots": list(slots)})


def kept_slots(folder: str | os.PathLike[str]) -> list[str]:
    """The slots of an earlier call while runs of it still hold some of them; empty where none is held.

    Runs may outlive the command that started them. Measured anew, their memory would be missing, and their locks would
    stand for other slots.
    """
    path = Path(folder) / "slots.json"
    slots = read_json(path)["slots"] if path.is_file() else []
    return slots if any(is_locked(Path(folder) / f"{number}.lock") for number in range(len(slots))) else []


@contextmanager
def take_slot(slots: Sequence[str], folder: str | os.PathLike[str]) -> Iterator[str | None]:
    """Hold one of the slots, and show its device alone to this process and its children; wait while all are taken.

    ``NOISYSEG_DEVICE`` and, on a GPU, ``CUDA_VISIBLE_DEVICES`` are set inside and as before afterwards.

    Parameters
    ----------
    slots
        Device names, see :func:`make_slots`; without any there is nothing to take.
    folder
        Where the locks lie.
    """
    if not slots:
        yield None
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    locks = [filelock.FileLock(Path(folder) / f"{number}.lock", timeout=0) for number in range(len(slots))]
    while True:
        for lock, name in zip(locks, slots, strict=True):
            try:
                lock.acquire()
            except filelock.Timeout:
                continue
            shown = {"NOISYSEG_DEVICE": CPU} if name == CPU else {"NOISYSEG_DEVICE": "cuda"}
            shown |= {} if name == CPU else {"CUDA_VISIBLE_DEVICES": name}
            before = {variable: os.environ.get(variable) for variable in shown}
            try:
                os.environ.update(shown)
                yield name
            finally:
                for variable, value in before.items():
                    if value is None:
                        os.environ.pop(variable, None)
                    else:
                        os.environ[variable] = value
                lock.release()
            return
        time.sleep(0.2)
