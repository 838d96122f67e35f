"""Plans: a preset is a grid of runs, and a run is one point of it (book chapter *Reproduce*).

A preset (``workflow/presets/<name>.yaml``) has a ``grid`` (lists: ``organ``, ``a``, ``loss``, ``fold``, ``model``, and
``training_seed`` where cells are trained more than once) and ``run`` (one value for every other field of
:class:`RunConfig`).
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

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
    loss: Literal["ce", "sd"]
    fold: NonNegativeInt
    model: Literal["unet"]
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
    # Came later, and may be left out: layers that compute the same in other roundings, see UNet; initial weights, order
    # and augmentation of every run's own, see `training_stream`
    fast_layers: bool = False
    own_seed: bool = False

    @field_validator("schedule")
    @classmethod
    def _the_last_epoch_ends_a_schedule(cls, schedule: str, info: ValidationInfo) -> str:
        if info.data.get("select") == "last" and schedule != "cosine":
            raise PydanticCustomError("last_epoch", "cosine, as select is last: only it ends with small steps")
        return schedule

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
        """First 12 digits of the SHA-256 of all fields; one that came later counts only where it is switched on."""
        later = ("prior_bias", "fast_layers", "own_seed")
        fields = {name: value for name, value in self.to_dict().items() if value or name not in later}
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
            raise ValueError(_one_line(error, values)) from error


#: What pydantic found wrong, in this project's words; braces are filled from the error's context.
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": "letters, digits and underscores",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
}


def _one_line(error: ValidationError, values: dict[str, Any]) -> str:
    """Say the first thing that is wrong: the field, what was found, and what was expected."""
    first = error.errors(include_url=False)[0]
    field, kind = str(first["loc"][0]), first["type"]
    if field == "features":
        expected = "a list of at least two positive integers"
    elif kind == "literal_error":
        expected = f"one of {', '.join(get_args(RunConfig.model_fields[field].annotation))}"
    else:
        expected = _EXPECTED.get(kind, first["msg"]).format(**first.get("ctx", {}))
    if kind == "float_type" and isinstance(values[field], str) and "e" in values[field].lower():
        expected += " (YAML takes 1e-5 for text: write 1.0e-5)"
    return f"{field} is {values[field]!r}; expected {expected}"


def required_fields() -> list[str]:
    """Names of the fields that every configuration must state: all but those that came later and have a default.

    Examples
    --------
    >>> "features" in required_fields(), "fast_layers" in required_fields()
    (True, False)
    """
    return [name for name, field in RunConfig.model_fields.items() if field.is_required()]


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


class _Loader(yaml.SafeLoader):
    """YAML as everybody reads it, but a key that occurs twice is an error: the first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


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
            content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"preset {path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ValueError(f"preset {path} holds {type(content).__name__}; expected a mapping")
        sections = ("about", "grid", "run")
        check_names(f"preset {path.name}", content, sections, required=sections)
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


def notebook_parameters(namespace: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """Parameters of a papermill template, from its ``globals()``; every other name is refused.

    papermill injects a name that the template does not know with no more than a warning: the run would then silently
    use a default. Call this right after the cell tagged ``parameters``, before any import. What IPython and the user's
    startup files had defined before the first cell does not count.

    Examples
    --------
    >>> notebook_parameters({"_private": 0, "fold": 1, "a": 0.01}, ("a", "fold"))
    {'a': 0.01, 'fold': 1}
    >>> notebook_parameters({"fold": 1, "a": 0.01, "epoch": 3}, ("a", "fold"))
    Traceback (most recent call last):
    ValueError: notebook has the unknown key 'epoch'; known are a, fold
    """
    interactive = {"In", "Out", "exit", "quit", "get_ipython", "open", "notebook_parameters"}
    shell: Any = namespace.get("get_ipython")
    before = {} if shell is None else shell().user_ns_hidden
    names = [
        name
        for name, value in namespace.items()
        if not name.startswith("_") and name not in interactive and not (name in before and before[name] is value)
    ]
    check_names("notebook", names, known, required=known)
    return {name: namespace[name] for name in known}
