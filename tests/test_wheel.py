"""The wheel is the library alone: what is in it, what it brings along, and that it works so on every Python at hand."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import noisyseg
from conftest import ROOT, lacking
from test_house import PROJECT, README_EXAMPLES

VERSIONS = [
    text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.fullmatch(r"Programming .* :: 3\.\d+", text)
]
# What NumPy and nibabel themselves need.
NEEDS = {"importlib-resources", "packaging", "typing-extensions"}
# What the library's tests need beside it; torch is not among them.
TESTING = ["hypothesis", "pytest", "scipy"]

LISTED = "import importlib.metadata as m; print(*sorted(d.name.lower().replace('_', '-') for d in m.distributions()))"
NUMBER = "import ensurepip, platform, sys, venv; print(platform.python_version(), sys.prefix == sys.base_prefix)"
LOADED = """
import sys
before = set(sys.modules)
import noisyseg
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(noisyseg.__file__)
print(*sorted(new - sys.stdlib_module_names))
"""


def python_at_hand(version: str) -> Path | None:
    """The oldest interpreter of a version such as 3.12 on this machine that can make environments."""
    found = {}
    folders = [*os.get_exec_path(), "/usr/bin", "/usr/local/bin"]
    folders += [str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin")]
    for folder in dict.fromkeys(folders):
        path = Path(folder) / f"python{version}"
        if path.exists() and "shims" not in path.parts:
            code = (
                "import ensurepip, platform, sys, venv; print(platform.python_version(), sys.prefix == sys.base_prefix)"
            )
            done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
            number, _, base = done.stdout.strip().partition(" ")
            if done.returncode == 0 and base == "True" and number.replace(".", "").isdigit():
                found[tuple(map(int, number.split(".")))] = path
    return found[min(found)] if found else None


def call(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without the variables that this process has for its own Python and pytest."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    environment["HYPOTHESIS_PROFILE"] = "again"  # tests/conftest.py
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, text=True, capture_output=True, check=False)


def run(*command: object, cwd: Path) -> str:
    """Give what a command prints, which must end well."""
    done = call(*command, cwd=cwd)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}", pytrace=False)
    return done.stdout


def install(python: Path, *what: object, only_wheels: bool = True, cwd: Path) -> None:
    """Install with pip; where no registry can be reached the test is skipped, in CI failed."""
    options = ["--only-binary", ":all:"] if only_wheels else []
    done = call(python, "-m", "pip", "install", "-q", "--no-compile", *options, *what, cwd=cwd)
    if done.returncode:
        if re.search(r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError", done.stderr):
            lacking(f"pip cannot reach its registry: {done.stderr.strip()[-300:]}")
        pytest.fail(f"pip cannot install {what}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}", pytrace=False)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from a copy: setuptools leaves its folder ``build`` beside the sources."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ".", cwd=source)
    (path,) = folder.iterdir()
    return path


def test_the_wheel_is_the_library_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"noisyseg-{noisyseg.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = ROOT / "src" / "noisyseg"
    assert names == {f"noisyseg/{p.relative_to(sources).as_posix()}" for p in sources.rglob("*.py")} | {
        "noisyseg/py.typed"
    }


def test_what_an_index_shows_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        assert len([name for name in archive.namelist() if "/licenses/LICENSE" in name]) == 2
    needed = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert {re.split(r"\W", text)[0] for text in needed} == {"numpy", "nibabel"}
    assert metadata["Requires-Python"] == ">=3.11" and metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert README_EXAMPLES[0] in description and "## Licence" in description
    assert "make reproduce" not in description and "<!--" not in description
    assert re.findall(r"\]\((?!https?://)[^)]*\)", description) == []  # nothing that only the repository has


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_alone(version: str, wheel: Path, tmp_path: Path) -> None:
    """Installed into an empty environment it brings NumPy and nibabel, does the README's examples, passes its tests."""
    base = python_at_hand(version)
    if base is None:
        pytest.skip(f"no Python {version} on this machine")
    print(run(base, "--version", cwd=tmp_path))
    run(base, "-m", "venv", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    before = set(run(python, "-c", LISTED, cwd=tmp_path).split())
    oldest = ["numpy==2.0.*", "nibabel==5.2.*"] if version == VERSIONS[0] else []  # the bounds hold what they promise
    install(python, wheel, *oldest, cwd=tmp_path)
    came = set(run(python, "-c", LISTED, cwd=tmp_path).split()) - before
    assert {"noisyseg", "numpy", "nibabel"} <= came <= {"noisyseg", "numpy", "nibabel"} | NEEDS

    file, loaded = run(python, "-W", "error", "-c", LOADED, cwd=tmp_path).splitlines()
    assert Path(file).is_relative_to(tmp_path / "env")
    assert set(loaded.split()) == {"noisyseg", "numpy"}

    (tmp_path / "readme.txt").write_text("\n".join(README_EXAMPLES))
    run(python, "-W", "error", "-m", "doctest", "readme.txt", cwd=tmp_path)

    install(python, *TESTING, *oldest, cwd=tmp_path)
    tests = ["-m", "not slow", "-p", "no:cacheprovider", ROOT / "tests" / "noisyseg"]
    print(run(python, "-X", f"pycache_prefix={tmp_path / 'cache'}", "-m", "pytest", "-q", *tests, cwd=ROOT))


LIBRARY_OF = "import noisyseg, sys; print(noisyseg.__file__, 'torch' in sys.modules)"


@pytest.mark.slow
def test_the_book_builds_from_the_wheel_on_a_later_python(wheel: Path, tmp_path: Path) -> None:
    """With the wheel, its extra ``book`` and what the experiment needs; torch alone, which is large, is left out."""
    version = "3.12"
    base = python_at_hand(version)
    if base is None:
        pytest.skip(f"no Python {version} on this machine")
    shutil.copytree(
        ROOT,
        tmp_path / "tree",
        ignore=lambda folder, names: (
            set(names)
            & (
                {".git", ".venv", "data", "runs", "_build", "build", "dist"}
                if Path(folder) == ROOT
                else {"noisyseg", "__pycache__"}
            )
        ),
    )
    config = tmp_path / "tree" / "_config.yml"
    mocked = config.read_text().replace("autodoc_mock_imports: [", "autodoc_mock_imports: [torch, ")
    assert mocked != config.read_text()
    config.write_text(mocked)
    run(base, "-m", "venv", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    experiment = [text for text in PROJECT["optional-dependencies"]["reproduction"] if not text.startswith("torch")]
    install(python, f"noisyseg[book] @ {wheel.as_uri()}", *experiment, only_wheels=False, cwd=tmp_path)
    settings = [
        f"PYTHONPATH={tmp_path / 'tree' / 'src'}",
        f"NOISYSEG_ROOT={tmp_path / 'tree'}",
        "PYTHONDONTWRITEBYTECODE=1",
    ]
    file, loaded = run("env", *settings, python, "-c", LIBRARY_OF, cwd=tmp_path).split()
    assert Path(file).is_relative_to(tmp_path / "env") and loaded == "False"
    run("env", *settings, python, "-m", "reproduction", "book", "--html", tmp_path / "html", cwd=tmp_path)
    pages = {
        path.relative_to(tmp_path / "html").with_suffix("").as_posix() for path in (tmp_path / "html").rglob("*.html")
    }
    assert {"book/api", "book/statements", "notebooks/experiment", "_modules/noisyseg/optimal"} <= pages
