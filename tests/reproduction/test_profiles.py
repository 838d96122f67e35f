"""Profiles: how they are found, what each one needs, what Snakemake is told, and that sharing changes no result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tiny
from conftest import ROOT
from reproduction import __main__ as cli
from reproduction.config import Preset
from reproduction.runs import profiles
from reproduction.runs.gpus import Device, NoRoomError, keep_slots, take_slot
from reproduction.runs.profiles import Profile, Room

NAMES = ["gpus", "kubernetes", "local", "slurm"]


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
    executors = {name: Profile.find(name).executor for name in NAMES}
    assert executors == {"gpus": "local", "kubernetes": "local", "local": "local", "slurm": "slurm"}
    assert [name for name in NAMES if Profile.find(name).shares_gpus] == ["gpus", "kubernetes"]


def test_one_of_a_persons_own(tmp_path, monkeypatch):
    write(tmp_path / "mine", "executor: slurm\njobs: 3\n")
    monkeypatch.chdir(tmp_path)
    for named in ("./mine", f"{tmp_path}/mine", "mine/"):
        found = Profile.find(named)
        assert (found.folder, found.executor) == (tmp_path / "mine", "slurm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            None,
            r"^profile is '.*/mine/'; there are gpus, kubernetes, local, slurm \(or give the path of a folder with a",
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
    with pytest.raises(ValueError, match=rf"^profile is '{name}'; there are gpus, kubernetes, local, slurm "):
        Profile.find(name)


# what is missing is said before anything starts


@pytest.mark.parametrize("plugin", ["kubernetes", "cluster-generic"])
def test_an_executor_that_is_not_installed(tmp_path, plugin, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(profiles.importlib.util, "find_spec", lambda name: asked.append(name))
    profile = Profile.find(write(tmp_path / "mine", f"executor: {plugin}\n"))
    message = (
        rf"^profile mine needs Snakemake's executor {plugin}, which is not installed: "
        rf"\.venv/bin/python -m pip install snakemake-executor-plugin-{plugin}$"
    )
    with pytest.raises(ValueError, match=message):
        profile.check()
    assert asked == [f"snakemake_executor_plugin_{plugin.replace('-', '_')}"]


def test_the_plugin_of_slurm_is_installed_and_sbatch_has_to_be_there(monkeypatch):
    monkeypatch.setattr(profiles.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"^profile slurm sends jobs with sbatch, which is not on this machine: start"):
        Profile.find("slurm").check()
    monkeypatch.setattr(profiles.shutil, "which", lambda name: f"/usr/bin/{name}")
    Profile.find("slurm").check()
    for name in ("local", "gpus", "kubernetes"):
        Profile.find(name).check()


# what Snakemake is told


def told(profile: str, cores: int | None = None, preset: str = "smoke") -> Room:
    return Profile.find(profile).options(Preset.load(preset), Path("home"), cores)


def test_local_has_the_cores_of_this_machine():
    assert told("local") == Room(["--cores", str(os.cpu_count() or 1)], {}, "", ())
    assert told("local", 3).options == ["--cores", "3"]


def test_a_scheduler_has_its_own_cores_and_logs_are_found(tmp_path):
    room = told("slurm")
    assert room.options == ["--slurm-logdir", "home/slurm_logs"] and room.values == {}
    assert room.line == "every run is a job of SLURM; its log is home/slurm_logs/rule_run/<run>/<job>.log"
    assert told("slurm", 16).options[:2] == ["--cores", "16"]  # a person may limit what is asked for
    elsewhere = write(tmp_path / "mine", "executor: slurm\nslurm-logdir: elsewhere\n")
    assert told(elsewhere) == Room([], {}, "every run is a job of SLURM; its log is elsewhere/rule_run/<run>/<job>.log")


def simulate(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """Make the inventory one of GPUs with that much free memory."""
    monkeypatch.delenv("NOISYSEG_DEVICE", raising=False)
    monkeypatch.setattr(profiles, "devices", lambda: [Device(str(k), mib) for k, mib in enumerate(free)])


def test_runs_share_simulated_gpus(monkeypatch):
    simulate(monkeypatch, 24000, 3599)
    monkeypatch.setattr(profiles, "estimate_mib", lambda config: 1600 if config.features[0] == 16 else 0)
    room = told("gpus", 16, "paper")
    # 15 fit on the one and 2 on the other. Together they have 17.2 times what a run takes.
    assert room.values == {"gpu_mib": 1600, "slots": "0,1,0,1" + ",0" * 13}
    assert room.slots == tuple(room.values["slots"].split(","))
    assert room.options == ["--cores", "16", "--resources", "gpu_mib=27200"]
    assert room.line == "a run takes about 1600 MiB: room for 15 on GPU 0, 2 on GPU 1, and 16 cores"


def test_a_person_may_say_what_a_run_takes(monkeypatch, tmp_path):
    simulate(monkeypatch, 24000)
    text = "default-resources: [gpu_mib=0]\nset-resources: {run: {gpu_mib: 6000}}\n"
    assert told(write(tmp_path / "mine", text)).values == {"gpu_mib": 6000, "slots": "0,0,0,0"}
    for wrong in ("0", "-5", "lots", "6000 * attempt", "true", "1.5"):
        with pytest.raises(ValueError, match=r"config\.yaml: gpu_mib of run is .*; expected a whole number of MiB$"):
            told(write(tmp_path / "mine", text.replace("6000", wrong)))


def test_slots_that_runs_of_an_earlier_call_hold_are_used_again(monkeypatch, tmp_path):
    """Their memory is missing from what is free now, and their locks stand for the slots as they were numbered."""
    simulate(monkeypatch, 5000, 3500)
    profile, preset = Profile.find("gpus"), Preset.load("paper")
    monkeypatch.setattr(profiles, "estimate_mib", lambda config: 1600)
    first = profile.options(preset, tmp_path, 4)
    assert first.slots == ("0", "1", "0", "1", "0")
    keep_slots(first.slots, tmp_path / ".slots")
    simulate(monkeypatch, 700, 300)
    with take_slot(first.slots, tmp_path / ".slots"):  # a run that outlived its command
        again = profile.options(preset, tmp_path, 4)
    assert (again.options, again.values, again.slots) == (first.options, first.values, first.slots)
    assert again.line == "runs of an earlier call still hold some of the 5 slots of 1600 MiB, which are used again"
    with pytest.raises(NoRoomError, match="fits nowhere"):  # all are free again: what is there now counts
        profile.options(preset, tmp_path, 4)


def test_too_small_gpus_stop_the_command(monkeypatch):
    simulate(monkeypatch, 1200)
    with pytest.raises(NoRoomError, match=r"a run takes 2\d\d\d MiB and fits nowhere: 0 has 1200 MiB free; "):
        told("gpus", preset="paper")


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
    assert "four: a run takes about " in done.stdout and " on cpu, and 4 cores" in done.stdout
    home = tmp_path / "runs" / "four"
    held = sorted(path.name for path in (home / ".slots").iterdir())
    assert held[:2] == ["0.lock", "1.lock"]  # more than one at a time, or nobody had looked at the second
    tiny.assert_as_alone(preset, tmp_path / "data", home, tmp_path / "reference")


# Kubernetes


def test_the_pod_runs_a_command_of_ours():
    folder = ROOT / "workflow" / "profiles" / "kubernetes"
    claim, job = yaml.safe_load_all((folder / "job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    arguments = cli._parser().parse_args(container["args"])
    assert (arguments.command, arguments.preset, arguments.profile) == ("grid", "paper", "kubernetes")
    assert str(arguments.cores) == container["resources"]["requests"]["cpu"]
    # What is kept lies on the claim, and what a pod left is taken up by the next.
    (mount,) = container["volumeMounts"]
    assert mount["name"] == volume["name"] and volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert all(path.startswith(f"{mount['mountPath']}/") for path in (arguments.data, arguments.runs))
    assert pod["restartPolicy"] == "OnFailure" and job["spec"]["backoffLimit"] >= 10
    # In the pod it is the profile that is tested on a machine.
    assert Profile.find("kubernetes").settings == Profile.find("gpus").settings
    image = (folder / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["python", "-m", "reproduction"]' in image and "requirements.lock" in image
    for name in ("config.yaml", "job.yaml", "Dockerfile"):
        assert "NOT RUN HERE" in (folder / name).read_text()
