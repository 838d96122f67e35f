"""Memory of a run, room on simulated GPUs, slots: who gets which device, who waits, what a dead process gives back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from reproduction.config import Preset
from reproduction.network.unet import UNet
from reproduction.runs import gpus
from reproduction.runs.gpus import (
    PROCESS_MIB,
    Device,
    NoRoomError,
    devices,
    estimate_mib,
    make_slots,
    name_devices,
    take_slot,
)

WAIT_S = 120  # for a loaded machine; nothing here measures time


@pytest.fixture(autouse=True)
def nobody_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOISYSEG_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


# what a run takes


@pytest.mark.parametrize(("fine", "coarse", "batch"), [(16, 32, 8), (32, 256, 1)])  # much of images; much of weights
def test_estimate_by_hand(fine, coarse, batch):
    """Two levels on 16^3: every weight, and every tensor that autograd keeps, on paper."""
    config = tiny.small_config(dataset="phantoms", phantom_size=16, features=[fine, coarse], batch_size=batch)
    below, above = 8**3, 16**3  # voxels
    # A block of two convolutions keeps of each its input, the input of its normalisation, and the ReLU's output; the
    # first one's output is the second one's input. Inputs: the image; down's; the concatenated skip and up; the head's.
    floats = above * (1 + 4 * fine + 2 * fine + 4 * fine) + below * (coarse + 4 * coarse)
    blocks = 27 * (fine + fine**2 + 2 * coarse**2 + 2 * fine * fine + fine**2) + 2 * (4 * fine + 2 * coarse)
    weights = blocks + (8 * fine * coarse + coarse) + (8 * coarse * fine + fine) + fine + 1
    assert weights == sum(weight.numel() for weight in UNet((fine, coarse)).parameters())
    cases = 5 * config.phantom_cases * above  # image and label
    expected = PROCESS_MIB + (20 * weights + 2 * 4 * batch * floats + cases) / 2**20
    # Rounded up; and the statistics of the normalisations are a few numbers a channel.
    assert expected <= estimate_mib(config) <= expected + 2


def test_the_processor_also_holds_the_cases(monkeypatch):
    config = tiny.small_config(dataset="phantoms", phantom_size=32, phantom_cases=400)
    on_gpu = estimate_mib(config)
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    assert 49 <= estimate_mib(config) - on_gpu <= 51  # 400 * 32^3 * (9 - 5) bytes are 50 MiB


@pytest.mark.slow
def test_a_step_takes_no_more_than_estimated():
    """The memory that a training step of the paper's network really takes, measured in a process of its own."""
    code = r"""
import re, torch
from reproduction.network.unet import UNet
torch.set_num_threads(1)
network = UNet((16, 32, 64, 128, 256))
optimiser = torch.optim.Adam(network.parameters(), fused=True)
image = torch.randn(1, 1, 64, 64, 64)
# Not getrusage: its maximum is inherited from the process that started this one.
peak = lambda: int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]) // 1024
before = peak()
for _ in range(2):
    network(image).sum().backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    config = Preset.load("paper").run(organ="kidney", a=0.0, loss="ce", fold=0)

    cases = 5 * 400 * 64**3 / 2**20
    assert 250 < int(done.stdout) < estimate_mib(config) - PROCESS_MIB - cases + 200 < 1000


@given(st.sampled_from([(2, 4), (4, 8), (4, 8, 16)]), st.integers(1, 4), st.sampled_from([16, 32, 48]))
def test_more_of_anything_takes_more(features, batch, side):
    def estimate(**changes: object) -> int:
        values = {"features": list(features), "batch_size": batch, "phantom_size": side, **changes}
        return estimate_mib(tiny.small_config(dataset="phantoms", **values))

    here = estimate()
    assert here > PROCESS_MIB
    assert estimate(features=[8 * n for n in features]) > here
    assert estimate(batch_size=8 * batch) > here and estimate(phantom_size=4 * side) > here


def test_patch_sides():
    sides = {"paper": 64, "hippocampus": 32, "quick": 32, "phantoms": 32}
    assert {name: gpus.patch_side(Preset.load(name).runs()[0]) for name in sides} == sides


# what the devices have


@pytest.mark.parametrize(
    ("free", "wanted", "visible", "names"),
    [
        ([8000], "cuda", None, ["0"]),
        ([8000, 9000], "cuda", None, ["0", "1"]),
        ([8000, 9000], "cuda", "6,3", ["6", "3"]),
        ([8000, 9000], "cuda", "GPU-aa, GPU-bb", ["GPU-aa", "GPU-bb"]),
        ([8000], "cuda", "2,99,4", ["2"]),  # CUDA stops at the first number that it does not have
        ([8000, 9000], "cuda:1", None, ["1"]),
        ([8000, 9000], "cuda:1", "6,3", ["3"]),
    ],
)
def test_names_are_those_that_a_run_can_be_given(free, wanted, visible, names):
    found = name_devices(free, wanted, visible)
    assert [device.name for device in found] == names
    assert [device.free_mib for device in found] == (free[-1:] if ":" in wanted else free)


@pytest.mark.parametrize("wanted", ["cuda:2", "cuda:x", "cuda:-1", "mps"])
def test_a_device_that_is_not_there(wanted):
    with pytest.raises(NoRoomError, match=rf"^NOISYSEG_DEVICE is '{wanted}'; expected cpu, cuda, or cuda:0 to cuda:1$"):
        name_devices([1, 2], wanted)


def test_without_a_gpu_the_person_is_told_what_to_do():
    with pytest.raises(NoRoomError, match=r"torch finds no GPU here.*--profile local.*NOISYSEG_DEVICE=cpu"):
        name_devices([])


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks torch on a machine without a GPU")
def test_torch_is_asked():
    with pytest.raises(NoRoomError, match="torch finds no GPU here"):
        devices(os.environ)


def test_an_answer_that_is_an_error_is_passed_on(tmp_path):
    (tmp_path / "torch.py").write_text("raise RuntimeError('the driver is too old')")
    with pytest.raises(
        NoRoomError, match="torch cannot ask the GPUs for their memory: RuntimeError: the driver is too"
    ):
        devices({"PYTHONPATH": str(tmp_path)})


# room


def test_room_by_hand():
    assert make_slots([Device("0", 4000)], 1500) == ["0", "0"]
    assert make_slots([Device("0", 3000)], 1500) == ["0", "0"]  # a run may fill it to the last byte
    # 10 GiB free on both together are room for six runs of 1.6 GiB, but no run is cut in two.
    assert make_slots([Device("a", 5000), Device("b", 5000)], 1600) == ["a", "b", "a", "b", "a", "b"]
    assert make_slots([Device("a", 1000), Device("b", 3500)], 1600) == ["b", "b"]


def test_no_room():
    with pytest.raises(NoRoomError, match=r"takes 3000 MiB and fits nowhere: 0 has 2999 MiB free, 1 has 5 MiB free; "):
        make_slots([Device("0", 2999), Device("1", 5)], 3000)
    with pytest.raises(ValueError, match="need_mib is 0; expected at least 1"):
        make_slots([Device("0", 2999)], 0)


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=5), st.integers(1, 5000))
def test_no_gpu_gets_more_than_it_has_and_none_is_left_with_room(free, need):
    there = [Device(str(number), mib) for number, mib in enumerate(free)]
    if max(free) < need:
        with pytest.raises(NoRoomError):
            make_slots(there, need)
        return
    slots = make_slots(there, need)
    for device in there:
        assert slots.count(device.name) * need <= device.free_mib < (slots.count(device.name) + 1) * need
    # Fewer runs than slots are spread: no GPU has two before every GPU with room has one.
    first = slots[: sum(mib >= need for mib in free)]
    assert len(set(first)) == len(first)


# slots


def test_a_slot_shows_its_gpu_alone_and_gives_it_back(tmp_path, monkeypatch):
    with take_slot(["3", "5"], tmp_path) as first, take_slot(["3", "5"], tmp_path) as second:
        assert (first, second) == ("3", "5")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5" and os.environ["NOISYSEG_DEVICE"] == "cuda"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ and "NOISYSEG_DEVICE" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("NOISYSEG_DEVICE", "cuda:1")  # a number that is wrong once only one GPU is seen
    with take_slot(["5"], tmp_path):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5" and os.environ["NOISYSEG_DEVICE"] == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5" and os.environ["NOISYSEG_DEVICE"] == "cuda:1"
    with take_slot(["cpu"], tmp_path):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5" and os.environ["NOISYSEG_DEVICE"] == "cpu"


def test_without_slots_there_is_nothing_to_take(tmp_path):
    with take_slot([], tmp_path / "never") as name:
        assert name is None and not (tmp_path / "never").exists()


def test_an_error_gives_the_slot_back(tmp_path):
    with pytest.raises(ValueError, match="inside"), take_slot(["0"], tmp_path):
        raise ValueError("inside")
    with take_slot(["0"], tmp_path) as name:
        assert name == "0"


_HOLD = """
import sys, time
from pathlib import Path
from reproduction.runs.gpus import take_slot
slots, folder, me = sys.argv[1].split(","), Path(sys.argv[2]), sys.argv[3]
with take_slot(slots, folder / "locks") as name:
    (folder / f"{me}.in").write_text(name)
    while not (folder / f"{me}.out").exists():
        time.sleep(0.02)
"""


class Holder:
    """A process that takes a slot and holds it until it is let go."""

    def __init__(self, folder: Path, slots: str, me: str) -> None:
        self._in, self._out = folder / f"{me}.in", folder / f"{me}.out"
        self.process = subprocess.Popen([sys.executable, "-c", _HOLD, slots, str(folder), me])

    def has(self) -> str:
        return self._in.read_text() if self._in.is_file() else ""

    def wait(self) -> str:
        begun = time.monotonic()
        while not self.has():
            assert self.process.poll() is None and time.monotonic() - begun < WAIT_S
            time.sleep(0.02)
        return self.has()

    def let_go(self) -> None:
        self._out.touch()
        assert self.process.wait(WAIT_S) == 0


def test_processes_get_different_slots_wait_and_get_those_of_the_dead(tmp_path):
    holders = [Holder(tmp_path, "0,1", f"p{k}") for k in range(2)]
    try:
        assert sorted(holder.wait() for holder in holders) == ["0", "1"]
        holders.append(Holder(tmp_path, "0,1", "p2"))
        time.sleep(1.5)
        assert not holders[2].has()  # both are taken
        freed = holders[0].has()
        holders[0].process.kill()
        assert holders[2].wait() == freed
        holders.append(Holder(tmp_path, "0,1", "p3"))
        kept = holders[1].has()
        holders[1].let_go()
        assert holders[3].wait() == kept
    finally:
        for holder in holders:
            holder.process.kill()
            holder.process.wait()
