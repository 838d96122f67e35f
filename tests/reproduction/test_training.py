"""The training loop, and a checkpoint from which training goes on with the same bits."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import noisyseg
from reproduction.config import Preset, RunConfig
from reproduction.network.training import Trainer, reproducible, resolve_precision

CPU = torch.device("cpu")
BASE = {
    **Preset.load("smoke").run(loss="ce").to_dict(),
    **{
        "features": [2, 4],
        "epochs": 4,
        "batch_size": 2,
        "learning_rate": 0.01,
        "schedule": "cosine",
        "l2_weight": 1e-5,
    },
    **{"precision": "float32", "plateau_patience": 1, "plateau_factor": 0.2, "select": "dice"},
}


def config(**changes: object) -> RunConfig:
    return RunConfig.from_dict({**BASE, **changes})


def cubes(n: int = 5, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright cubes at several places on a dark, slightly noisy ground, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.zeros((n, 1, side, side, side), np.uint8)
    for label in labels:
        x, y, z = rng.integers(1, side // 2, size=3)
        label[0, x : x + side // 2, y : y + side // 2, z : z + side // 2] = 1
    images = (labels - 0.3 + 0.05 * rng.normal(size=labels.shape)).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(labels)


def trained(config: RunConfig, epochs: int, data: tuple[torch.Tensor, torch.Tensor] | None = None) -> Trainer:
    trainer = Trainer(config, *(data or cubes()), CPU)
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def assert_same(first: Trainer, second: Trainer) -> None:
    """Weights, best weights, history, optimiser and schedule agree bit for bit."""
    assert first.history == second.history
    assert (first.epoch, first.best_epoch, first.best_merit) == (second.epoch, second.best_epoch, second.best_merit)
    for mine, other in (
        (first.model.state_dict(), second.model.state_dict()),
        (first.best_weights, second.best_weights),
    ):
        assert mine.keys() == other.keys() and len(mine) > 0
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    states = (first.optimiser.state_dict()["state"], second.optimiser.state_dict()["state"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k][part], states[1][k][part]) for k in states[0] for part in states[0][k])
    assert first.optimiser.param_groups[0]["lr"] == second.optimiser.param_groups[0]["lr"]


# the loop


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fast_layers_train_to_the_same_within_rounding(precision):
    settings = {"precision": precision, "batch_size": 1, "channels_last": True, "features": [4, 8], "epochs": 2}
    plain, fast = (trained(config(fast_layers=on, **settings), 2) for on in (False, True))
    assert plain.model.state_dict().keys() == fast.model.state_dict().keys()
    tolerance = 1e-4 if precision == "float32" else 0.02
    for one, other in zip(plain.history, fast.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=tolerance)
    assert_same(fast, trained(config(fast_layers=True, **settings), 2))


def test_pairs_are_kept_on_a_gpu_while_they_fit(monkeypatch):
    images, labels = cubes()
    trainer = Trainer(config(), images, labels, CPU)
    assert trainer._pairs[0] is images and trainer._pairs[1] is labels
    asked = []
    trainer.device = torch.device("cuda", 0)
    for free, kept in ((10 * labels.numel(), True), (10 * labels.numel() - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 0))
        monkeypatch.setattr(torch.Tensor, "to", lambda self, device: asked.append(device) or self)
        asked.clear()
        found = trainer._near()
        assert asked == [trainer.device] * 2 if kept else found == (images, labels)
        assert torch.equal(found[0], images) and torch.equal(found[1], labels)


def test_one_epoch_is_adam_steps_over_a_permutation():
    images, labels = cubes(3)
    settings = config(batch_size=1, augment_probability=0.0, channels_last=False, l2_weight=0.01)
    trainer = Trainer(settings, images, labels, CPU)
    twin = Trainer(settings, images, labels, CPU)  # the same initial weights
    record = trainer.run_epoch()
    # Adam by hand (Kingma and Ba 2015), with the l2 term in the gradient.
    rate, beta1, beta2, eps = settings.learning_rate, 0.9, 0.999, 1e-8
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in twin.model.parameters()]
    order = np.random.default_rng([settings.training_seed, 0]).permutation(3)
    losses = []
    for step, i in enumerate(order.tolist(), 1):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            twin.model(images[i][None]), labels[i][None].float()
        )
        gradients = torch.autograd.grad(loss, list(twin.model.parameters()))
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for p, gradient, (first, second) in zip(twin.model.parameters(), gradients, moments, strict=True):
                gradient = gradient + 0.01 * p
                first.mul_(beta1).add_((1 - beta1) * gradient)
                second.mul_(beta2).add_((1 - beta2) * gradient**2)
                corrected = (second / (1 - beta2**step)).sqrt() + eps
                p.sub_(rate * (first / (1 - beta1**step)) / corrected)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert record["train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    for mine, other in zip(trainer.model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-4)


def test_every_epoch_has_an_order_of_its_own(monkeypatch):
    trainer = Trainer(config(batch_size=2), *cubes(), CPU)
    orders: list[list[int]] = []
    original = trainer._batch
    monkeypatch.setattr(trainer, "_batch", lambda i, rng: orders.append(i.tolist()) or original(i, rng))
    trainer.run_epoch()
    trainer.run_epoch()
    first, second = np.concatenate(orders[:3]).tolist(), np.concatenate(orders[3:]).tolist()
    assert [len(batch) for batch in orders] == [2, 2, 1] * 2 and first != second
    for epoch, order in enumerate((first, second)):
        assert order == np.random.default_rng([BASE["training_seed"], epoch]).permutation(5).tolist()


def test_training_dice_is_that_of_the_outputs_at_one_half():
    images, labels = cubes(2)
    settings = config(batch_size=2, augment_probability=0.0)
    trainer = Trainer(settings, images, labels, CPU)
    with torch.no_grad():
        masks = torch.sigmoid(trainer.logits(images)) >= 0.5
    expected = np.mean([float(noisyseg.dice(m.numpy(), label.numpy())) for m, label in zip(masks, labels, strict=True)])
    assert trainer.run_epoch()["train_dice"] == pytest.approx(expected, abs=1e-7)


def test_the_output_may_start_at_the_share_of_foreground():
    images, labels = torch.zeros(2, 1, 8, 8, 8), torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)
    labels[0, 0, :2] = 1  # 128 of 1,024 voxels: one in eight
    plain, prior = (
        Trainer(config(prior_bias=on), images, labels, torch.device("cpu")).model.state_dict() for on in (False, True)
    )
    assert prior["head.bias"].item() == pytest.approx(np.log(1 / 7))
    assert all(torch.equal(plain[name], prior[name]) for name in plain if name != "head.bias")
    empty = Trainer(config(prior_bias=True), images, torch.zeros_like(labels), torch.device("cpu"))
    assert empty.model.state_dict()["head.bias"].item() == pytest.approx(np.log(1 / 1023))


def test_outputs_start_at_the_share_of_foreground_where_that_is_asked_for():
    images, labels = cubes()
    share = labels.float().mean().item()
    plain, informed = (Trainer(config(prior_bias=wanted), images, labels, CPU) for wanted in (False, True))
    bias = informed.model.get_parameter("head.bias")
    assert bias.tolist() == pytest.approx([math.log(share / (1 - share))])
    # Nothing else differs; without a foreground voxel, or with nothing else, the start stays finite.
    for name, value in plain.model.state_dict().items():
        assert name == "head.bias" or torch.equal(value, informed.model.state_dict()[name])
    for label in (torch.zeros_like(labels), torch.ones_like(labels)):
        model = Trainer(config(prior_bias=True), images, label, CPU).model
        assert abs(model.get_parameter("head.bias").item()) == pytest.approx(math.log(labels.numel() - 1), rel=1e-6)


def test_cosine_schedule_values():
    trainer = trained(config(epochs=4, learning_rate=0.02), 4)
    expected = [0.02 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert [record["lr"] for record in trainer.history] == pytest.approx(expected, rel=1e-12)
    assert [record["epoch"] for record in trainer.history] == [0, 1, 2, 3]


FINISH = {"select": "last", "finish_epochs": 2, "finish_loss": "sd", "finish_rate": 0.004}


def test_the_last_epochs_have_a_schedule_and_a_loss_of_their_own():
    """Until then every bit is that of the training that ends there."""
    plain = trained(config(epochs=3, learning_rate=0.02, select="last"), 3)
    longer = trained(config(epochs=5, learning_rate=0.02, **FINISH), 5)
    assert longer.history[:3] == plain.history
    assert [record["lr"] for record in longer.history[3:]] == pytest.approx([0.004, 0.002], rel=1e-12)
    control = trained(config(epochs=5, learning_rate=0.02, **{**FINISH, "finish_loss": "ce"}), 5)
    assert control.history[:3] == plain.history
    assert control.history[3]["train_loss"] < plain.history[2]["train_loss"] < longer.history[3]["train_loss"]
    assert longer.best_epoch == 4


def test_resume_within_the_last_epochs_gives_the_same_bits(tmp_path):
    settings = config(epochs=5, learning_rate=0.02, **FINISH)
    first = trained(settings, 5)
    stopped = trained(settings, 4)
    stopped.save(tmp_path / "c.pt")
    resumed = Trainer(settings, *cubes(), CPU)
    resumed.load(tmp_path / "c.pt")
    resumed.run_epoch()
    assert_same(first, resumed)


def test_targets_take_the_place_of_the_labels():
    """Trained on the complement, the network learns the complement; the labels stay what they are."""
    images, labels = cubes(8, 16)
    settings = config(epochs=20, learning_rate=0.03, features=[4, 8], augment_probability=0.0)
    trainer = Trainer(settings, images, labels, CPU, targets=lambda k, rng: 1 - labels[k])
    for _ in range(20):
        trainer.run_epoch()
    masks = trainer.probabilities(images).numpy() >= 0.5
    assert min(noisyseg.dice(mask, 1 - label) for mask, label in zip(masks, labels[:, 0].numpy(), strict=True)) > 0.9
    assert torch.equal(trainer.labels, labels)


def test_plateau_schedule_divides_by_five_after_the_patience():
    # A step of 1e-12 moves no output: the metric stands still from the first epoch on.
    rate = 1e-12
    settings = config(schedule="plateau", plateau_patience=2, learning_rate=rate, augment_probability=0.0, epochs=10)
    trainer = trained(settings, 8)
    # Epoch 0 is the best so far; patience lets epochs 1 and 2 pass, the third without improvement reduces, and so on.
    expected = [rate] * 4 + [rate / 5] * 3 + [rate / 25]
    assert len({record["train_dice"] for record in trainer.history}) == 1
    assert [record["lr"] for record in trainer.history] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("select", ["dice", "loss"])
def test_the_best_epoch_is_the_one_that_is_evaluated(select):
    trainer = Trainer(config(select=select, learning_rate=0.03, epochs=6, augment_probability=0.0), *cubes(), CPU)
    snapshots = []
    for epoch in range(6):
        if epoch == 4:  # a catastrophe: from here on the network is worse than it was
            torch.nn.init.zeros_(next(trainer.model.head.parameters()))  # type: ignore[union-attr]
        trainer.run_epoch()
        snapshots.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    merits = [r["train_dice"] if select == "dice" else -r["train_loss"] for r in trainer.history]
    best = int(np.argmax(merits))  # of equals the first
    assert trainer.best_epoch == best < 4
    assert all(torch.equal(trainer.best_weights[name], snapshots[best][name]) for name in snapshots[best])
    images = cubes()[0]
    maps = trainer.probabilities(images)
    assert all(torch.equal(trainer.model.state_dict()[name], snapshots[-1][name]) for name in snapshots[-1])
    trainer.model.load_state_dict(snapshots[best])
    with torch.no_grad():
        by_hand = torch.stack([torch.sigmoid(trainer.logits(image[None]))[0, 0] for image in images])
    assert maps.shape == (5, 8, 8, 8) and maps.dtype == torch.float32 and torch.equal(maps, by_hand)


def test_the_last_epoch_is_the_one_that_is_evaluated_where_that_is_asked_for():
    settings = config(select="last", schedule="cosine", learning_rate=0.03, epochs=6, augment_probability=0.0)
    trainer = Trainer(settings, *cubes(), CPU)
    for epoch in range(6):
        if epoch == 4:  # a catastrophe counts like any other step
            torch.nn.init.zeros_(next(trainer.model.head.parameters()))  # type: ignore[union-attr]
        trainer.run_epoch()
    assert trainer.best_epoch == 5 and trainer.history[5]["train_loss"] > trainer.history[3]["train_loss"]
    assert all(torch.equal(trainer.best_weights[name], value) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize("change", [{"fold": 1}, {"loss": "sd"}, {"a": 0.03}, {"organ": "cord"}, {"training_seed": 2}])
def test_with_seeds_of_their_own_runs_differ_in_weights_and_order(change):
    """By default only the training seed does that: one point of the grid then starts as any other does."""
    first, other = (Trainer(config(own_seed=True, **some), *cubes(), CPU) for some in ({}, change))
    again = Trainer(config(own_seed=True), *cubes(), CPU)
    weights = [next(trainer.model.parameters()) for trainer in (first, other, again)]
    assert not torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    orders = [np.random.default_rng([*t.config.training_stream, 0]).permutation(99).tolist() for t in (first, other)]
    assert orders[0] != orders[1]
    if "training_seed" not in change:
        shared = [Trainer(config(**some), *cubes(), CPU) for some in ({}, change)]
        assert torch.equal(next(shared[0].model.parameters()), next(shared[1].model.parameters()))


@pytest.mark.parametrize("loss", ["ce", "sd"])
def test_a_tiny_network_learns_a_bright_cube(loss):
    images, labels = cubes(8, 16)
    settings = config(loss=loss, epochs=20, learning_rate=0.03, features=[4, 8], augment_probability=0.0)
    trainer = trained(settings, 20, (images, labels))
    unseen, truth = (part[:, 0] for part in cubes(12, 16))
    masks = trainer.probabilities(unseen[8:, None]).numpy() >= 0.5
    scores = [noisyseg.dice(mask, label) for mask, label in zip(masks, truth[8:].numpy(), strict=True)]
    assert min(scores) > 0.9
    assert trainer.history[-1]["train_loss"] < 0.5 * trainer.history[0]["train_loss"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_config_twice_gives_the_same_bits(precision):
    settings = config(precision=precision)
    first, second = trained(settings, 2), trained(settings, 2)
    assert first.dtype == getattr(torch, precision)
    assert_same(first, second)
    other = trained(config(precision=precision, training_seed=2), 2)
    assert other.history != first.history


def test_weights_stay_float32_in_bfloat16():
    trainer = trained(config(precision="bfloat16"), 1)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert trainer.logits(cubes()[0][:1]).dtype == torch.float32
    assert trainer.history != trained(config(), 1).history  # it is another arithmetic


def test_auto_precision_follows_the_processor(monkeypatch):
    for capabilities, dtype in (({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert resolve_precision("auto", CPU) == dtype


def test_the_callers_settings_come_back():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), reproducible(1):
        assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
        raise KeyError
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_training_does_not_import_the_compiler_which_can_be_imported_afterwards():
    """In a process of its own: here another test may have imported it. The weights are those with the compiler."""
    program = """
import sys, torch, tiny, test_training as t
from reproduction.network.training import reproducible
if sys.argv[1:]:
    import torch._dynamo
with reproducible(1):
    trainer = t.trained(t.config(), 2)
    trainer.probabilities(trainer.images)
print(len([name for name in sys.modules if name.startswith("torch._dynamo.")]))
print(float(sum(weight.double().sum() for weight in trainer.model.parameters())))
print(torch._dynamo.__file__ is not None, torch._dynamo.is_compiling())
"""
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parent), *sys.path])}
    alone, imported = (
        subprocess.check_output([sys.executable, "-c", program, *more], env=environment, text=True).split("\n")
        for more in ([], ["compiler"])
    )
    assert alone[0] == "0" and int(imported[0]) > 0
    assert alone[1:] == imported[1:] and alone[2] == "True False"


# checkpoint and resume


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_resume_after_every_epoch_gives_the_same_bits(tmp_path, precision, schedule):
    settings = config(precision=precision, schedule=schedule)
    whole = trained(settings, settings.epochs)
    for k in range(settings.epochs + 1):
        trained(settings, k).save(tmp_path / "checkpoint.pt", data_digest="d")
        torch.manual_seed(k)  # a fresh process has another random state
        resumed = Trainer(settings, *cubes(), CPU)
        resumed.load(tmp_path / "checkpoint.pt", data_digest="d")
        assert resumed.epoch == k
        while resumed.epoch < settings.epochs:
            resumed.run_epoch()
        assert_same(whole, resumed)


def test_the_random_state_is_part_of_the_checkpoint(tmp_path):
    trainer = trained(config(), 1)
    trainer.save(tmp_path / "checkpoint.pt")
    expected = torch.rand(3)
    torch.manual_seed(99)
    trainer.load(tmp_path / "checkpoint.pt")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("changes", "digest", "named"),
    [
        ({"learning_rate": 0.02}, "d", "config_hash"),
        ({}, "other", "data_digest"),
        ({"precision": "bfloat16"}, "d", "config_hash"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, digest, named):
    path = tmp_path / "checkpoint.pt"
    trained(config(), 1).save(path, data_digest="d")
    other = Trainer(config(**changes), *cubes(), CPU)
    with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to another run") as caught:
        other.load(path, data_digest=digest)
    assert named in str(caught.value) and str(path) in str(caught.value)
    assert other.epoch == 0 and other.history == []


def test_a_run_goes_on_in_the_arithmetic_it_began_with(tmp_path, monkeypatch):
    # `auto` on two machines: one configuration, two precisions.
    path = tmp_path / "checkpoint.pt"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    whole = trained(config(precision="auto"), 2)
    trained(config(precision="auto"), 1).save(path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    trainer = Trainer(config(precision="auto"), *cubes(), CPU)
    assert trainer.dtype == torch.float32
    trainer.load(path)
    trainer.run_epoch()
    assert trainer.dtype == torch.bfloat16
    assert_same(whole, trainer)


def test_every_damage_to_a_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "checkpoint.pt"
    trained(config(), 1).save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [content[:n] for n in (0, 10, 31, len(content) // 2, len(content) - 1)] + [b"no checkpoint" * 10]
    for place in rng.integers(0, len(content), 40):
        damaged.append(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged or truncated; delete it"):
            Trainer(config(), *cubes(), CPU).load(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        Trainer(config(), *cubes(), CPU).load(path)


def test_a_checkpoint_holds_no_code(tmp_path):
    path = tmp_path / "checkpoint.pt"
    trained(config(), 1).save(path, data_digest="d")
    state = torch.load(io.BytesIO(path.read_bytes()[:-32]), weights_only=True)
    assert state["epoch"] == 1 and state["facts"] == {"data_digest": "d"}
    with zipfile.ZipFile(io.BytesIO(path.read_bytes()[:-32])) as archive:
        (pickled,) = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    assert b"noisyseg" not in pickled and b"lambda" not in pickled


def test_saving_leaves_the_old_checkpoint_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    trainer = trained(config(), 1)
    trainer.save(path)
    before = path.read_bytes()
    trainer.run_epoch()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


# bad input


def test_shapes_that_do_not_match_are_refused():
    images, labels = cubes()
    for bad in ((images[:, :, :4], labels), (images[:, 0], labels[:, 0]), (images[:0], labels[:0])):
        with pytest.raises(ValueError, match=r"images have shape .* labels .*expected one shape"):
            Trainer(config(), *bad, CPU)


def test_an_infinite_loss_ends_the_run_and_not_the_weights_on_disk(tmp_path: Path):
    images, labels = cubes()
    images[2] = math.inf
    trainer = Trainer(config(), images, labels, CPU)
    with pytest.raises(FloatingPointError, match=r"epoch 0: the training loss is .*lower learning_rate"):
        trainer.run_epoch()
    assert trainer.epoch == 0 and trainer.history == [] and trainer.best_weights == {}


def test_an_axis_of_two_voxels_is_refused_in_bfloat16():
    """torch 2.13 on AMX: gradients and outputs there depend on what was in memory before, NaN among it."""
    images, labels = cubes(side=8)
    message = r"coarsest of 3 levels has shape \(2, 2, 2\); in bfloat16 .* set precision to float32"
    with pytest.raises(ValueError, match=message):
        Trainer(config(features=[2, 4, 8], precision="bfloat16"), images, labels, CPU)
    Trainer(config(features=[2, 4, 8]), images, labels, CPU)
    Trainer(config(features=[2, 4], precision="bfloat16"), images, labels, CPU)


def test_an_epoch_after_the_last_has_the_loss_of_the_run():
    """Steps are timed beyond the end of a plan; a run that ends with no other loss goes on with its own."""
    records = trained(config(epochs=1), 2).history
    assert [record["epoch"] for record in records] == [0, 1]
