"""Tests of reproduction.data.rater_levels: bit fields by hand, bad folders, the script, and the committed table."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from skimage.io import imsave

from noisyseg import dice_threshold, marginal
from reproduction.data.rater_levels import count_levels, levels, read_levels, values_and_counts


def kidney(folder: Path, field: np.ndarray, name: str = "case_00002_kidney_instance-1") -> None:
    folder.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(field.astype(np.uint8), np.eye(4)), folder / f"{name}.nii.gz")


def cell(folder: Path, field: np.ndarray, bits: str, name: str = "set1_B01.png") -> None:
    folder.mkdir(exist_ok=True)
    imsave(folder / name, field.astype(np.uint16), check_contrast=False)
    (folder / "annotations.csv").write_text(f"file,bits\n{name},{bits}\nalone.png,4\n")


def fields() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 8, (3, 4, 5)), rng.integers(0, 1024, (6, 7))


def test_the_levels_are_those_of_the_marginal():
    field, _ = fields()
    labels = np.stack([(field >> k) & 1 for k in range(3)])
    m = marginal(labels)
    counts = levels(field, [0, 1, 2])
    assert counts == [int((np.rint(3 * m) == k).sum()) for k in range(4)]
    assert dice_threshold(np.repeat(np.arange(4) / 3, counts)) == pytest.approx(dice_threshold(m), abs=1e-15)
    assert levels(field, [1]) == [int((labels[1] == k).sum()) for k in (0, 1)], "bits that are not named do not count"


def test_a_folder_of_each(tmp_path):
    field, picture = fields()
    kidney(tmp_path / "kidneys", field)
    cell(tmp_path / "cells", picture, "0 2 9")
    table = count_levels(tmp_path / "kidneys", tmp_path / "cells")
    assert table["data"].tolist() == ["KiTS23 kidney", "BU-BIL cell"], "what one person drew is left out"
    assert table["structure"].tolist() == ["case_00002_kidney_instance-1", "set1_B01"]
    assert table["raters"].tolist() == [3, 3] and table["inside_4"].isna().all()
    values, counts = values_and_counts(table.to_dict("records")[1])
    assert values.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert counts.tolist() == levels(picture, [0, 2, 9]) and counts.sum() == picture.size


def test_bad_folders(tmp_path):
    field, picture = fields()
    cell(tmp_path / "cells", picture, "0 1 2")
    with pytest.raises(FileNotFoundError, match=r"no structures in .*none"):
        count_levels(tmp_path / "none", tmp_path / "cells")
    kidney(tmp_path / "kidneys", field)
    cell(tmp_path / "few", picture, "0 1")
    with pytest.raises(FileNotFoundError, match=r"annotations\.csv names none with 3 delineations"):
        count_levels(tmp_path / "kidneys", tmp_path / "few")
    kidney(tmp_path / "kidneys", field + 8)
    with pytest.raises(ValueError, match=r"case_00002_kidney_instance-1\.nii\.gz: a label with"):
        count_levels(tmp_path / "kidneys", tmp_path / "cells")


def test_the_script_writes_the_table_or_one_line(root, tmp_path):
    field, picture = fields()
    kidney(tmp_path / "kidneys", field)
    cell(tmp_path / "cells", picture, "0 1 2 3")
    script = [sys.executable, str(root / "data_scripts" / "rater_levels.py"), "--out", str(tmp_path / "out")]
    ran = subprocess.run(
        [*script, "--kidneys", str(tmp_path / "kidneys"), "--cells", str(tmp_path / "cells")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "BU-BIL cell, 1 structures" in ran.stdout
    assert (tmp_path / "out" / "levels.csv").read_text().splitlines()[0].startswith("data,structure,raters,inside_0,")
    failed = subprocess.run(
        [*script, "--kidneys", str(tmp_path / "x"), "--cells", str(tmp_path / "cells")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1 and failed.stderr.startswith("rater_levels.py: no structures in")


def test_the_committed_table(root):
    table, facts = read_levels()
    content = (root / "results" / "rater_levels" / "levels.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == facts["table_digest"]
    assert len(table) == 490 and set(table["raters"]) == {3, 8, 9, 10}
    for row in table.to_dict("records"):
        values, counts = values_and_counts(row)
        assert counts[0] > 0 and values @ counts > 0


def test_the_committed_table_is_of_the_real_data(shared_data):
    again = count_levels(shared_data / "kits23_raters", shared_data / "bubil_raters")
    stored, _ = read_levels()
    assert again.equals(stored.astype(again.dtypes.to_dict()))
