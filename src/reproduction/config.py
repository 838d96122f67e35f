"""Plans: a preset is a grid of runs, and a run is one point of it (book chapter *Reproduce*).

A preset (``workflow/presets/<name>.yaml``) has a ``grid`` (lists: ``organ``, ``a``, ``loss``, ``fold``, ``model``, and
``training_seed`` where cells are trained more than once) and ``run`` (one value for every other field of
:class:`RunConfig`). With ``extends``, the name of another preset, it says only what is other than there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from reproduction import models
from reproduction.keys import Loader, check_names, one_line
from reproduction.paths import project_root, read_json

AXES = ("organ", "a", "loss", "fold", "model")
SEED_AXIS = "training_seed"  # the one axis that a grid may leave out: it then has one value, in `run`
POINT = (*AXES, SEED_AXIS)

Number = Annotated[float, AfterValidator(lambda value: value + 0.0)]  # 0, 0.0 and -0.0 must have one hash
Above0 = Annotated[Number, Field(gt=0)]
From0 = Annotated[Number, Field(ge=0)]
Widths = Annotated[
    tuple[PositiveInt, ...],
    Field(min_length=2),
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


#: Fields that came later, with the value at which they change nothing: such a field does not count in the hash, so that
#: results from before it keep their names.
LATER = {
    **{"prior_bias": False, "fast_layers": False, "own_seed": False, "targets": "once"},
    **{"convolutions": 2, "prune_from": 0, "prune_to": 0, "prune_channels": 0},
    **{"finish_loss": "none", "finish_rate": 0.0, "finish_epochs": 0},
}


def _known_model(name: str) -> str:
    try:
        models.parse(name)
    except ValueError as error:
        raise PydanticCustomError("model", models.EXPECTED) from error
    return name


class RunConfig(BaseModel):
    """One training run: data, noise, network, training, evaluation. Frozen; every field counts in :attr:`hash`.

    Examples
    --------
    >>> config = Preset.load("smoke").run(organ="hippocampus", a=0.02, loss="ce", fold=0)
    >>> config.name
    'hippocampus-a0.020-ce-fold0-unet'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # which run
    organ: Annotated[str, Field(pattern=r"^[^\W]+$")]
    a: From0
    loss: Literal["ce", "sd", "both"]  # both: the sum of the two
    fold: NonNegativeInt
    model: Annotated[str, AfterValidator(_known_model)]
    # data: cases, phantom_* describe the phantom set; *_cases limit a fold's cases (0: all)
    dataset: Literal["hippocampus", "phantoms", "totalsegmentator", "openkbp", "openkbp_offcentre", "openkbp_blank"]
    phantom_size: NonNegativeInt
    phantom_cases: NonNegativeInt
    phantom_seed: NonNegativeInt
    train_cases: NonNegativeInt
    test_cases: NonNegativeInt
    intensity_offset: Number
    intensity_scale: Above0
    # noise
    b: Above0
    noise_seed: NonNegativeInt
    # network
    features: Widths
    prior_bias: bool
    # training
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: Above0
    l2_weight: From0
    select: Literal["dice", "loss", "last"]
    schedule: Literal["plateau", "cosine"]
    plateau_patience: NonNegativeInt
    plateau_factor: Annotated[Number, Field(gt=0, lt=1)]
    training_seed: NonNegativeInt
    precision: Literal["auto", "float32", "bfloat16"]
    channels_last: bool
    threads: PositiveInt
    # augmentation
    augment_probability: Annotated[Number, Field(ge=0, le=1)]
    shift: From0
    rotation_deg: From0
    smoothing_voxels: From0
    # evaluation
    ceiling_samples: NonNegativeInt
    # Came later, and may be left out: layers that compute the same in other roundings, see UNet; random numbers of
    # every run's own, see `training_stream`; layers a block of LUNet; so many channels removed after each of the epochs
    # prune_from to prune_to, the last not included, see Pruner; what is learnt: the case's one noisy label, a fresh
    # one every epoch, or the marginal itself; the last epochs with another loss and rate
    fast_layers: bool = False
    own_seed: bool = False
    convolutions: PositiveInt = 2
    prune_from: NonNegativeInt = 0
    prune_to: NonNegativeInt = 0
    prune_channels: Annotated[NonNegativeInt, Field(validate_default=True)] = 0
    targets: Literal["once", "fresh", "marginal"] = "once"
    finish_loss: Literal["none", "ce", "sd"] = "none"
    finish_rate: From0 = 0.0
    finish_epochs: Annotated[NonNegativeInt, Field(validate_default=True)] = 0

    @field_validator("schedule")
    @classmethod
    def _the_last_epoch_ends_a_schedule(cls, schedule: str, info: ValidationInfo) -> str:
        if info.data.get("select") == "last" and schedule != "cosine":
            raise PydanticCustomError("last_epoch", "cosine, as select is last: only it ends with small steps")
        return schedule

    @field_validator("prune_channels")
    @classmethod
    def _a_plan_for_what_is_pruned(cls, channels: int, info: ValidationInfo) -> int:
        data = info.data
        if "model" not in data or not models.parse(data["model"]).criterion:
            return channels
        if not channels:
            raise PydanticCustomError("none", "at least 1, as the model is pruned")
        first, last, epochs = (data.get(name, 0) for name in ("prune_from", "prune_to", "epochs"))
        if not first < last < epochs:
            plan = f"prune_from {first}, prune_to {last}, epochs {epochs}"
            raise PydanticCustomError("when", "prune_from < prune_to < epochs; they are {plan}", {"plan": plan})
        if data.get("select") != "last":
            raise PydanticCustomError("select", "select: last with it: an earlier epoch has more channels")
        return channels

    @field_validator("finish_epochs")
    @classmethod
    def _a_plan_for_the_last_epochs(cls, count: int, info: ValidationInfo) -> int:
        data = info.data
        whole = (data.get("finish_loss") != "none", data.get("finish_rate", 0) > 0, count > 0)
        if any(whole) and not all(whole):
            raise PydanticCustomError(
                "finish", "finish_loss, finish_rate and finish_epochs to be set together, or none"
            )
        if count >= data.get("epochs", count + 1) or (count and data.get("select") != "last"):
            raise PydanticCustomError("finish", "less than epochs, of which they are the last, and select: last")
        return count

    @property
    def network(self) -> models.Model:
        """The name ``model``, taken apart."""
        return models.parse(self.model)

    @property
    def training_stream(self) -> tuple[int, ...]:
        """Seeds of the training's random numbers: ``training_seed``, and with ``own_seed`` the other axes of the grid.

        Without the latter all runs of a seed share initial weights, order of the cases and augmentation.
        """
        if not self.own_seed:
            return (self.training_seed,)
        point = f"{self.organ}/{self.a!r}/{self.loss}/{self.fold}/{self.model}"
        return (self.training_seed, int.from_bytes(hashlib.sha256(point.encode()).digest()[:8], "big"))

    @property
    def _cell(self) -> str:
        return f"{self.organ}-a{self.a:.3f}-{self.loss}-fold{self.fold}-{self.model}"

    @property
    def name(self) -> str:
        """Readable name of the run, from the axes of the grid; a training seed other than 1 is named last."""
        return self._cell + (f"-seed{self.training_seed}" if self.training_seed != 1 else "")

    @property
    def hash(self) -> str:
        """First 12 digits of the SHA-256 of all fields but those of :data:`LATER` that change nothing."""
        fields = {name: value for name, value in self.to_dict().items() if LATER.get(name) != value}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

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
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Build a configuration; unknown and missing names are refused, with the name that may have been meant."""
        check_names("configuration", values, cls.model_fields, required=required_fields())
        try:
            return cls(**values)
        except ValidationError as error:
            raise ValueError(one_line(error, values, cls.model_fields)) from error


def required_fields() -> list[str]:
    """Names of the fields that every configuration must state: all but those that came later and have a default.

    Examples
    --------
    >>> "features" in required_fields(), "fast_layers" in required_fields()
    (True, False)
    """
    return [name for name, field in RunConfig.model_fields.items() if field.is_required()]


def _points(points: Any) -> Any:
    if not isinstance(points, list) or not points or any(points.count(point) > 1 for point in points):
        raise ValueError(f"is {points!r}; expected a list without repeats")
    return tuple(points)


class Preset(BaseModel):
    """A named grid of runs.

    Examples
    --------
    >>> len(Preset.load("hippocampus").runs())
    120
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    about: str
    grid: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_points)]]
    values: dict[str, Any] = Field(alias="run")

    @field_validator("about")
    @classmethod
    def _one_paragraph(cls, about: str) -> str:
        return " ".join(about.split())

    @field_validator("grid")
    @classmethod
    def _axes_in_order(cls, grid: dict[str, Any]) -> dict[str, Any]:
        check_names("grid", grid, POINT, required=AXES)
        return {axis: grid[axis] for axis in POINT if axis in grid}

    @classmethod
    def load(cls, preset: str | os.PathLike[str]) -> Self:
        """Read a preset by name (``workflow/presets/<name>.yaml``) or by the path of a YAML file.

        Raises
        ------
        ValueError
            If there is no such preset, the file is no YAML mapping, or a key is unknown, missing, given twice or of a
            wrong type; the file and the key.
        """
        path = Path(preset)
        if path.suffix not in (".yaml", ".yml"):
            folder = project_root() / "workflow" / "presets"
            path = folder / f"{preset}.yaml"
            if not path.is_file():
                names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
                raise ValueError(f"preset is {str(preset)!r}; there are {names} (or give the path of a .yaml file)")
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"preset {path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ValueError(f"preset {path} holds {type(content).__name__}; expected a mapping")
        if "extends" in content:
            content = cls._extended(content, path.name)
        sections = ("about", "grid", "run")
        check_names(f"preset {path.name}", content, (*sections, "extends"), required=sections)
        try:
            made = cls(name=path.stem, **content)
            made._check()  # every value, now, and not in the middle of a night
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            section, *axis = first["loc"]
            reason = str(first.get("ctx", {}).get("error", ""))
            if axis:
                reason = f"grid: {axis[0]} {reason}"
            elif not reason:
                expected = "text" if section == "about" else "a mapping"
                reason = f"{section} is {first['input']!r}; expected {expected}"
            raise ValueError(f"preset {path.name}: {reason}") from error
        except ValueError as error:
            raise ValueError(f"preset {path.name}: {error}") from error
        return made

    @classmethod
    def _extended(cls, content: dict[str, Any], name: str) -> dict[str, Any]:
        """Fill ``grid`` and ``run`` of a preset that says only what is other than in the one that it extends."""
        changes = {section: content.get(section, {}) for section in ("grid", "run")}
        wrong = [section for section, change in changes.items() if not isinstance(change, dict)]
        if wrong:
            raise ValueError(f"preset {name}: {wrong[0]} is {content[wrong[0]]!r}; expected a mapping")
        try:
            base = cls.load(str(content["extends"]))
        except ValueError as error:
            raise ValueError(f"preset {name} extends {content['extends']!r}: {error}") from error
        grid = {axis: list(points) for axis, points in base.grid.items()}
        both = {"grid": {**grid, **changes["grid"]}, "run": {**base.values, **changes["run"]}}
        return {**{name: value for name, value in content.items() if name != "extends"}, **both}

    def _check(self) -> None:
        if SEED_AXIS in self.grid and SEED_AXIS in self.values:
            raise ValueError(f"{SEED_AXIS} is in grid and in run; expected it in one of them")
        known = [name for name in RunConfig.model_fields if name not in self.grid]
        check_names("run", self.values, known, required=[name for name in required_fields() if name in known])
        names = [run.name for run in self.runs()]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"grid: two runs would be called {twice[0]}; values of a must differ in three decimals")

    def run(self, **point: Any) -> RunConfig:
        """Configuration of one point of the grid; axes with a single value may be left out.

        ``training_seed`` may be given also where it is no axis: it then must be the preset's.

        Raises
        ------
        ValueError
            If an axis is unknown, missing, or its value is not on the grid.
        """
        check_names("run", point, POINT)
        full = {}
        for axis, points in {**self.grid, SEED_AXIS: self.seeds}.items():
            if axis not in point and points[1:]:
                raise ValueError(f"{axis} is missing; preset {self.name} has {', '.join(map(str, points))}")
            value = point.get(axis, points[0])
            if value not in points:
                raise ValueError(f"{axis} is {value!r}; preset {self.name} has {', '.join(map(str, points))}")
            full[axis] = value
        return RunConfig.from_dict({**self.values, **full})

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds; more than one where every cell is trained more than once."""
        return self.grid.get(SEED_AXIS) or (self.values[SEED_AXIS],)

    def runs(self) -> list[RunConfig]:
        """All runs of the grid, organ by organ and noise level by noise level."""
        points = itertools.product(*self.grid.values())
        return [self.run(**dict(zip(self.grid, point, strict=True))) for point in points]


def is_done(folder: Path, config: RunConfig, data_digest: str | None = None) -> bool:
    """Whether ``folder`` holds the result of this configuration (and of this data, where a digest is given)."""
    path = folder / "metrics.json"
    if not path.is_file():
        return False
    metrics = read_json(path)
    return metrics["config_hash"] == config.hash and data_digest in (None, metrics["data_digest"])
