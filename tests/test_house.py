"""The house itself: the files that belong together say the same, and what the README promises is there."""

from __future__ import annotations

import doctest
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import conftest
import noisyseg

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
DIRECT = [Requirement(r) for r in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(r) for r in group] for name, group in PROJECT["optional-dependencies"].items()}
LOCKED = DIRECT + [r for name in ("reproduction", "book", "test", "lab", "monai", "torchio") for r in EXTRAS[name]]
VERBS = {"reproduce", "test", "book", "pdf", "lab", "notebooks", "bench", "clean"}
OLDEST = "3.11.2"  # Debian 12's; the README names it, and make asks for it
PRESETS = {path.stem for path in (ROOT / "workflow" / "presets").glob("*.yaml")}

LAYOUT = """
    README.md Makefile pyproject.toml requirements.lock environment.yml LICENSE LICENSE-text CITATION.cff codecheck.yml
    CONTRIBUTING.md CHANGELOG.md setup.py src/noisyseg/py.typed .gitignore .gitattributes .ci/run _config.yml _toc.yml
    book/index.md book/references.bib book/_static notebooks/templates
    src/noisyseg/metrics.py src/noisyseg/optimal.py src/noisyseg/fields.py src/noisyseg/noise.py
    src/reproduction/__main__.py src/reproduction/data/cases.py src/reproduction/network/unet.py
    src/reproduction/scoring/rules.py src/reproduction/runs/run.py src/reproduction/report/readme.py
    data_scripts/hippocampus.py data_scripts/phantoms.py data_scripts/totalsegmentator.py
    workflow/Snakefile workflow/profiles/local workflow/profiles/gpus workflow/profiles/slurm
    tests/slurm_on_this_machine workflow/presets/smoke.yaml workflow/presets/quick.yaml
    workflow/presets/hippocampus.yaml workflow/presets/phantoms.yaml workflow/presets/paper.yaml
    results/hippocampus results/phantoms results/quick results/paper/table1.csv benchmarks/run.py
""".split()

# What is in a file that people read; the binary rest and scripts vendored for the book are not.
TEXT_SUFFIXES = set(".bib .cff .cfg .css .csv .ipynb .json .lock .md .py .sh .smk .toml .txt .yaml .yml".split())
TEXT_NAMES = {"Makefile", "Snakefile", "LICENSE", "LICENSE-text", ".gitignore", ".gitattributes", "run"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


README_EXAMPLES = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)


def own_files() -> list[Path]:
    """The files of the repository: those that git tracks, or would if they were added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: the list of the repository's own files comes from git")
    return [path for path in (ROOT / name for name in listed.split("\0") if name) if path.is_file()]


def lock() -> dict[str, str]:
    pins = {}
    for line in read("requirements.lock").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")  # nothing but exact pins: anything else fails here
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = version
    return pins


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make as a person would, not as a part of the make that may be running these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def make_targets() -> set[str]:
    return set(re.findall(r"^\.PHONY: (\S+)$", read("Makefile"), re.MULTILINE))


def modules() -> list[Path]:
    return sorted((ROOT / "src").rglob("*.py"))


# ---- dependencies in step -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", LOCKED, ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    pins = lock()
    name = canonicalize_name(requirement.name)
    assert name in pins, f"pyproject.toml asks for {requirement}, requirements.lock does not have it"
    assert requirement.specifier.contains(pins[name], prereleases=True), f"{pins[name]} is locked against {requirement}"


@pytest.mark.parametrize("name", lock())
def test_every_pin_installs_on_the_oldest_python(name: str) -> None:
    """Pip refuses what does not admit the running Python, and the lock may have been made on a later one."""
    required = importlib.metadata.metadata(name)["Requires-Python"] or ""
    assert SpecifierSet(required).contains(OLDEST), f"{name} {lock()[name]} needs Python {required}, not {OLDEST}"


@pytest.mark.parametrize("python", [OLDEST, platform.python_version()])
def test_the_lock_is_complete(python: str) -> None:
    """Everything that the dependencies depend on is pinned too, and nothing else is."""
    pins, todo, seen = lock(), list(LOCKED), set()
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen or key[0].startswith(("nvidia-", "cuda-", "triton")):  # torch pins its CUDA build itself
            continue
        seen.add(key)
        for text in importlib.metadata.requires(requirement.name) or []:
            child = Requirement(text)
            if child.marker is None or any(
                child.marker.evaluate({**environment, "extra": extra}) for extra in ("", *requirement.extras)
            ):
                todo.append(child)
    assert {name for name, _ in seen} == set(pins)


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {name: Version(importlib.metadata.version(name)).public for name in lock()}
    assert installed == lock()


def test_the_lock_serves_any_build_of_torch() -> None:
    assert lock()["torch"] == "2.13.0"
    assert not [version for version in lock().values() if "+" in version]  # a local version exists on one index only


def test_conda_users_get_the_same() -> None:
    environment = yaml.safe_load(read("environment.yml"))
    assert environment["name"] == PROJECT["name"]
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]  # any other package would be a second, unlocked source of versions
    assert pip["pip"][-2:] == ["-r requirements.lock", "-e ."]
    assert not [line for line in pip["pip"] if not line.startswith("-")]


def test_the_package_itself_has_loose_bounds() -> None:
    assert not [str(r) for r in LOCKED + EXTRAS["bench"] for s in r.specifier if s.operator in ("==", "~=", "===")]
    assert Requirement("jupyter-book>=1.0.4.post1,<2") in EXTRAS["book"]
    assert {r.name for r in DIRECT} == {"numpy", "nibabel"}
    assert PROJECT["requires-python"] == ">=3.11"
    assert EXTRAS["torch"] == [r for r in EXTRAS["reproduction"] if r.name == "torch"]


# ---- layout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUT)
def test_layout(name: str) -> None:
    assert (ROOT / name).exists()


def ignored_by_git(*names: str) -> list[str]:
    command = ["git", "check-ignore", "--no-index", *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode == 128:
        pytest.skip(f"git cannot tell: {result.stderr.strip()}")
    return result.stdout.split()


def test_what_commands_make_is_ignored_by_git() -> None:
    made = ["data", "runs", "_build", ".venv"]  # as folders, or as links to a larger disk
    assert ignored_by_git(*made) == made
    assert ignored_by_git("src/noisyseg/data/cases.py", "results/quick/summary.csv") == []  # alike in name only


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_every_public_module_has_a_test_module() -> None:
    """Tests mirror the packages: ``src/<package>/…/<name>.py`` has ``tests/<package>/test_<name>.py``, or its room."""
    missing = []
    for path in modules():
        package, *parts = path.relative_to(ROOT / "src").with_suffix("").parts
        if not any(part.startswith("_") for part in parts):
            names = {f"test_{parts[-1]}.py", f"test_{'_'.join(parts[-2:])}.py", f"test_{parts[-2:][0]}.py"}
            if not any((ROOT / "tests" / folder / name).is_file() for name in names for folder in (package, ".")):
                missing.append("/".join((package, *parts)))
    assert not missing, f"modules without a test module: {missing}"


def test_no_path_of_one_machine() -> None:
    """No file names a folder that exists on its author's machine only, stored notebook outputs included."""
    pattern = re.compile(r"(?<![\w.:/<>${}*+-])/(?:work|home|root|tmp)/")
    found = []
    for path in own_files():
        if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if match := pattern.search(line):
                    around = line[max(0, match.start() - 20) : match.end() + 40]
                    found.append(f"{path.relative_to(ROOT)}:{number}: {around}")
    assert not found, "\n".join(found)


# ---- what the README and the Makefile promise -----------------------------------------------------------------------


def test_the_verbs_are_targets_and_explained() -> None:
    assert make_targets() >= VERBS | {"help", "distclean"}
    described = make("help").stdout
    assert set(re.findall(r"^make (\w+)", described, re.MULTILINE)) == VERBS
    assert make().stdout == described
    for variable, folder, suffix in (("PRESET", "presets", ".yaml"), ("PROFILE", "profiles", "")):
        (names,) = re.findall(rf"{variable}=([a-z|]+\|[a-zA-Z|]+)", described)
        for name in set(names.split("|")) - {"DIR"}:
            assert (ROOT / "workflow" / folder / f"{name}{suffix}").exists(), f"make help names {variable}={name}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_and_links_of_the_texts_exist(name: str) -> None:
    text = read(name)
    commands = set(re.findall(r"(?:^|`|&& )make (\w+)", text, re.MULTILINE))
    assert commands and commands <= make_targets()
    assert set(re.findall(r"PRESET=(\w+)", text)) <= PRESETS
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), f"{name} links to {target}"


def test_the_readme_names_the_pythons() -> None:
    """Those of the library, and the oldest that the lock installs on."""
    text = read("README.md")
    assert f"Python 3.11 ({OLDEST}, which Debian 12 has, or a later 3.11" in text
    versions = [v for c in PROJECT["classifiers"] if (v := c.rpartition(":: ")[2]).startswith("3.")]
    assert f"Python {', '.join(versions[:-1])} or {versions[-1]}" in text


def test_readme_has_the_two_commands_and_every_verb() -> None:
    text = read("README.md")
    assert "```\nmake reproduce\n```" in text and "```\nmake test\n```" in text
    assert "make reproduce PRESET=hippocampus" in text
    assert all(f"make {verb}" in text for verb in VERBS)
    assert all(f"| `{preset}` |" in text for preset in PRESETS)


def test_readme_examples_run() -> None:
    test = doctest.DocTestParser().get_doctest("\n".join(README_EXAMPLES), {}, "README.md", "README.md", 0)
    assert len(test.examples) >= 4
    report: list[str] = []
    assert doctest.DocTestRunner().run(test, out=report.append).failed == 0, "".join(report)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder, with a blank in its name, that has what make reads before it installs."""
    folder = tmp_path / "with space"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


def python_that_is(version: str, folder: Path, venv: bool = True) -> Path:
    """A command that answers as a Python of that version does, with or without its venv module."""
    path = folder / f"python {version}"
    path.write_text(f"#!/bin/sh\ncase $2 in *version*) echo {version} ;; *) exit {0 if venv else 1} ;; esac\n")
    path.chmod(0o755)
    return path


def test_without_a_suitable_python_make_says_so_in_one_line(elsewhere: Path, tmp_path: Path) -> None:
    why = {
        "no-such-python": "does not run",
        "false": "does not run",
        str(python_that_is("3.10.13", tmp_path)): "is Python 3.10.13",
        str(python_that_is("3.11.1", tmp_path)): "is Python 3.11.1",
        str(python_that_is("3.12.1", tmp_path)): "is Python 3.12.1",
        str(python_that_is("3.11.4", tmp_path, venv=False)): "without its venv module (on Debian: apt install python3.",
    }
    for python, reason in why.items():
        result = make("book", f"PYTHON={python}", cwd=elsewhere)
        assert result.returncode != 0 and result.stdout == ""
        first = result.stderr.splitlines()[0]
        assert f"Python {OLDEST} or a later 3.11" in first and f'"{python}"' in first and reason in first
        assert not (elsewhere / ".venv").exists()


def test_make_takes_the_first_suitable_python(elsewhere: Path, tmp_path: Path) -> None:
    """Where `python3.11` is none, such as a shim of pyenv, the system's own is tried, and all that were are named."""
    command = ("book", "PYTHONS=no-such-python false", "PYTHON=")
    assert '"no-such-python" does not run; "false" does not run.' in make(*command, cwd=elsewhere).stderr
    for version in (OLDEST, "3.11.13"):
        suitable = python_that_is(version, tmp_path / "with space").relative_to(tmp_path / "with space")
        link = tmp_path / "with space" / "python-of-the-system"
        link.unlink(missing_ok=True)
        link.symlink_to(suitable)
        result = make("book", "PYTHONS=no-such-python ./python-of-the-system", "PYTHON=", cwd=elsewhere)
        assert "setting up .venv with ./python-of-the-system" in result.stdout  # and then there is no .venv/bin/python


def variable(name: str, cwd: Path, **environment: str) -> str:
    given = ["env", *(f"{key}={value}" for key, value in environment.items())]
    command = [*given, "make", "--eval", f"shown: ; @printenv {name}", "shown"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout.rstrip("\n")


def test_make_needs_no_home(elsewhere: Path, tmp_path: Path) -> None:
    assert variable("HOME", elsewhere, HOME=str(tmp_path)) == str(tmp_path)
    for home in (str(tmp_path / "none"), ""):
        assert variable("HOME", elsewhere, HOME=home) == str(elsewhere / ".venv" / "home")
    assert variable("PYTHONPATH", elsewhere) == str(elsewhere / "src")


def test_kernels_that_make_starts_are_of_its_own_python(tmp_path: Path) -> None:
    """The user's kernel `python3`, which Jupyter may prefer to the environment's, is of a Python that is gone."""
    kernel = tmp_path / ".local" / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [str(tmp_path / "gone" / "python3"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "gone", "language": "python"}))
    home = {"HOME": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "0"}
    code = (
        "from jupyter_client.manager import KernelManager as K; print(K(kernel_name='python3').format_kernel_cmd()[0])"
    )

    def python(**environment: str) -> str:
        given = {name: value for name, value in os.environ.items() if name not in ("JUPYTER_PATH", "JUPYTER_DATA_DIR")}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={**given, **environment}, capture_output=True, text=True, check=True)
        return done.stdout.rstrip("\n")

    assert python(**home) == argv[0], "the trap is one"
    assert python(**home, JUPYTER_PATH=variable("JUPYTER_PATH", ROOT)) == sys.executable


def test_the_only_command_is_the_librarys() -> None:
    """`python -m reproduction` needs the repository; a command on everybody's path would not work without it."""
    assert PROJECT["scripts"] == {"noisyseg": "noisyseg.cli:main"}
    assert not {"gui-scripts", "entry-points"} & PROJECT.keys()


def test_ci_runs_the_readmes_test_command() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert read(".ci/run").startswith("#!/usr/bin/env bash\n")
    assert re.search(r"^make test\b", read(".ci/run"), re.MULTILINE)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


# ---- versions, licence, citation ------------------------------------------------------------------------------------


def test_one_version_everywhere() -> None:
    assert PROJECT["dynamic"] == ["version", "readme"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "noisyseg.__version__"}
    assert str(yaml.safe_load(read("CITATION.cff"))["version"]) == noisyseg.__version__
    try:
        installed = importlib.metadata.version("noisyseg")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("noisyseg is not installed, only on the path")
    assert installed == noisyseg.__version__


def test_citation_names_the_project_and_the_paper() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "version", "license", "type"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"] == "BSD-3-Clause"
    (paper,) = citation["references"]
    assert paper["title"] == "Marginal Thresholding in Noisy Image Segmentation"
    assert [author["family-names"] for author in paper["authors"]] == ["Nordström", "Hult", "Maki"]
    assert paper["year"] == 2023
    assert [i["value"] for i in paper["identifiers"]] == ["arXiv:2304.04116"]


def test_what_a_codecheck_should_reproduce() -> None:
    """The manifest of https://codecheck.org.uk/spec/config/1.0: every file is there, with the command that makes it."""
    text = read("codecheck.yml")
    check = yaml.safe_load(text)
    assert "\n---\n" in text and check["version"] == "https://codecheck.org.uk/spec/config/1.0/"
    files = [item["file"] for item in check["manifest"]]
    assert len(files) >= 8 and len(set(files)) == len(files)
    assert all((ROOT / file).is_file() for file in files)
    commands = [
        re.search(r"make (\w+)|python (\S+\.py)|python -m reproduction", c["comment"]) for c in check["manifest"]
    ]
    assert all(commands)
    assert {c[1] for c in commands if c and c[1]} <= make_targets()
    assert all((ROOT / c[2]).is_file() for c in commands if c and c[2])
    assert check["paper"]["title"] == yaml.safe_load(read("CITATION.cff"))["title"]
    assert [author["name"] for author in check["paper"]["authors"]] == ["The noisyseg authors"]


def test_licences() -> None:
    code, text = read("LICENSE"), read("LICENSE-text")
    assert code.startswith("BSD 3-Clause License")
    assert all(f"\n{number}. " in code for number in (1, 2, 3)) and "PROVIDED BY THE COPYRIGHT HOLDERS" in code
    assert "CC BY 4.0" in text and "https://creativecommons.org/licenses/by/4.0/legalcode" in text
    assert PROJECT["license-files"] == ["LICENSE", "LICENSE-text"]
    assert re.search(r"Copyright \(c\) (.*)", code).group(1) in text  # type: ignore[union-attr]


# ---- style -----------------------------------------------------------------------------------------------------------


def test_ruff_sees_every_python_file_and_notebook() -> None:
    """An exclude such as "data" matches every folder of that name, also ``src/reproduction/data``."""
    command = [sys.executable, "-m", "ruff", "check", "--show-files"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.splitlines()
    seen = {Path(line) for line in shown}
    unseen = {path for path in own_files() if path.suffix in {".py", ".pyi", ".ipynb"}} - seen
    assert not unseen, f"ruff does not look at {sorted(str(path.relative_to(ROOT)) for path in unseen)}"
    assert not [path for path in seen if path.is_relative_to(ROOT / "data") or path.is_relative_to(ROOT / "runs")]


# ---- what every test relies on --------------------------------------------------------------------------------------


def test_missing_shared_data_skips_here_and_fails_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert conftest.require_folder(tmp_path, "x") == tmp_path
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"expected the folder \.\./shared/data"):
        conftest.require_folder(tmp_path / "none", "../shared/data")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"expected the folder \.\./shared/data"):
        conftest.require_folder(tmp_path / "none", "../shared/data")


def test_tests_reach_this_host_and_no_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    with socket.socket() as client, pytest.raises(OSError, match="may not use the network"):
        client.connect(("192.0.2.1", 9))  # an address reserved for documentation
