"""Transforms of MONAI and TorchIO, with the real libraries."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import needs_torch, torch

from conftest import lacking
from noisyseg import GaussianDeformation, dice_threshold, optimal_dice, optimal_tversky

pytestmark = needs_torch
M = np.random.default_rng(0).random((2, 6, 5, 4)).astype(np.float32) ** 3  # two channels


def library(name: str) -> Any:
    """Import a library that the project's own environment has; the one of the wheel's test has no torch either."""
    try:
        return importlib.import_module(name)
    except ImportError:
        lacking(f"{name} is not installed")


def masks(m: np.ndarray = M) -> np.ndarray:
    return np.stack([optimal_dice(channel) for channel in m])


# ---- MONAI ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def monai() -> Any:
    library("monai.transforms")
    import noisyseg.integrations.monai as module

    return module


def test_every_channel_has_its_own_threshold(monai: Any) -> None:
    assert dice_threshold(M[0]) != dice_threshold(M[1])
    found = monai.DiceThreshold()(torch.from_numpy(M))
    assert found.dtype == torch.float and np.array_equal(found.numpy(), masks())
    array = monai.DiceThreshold(dtype=np.uint8)(M)
    assert type(array) is np.ndarray and array.dtype == np.uint8 and np.array_equal(array, masks())


def test_a_batch_is_many_images(monai: Any) -> None:
    batch = torch.from_numpy(np.stack([M, M / 2, M**2]))
    found = monai.DiceThreshold(batch=True)(batch)
    assert np.array_equal(found.numpy(), np.stack([masks(M), masks(M / 2), masks(M**2)]))
    with pytest.raises(ValueError, match=r"expected \(batch, channel, spatial axes\), got shape \(2, 3\)"):
        monai.DiceThreshold(batch=True)(torch.zeros(2, 3))


def test_other_scores_and_what_is_refused(monai: Any) -> None:
    found = monai.DiceThreshold("tversky", alpha=0.2, beta=0.9)(torch.from_numpy(M))
    assert np.array_equal(found.numpy(), optimal_tversky(M, 0.2, 0.9, axis=(1, 2, 3)))
    with pytest.raises(ValueError, match="beta: the score f_beta needs it"):
        monai.DiceThreshold("f_beta")
    with pytest.raises(ValueError, match="look like logits: apply a sigmoid"):
        monai.DiceThreshold()(torch.from_numpy(10 * M - 5))


def test_after_activations_in_a_pipeline_the_metadata_stay(monai: Any) -> None:
    from monai.data import MetaTensor, decollate_batch
    from monai.transforms import Activationsd, Compose

    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    logits = torch.logit(torch.from_numpy(M).double().clip(1e-6, 1 - 1e-6))
    image = MetaTensor(logits, affine=affine, meta={"filename_or_obj": "case.nii.gz"})
    pipeline = Compose([Activationsd("pred", sigmoid=True), monai.DiceThresholdd("pred")])
    found = pipeline({"pred": image, "label": 1})
    assert isinstance(found["pred"], MetaTensor) and found["label"] == 1
    assert np.array_equal(found["pred"].numpy(), masks()) and torch.equal(found["pred"].affine, affine.double())
    assert found["pred"].meta["filename_or_obj"] == "case.nii.gz"
    (item,) = decollate_batch({"pred": image[None]})
    assert np.array_equal(pipeline(item)["pred"].numpy(), masks())
    with pytest.raises(KeyError, match="pred"):
        monai.DiceThresholdd("pred")({"other": image})
    assert monai.DiceThresholdd(["pred", "more"], allow_missing_keys=True)({"pred": M})["pred"].shape == M.shape


def test_tensors_stay_on_their_device(monai: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code for accelerators, run on tensors in main memory, which nobody may fetch."""
    monkeypatch.setattr("noisyseg._core.images.host_view", lambda x: x.detach())

    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("a tensor was fetched")

    batch = torch.from_numpy(M)[None]
    for name in ("cpu", "numpy", "__array__"):
        monkeypatch.setattr(torch.Tensor, name, fetched)
    found = monai.DiceThreshold(batch=True)(batch)
    monkeypatch.undo()
    assert np.array_equal(found[0].numpy(), masks())


# ---- TorchIO --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tio() -> Any:
    return library("torchio")


@pytest.fixture
def transforms(tio: Any) -> Any:
    import noisyseg.integrations.torchio as module

    return module


@pytest.fixture
def subject(tio: Any) -> Any:
    label = torch.zeros(1, 20, 16, 12, dtype=torch.uint8)
    label[0, 5:15, 4:12, 3:9], label[0, 8:12, 6:10, 4:8] = 2, 7
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    image = tio.ScalarImage(tensor=torch.rand(1, 20, 16, 12), affine=affine)
    return tio.Subject(image=image, label=tio.LabelMap(tensor=label, affine=affine))


def test_label_noise_is_that_of_the_library(tio: Any, transforms: Any, subject: Any) -> None:
    torch.manual_seed(0)
    noisy = transforms.RandomLabelNoise(a=0.05)(subject)
    assert torch.equal(noisy.image.data, subject.image.data), "the image is left alone"
    assert not torch.equal(noisy.label.data, subject.label.data) and noisy.label.data.dtype == torch.uint8
    (step,) = noisy.history
    before = subject.label.data[0].numpy()
    sample = GaussianDeformation(0.05).sample(before > 0, rng=step.seed["label"])
    assert np.array_equal(noisy.label.data[0].numpy() > 0, sample)
    inner = GaussianDeformation(0.05).sample(before == 7, rng=step.seed["label"])
    assert np.array_equal(noisy.label.data[0].numpy() == 7, inner), "both numbers move with the same field"
    assert torch.equal(noisy.get_composed_history()(subject).label.data, noisy.label.data)
    assert set(noisy.label.data.unique().tolist()) == {0, 2, 7}


def test_label_noise_in_millimetres_and_seeds(tio: Any, transforms: Any, subject: Any) -> None:
    torch.manual_seed(1)
    first = transforms.RandomLabelNoise(a=2.0, b=8.0, in_mm=True)(subject)
    torch.manual_seed(1)
    again = transforms.RandomLabelNoise(a=2.0, b=8.0, in_mm=True)(subject)
    other = transforms.RandomLabelNoise(a=2.0, b=8.0, in_mm=True)(subject)
    assert torch.equal(first.label.data, again.label.data) and not torch.equal(first.label.data, other.label.data)
    noise = GaussianDeformation.in_mm(2.0, 8.0, (1.5, 2.0, 3.0), (20, 16, 12))
    sample = noise.sample(subject.label.data[0].numpy() > 0, rng=first.history[0].seed["label"])
    assert np.array_equal(first.label.data[0].numpy() > 0, sample)
    unmoved = transforms.RandomLabelNoise(a=0)(subject)
    assert torch.equal(unmoved.label.data, subject.label.data)
    with pytest.raises(ValueError, match="a: expected finite non-negative numbers"):
        transforms.RandomLabelNoise(a=-1)


def test_masks_of_torchio(tio: Any, transforms: Any) -> None:
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    image = tio.ScalarImage(tensor=torch.rand(1, 6, 5, 4))
    subject = tio.Subject(image=image, map=tio.ScalarImage(tensor=torch.from_numpy(M), affine=affine))
    found = transforms.DiceThreshold(include=["map"])(subject)
    assert isinstance(found.map, tio.LabelMap) and np.array_equal(found["map"].data.numpy(), masks())
    assert np.array_equal(found["map"].affine, affine) and torch.equal(found.image.data, image.data)
    (step,) = found.history
    assert (step.metric, step.beta) == ("dice", None)
    assert np.array_equal(transforms.DiceThreshold("jaccard")(torch.from_numpy(M)).numpy(), masks())
    with pytest.raises(ValueError, match="alpha: the score dice does not have it"):
        transforms.DiceThreshold(alpha=1)


def test_nothing_is_imported_that_is_not_used() -> None:
    code = "import sys, noisyseg.cli, noisyseg.integrations; print({'monai', 'torchio', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_pipelines_of_the_page_run(monai: Any, tio: Any) -> None:
    page = Path(__file__).resolve().parents[2] / "book" / "files.md"
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    assert np.array_equal(names["post"]({"pred": torch.logit(torch.from_numpy(M).clip(1e-6))})["pred"].numpy(), masks())
    label = tio.LabelMap(tensor=torch.ones(1, 6, 5, 4, dtype=torch.uint8))
    subject = names["augment"](tio.Subject(label=label, map=tio.ScalarImage(tensor=torch.from_numpy(M))))
    assert np.array_equal(names["threshold"](subject)["map"].data.numpy(), masks())
