"""The training loop, checkpoint and resume (paper, section 5.3; book chapter *The experiment*).

An epoch is a function of the state before it and of the training's seeds: order and augmentation of epoch k come from a
generator seeded with ``training_stream`` and k. A run that is killed and resumed from the last finished epoch therefore
ends with the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reproduction.config import RunConfig
from reproduction.network.augment import augment
from reproduction.network.losses import LOSS_FUNCTIONS, dice_at_half
from reproduction.network.lunet import LUNet, make_network
from reproduction.network.pruning import Pruner
from reproduction.network.unet import UNet
from reproduction.paths import atomic_write


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Arithmetic of the network: ``auto`` is bfloat16 where the processor has instructions for it.

    Weights, losses and optimiser stay in float32 in any case.

    Examples
    --------
    >>> resolve_precision("float32", torch.device("cpu"))
    torch.float32
    """
    if precision == "auto":
        cpu = torch.cpu.get_capabilities()
        fast = (
            torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu.get("avx512_bf16") or cpu.get("amx_bf16")
        )
        precision = "bfloat16" if fast else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Keep torch's optimisers from importing its compiler, which takes nearly two seconds and is not used.

    Before every step they ask it to leave them alone; what answers them inside does that and nothing else.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    stand_in: Any = ModuleType("torch._dynamo")
    stand_in.graph_break = lambda: None
    stand_in.disable = lambda function, *_, **__: function
    sys.modules["torch._dynamo"] = stand_in
    try:
        yield
    finally:
        del sys.modules["torch._dynamo"]


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fixed thread count and deterministic kernels inside, the caller's settings again afterwards."""
    before = (torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark)
    # cuBLAS needs this to be deterministic; it is read when the first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # As use_deterministic_algorithms(True, warn_only=True), but that imports torch's compiler: seconds a run.
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = False
    try:
        with _without_compiler():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.backends.cudnn.benchmark = before[2]


def _cosine(config: RunConfig, epoch: int) -> float:
    """Give the learning rate of an epoch as a share of the first: from 1 to 0, and again in the last epochs."""
    first = config.epochs - config.finish_epochs
    if epoch < first or not config.finish_epochs:
        return 0.5 * (1 + math.cos(math.pi * epoch / first))
    place = (epoch - first) / config.finish_epochs
    return config.finish_rate / config.learning_rate * 0.5 * (1 + math.cos(math.pi * place))


@dataclass
class Trainer:
    """Trains one network; what it is given decides the result, bit for bit.

    Parameters
    ----------
    config
        All numbers.
    images, labels : tensors (cases, 1, x, y, z)
        Normalised images in float32, (noisy) labels in uint8.
    targets
        What case k is trained on, where that is not its label: a function of k and a generator, see
        :func:`reproduction.network.pairs.training_targets`.
    device
        Where to train. On a GPU images and labels are kept in its memory if they take up at most half of what is free.

    Examples
    --------
    See the template ``notebooks/templates/training_run.ipynb``.
    """

    config: RunConfig
    images: Tensor
    labels: Tensor
    device: torch.device
    targets: Callable[[int, np.random.Generator], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.images.shape != self.labels.shape or self.images.ndim != 5 or len(self.images) == 0:
            raise ValueError(
                f"images have shape {tuple(self.images.shape)} and labels {tuple(self.labels.shape)}; "
                "expected one shape (cases, 1, x, y, z) with at least one case"
            )
        config = self.config
        seed, *rest = config.training_stream
        torch.manual_seed(int(np.random.SeedSequence([seed, *rest]).generate_state(1, np.uint64)[0]) if rest else seed)
        self.dtype = resolve_precision(config.precision, self.device)
        coarsest = [n >> (len(config.features) - 1) for n in self.images.shape[2:]]
        if self.dtype == torch.bfloat16 and self.device.type == "cpu" and 2 in coarsest:
            raise ValueError(
                f"the coarsest of {len(config.features)} levels has shape {tuple(coarsest)}; in bfloat16 torch's "
                "convolution then reads memory that was never written: set precision to float32, or have a level less"
            )
        layout = torch.channels_last_3d if config.channels_last else torch.contiguous_format
        self.layout = layout
        self._begin(make_network(config))
        self.pruner = Pruner(config) if config.network.criterion else None
        self._pairs = self._near()
        self.epoch = 0
        self.best_merit = -math.inf
        self.best_epoch = -1
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, Any]] = []

    def _begin(self, network: UNet | LUNet) -> None:
        """Take a new network, and its optimiser and schedule."""
        config = self.config
        network.to(self.device)
        network.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]  (torch's stubs lack this overload)
        if config.prior_bias:
            # Outputs start at the share of foreground: cross-entropy else takes hundreds of steps to get there.
            voxels = self.labels.numel()
            share = min(max(int(torch.count_nonzero(self.labels)), 1), voxels - 1) / voxels
            assert network.head.bias is not None
            torch.nn.init.constant_(network.head.bias, math.log(share / (1 - share)))
        self.model: UNet | LUNet = network
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.l2_weight, fused=True
        )
        self.scheduler: Any
        if config.schedule == "plateau":
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimiser,
                mode="max",
                factor=config.plateau_factor,
                patience=config.plateau_patience,
                threshold=0.0,  # any gain is one; torch's relative threshold is wrong for a merit below 0
                threshold_mode="abs",
            )
        else:
            self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda epoch: _cosine(config, epoch))

    def logits(self, images: Tensor) -> Tensor:
        """Network output in float32 for a batch of images (batch, 1, x, y, z)."""
        images = images.to(self.device, memory_format=self.layout)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model(images).float()

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch and return its record: epoch, train_loss, train_dice, lr.

        Of a network that is pruned, the channels that are due are then removed, and the record also has ``removed``
        (pairs of layer and channel) and ``parameters``, those that are left.

        ``train_loss`` and ``train_dice`` (Dice of the outputs at 1/2) are means over the training pairs as they came
        by. ``config.select`` says which of the two selects the model and drives the plateau schedule, or takes the last
        epoch. The paper takes
        the metric. For cross-entropy under strong noise that is a poor guide: its masks at 1/2 are too small.
        """
        config = self.config
        rng = np.random.default_rng([*config.training_stream, self.epoch])
        order = rng.permutation(len(self.images))
        if config.network.family != "unet":  # has dropout: its random numbers, too, are the epoch's own
            torch.manual_seed(int(rng.integers(2**63)))
        self.model.train()
        lr = self.optimiser.param_groups[0]["lr"]
        last = config.finish_epochs > 0 and self.epoch >= config.epochs - config.finish_epochs
        name = config.finish_loss if last else config.loss
        losses, scores = [], []
        with self._scoring():
            for start in range(0, len(order), config.batch_size):
                images, labels = self._batch(order[start : start + config.batch_size], rng)
                logits = self.logits(images)
                loss = LOSS_FUNCTIONS[name](logits, labels)
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                self.optimiser.step()
                # Read at the end of the epoch: a GPU would have to be waited for.
                losses.append((loss.detach(), len(images)))
                scores.append(dice_at_half(logits.detach(), labels))
        record: dict[str, Any] = {
            "epoch": self.epoch,
            "train_loss": sum(float(loss) * count for loss, count in losses) / len(order),
            "train_dice": float(torch.cat(scores).cpu().double().mean()),
            "lr": lr,
        }
        if not math.isfinite(record["train_loss"]):
            raise FloatingPointError(
                f"epoch {self.epoch}: the training loss is {record['train_loss']}; lower learning_rate"
            )
        # Dice and loss of an epoch depend on its augmentation; the last epoch of a schedule that ends does not.
        merits = {"dice": record["train_dice"], "loss": -record["train_loss"], "last": float(self.epoch)}
        merit = merits[config.select]
        self.scheduler.step(*([merit] if config.schedule == "plateau" else []))
        if self.pruner and isinstance(self.model, LUNet):
            record["removed"] = self.pruner.prune(self.model, self.optimiser, self.epoch)
            record["parameters"] = sum(weight.numel() for weight in self.model.parameters())
            if record["removed"]:  # as if it came from a checkpoint: memory is laid out alike
                self._restore(
                    self.model.state_dict(), self.optimiser.state_dict(), self._schedule(), self.model.channels
                )
        if merit > self.best_merit:
            self.best_merit, self.best_epoch = merit, self.epoch
            self.best_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.epoch += 1
        self.history.append(record)
        return record

    def _scoring(self) -> AbstractContextManager[None]:
        if self.pruner and isinstance(self.model, LUNet):
            return self.pruner.scoring(self.model, self.epoch)
        return nullcontext()

    def _batch(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        config = self.config
        numbers = (config.augment_probability, config.shift, config.rotation_deg, config.smoothing_voxels)
        stack, masks = self._pairs
        pairs = []
        for i in indices.tolist():
            target = masks[i] if self.targets is None else self.targets(i, rng)
            pairs.append(augment(stack[i].to(self.device), target.to(self.device).float(), rng, *numbers))
        return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])

    def _near(self) -> tuple[Tensor, Tensor]:
        """Images and labels where training reads them: in the GPU's memory if there is one and they fit, else here."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if 5 * self.labels.numel() <= free // 2:  # float32 and uint8
                return self.images.to(self.device), self.labels.to(self.device)
        return self.images, self.labels

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Soft segmentations c (cases, x, y, z), float32, of the epoch that ``config.select`` chose."""
        last = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        self.model.eval()
        # Case by case: the result of a case must not depend on which others are beside it.
        maps = [torch.sigmoid(self.logits(image[None]))[0, 0].cpu() for image in images]
        self.model.load_state_dict(last)
        return torch.stack(maps)

    def save(self, path: str | os.PathLike[str], **facts: str) -> None:
        """Write the whole state (weights, optimiser, schedule, random state, history), atomically.

        ``facts`` are stored along and must be given again to :meth:`load`.
        """
        state = {
            "config_hash": self.config.hash,
            "facts": facts,
            "dtype": str(self.dtype),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self._schedule(),
            "torch_rng": torch.get_rng_state(),
            "best": {"merit": self.best_merit, "epoch": self.best_epoch, "weights": self.best_weights},
            "history": self.history,
        }
        if self.pruner and isinstance(self.model, LUNet):
            state["channels"] = dict(self.model.channels)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        # The digest closes the file: torch itself does not notice a changed weight.
        atomic_write(path, content + hashlib.sha256(content).digest())

    def load(self, path: str | os.PathLike[str], **facts: str) -> None:
        """Go back to a state that :meth:`save` wrote, and to its arithmetic where ``config.precision`` is ``auto``.

        Raises
        ------
        ValueError
            If the file is damaged, belongs to another configuration, data set or arithmetic, or holds a network of
            another shape.
        """
        stored = Path(path).read_bytes()
        content, digest = stored[:-32], stored[-32:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"{path} is damaged or truncated; delete it to train this run from the start")
        state = torch.load(io.BytesIO(content), weights_only=True, map_location=self.device)
        expected = {"config_hash": self.config.hash, "dtype": str(self.dtype), "facts": facts}
        found = {name: state.get(name) for name in expected}
        if self.config.precision == "auto":  # a run goes on as it began, also on a machine that would begin otherwise
            expected["dtype"] = found["dtype"]
        if expected != found:
            raise ValueError(
                f"{path} belongs to another run: it has {found}, this run has {expected}; delete it to start over"
            )
        self.dtype = getattr(torch, expected["dtype"].removeprefix("torch."))
        try:
            self._restore(state["model"], state["optimiser"], state["scheduler"], state.get("channels"))
        except ValueError as error:
            raise ValueError(f"{path} holds another network: {error}; delete it to start over") from error
        torch.set_rng_state(state["torch_rng"].cpu())
        self.epoch, self.history = state["epoch"], state["history"]
        best = state["best"]
        self.best_merit, self.best_epoch, self.best_weights = best["merit"], best["epoch"], best["weights"]

    def _schedule(self) -> dict[str, Any]:
        # LambdaLR keeps a list of its functions' own states: a plain function has none.
        return {name: value for name, value in self.scheduler.state_dict().items() if name != "lr_lambdas"}

    def _restore(
        self,
        weights: Mapping[str, Tensor],
        optimiser: dict[str, Any],
        schedule: Mapping[str, Any],
        channels: Mapping[str, int] | None,
    ) -> None:
        """Take weights and states; with ``channels``, of a network that has been pruned since it was made."""
        if channels is not None:
            self._begin(make_network(self.config, channels))
        own, found = self.model.state_dict(), dict(weights)
        for name in (*own, *found):
            shapes = [tuple(part[name].shape) if name in part else "missing" for part in (found, own)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"shape of {name} is {shapes[0]}, expected {shapes[1]}")
        self.model.load_state_dict(found)
        self.optimiser.load_state_dict(optimiser)
        lambdas = {"lr_lambdas": [None]} if self.config.schedule == "cosine" else {}
        self.scheduler.load_state_dict({**schedule, **lambdas})
