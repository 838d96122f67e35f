"""The configuration of one run: every number that its result depends on (book chapter *Reproduce*)."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
from dataclasses import dataclass
from typing import Any, get_type_hints

LOSSES = ("ce", "sd")
MODELS = ("unet",)
DATASETS = ("hippocampus", "phantoms", "totalsegmentator")


@dataclass(frozen=True)
class RunConfig:
    """One training run: data, noise, network, training, evaluation. Frozen; every field counts in :attr:`hash`.

    Examples
    --------
    >>> from reproduction.config import Preset
    >>> config = Preset.load("smoke").run(organ="hippocampus", a=0.02, loss="ce", fold=0)
    >>> config.name
    'hippocampus-a0.020-ce-fold0-unet'
    """

    # which run
    organ: str
    a: float
    loss: str
    fold: int
    model: str
    # data: cases, phantom_* describe the phantom set; *_cases limit a fold's cases (0: all)
    dataset: str
    phantom_size: int
    phantom_cases: int
    phantom_seed: int
    train_cases: int
    test_cases: int
    intensity_offset: float
    intensity_scale: float
    # noise
    b: float
    noise_seed: int
    # network
    features: tuple[int, ...]
    prior_bias: bool
    # training
    epochs: int
    batch_size: int
    learning_rate: float
    l2_weight: float
    select: str
    schedule: str
    plateau_patience: int
    plateau_factor: float
    training_seed: int
    precision: str
    channels_last: bool
    threads: int
    # augmentation
    augment_probability: float
    shift: float
    rotation_deg: float
    smoothing_voxels: float
    # evaluation
    ceiling_samples: int
    # Came later, and may be left out: layers that compute the same in other roundings, see UNet
    fast_layers: bool = False

    def __post_init__(self) -> None:
        for field, kind in get_type_hints(type(self)).items():
            value = getattr(self, field)
            if field == "features":
                good = isinstance(value, tuple) and all(type(n) is int and n > 0 for n in value) and len(value) > 1
            elif kind is float:
                good = type(value) in (int, float) and abs(value) <= sys.float_info.max
                if good:
                    object.__setattr__(self, field, float(value) + 0.0)  # 0, 0.0 and -0.0 must have one hash
            else:
                good = type(value) is kind
            if not good:
                expected = {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}.get(
                    kind, "a list of at least two positive integers"
                )
                if kind is float and isinstance(value, str) and "e" in value.lower():
                    expected += " (YAML takes 1e-5 for text: write 1.0e-5)"
                raise ValueError(f"{field} is {value!r}; expected {expected}")
        choices = {"loss": LOSSES, "model": MODELS, "dataset": DATASETS, "schedule": ("plateau", "cosine")}
        choices["select"] = ("dice", "loss")
        choices["precision"] = ("auto", "float32", "bfloat16")
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} is {getattr(self, field)!r}; expected one of {', '.join(allowed)}")
        positive = ("b", "intensity_scale", "epochs", "batch_size", "learning_rate", "plateau_factor", "threads")
        for field in positive:
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} is {getattr(self, field)}; expected a number above 0")
        unsigned = (
            *("a", "fold", "train_cases", "test_cases", "noise_seed", "training_seed", "l2_weight", "plateau_patience"),
            *("shift", "rotation_deg", "smoothing_voxels", "ceiling_samples", "augment_probability"),
            *("phantom_size", "phantom_cases", "phantom_seed"),
        )
        for field in unsigned:
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}; expected at least 0")
        if self.augment_probability > 1:
            raise ValueError(f"augment_probability is {self.augment_probability}; expected 0 to 1")
        if self.plateau_factor >= 1:
            raise ValueError(f"plateau_factor is {self.plateau_factor}; expected a number below 1")
        if not self.organ or not all(c.isalnum() or c in "_" for c in self.organ):
            raise ValueError(f"organ is {self.organ!r}; expected letters, digits and underscores")

    @property
    def _cell(self) -> str:
        return f"{self.organ}-a{self.a:.3f}-{self.loss}-fold{self.fold}-{self.model}"

    @property
    def name(self) -> str:
        """Readable name of the run, from the axes of the grid; a training seed other than 1 is named last."""
        return self._cell + (f"-seed{self.training_seed}" if self.training_seed != 1 else "")

    @property
    def hash(self) -> str:
        """First 12 digits of the SHA-256 of all fields.

        A field that came later counts only where it is switched on: results from before it keep their names.
        """
        fields = dataclasses.asdict(self)
        for later in ("prior_bias", "fast_layers"):
            if not fields[later]:
                del fields[later]
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Name of the run's folder: another configuration is another folder, so that no result is overwritten.

        The seed is not in it: its hash tells two seeds apart, and runs from before there was such an axis are found.
        """
        return f"{self._cell}-{self.hash}"

    @property
    def data_folder(self) -> str:
        """Name of the data set's folder below ``data``."""
        if self.dataset == "phantoms":
            return f"phantoms-{self.phantom_size}-{self.phantom_cases}-{self.phantom_seed}"
        return self.dataset

    def seed_of_case(self, case: str) -> int:
        """Seed of a case's noisy label: a function of data set, case, a, b and ``noise_seed`` only.

        The two losses, and all folds, therefore see one and the same noisy label of a case.
        """
        text = f"{self.data_folder}/{self.organ}/{case}/a={self.a!r}/b={self.b!r}/{self.noise_seed}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON and YAML know them."""
        return {**dataclasses.asdict(self), "features": list(self.features)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Build a configuration; unknown and missing names are refused, with the name that may have been meant."""
        names = [field.name for field in dataclasses.fields(cls)]
        check_names("configuration", values, names, required=required_fields())
        values = dict(values)
        if isinstance(values["features"], list):
            values["features"] = tuple(values["features"])
        return cls(**values)


def required_fields() -> list[str]:
    """Names of the fields that every configuration must state: all but those that came later and have a default.

    Examples
    --------
    >>> "features" in required_fields(), "fast_layers" in required_fields()
    (True, False)
    """
    return [field.name for field in dataclasses.fields(RunConfig) if field.default is dataclasses.MISSING]


def check_names(what: str, given: Any, known: Any, required: Any = ()) -> None:
    """Refuse unknown and missing names, and suggest what may have been meant.

    Examples
    --------
    >>> check_names("preset", ["epoch"], ["epochs", "fold"])
    Traceback (most recent call last):
    ValueError: preset has the unknown key 'epoch'; did you mean 'epochs'?
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(str, known))}"
            raise ValueError(f"{what} has the unknown key {name!r}; {hint}")
    missing = [name for name in required if name not in given]
    if missing:
        raise ValueError(f"{what} lacks {', '.join(map(repr, missing))}")
