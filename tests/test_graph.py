"""The rooms of the house: what may import what. The graph is read from the source, late imports included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"

#: From the ground up. A room imports from itself and from rooms below it.
LIBRARY = [
    {"_core"},
    {"metrics", "fields"},
    {"expected", "optimal", "noise"},
    {"linear_fractional", "raters", "volume", "classes", "calibration"},
    {"maps", "integrations"},
    {"cli"},
    {"__main__"},
    {"__init__"},
]
EXPERIMENT = [
    {"__init__", "paths", "text", "models", "keys"},
    {"provenance", "config", "listings"},
    {"data"},
    {"network"},
    {"scoring"},
    {"runs"},
    {"figures"},
    {"chapters"},
    {"report"},
    {"__main__"},
]


def name_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SRC.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Give the modules of this project that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import; name the module in full"
            base = node.module or ""
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name in MODULES}
    return found


def room(module: str) -> str:
    """Give the room of a module: the folder or the file below the package."""
    return [*module.split("."), "__init__"][1]


GRAPH = {module: imports(path) - {module} for module, path in MODULES.items()}


def floor(module: str) -> int:
    floors = LIBRARY if module.split(".")[0] == "noisyseg" else EXPERIMENT
    return next((k for k, rooms in enumerate(floors) if room(module) in rooms), -1)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_goes_up(module: str) -> None:
    assert floor(module) >= 0, f"{module} is in no room: add it to this test"
    package = module.split(".")[0]
    for other in GRAPH[module]:
        if other.split(".")[0] != package:
            assert package == "reproduction", f"the library imports {other}"
        elif other != package:  # the package's own page: its version
            assert floor(other) <= floor(module), f"{module} imports {other} from a floor above"
            same = floor(other) == floor(module) and package == "reproduction"
            assert not same or room(other) == room(module), f"{module} and {other} are on one floor and in two rooms"


def test_no_module_imports_itself_through_others() -> None:
    """No circle: every module comes after all that it imports."""
    done: set[str] = set()
    left = dict(GRAPH)
    while ready := {module for module, needed in left.items() if needed <= done}:
        done |= ready
        left = {module: needed for module, needed in left.items() if module not in ready}
    assert not left, f"in a circle: {sorted(left)}"


def test_the_library_is_small() -> None:
    library = {module: path for module, path in MODULES.items() if module.split(".")[0] == "noisyseg"}
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in library.values()) <= 5950
    assert len(list((SRC / "noisyseg").glob("*.py"))) <= 13
