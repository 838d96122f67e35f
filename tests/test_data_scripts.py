"""The scripts in data_scripts: idempotent, resumable, one line for every error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reproduction.data.cases import CaseSet
from reproduction.data.scripts import run_script


def script(root: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "data_scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def one_line(done: subprocess.CompletedProcess[str], name: str) -> str:
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: ")
    return line


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


def test_phantoms_twice_and_after_a_loss(root, tmp_path):
    numbers = ("--size", 16, "--cases", 5, "--seed", 3, "--out", tmp_path / "set")
    done = script(root, "phantoms.py", *numbers)
    assert done.returncode == 0, done.stderr
    made = CaseSet(tmp_path / "set")
    assert f"{tmp_path / 'set'}: kidney, aorta, oesophagus, SHA-256 {made.digest[:12]}" in done.stdout
    assert all(len(made.load(organ)) == 5 for organ in ("kidney", "aorta", "oesophagus"))
    before = times(tmp_path / "set")
    assert len(before) == 16 and script(root, "phantoms.py", *numbers).returncode == 0
    assert times(tmp_path / "set") == before
    # As if it had been killed: what is there is kept, what is missing is made, and the set is the same.
    (tmp_path / "set" / "manifest.json").unlink()
    lost = tmp_path / "set" / "aorta" / "aorta-00002.npz"
    lost.unlink()
    assert script(root, "phantoms.py", *numbers).returncode == 0
    after = times(tmp_path / "set")
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"manifest.json", "aorta/aorta-00002.npz"} and CaseSet(tmp_path / "set").digest == made.digest
    # Other numbers never mix with these.
    other = script(root, "phantoms.py", "--size", 16, "--cases", 6, "--seed", 3, "--out", tmp_path / "set")
    assert "holds phantoms made with" in one_line(other, "phantoms.py") and times(tmp_path / "set") == after


def test_phantoms_refuse_bad_numbers(root, tmp_path):
    done = script(root, "phantoms.py", "--cases", 2, "--out", tmp_path / "set")
    assert "cases is 2" in one_line(done, "phantoms.py")
    assert script(root, "phantoms.py", "--size", "big").returncode == 2
    assert not (tmp_path / "set").exists()


def test_hippocampus_refuses_a_wrong_source(root, tmp_path):
    done = script(root, "hippocampus.py", "--out", tmp_path / "set", "--source", tmp_path / "nowhere")
    assert "nowhere does not exist; expected a folder with Task04_Hippocampus" in one_line(done, "hippocampus.py")
    empty = tmp_path / "empty"
    empty.mkdir()
    done = script(root, "hippocampus.py", "--out", tmp_path / "set", "--source", empty)
    assert "found 0 labelled cases below imagesTr and labelsTr; expected 260" in one_line(done, "hippocampus.py")
    (tmp_path / "Task04_Hippocampus.tar").write_bytes(b"no archive" * 1000)
    done = script(root, "hippocampus.py", "--out", tmp_path / "set", "--source", tmp_path / "Task04_Hippocampus.tar")
    assert "Task04_Hippocampus.tar is damaged or no" in one_line(done, "hippocampus.py")
    assert not (tmp_path / "set" / "manifest.json").exists()


def test_hippocampus_names_the_damaged_volume_and_goes_on_after_it(root, tmp_path, hippocampus_source):
    """A copy of the real task by links, with one truncated volume and then one label of another case."""
    copy = tmp_path / "Task04_Hippocampus"
    for folder in ("imagesTr", "labelsTr"):
        (copy / folder).mkdir(parents=True)
        for path in (hippocampus_source / "Task04_Hippocampus" / folder).glob("hippocampus_*.nii.gz"):
            (copy / folder / path.name).symlink_to(path)
    names = sorted(path.name for path in (copy / "imagesTr").iterdir())
    assert len(names) == 260
    volume, label = copy / "imagesTr" / names[2], copy / "labelsTr" / names[4]
    whole, right = volume.resolve(), label.resolve()
    volume.unlink()
    volume.write_bytes(whole.read_bytes()[:-1000])
    label.unlink()
    label.symlink_to(copy / "labelsTr" / names[5])
    made = tmp_path / "set" / "hippocampus"
    done = script(root, "hippocampus.py", "--out", tmp_path / "set", "--source", tmp_path)
    assert f"imagesTr/{names[2]}: no usable NIfTI volume: " in one_line(done, "hippocampus.py")
    assert len(list(made.glob("*.npz"))) == 2
    kept = times(made)
    shutil.copy(whole, volume)
    done = script(root, "hippocampus.py", "--out", tmp_path / "set", "--source", tmp_path)
    said = one_line(done, "hippocampus.py")
    assert f"case {names[4].removesuffix('.nii.gz')}: the label does not match its image" in said
    assert len(list(made.glob("*.npz"))) == 4 and times(made).items() >= kept.items()
    assert right.is_file() and not (tmp_path / "set" / "manifest.json").exists()


def test_an_interrupt_is_one_line_and_no_success(capsys, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["data_scripts/phantoms.py"])
    with pytest.raises(SystemExit) as ended:
        run_script(interrupted)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "phantoms.py: stopped; the same command goes on from here\n"


@pytest.mark.parametrize("name", ["hippocampus.py", "openkbp.py", "phantoms.py"])
def test_help(root, name):
    done = script(root, name, "--help")
    assert done.returncode == 0 and "--out" in done.stdout
