"""The notebook with sliders, and JupyterLab, in which it runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from conftest import ROOT, lacking


@pytest.fixture
def notebook() -> dict[str, Any]:
    """The names of the executed notebook."""
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        lacking("ipywidgets is not installed")
    names: dict[str, Any] = {}
    for cell in nbformat.read(ROOT / "notebooks" / "explore.ipynb", 4).cells:
        if cell.cell_type == "code":
            exec("\n".join(line for line in cell.source.splitlines() if not line.startswith("%")), names)
    return names


def test_a_person_moves_the_sliders(notebook: dict[str, Any], tmp_path: Path) -> None:
    at = notebook.__getitem__
    assert bytes(at("view").value).startswith(b"\x89PNG") and at("name").options == ("example",)
    maps = np.random.default_rng(0).random((6, 5, 4, 3)) ** np.array([1, 2, 4])
    np.save(tmp_path / "maps.npy", maps)
    at("file").value = str(tmp_path / "maps.npy")
    assert "name its axes" in at("problem").value, "the person is told"
    import nibabel as nib

    nib.save(nib.Nifti1Image(maps.astype(np.float32), np.eye(4)), tmp_path / "maps.nii.gz")
    at("file").value = str(tmp_path / "maps.nii.gz")
    assert at("problem").value == "" and at("name").options == ("0", "1", "2") and at("k").max == 4
    for widget, value in (("name", "2"), ("axis", 0), ("k", 3), ("score", "tversky"), ("alpha", 4.0), ("u", 0.7)):
        before = bytes(at("view").value)
        at(widget).value = value
        assert at("view").value != before and at("problem").value == "", widget
    assert np.array_equal(at("shown")["map"], maps[..., 2].astype(np.float32)) and at("k").max == 5
    nib.save(nib.Nifti1Image(maps[:, :, 0, 0].astype(np.float32), np.eye(4)), tmp_path / "flat.nii")
    at("file").value = str(tmp_path / "flat.nii")
    assert at("problem").value == "" and at("k").disabled


@pytest.mark.slow
def test_jupyterlab_starts_as_whoever_asks_and_on_loopback_alone(tmp_path: Path) -> None:
    """Root has to be allowed, which Jupyter does not do by itself; CI runs as root in a container."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment |= {"HOME": str(tmp_path), "BROWSER": "true"}
    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            ["timeout", "90", "make", "lab"],
            cwd=tmp_path,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        ) as process,
    ):
        try:
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/lab\?token=\w+", log.read_text())):
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert "root" not in log.read_text() or "listens on 127.0.0.1 alone" in log.read_text()
    assert "0.0.0.0" not in log.read_text() and int(found[1]) > 0
