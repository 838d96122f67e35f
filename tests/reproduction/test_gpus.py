"""Memory of a run, memory of simulated GPUs, slots: who gets which, who waits, what a dead process gives back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from reproduction.config import Preset
from reproduction.network.unet import UNet
from reproduction.runs import gpus
from reproduction.runs.gpus import PROCESS_MIB, NoDeviceError, estimate_mib, free_memory, make_slots, take_slot

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


def test_expected_patches():
    patches = {"paper": (400, 64), "hippocampus": (260, 32), "quick": (100, 32), "phantoms": (100, 32)}
    assert {name: gpus.expected_patches(Preset.load(name).runs()[0]) for name in patches} == patches


# what the devices have


def pretend(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """Let torch see GPUs with that much free memory."""
    monkeypatch.setattr(gpus, "_ASK", f"print(*{free!r})")


@pytest.mark.parametrize(
    ("free", "wanted", "visible", "found"),
    [
        ([8000], None, None, {"0": 8000}),
        ([8000, 9000], "cuda", None, {"0": 8000, "1": 9000}),
        ([8000, 9000], "cuda", "6,3", {"6": 8000, "3": 9000}),
        ([8000, 9000], None, "GPU-aa, GPU-bb", {"GPU-aa": 8000, "GPU-bb": 9000}),
        ([8000], None, "2,99,4", {"2": 8000}),  # CUDA stops at the first number that it does not have
        ([8000, 9000], "cuda:1", None, {"1": 9000}),
        ([8000, 9000], "cuda:1", "6,3", {"3": 9000}),
    ],
)
def test_names_are_those_that_a_run_can_be_given(free, wanted, visible, found, monkeypatch):
    pretend(monkeypatch, *free)
    values = {"NOISYSEG_DEVICE": wanted, "CUDA_VISIBLE_DEVICES": visible}
    assert free_memory({name: value for name, value in values.items() if value}) == found


@pytest.mark.parametrize("wanted", ["cuda:2", "cuda:x", "cuda:-1", "mps"])
def test_a_device_that_is_not_there(wanted, monkeypatch):
    pretend(monkeypatch, 1, 2)
    message = rf"^NOISYSEG_DEVICE is '{wanted}'; expected one of cpu, cuda, cuda:0, cuda:1$"
    with pytest.raises(NoDeviceError, match=message):
        free_memory({"NOISYSEG_DEVICE": wanted})


def test_without_a_gpu_the_message_says_what_to_do(monkeypatch):
    pretend(monkeypatch)
    with pytest.raises(NoDeviceError, match=r"torch finds no GPU here.*--profile local.*NOISYSEG_DEVICE=cpu"):
        free_memory({})


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks torch on a machine without a GPU")
def test_torch_is_asked():
    with pytest.raises(NoDeviceError, match="torch finds no GPU here"):
        free_memory(os.environ)


def test_an_answer_that_is_an_error_is_passed_on(tmp_path):
    (tmp_path / "torch.py").write_text("raise RuntimeError('the driver is too old')")
    with pytest.raises(NoDeviceError, match="torch cannot ask the GPUs for their memory: RuntimeError: the driver is"):
        free_memory({"PYTHONPATH": str(tmp_path)})


# slots


def test_slots_by_hand(tmp_path):
    assert make_slots({"0": 4000}, 1500, tmp_path) == ["0-0", "0-1"]
    assert make_slots({"0": 3000}, 1500, tmp_path) == ["0-0", "0-1"]  # runs may fill it to the last byte
    # 10 GiB free on both together hold six runs of 1.6 GiB, but no run is cut in two.
    assert make_slots({"a": 5000, "b": 5000}, 1600, tmp_path) == ["a-0", "b-0", "a-1", "b-1", "a-2", "b-2"]
    assert make_slots({"a": 1000, "b": 3500}, 1600, tmp_path) == ["b-0", "b-1"]


def test_a_run_that_fits_nowhere(tmp_path):
    message = r"takes 3000 MiB and fits nowhere: 0 has 2999 MiB free, 1 has 5 MiB free; free some"
    with pytest.raises(NoDeviceError, match=message):
        make_slots({"0": 2999, "1": 5}, 3000, tmp_path)


def test_a_slot_that_is_still_held_is_one_of_them(tmp_path):
    """The memory of a run that outlived its command is not free, and is counted with its slot."""
    slots = make_slots({"0": 5000, "1": 3500}, 1600, tmp_path)
    assert slots == ["0-0", "1-0", "0-1", "1-1", "0-2"]
    (tmp_path / "0-0.lock").touch()  # of one that has ended
    with filelock.FileLock(tmp_path / "0-2.lock"), filelock.FileLock(tmp_path / "1-1.lock"):
        assert make_slots({"0": 3400, "1": 1900}, 1600, tmp_path) == ["0-2", "1-1", "0-0", "1-0", "0-1"]
        assert make_slots({"0": 200, "1": 200}, 1600, tmp_path) == ["0-2", "1-1"]
    with pytest.raises(NoDeviceError):
        make_slots({"0": 200, "1": 200}, 1600, tmp_path)


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=5), st.integers(1, 5000))
def test_no_gpu_gets_more_than_it_has_and_none_is_left_with_space_for_a_run(free, need):
    devices, folder = {str(number): mib for number, mib in enumerate(free)}, Path("no-such-folder")
    if max(free) < need:
        with pytest.raises(NoDeviceError):
            make_slots(devices, need, folder)
        return
    slots = make_slots(devices, need, folder)
    assert len(set(slots)) == len(slots)
    names = [slot.split("-")[0] for slot in slots]
    for name, mib in devices.items():
        assert names.count(name) * need <= mib < (names.count(name) + 1) * need
    # Fewer runs than slots are spread: no GPU has two before every GPU that holds one has one.
    first = names[: sum(mib >= need for mib in free)]
    assert len(set(first)) == len(first)


def test_a_slot_shows_its_gpu_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a-b")
    monkeypatch.setenv("NOISYSEG_DEVICE", "cuda:1")  # a number that is wrong once only one GPU is seen
    slots = ["3-0", "GPU-a-b-0"]
    with take_slot(slots, tmp_path):
        assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["NOISYSEG_DEVICE"]) == ("3", "cuda")
        with take_slot(slots, tmp_path):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a-b"
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    with take_slot(["cpu-0"], tmp_path):
        assert os.environ["NOISYSEG_DEVICE"] == "cpu"


def test_without_slots_there_is_nothing_to_take(tmp_path):
    with take_slot([], tmp_path / "never"):
        assert not (tmp_path / "never").exists()


def test_an_error_gives_the_slot_back(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISYSEG_DEVICE", "cpu")
    with pytest.raises(ValueError, match="inside"), take_slot(["cpu-0"], tmp_path):
        raise ValueError("inside")
    with take_slot(["cpu-0"], tmp_path):
        pass


_HOLD = """
import os, sys, time
from pathlib import Path
from reproduction.runs.gpus import take_slot
slots, folder, me = sys.argv[1].split(","), Path(sys.argv[2]), sys.argv[3]
with take_slot(slots, folder / "locks"):
    (folder / f"{me}.in").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
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
    holders = [Holder(tmp_path, "0-0,1-0", f"p{k}") for k in range(2)]
    try:
        assert sorted(holder.wait() for holder in holders) == ["0", "1"]
        holders.append(Holder(tmp_path, "0-0,1-0", "p2"))
        time.sleep(1.5)
        assert not holders[2].has()  # both are taken
        freed = holders[0].has()
        holders[0].process.kill()
        assert holders[2].wait() == freed
        holders.append(Holder(tmp_path, "0-0,1-0", "p3"))
        kept = holders[1].has()
        holders[1].let_go()
        assert holders[3].wait() == kept
    finally:
        for holder in holders:
            holder.process.kill()
            holder.process.wait()
