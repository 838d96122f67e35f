"""The house itself: the files that belong together say the same, and what the README promises is there."""

from __future__ import annotations

import doctest
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import conftest
import noisyseg

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
DIRECT = [Requirement(r) for r in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(r) for r in group] for name, group in PROJECT["optional-dependencies"].items()}
LOCKED = DIRECT + [r for name in ("reproduction", "book", "test", "lab") for r in EXTRAS[name]]
VERBS = {"reproduce", "test", "book", "lab", "notebooks", "bench", "clean"}
PRESETS = {"smoke", "quick", "phantoms", "hippocampus", "paper"}

LAYOUT = """
    README.md Makefile pyproject.toml requirements.lock environment.yml LICENSE LICENSE-text CITATION.cff
    CONTRIBUTING.md .gitignore .gitattributes .ci/run _config.yml _toc.yml
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


def test_the_lock_is_complete() -> None:
    """Everything that the dependencies depend on is pinned too, and nothing else is."""
    pins, todo, seen = lock(), list(LOCKED), set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen or key[0].startswith(("nvidia-", "cuda-", "triton")):  # torch pins its CUDA build itself
            continue
        seen.add(key)
        for text in importlib.metadata.requires(requirement.name) or []:
            child = Requirement(text)
            if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
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


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_and_links_of_the_texts_exist(name: str) -> None:
    text = read(name)
    commands = set(re.findall(r"(?:^|`|&& )make (\w+)", text, re.MULTILINE))
    assert commands and commands <= make_targets()
    assert set(re.findall(r"PRESET=(\w+)", text)) <= PRESETS
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).exists(), f"{name} links to {target}"


def test_readme_has_the_two_commands_and_every_verb() -> None:
    text = read("README.md")
    assert "```\nmake reproduce\n```" in text and "```\nmake test\n```" in text
    assert "make reproduce PRESET=hippocampus" in text
    assert all(f"make {verb}" in text for verb in VERBS)
    assert all(f"| `{preset}` |" in text for preset in PRESETS)


def test_readme_examples_run() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
    test = doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0)
    assert len(test.examples) >= 4
    report: list[str] = []
    assert doctest.DocTestRunner().run(test, out=report.append).failed == 0, "".join(report)


def test_without_python_make_says_so_in_one_line(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for python in ("no-such-python", "false"):  # not there; there, but not Python 3.11
        result = make("book", f"PYTHON={python}", cwd=tmp_path)
        assert result.returncode != 0
        assert "Python 3.11" in result.stderr.splitlines()[0] and f'"{python}"' in result.stderr.splitlines()[0]
        assert not (tmp_path / ".venv").exists()


def test_ci_runs_the_readmes_test_command() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert read(".ci/run").startswith("#!/usr/bin/env bash\n")
    assert re.search(r"^make test\b", read(".ci/run"), re.MULTILINE)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


# ---- versions, licence, citation ------------------------------------------------------------------------------------


def test_one_version_everywhere() -> None:
    assert PROJECT["dynamic"] == ["version"]
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


def test_licences() -> None:
    code, text = read("LICENSE"), read("LICENSE-text")
    assert code.startswith("BSD 3-Clause License")
    assert all(f"\n{number}. " in code for number in (1, 2, 3)) and "PROVIDED BY THE COPYRIGHT HOLDERS" in code
    assert "CC BY 4.0" in text and "https://creativecommons.org/licenses/by/4.0/legalcode" in text
    assert PROJECT["license-files"] == ["LICENSE", "LICENSE-text"]
    assert re.search(r"Copyright \(c\) (.*)", code).group(1) in text  # type: ignore[union-attr]


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
