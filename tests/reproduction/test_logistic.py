"""Tests of reproduction.chapters.logistic: gradients, minima, and the volume that the last bias balances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from noisyseg import soft_dice
from reproduction.chapters.logistic import features, fit, loss_and_gradient, train_on_phantoms
from reproduction.network.losses import cross_entropy_loss, soft_dice_loss


def cases(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 60, 4))
    x[:, :, 0] = 1
    labels = (rng.random((5, 60)) < expit(x @ [-2.0, 1.0, -0.5, 0.0])).astype(float)
    labels[:, 0] = 1
    return x, labels


@pytest.mark.parametrize("loss", ["ce", "sd"])
def test_losses_and_gradients_are_those_of_the_networks(loss):
    x, labels = cases()
    weights = np.array([-1.0, 0.3, 0.2, -0.4])
    value, slope = loss_and_gradient(weights, x, labels, loss)
    w = torch.tensor(weights, requires_grad=True)
    function = {"ce": cross_entropy_loss, "sd": soft_dice_loss}[loss]
    found = function(torch.tensor(x) @ w, torch.tensor(labels))
    found.backward()
    assert value == pytest.approx(float(found.detach()), rel=1e-12)
    assert w.grad is not None and slope == pytest.approx(w.grad.numpy(), rel=1e-9)


@pytest.mark.statement("prop-ce-balance")
def test_the_last_bias_balances_the_volume_of_cross_entropy():
    x, labels = cases(1)
    c = expit(x @ fit(x, labels, "ce"))
    assert c.sum() == pytest.approx(labels.sum(), rel=1e-6)
    weights = np.array([-1.0, 0.3, 0.2, -0.4])
    _, slope = loss_and_gradient(weights, x, labels, "ce")
    assert slope[0] == pytest.approx(expit(x @ weights).mean() - labels.mean(), abs=1e-15)


@pytest.mark.statement("prop-ce-balance")
def test_the_last_bias_of_soft_dice_balances_something_else():
    x, labels = cases(1)
    weights = fit(x, labels, "ce")
    c = expit(x @ weights)
    tau = np.array([(1 - soft_dice(p, label)) / 2 for p, label in zip(c, labels, strict=True)])[:, None]
    weight = 1 / (c.sum(axis=1) + labels.sum(axis=1))[:, None]
    terms = weight * (labels - tau) * c * (1 - c)
    _, slope = loss_and_gradient(weights, x, labels, "sd")
    assert slope[0] == pytest.approx(-2 / len(x) * terms.sum(), rel=1e-12)
    assert slope[0] < -0.01, "where the volume is right, soft-Dice wants more of it"


def test_fits_are_minima():
    x, labels = cases(2)
    weights = fit(x, labels, "ce")
    least = loss_and_gradient(weights, x, labels, "ce")[0]
    for k in range(4):
        for step in (-0.05, 0.05):
            assert loss_and_gradient(weights + step * np.eye(4)[k], x, labels, "ce")[0] > least
    better = fit(x, labels, "sd", start=weights)
    assert loss_and_gradient(better, x, labels, "sd")[0] < loss_and_gradient(weights, x, labels, "sd")[0]
    c = expit(x @ better)
    assert np.minimum(c, 1 - c).max() < 1e-3, "soft-Dice drives the outputs to 0 and 1"
    with pytest.raises(ValueError, match="expected loss ce or sd"):
        fit(x, labels, "dice")
    with pytest.raises(ValueError, match="labels"):
        fit(x, labels[:, 1:], "ce")


def test_features_know_the_place_and_not_the_scale():
    image = np.random.default_rng(0).normal(size=(4, 5, 6))
    x = features(image)
    assert x.shape == (120, 13) and (x[:, 0] == 1).all()
    assert x[:, 1:4].min() == -1 and x[:, 1:4].max() == 1
    assert features(100 * image - 7) == pytest.approx(x)


def test_training_on_phantoms_uses_the_first_half_and_balances_its_volume():
    ce, sd, labels, marginals = train_on_phantoms("kidney", 0.02, cases=4)
    assert ce.shape == sd.shape == labels.shape == marginals.shape == (4, 24**3)
    assert ce[:2].sum() == pytest.approx(labels[:2].sum(), rel=1e-4)
    assert abs(ce[2:].sum() / labels[2:].sum() - 1) > 1e-3, "the other half is new"
    again = train_on_phantoms("kidney", 0.02, cases=4)
    assert (again[0] == ce).all() and (again[2] == labels).all()
