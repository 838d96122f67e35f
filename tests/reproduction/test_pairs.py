"""Tests of pairs: what a network is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from noisyseg import GaussianDeformation
from reproduction.data.cases import Case, CaseSet, write_case, write_manifest
from reproduction.network.pairs import load_test_cases, noisy_label, normalise, training_pairs, training_targets


def test_intensities_are_normalised_linearly():
    images = [np.full((2, 2, 2), value, np.float32) for value in (-100.0, 50.0, 3000.0)]
    stack = normalise(images, tiny.small_config(intensity_offset=50.0, intensity_scale=200.0))
    assert stack.shape == (3, 1, 2, 2, 2) and stack.dtype == torch.float32
    assert stack[:, 0, 0, 0, 0].tolist() == [-0.75, 0.0, 14.75]


def test_a_run_has_the_cases_of_its_folds(data):
    cases, config = CaseSet(data / "hippocampus"), tiny.small_config(intensity_offset=0.5, intensity_scale=2.0)
    train, test = (cases.load("hippocampus", ids) for ids in cases.split("hippocampus", 0))
    images, labels = training_pairs(config, cases)
    assert images.dtype == torch.float32 and labels.dtype == torch.uint8
    assert torch.equal(images, normalise([case.image for case in train], config))
    assert torch.equal(labels[:, 0], torch.from_numpy(np.stack([noisy_label(case, config) for case in train])))
    assert [case.id for case in load_test_cases(config, cases)] == [case.id for case in test]
    few = tiny.small_config(train_cases=3, test_cases=1)
    assert len(training_pairs(few, cases)[0]) == 3 and len(load_test_cases(few, cases)) == 1


def test_cases_of_several_shapes_are_refused(tmp_path):
    entries = {}
    for k in range(10):
        shape = (8, 8, 8) if k else (8, 8, 1)  # which torch would have stretched
        case = Case(f"case-{k}", np.zeros(shape, np.float32), np.zeros(shape, np.uint8), np.full(3, 2.0))
        write_case(tmp_path / "hippocampus" / f"{case.id}.npz", case)
        entries[case.id] = {"voxels": 0, "sha256": case.digest()}
    cases = write_manifest(tmp_path, "hippocampus", {"hippocampus": entries}, {}, {})
    fold = next(k for k in range(5) if "case-0" in cases.split("hippocampus", k)[0])
    with pytest.raises(ValueError, match=r"hippocampus case case-\d has shape \(8, 8, [18]\), the first case \(8, 8, "):
        training_pairs(tiny.small_config(fold=fold), cases)


def test_the_noisy_label_is_one_per_case(data):
    case = CaseSet(data / "hippocampus").load("hippocampus")[0]
    first = noisy_label(case, tiny.small_config())
    assert (first != case.label).any()
    # The same for the other loss and another fold; another one at another noise level.
    assert (noisy_label(case, tiny.small_config(loss="sd", fold=3)) == first).all()
    assert (noisy_label(case, tiny.small_config(a=0.03)) != first).any()


def test_what_a_network_learns(data):
    cases = CaseSet(data / "hippocampus")
    train = cases.load("hippocampus", cases.split("hippocampus", 0)[0])
    assert training_targets(tiny.small_config(a=0.02), cases) is None, "the one noisy label of the case"
    marginal = training_targets(tiny.small_config(a=0.02, targets="marginal"), cases)
    fresh = training_targets(tiny.small_config(a=0.02, targets="fresh"), cases)
    assert marginal is not None and fresh is not None
    noise = GaussianDeformation(0.02, tiny.small_config().b)
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    for k, case in enumerate(train):
        expected = noise.marginal(case.label).astype(np.float32)
        assert torch.equal(marginal(k, first), torch.from_numpy(expected)[None])
        draws = [fresh(k, first) for _ in range(2)]
        assert draws[0].dtype == torch.uint8 and not torch.equal(*draws), "another label every time"
        assert torch.equal(draws[0], fresh(k, second)) and torch.equal(draws[1], fresh(k, second))
