"""Plans: a preset is a grid of runs.

A preset (``workflow/presets/<name>.yaml``) has a ``grid`` (lists: ``organ``, ``a``, ``loss``, ``fold``, ``model``, and
``training_seed`` where cells are trained more than once) and ``run`` (one value for every other field of
:class:`RunConfig`). A run is one point of the grid (book chapter *Reproduce*).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reproduction._run_config import RunConfig as RunConfig
from reproduction._run_config import check_names as check_names
from reproduction._run_config import required_fields
from reproduction.paths import project_root, read_json

AXES = ("organ", "a", "loss", "fold", "model")
SEED_AXIS = "training_seed"  # the one axis that a grid may leave out: it then has one value, in `run`
POINT = (*AXES, SEED_AXIS)


class _Loader(yaml.SafeLoader):
    """YAML as everybody reads it, but a key that occurs twice is an error: the first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Preset:
    """A named grid of runs.

    Examples
    --------
    >>> len(Preset.load("hippocampus").runs())
    120
    """

    name: str
    about: str
    grid: dict[str, tuple[Any, ...]]
    values: dict[str, Any]

    @classmethod
    def load(cls, preset: str | os.PathLike[str]) -> Preset:
        """Read a preset by name (``workflow/presets/<name>.yaml``) or by the path of a YAML file.

        Raises
        ------
        ValueError
            If there is no such preset, the file is no YAML mapping, or a key is unknown, missing, there twice or of a
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
        for section, kind in (("about", str), ("grid", dict), ("run", dict)):
            if not isinstance(content[section], kind):
                raise ValueError(f"preset {path.name}: {section} is {content[section]!r}; expected a {kind.__name__}")
        check_names(f"preset {path.name}, grid", content["grid"], POINT, required=AXES)
        for axis, points in content["grid"].items():
            if not isinstance(points, list) or not points or any(points.count(point) > 1 for point in points):
                raise ValueError(f"preset {path.name}, grid: {axis} is {points!r}; expected a list without repeats")
        if SEED_AXIS in content["grid"] and SEED_AXIS in content["run"]:
            raise ValueError(f"preset {path.name}: {SEED_AXIS} is in grid and in run; expected it in one of them")
        grid = {axis: tuple(content["grid"][axis]) for axis in POINT if axis in content["grid"]}
        names = [field.name for field in dataclasses.fields(RunConfig) if field.name not in grid]
        required = [name for name in required_fields() if name in names]
        check_names(f"preset {path.name}, run", content["run"], names, required=required)
        made = cls(path.stem, " ".join(content["about"].split()), grid, content["run"])
        try:
            names = [run.name for run in made.runs()]  # every value is checked now, not in the middle of a night
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"grid: two runs would be called {twice}; values of a must differ in three decimals")
        except ValueError as error:
            raise ValueError(f"preset {path.name}: {error}") from error
        return made

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
