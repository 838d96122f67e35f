"""Removal of channels: what is chosen, that the smaller network is the masked one, and resume to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reproduction.config import Preset, RunConfig
from reproduction.models import CRITERIA
from reproduction.network.lunet import LUNet, layer_widths
from reproduction.network.pruning import Pruner, choose, lowest, normalise_layers, remove
from reproduction.network.training import Trainer, reproducible

CPU = torch.device("cpu")
PLAN: dict[str, Any] = {
    **Preset.load("smoke").run(loss="sd").to_dict(),
    **{"features": [2, 4, 8], "model": "doubling3-l2", "epochs": 5, "batch_size": 2, "precision": "float32"},
    **{"select": "last", "prune_from": 1, "prune_to": 4, "prune_channels": 3},
}


def config(**changes: object) -> RunConfig:
    return RunConfig.from_dict({**PLAN, **changes})


def pairs(n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    labels = np.zeros((n, 1, 12, 12, 12), np.uint8)
    labels[:, :, 3:9, 3:9, 2:10] = 1
    images = (labels + 0.3 * rng.normal(size=labels.shape)).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(labels)


def masked(network: LUNet, gone: list[tuple[str, int]], image: torch.Tensor) -> torch.Tensor:
    """Output of the whole network with the outputs of some channels, after normalisation, set to 0."""

    def silence(channel: int) -> Any:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return output * (torch.arange(output.shape[1]) != channel)[:, None, None, None]

        return hook

    hooks = [network.layers[layer][2].register_forward_hook(silence(channel)) for layer, channel in gone]
    out = network(image)
    for hook in hooks:
        hook.remove()
    return out


def lively(widths: list[int], convolutions: int = 2) -> LUNet:
    """A network in double precision whose normalisations shift and scale, in training and in evaluation."""
    torch.manual_seed(1)
    network = LUNet(widths, convolutions).double()
    for layer in network.layers.values():
        norm = layer[2]
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            value.data.uniform_(0.5, 1.5)
        if isinstance(layer[3], nn.Dropout3d):
            layer[3].p = 0.0  # its random numbers depend on the number of channels
    return network


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layer", list(layer_widths([3, 4, 5], 2)))
def test_a_smaller_network_computes_what_the_masked_one_does(layer, training):
    image = torch.randn(2, 1, 8, 8, 12, dtype=torch.float64)
    for channel in range(LUNet([3, 4, 5]).channels[layer]):
        network = lively([3, 4, 5]).train(training)
        expected, before = masked(network, [(layer, channel)], image), network(image)
        size = sum(weight.numel() for weight in network.parameters())
        remove(network, layer, channel)
        torch.testing.assert_close(network(image), expected, rtol=1e-11, atol=1e-11)
        assert not torch.allclose(before, expected, rtol=1e-6), "the channel did something"
        assert sum(weight.numel() for weight in network.parameters()) < size


def test_many_removals_are_one_mask():
    """Down to one channel in every layer; the numbers of what is left are those of the network so far."""
    rng = np.random.default_rng(0)
    network, whole = (lively([3, 4, 5], 3).eval() for _ in range(2))
    left = {layer: list(range(count)) for layer, count in network.channels.items()}
    gone, image = [], torch.randn(1, 1, 8, 8, 8, dtype=torch.float64)
    while any(count > 1 for count in network.channels.values()):
        layer, channel = choose("random_at_random", {}, network.channels, rng)
        gone.append((layer, left[layer].pop(channel)))
        remove(network, layer, channel)
        assert network.channels == {layer: len(numbers) for layer, numbers in left.items()}
        torch.testing.assert_close(network(image), masked(whole, gone, image), rtol=1e-11, atol=1e-11)
    assert len(gone) == sum(whole.channels.values()) - len(whole.channels)
    built = LUNet([3, 4, 5], 3, network.channels)
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (network, built)]
    assert shapes[0] == shapes[1]


def test_whole_numbers_are_computed_exactly():
    """Sums of small whole numbers have no rounding: every bit is that of the masked network."""
    rng = np.random.default_rng(3)
    network = LUNet([3, 4]).eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(rng.integers(-1, 2, size=value.shape).astype(np.float32)))
        if name.endswith(("running_var", "2.weight")):
            value.fill_(1.0)
    for layer in network.layers.values():
        layer[2].eps = 0.0
    image = torch.from_numpy(rng.integers(-1, 2, size=(1, 1, 8, 8, 8)).astype(np.float32))
    gone = [("down0_1", 1), ("down1_1", 2), ("up0_0", 0)]
    expected = masked(network, gone, image)
    for layer, channel in gone:
        remove(network, layer, channel)
    assert torch.equal(network(image), expected) and (expected != 0).any()


def test_the_optimiser_keeps_the_moments_of_what_stays():
    network = lively([3, 4]).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        network(torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)).square().mean().backward()
        optimiser.step()
    weight, reader = network.layers["down0_1"][0].weight, network.layers["up0_0"][0].weight
    before = [optimiser.state[tensor]["exp_avg"].clone() for tensor in (weight, reader)]
    remove(network, "down0_1", 1, optimiser)
    assert torch.equal(optimiser.state[weight]["exp_avg"], before[0][[0, 2]])
    assert torch.equal(optimiser.state[reader]["exp_avg"], before[1][:, [0, 1, 2, 3, 5]])  # behind the 3 that rise
    for tensor in network.parameters():
        assert optimiser.state[tensor]["exp_avg_sq"].shape == tensor.shape
    network(torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)).square().mean().backward()
    optimiser.step()


@pytest.mark.parametrize(
    ("layer", "channel", "message"),
    [
        ("down9_0", 0, "layer is 'down9_0'; the network has down0_0, down1_0, up0_0"),
        ("down1_0", 2, "channel is 2; layer down1_0 has channels 0 to 1"),
        ("down1_0", -1, "channel is -1; layer down1_0 has channels 0 to 1"),
        ("up0_0", 0, "layer up0_0 has 1 channel left; it cannot be removed"),
    ],
)
def test_what_cannot_be_removed(layer, channel, message):
    network = LUNet([1, 2], 1)
    with pytest.raises(ValueError, match=message):
        remove(network, layer, channel)


# ---- the choice ----


def test_normalisation_takes_from_the_wider_of_two_alike_layers():
    scores = {"down0_0": np.full(4, 3.0), "down1_0": np.full(9, 700.0)}
    scaled = normalise_layers(scores)
    assert scaled["down0_0"] == pytest.approx(np.full(4, 1 / 2)) and scaled["down1_0"] == pytest.approx(
        np.full(9, 1 / 3)
    )
    assert lowest(scaled) == ("down1_0", 0) and lowest(scores) == ("down0_0", 0)
    assert normalise_layers({"x": np.zeros(2)})["x"].tolist() == [0, 0]


def test_a_layer_of_one_channel_is_left_alone():
    channels = {"down0_0": 1, "down1_0": 2}
    scores = {"down0_0": np.array([0.0]), "down1_0": np.array([5.0, 4.0])}
    for criterion in CRITERIA:
        layer, channel = choose(criterion, scores, channels, np.random.default_rng(0))
        assert layer == "down1_0" and (channel == 1 or "random" in criterion)
        with pytest.raises(ValueError, match="every layer has 1 channel; none can be removed"):
            choose(criterion, scores, {"down0_0": 1, "down1_0": 1}, np.random.default_rng(0))


def test_random_choices_are_as_often_as_they_should():
    channels = {"down0_0": 2, "down1_0": 6, "up0_0": 6}
    scores = {"down0_0": np.array([9.0, 9.0]), "down1_0": np.full(6, 9.0), "up0_0": np.array([1.0, *[9.0] * 5])}
    rng, n = np.random.default_rng(0), 3000
    shares = {
        "random": (2 / 14, 6 / 14, 6 / 14),
        "random_at_random": (1 / 3, 1 / 3, 1 / 3),
        "random_at_largest": (0, 1 / 2, 1 / 2),
        "random_at_taylor": (0, 0, 1),
    }
    for criterion, share in shares.items():
        chosen = [choose(criterion, scores, channels, rng) for _ in range(n)]
        found = [sum(layer == name for layer, _ in chosen) / n for name in channels]
        assert found == pytest.approx(share, abs=0.04), criterion
        counts = np.bincount([channel for layer, channel in chosen if layer == "up0_0"], minlength=6)
        assert counts.std() < 0.15 * counts.mean(), "every channel of a layer alike"


# ---- scores of a network ----


@pytest.mark.parametrize("kind", ["l1", "l2", "taylor"])
def test_scores_are_those_of_the_formula(kind):
    """By hand, from the output of one convolution and its gradient, over two batches."""
    plan = config(model=f"doubling3-{kind}", features=[2, 4])
    pruner, network = Pruner(plan), LUNet([3, 6])
    expected = torch.zeros(6)
    with pruner.scoring(network, epoch=1):
        for seed in range(2):
            torch.manual_seed(seed)
            kept = []
            hook = network.layers["down1_0"][0].register_forward_hook(lambda *args, kept=kept: kept.append(args[2]))
            loss = network(torch.randn(2, 1, 4, 4, 4)).square().mean()
            hook.remove()
            (slope,) = torch.autograd.grad(loss, kept[0], retain_graph=True)
            loss.backward()
            z = kept[0].detach()
            expected += {
                "l1": z.abs().sum(dim=(2, 3, 4)).mean(0),
                "l2": z.square().sum(dim=(2, 3, 4)).sqrt().mean(0),
                "taylor": 2 * (z * slope).mean(dim=(0, 2, 3, 4)),  # it passes twice: grad, then backward
            }[kind]
    torch.testing.assert_close(pruner._sums["down1_0"], expected, rtol=1e-4, atol=1e-9)
    assert list(pruner._sums) == list(network.channels) or kind == "taylor"
    with pruner.scoring(network, epoch=0):
        network(torch.randn(2, 1, 4, 4, 4))
    assert not pruner._sums, "no removal after this epoch: nothing is gathered"


# ---- a run ----


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_leaves_a_network_that_trains(criterion):
    trainer = Trainer(config(model=f"doubling3-{criterion}"), *pairs(), CPU)
    with reproducible(1):
        records = [trainer.run_epoch() for _ in range(5)]
    assert [len(record["removed"]) for record in records] == [0, 3, 3, 3, 0]
    sizes = [record["parameters"] for record in records]
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == sizes[4] == sum(w.numel() for w in trainer.model.parameters())
    assert sum(trainer.model.channels.values()) == 2 * (3 + 6 + 12 + 6 + 3) - 9
    assert trainer.probabilities(trainer.images[:1]).shape == (1, 12, 12, 12)


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    found = {name: value for name, value in trainer.model.state_dict().items()}
    for number, part in trainer.optimiser.state_dict()["state"].items():
        found |= {f"{number} {name}": value for name, value in part.items()}
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("criterion", ["l2", "taylor", "random_at_largest"])
def test_resume_at_every_step_ends_with_the_same_bits(criterion, precision, tmp_path):
    plan = config(model=f"doubling3-{criterion}", precision=precision)
    with reproducible(1):
        whole = Trainer(plan, *pairs(), CPU)
        for k in range(5):
            whole.save(tmp_path / f"{k}.pt")
            whole.run_epoch()
        for k in range(5):
            torch.manual_seed(100 + k)  # another process: nothing may come from its random numbers
            part = Trainer(plan, *pairs(), CPU)
            part.load(tmp_path / f"{k}.pt")
            while part.epoch < 5:
                torch.rand(k)
                part.run_epoch()
            assert part.history == whole.history
            assert part.model.channels == whole.model.channels
            ours, theirs = state(part), state(whole)
            assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
            assert torch.equal(part.probabilities(part.images), whole.probabilities(whole.images))


def test_too_many_removals():
    with pytest.raises(
        ValueError, match=r"prune_channels 19 after each of 3 epochs removes 57 channels; doubling3-l2 .* 50"
    ):
        Trainer(config(prune_channels=19), *pairs(), CPU)
    Trainer(config(prune_channels=16), *pairs(), CPU)


def test_a_checkpoint_of_another_shape_is_refused_with_the_numbers(tmp_path: Path):
    with reproducible(1):
        trainer = Trainer(config(), *pairs(), CPU)
        trainer.run_epoch()
    good, path = dict(trainer.model.channels), tmp_path / "checkpoint.pt"
    trainer.model.channels["down2_0"] = 7  # the weights have 12
    trainer.save(path)
    with pytest.raises(
        ValueError, match=r"checkpoint.pt holds another network: shape of layers.down2_0.0.weight is .*12"
    ):
        Trainer(config(), *pairs(), CPU).load(path)
    trainer.model.channels["down2_0"] = 13
    trainer.save(path)
    with pytest.raises(ValueError, match="layer down2_0 has 13 channels; expected 1 to 12; delete it to start over"):
        Trainer(config(), *pairs(), CPU).load(path)
    trainer.model.channels.update(good)
    trainer.save(path)
    Trainer(config(), *pairs(), CPU).load(path)
