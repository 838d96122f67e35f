"""Profiles: how they are found, what each one needs, options and slots, and that sharing changes no result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from conftest import ROOT
from reproduction import __main__ as cli
from reproduction.config import Preset
from reproduction.runs import profiles
from reproduction.runs.gpus import NoDeviceError
from reproduction.runs.profiles import Profile

NAMES = ["gpus", "local", "slurm"]


def write(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(text)
    return f"{folder}/"


# found


@pytest.mark.parametrize(
    ("gpu", "device", "expected"),
    [
        (False, None, "local"),
        (True, None, "gpus"),
        (True, "cuda:1", "gpus"),
        (True, "cpu", "local"),
        (False, "cpu", "local"),
    ],
)
def test_without_a_wish_gpus_are_shared_where_there_are_any(monkeypatch, gpu, device, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.delenv("NOISYSEG_DEVICE", raising=False)
    if device:
        monkeypatch.setenv("NOISYSEG_DEVICE", device)
    assert profiles.default_profile() == expected


def test_the_projects_own():
    found = sorted(path.parent.name for path in (ROOT / "workflow" / "profiles").glob("*/config.yaml"))
    assert found == NAMES
    assert [name for name in NAMES if Profile.find(name).is_local] == ["gpus", "local"]


def test_one_of_a_persons_own(tmp_path, monkeypatch):
    write(tmp_path / "mine", "executor: slurm\njobs: 3\n")
    monkeypatch.chdir(tmp_path)
    for named in ("./mine", f"{tmp_path}/mine", "mine/"):
        found = Profile.find(named)
        assert (found.folder, found.is_local) == (tmp_path / "mine", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            None,
            r"^profile is '.*/mine/'; there are gpus, local, slurm \(or give the path of a folder with a",
        ),
        ("- executor\n", r"config\.yaml holds list; expected a mapping$"),
        ("", r"config\.yaml holds NoneType; expected a mapping$"),
        ("a: [\n", r"config\.yaml is not valid YAML: "),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path, text, message):
    if text is not None:
        write(tmp_path / "mine", text)
    with pytest.raises(ValueError, match=message):
        Profile.find(f"{tmp_path}/mine/")


@pytest.mark.parametrize("name", ["", "slrm", ".", ".."])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match=rf"^profile is '{name}'; there are gpus, local, slurm "):
        Profile.find(name)


def test_jobs_are_not_sent_from_a_folder_with_a_blank(monkeypatch):
    monkeypatch.setattr(profiles.sys, "executable", "/my folder/bin/python")
    with pytest.raises(ValueError, match=r"^profile slurm: .* would take /my folder/bin/python apart: use a folder"):
        Profile.find("slurm").check()
    Profile.find("local").check()


def test_sbatch_has_to_be_there(monkeypatch):
    monkeypatch.setattr(profiles.sys, "executable", "/bin/python")
    monkeypatch.setattr(profiles.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"^profile slurm sends jobs with sbatch, which is not on this machine: start"):
        Profile.find("slurm").check()
    for name in ("local", "gpus"):
        Profile.find(name).check()
    monkeypatch.setattr(profiles.shutil, "which", lambda name: f"/usr/bin/{name}")
    Profile.find("slurm").check()


# options and slots


def test_a_scheduler_has_its_own_cores_and_logs_are_found(tmp_path):
    def options(profile: str, cores: int | None = None) -> list[str]:
        name, folder, *rest = Profile.find(profile).options(Path("home"), cores)
        assert name == "--workflow-profile" and Path(folder, "config.yaml").is_file()
        return rest

    assert options("local") == ["--cores", str(os.cpu_count() or 1)] and options("gpus", 3) == ["--cores", "3"]
    assert options("slurm") == ["--slurm-logdir", "home/slurm_logs"]
    assert options("slurm", 16)[:2] == ["--cores", "16"]  # a person may limit what is asked for
    assert options(write(tmp_path / "mine", "executor: slurm\nslurm-logdir: elsewhere\n")) == []


def slots(profile: str, home: Path, preset: str = "smoke") -> tuple[list[str], str]:
    return Profile.find(profile).slots(Preset.load(preset), home)


def simulate(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """Make the inventory one of GPUs with that much free memory."""
    monkeypatch.setattr(profiles, "free_memory", lambda: {str(k): mib for k, mib in enumerate(free)})


def test_runs_share_simulated_gpus(monkeypatch, tmp_path):
    simulate(monkeypatch, 24000, 3599)
    monkeypatch.setattr(profiles, "estimate_mib", lambda config: 1600 if config.features[0] == 16 else 0)
    found, line = slots("gpus", tmp_path, "paper")
    # 15 fit on the one and 2 on the other. Together they have 17.2 times what a run takes.
    assert found == ["0-0", "1-0", "0-1", "1-1", *(f"0-{k}" for k in range(2, 15))]
    assert line == "a run takes about 1600 MiB, so that 15 on GPU 0, 2 on GPU 1 run at the same time"
    assert slots("local", tmp_path) == slots("slurm", tmp_path) == ([], "")


def test_a_person_may_say_what_a_run_takes(monkeypatch, tmp_path):
    simulate(monkeypatch, 24000)
    text = "set-resources: {run: {slot: 1, gpu_mib: 6000}}\n"
    assert slots(write(tmp_path / "mine", text), tmp_path)[0] == ["0-0", "0-1", "0-2", "0-3"]
    for wrong in ("0", "-5", "lots", "6000 * attempt", "true", "1.5"):
        with pytest.raises(ValueError, match=r"config\.yaml: gpu_mib of run is .*; expected a whole number of MiB$"):
            slots(write(tmp_path / "mine", text.replace("6000", wrong)), tmp_path)


def test_too_small_gpus_stop_the_command(monkeypatch, tmp_path):
    simulate(monkeypatch, 1200)
    with pytest.raises(NoDeviceError, match=r"a run takes 2\d\d\d MiB and fits nowhere: 0 has 1200 MiB free; "):
        slots("gpus", tmp_path, "paper")


def test_without_a_gpu_the_command_stops_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("NOISYSEG_DEVICE", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runs = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    assert cli.main(["grid", "--preset", "smoke", "--profile", "gpus", *runs]) == 1
    assert capsys.readouterr().err.startswith("reproduction: torch finds no GPU here, and the profile shares GPUs; ")
    assert list(tmp_path.iterdir()) == []


# whole


@pytest.mark.slow
def test_sharing_changes_no_result(tmp_path):
    """The profile `gpus` for real, several processes on the processor's memory."""
    tiny.make_data(tmp_path / "data")
    preset = tiny.make_preset(tmp_path / "four.yaml", {"a": [0.01, 0.02]}, **tiny.SMALL)
    command = [
        sys.executable,
        "-m",
        "reproduction",
        "grid",
        "--preset",
        str(tmp_path / "four.yaml"),
        "--no-book",
    ]
    command += ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs"), "--profile", "gpus", "--cores", "4"]
    environment = {**os.environ, "NOISYSEG_DEVICE": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "four: a run takes about " in done.stdout and " on cpu run at the same time" in done.stdout
    home = tmp_path / "runs" / "four"
    held = sorted(path.name for path in (home / ".slots").iterdir())
    assert held[:2] == ["cpu-0.lock", "cpu-1.lock"]  # more than one at a time, or nobody had looked at the second
    tiny.assert_as_alone(preset, tmp_path / "data", home, tmp_path / "reference")
