"""Notebooks run as batches, what a failure leaves behind, and what Snakemake is asked to do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import filelock
import nbformat
import papermill
import pytest
import yaml

import tiny
from noisyseg import batch
from noisyseg.batch import BatchError, execute_notebook, failures, prepare_data, run_grid, run_notebook
from noisyseg.config import Preset
from noisyseg.step_time import Step

# jupyter_client and zmq speak of their own deprecations and of the event loop when a kernel is started.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my data")
    tiny.make_data(folder)
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Preset:
    return tiny.make_preset(tmp_path / "tiny.yaml", None, **{**tiny.SMALL, "epochs": 2})


def texts(notebook: Path) -> str:
    """All stream output of a stored notebook."""
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


# notebooks


def test_a_run_through_its_notebook(plan, data, tmp_path, capfd):
    config = plan.run(loss="ce")
    # Two unfinished records: of a process that is gone, and of one that is there.
    gone, alive = (
        tmp_path / "runs" / "tiny" / config.folder / f"run.{pid}.part.ipynb" for pid in (2**22 + 1, os.getppid())
    )
    gone.parent.mkdir(parents=True)
    gone.touch()
    alive.touch()
    folder = run_notebook(str(tmp_path / "tiny.yaml"), config, plan.name, str(data), str(tmp_path / "runs"))
    assert folder == tmp_path / "runs" / "tiny" / config.folder
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["config_hash"] == config.hash
    # The executed notebook shows what the run said; so did the terminal, as it came.
    assert f"{config.name}: epoch 2/2" in texts(folder / "run.ipynb")
    assert f"{config.name}: epoch 2/2" in capfd.readouterr().err
    notebook = nbformat.read(folder / "run.ipynb", as_version=4)
    shown = notebook.cells[-1].outputs[0]["data"]["text/plain"]
    assert "CE(0)" in shown and f"{metrics['scores']['CE(*)']:.4f}".rstrip("0") in shown
    assert list(folder.glob("*.part*")) == [alive] and not (folder / "failure.txt").exists()
    # Asked for again, the run is done, and the record of its training stays.
    record = (folder / "run.ipynb").read_bytes()
    run_notebook(str(tmp_path / "tiny.yaml"), config, plan.name, str(data), str(tmp_path / "runs"))
    assert (folder / "run.ipynb").read_bytes() == record


def test_a_failing_cell_leaves_the_notebook_and_one_line(plan, tmp_path):
    config = plan.run(loss="sd")
    with pytest.raises(BatchError, match=r"^FileNotFoundError: .*manifest\.json does not exist") as caught:
        run_notebook(str(tmp_path / "tiny.yaml"), config, plan.name, str(tmp_path / "none"), str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "tiny" / config.folder
    assert "\n" not in str(caught.value) and str(folder / "run.ipynb") in str(caught.value)
    outputs = [o for cell in nbformat.read(folder / "run.ipynb", as_version=4).cells for o in cell.get("outputs", [])]
    assert [o["ename"] for o in outputs if o["output_type"] == "error"] == ["FileNotFoundError"]
    assert (folder / "failure.txt").read_text() == f"{caught.value}\n"
    assert failures(plan, tmp_path / "runs") == [f"{config.name}: {caught.value}"]


def test_a_kernel_that_dies_is_a_failure_too(plan, tmp_path, monkeypatch):
    # A template of our own, in a root of our own: its first cell kills the kernel, as the system does without memory.
    templates = tmp_path / "root" / "notebooks" / "templates"
    templates.mkdir(parents=True)
    (tmp_path / "root" / "workflow" / "presets").mkdir(parents=True)
    names = ("preset", "organ", "a", "loss", "fold", "model", "training_seed", "data", "runs")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    source = "\n".join(f"{name} = None" for name in names)
    notebook.cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
    ]
    nbformat.write(notebook, templates / "training_run.ipynb")
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path / "root"))
    config = plan.run(loss="ce")
    with pytest.raises(BatchError, match=r"the process of training_run\.ipynb died"):
        run_notebook(str(tmp_path / "tiny.yaml"), config, plan.name, "data", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "tiny" / config.folder
    assert "died: killed, or out of memory" in (folder / "failure.txt").read_text()
    assert (folder / "run.ipynb").is_file() and not list(folder.glob("*.part*"))


@pytest.mark.parametrize("template", ["training_run", "cell"])
def test_an_unknown_parameter_is_refused_before_anything_runs(template, tmp_path):
    with pytest.raises(BatchError, match=rf"{template}\.ipynb has no parameter 'epoch'; it has preset, organ, a"):
        execute_notebook(template, tmp_path / "x.ipynb", {"preset": "smoke", "epoch": 3})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("template", ["training_run", "cell"])
def test_papermill_alone_is_refused_by_the_notebook(template, tmp_path, root):
    """papermill only warns of a name that the template does not have: the notebook itself has to stop."""
    source = root / "notebooks" / "templates" / f"{template}.ipynb"
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(str(source), str(tmp_path / "x.ipynb"), {"epochs": 3}, progress_bar=False)
    assert caught.value.ename == "ValueError" and "notebook has the unknown key 'epochs'" in caught.value.evalue
    executed = [cell for cell in nbformat.read(tmp_path / "x.ipynb", as_version=4).cells if cell.get("execution_count")]
    assert len(executed) <= 3  # parameters, injected parameters, the check: nothing was trained


# data


def test_data_are_made_once_for_all_runs(tmp_path, monkeypatch):
    calls: list[Any] = []
    monkeypatch.setattr(batch.phantom_set, "prepare", lambda folder, *numbers: calls.append((folder, numbers)))
    prepare_data(Preset.load("quick"), tmp_path, None)
    numbers = tuple(Preset.load("quick").values[f"phantom_{name}"] for name in ("size", "cases", "seed"))
    assert calls == [(tmp_path / "phantoms-{}-{}-{}".format(*numbers), numbers)]


def test_the_source_reaches_the_data_script(tmp_path, monkeypatch):
    calls: list[Any] = []
    monkeypatch.setattr(batch.hippocampus, "prepare", lambda *arguments: calls.append(arguments))
    prepare_data(Preset.load("hippocampus"), tmp_path, "somewhere")
    assert calls == [(tmp_path / "hippocampus", "somewhere")]


def test_the_ct_patches_are_cut_from_a_source_or_taken_as_they_are(tmp_path, monkeypatch):
    preset, asked = Preset.load("paper"), []
    monkeypatch.setattr(batch.totalsegmentator, "prepare", lambda *given: asked.append(given) or "cut")
    assert prepare_data(preset, tmp_path, "archive.zip") == ["cut"]
    assert asked == [(tmp_path / "totalsegmentator", "archive.zip")]
    # A finished folder, of any version, is not cut again; one that lost a case is.
    made = tiny.make_data(tmp_path)
    made.folder.rename(tmp_path / "totalsegmentator")
    (found,) = prepare_data(preset, tmp_path, None)
    assert found.digest == made.digest and len(asked) == 1
    next((tmp_path / "totalsegmentator" / "hippocampus").glob("*.npz")).unlink()
    assert prepare_data(preset, tmp_path, None) == ["cut"] and asked[1] == (tmp_path / "totalsegmentator", None)


# the grid


@pytest.fixture
def snakemake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for Snakemake: keeps the command, and answers with the exit code in `code`."""
    seen: dict[str, Any] = {"code": 0}

    def run(command: list[str], root: Path) -> int:
        seen["command"] = command
        return seen["code"]

    monkeypatch.setattr(batch, "_run_snakemake", run)
    monkeypatch.setattr("noisyseg.plan.time_step", lambda *_: Step(1.0, 7, 2, "float32", "cpu"))
    return seen


def test_paths_reach_snakemake_as_they_are(snakemake, tmp_path):
    odd = tmp_path / "my: data #1 'x'"
    odd.mkdir()
    lines: list[str] = []
    tables = run_grid("smoke", odd, tmp_path / "my runs", source=str(odd), cores=3, report=lines.append)
    assert tables == tmp_path / "my runs" / "smoke" / "results" / "smoke"
    command = snakemake["command"]
    settings = dict(entry.split("=", 1) for entry in command[command.index("--config") + 1 :])
    # Snakemake reads every value as YAML.
    read = {name: yaml.load(value, Loader=yaml.loader.BaseLoader) for name, value in settings.items()}
    assert read == {"preset": "smoke", "data": str(odd), "source": str(odd)}
    assert command[command.index("--cores") + 1] == "3" and "--dry-run" not in command
    assert command[command.index("--directory") + 1] == str(tmp_path / "my runs" / "smoke")
    assert lines[0].startswith("smoke: 2 runs, 0 done; ") and lines[-1].startswith("smoke: complete after ")


def test_a_preset_file_is_named_by_its_absolute_path(snakemake, tmp_path, monkeypatch):
    tiny.make_preset(tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    run_grid("mine.yaml", dry_run=True, report=lambda line: None)
    assert "command" not in snakemake and not (tmp_path / "runs").exists()
    run_grid("mine.yaml", report=lambda line: None)
    assert f'preset="{tmp_path / "mine.yaml"}"' in snakemake["command"] and "--dry-run" not in snakemake["command"]
    assert (tmp_path / "runs" / "mine").is_dir()


def test_a_failed_grid_names_the_first_failure(snakemake, tmp_path):
    snakemake["code"] = 1
    with pytest.raises(
        BatchError, match=r"^preset smoke did not finish: see the lines above; the same command goes on"
    ):
        run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    config = Preset.load("smoke").run(loss="sd")
    folder = tmp_path / "smoke" / config.folder
    folder.mkdir()
    (folder / "failure.txt").write_text("ValueError: bad\n")
    message = rf"1 of 2 runs failed, the first is {config.name}: ValueError: bad; the same command goes on from here$"
    with pytest.raises(BatchError, match=message):
        run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)


def test_a_mark_is_as_old_as_the_result_and_never_without_one(plan, tmp_path):
    """Snakemake may delete marks; it goes by their times."""
    done, other, *_ = plan.runs()
    for config in (done, other):
        (tmp_path / config.folder).mkdir()
    metrics = tmp_path / done.folder / "metrics.json"
    metrics.write_text(json.dumps({"config_hash": done.hash, "data_digest": ""}))
    os.utime(metrics, ns=(10**18, 10**18))
    (tmp_path / other.folder / ".done").touch()  # its result was deleted, to have it made again
    batch.mark_done(plan, tmp_path, tmp_path)
    mark = tmp_path / done.folder / ".done"
    assert mark.stat().st_mtime_ns == 10**18 and not (tmp_path / other.folder / ".done").exists()
    # A mark that is there was made by Snakemake, or is from before: its time stays.
    os.utime(mark, ns=(2 * 10**18, 2 * 10**18))
    batch.mark_done(plan, tmp_path, tmp_path)
    assert mark.stat().st_mtime_ns == 2 * 10**18 and metrics.stat().st_mtime_ns == 10**18


def test_two_at_once_are_refused(snakemake, tmp_path):
    (tmp_path / "smoke").mkdir()
    with filelock.FileLock(tmp_path / "smoke" / ".lock"):
        with pytest.raises(BatchError, match=r"another process works on preset smoke in .*; wait for it or stop it"):
            run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    assert "command" not in snakemake
    run_grid("smoke", tmp_path, tmp_path, report=lambda line: None)
    assert "command" in snakemake


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"preset_name": "smok"}, ValueError, r"preset is 'smok'; there are .*smoke"),
        ({"profile": "slrm"}, ValueError, r"profile is 'slrm'; there are .*local"),
        ({"source": "nowhere"}, FileNotFoundError, r"source nowhere does not exist"),
        ({"data": "a{b}"}, ValueError, r"data is '.*a\{b\}'; Snakemake takes no path with braces"),
    ],
)
def test_bad_input_is_refused_before_snakemake_starts(snakemake, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        run_grid(**{"preset_name": "smoke", "runs": tmp_path / "runs", **arguments})
    assert "command" not in snakemake and not (tmp_path / "runs").exists()


def test_every_profile_refuses_what_would_lose_work(root):
    for path in (root / "workflow" / "profiles").glob("*/config.yaml"):
        profile = yaml.safe_load(path.read_text())
        # By time stamps, never by code: another version of the package must not throw away finished runs.
        # By the set of inputs: a preset that goes back to older runs must get their tables back, too.
        assert set(profile["rerun-triggers"]) == {"mtime", "input"} and profile["rerun-incomplete"] is True, path
        assert profile["keep-going"] is True, path


def test_threads_of_a_run_are_those_of_its_preset(plan, tmp_path, monkeypatch):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    for name in names:
        monkeypatch.setenv(name, "7")
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(batch, "execute_notebook", lambda *_: seen.append({name: os.environ[name] for name in names}))
    run_notebook("tiny.yaml", plan.run(loss="ce"), "tiny", "data", str(tmp_path))
    assert seen == [dict.fromkeys(names, "1")]
