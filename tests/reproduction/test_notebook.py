"""Data sets made for a preset, notebooks run as batches, and what a failure leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_client.kernelspec import KernelSpecManager

import tiny
from reproduction.config import POINT, Preset
from reproduction.paths import atomic_write
from reproduction.runs import notebook as batch
from reproduction.runs.grid import failures
from reproduction.runs.notebook import BatchError, execute_chapters, execute_notebook, prepare_data, run_notebook
from reproduction.runs.status import run_states

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
    table = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    assert "CE(0)" in table and f"{metrics['scores']['CE(*)']:.4f}".rstrip("0") in table
    assert list(folder.glob("*.part*")) == [alive] and not (folder / "failure.txt").exists()
    # Asked for again, the run is done, and the record of its training stays.
    record = (folder / "run.ipynb").read_bytes()
    run_notebook(str(tmp_path / "tiny.yaml"), config, plan.name, str(data), str(tmp_path / "runs"))
    assert (folder / "run.ipynb").read_bytes() == record
    # By hand, it shows what is stored: labels, curves, masks and scores.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    point = {axis: getattr(config, axis) for axis in POINT}
    parameters = {"preset": str(tmp_path / "tiny.yaml"), **point, "data": str(data), "runs": str(tmp_path / "runs")}
    execute_notebook("training_run", tmp_path / "again.ipynb", parameters)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert "epoch 1/2" not in texts(tmp_path / "again.ipynb")
    again = nbformat.read(tmp_path / "again.ipynb", as_version=4)
    assert again.cells[-1].outputs[-1]["data"]["text/plain"] == table
    assert pictures(again) == pictures(notebook) and len(pictures(again)) == 3


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.parametrize("template", ["training_run", "cell"])
def test_the_cells_of_a_template_can_be_read(root, template):
    notebook = nbformat.read(root / "notebooks" / "templates" / f"{template}.ipynb", as_version=4)
    cells = [cell.source.splitlines() for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) <= 8 and max(len(lines) for lines in cells) <= 25


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
    # As the system does without memory.
    small_template(tmp_path, monkeypatch, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    config = plan.run(loss="ce")
    with pytest.raises(BatchError, match=r"the process of training_run\.ipynb died"):
        run_notebook(str(tmp_path / "tiny.yaml"), config, plan.name, "data", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "tiny" / config.folder
    assert "died: killed, or out of memory" in (folder / "failure.txt").read_text()
    assert (folder / "run.ipynb").is_file() and not list(folder.glob("*.part*"))


def small_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the training notebook be one cell of code, in a root of its own."""
    templates = tmp_path / "root" / "notebooks" / "templates"
    templates.mkdir(parents=True)
    (tmp_path / "root" / "workflow" / "presets").mkdir(parents=True)
    names = ("preset", "organ", "a", "loss", "fold", "model", "training_seed", "data", "runs")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    parameters = "\n".join(f"{name} = None" for name in names)
    notebook.cells = [
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    nbformat.write(notebook, templates / "training_run.ipynb")
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path / "root"))


def broken_kernel(folder: Path, *command: str) -> Path:
    """A kernel `python3` below a folder of Jupyter's that starts something else."""
    spec = {"argv": [*command, "{connection_file}"], "display_name": "Python 3", "language": "python"}
    return atomic_write(folder / "kernels" / "python3" / "kernel.json", json.dumps(spec)).parent


@pytest.fixture
def users_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own kernel `python3`, which Jupyter prefers to the environment's, is of a Python that is gone."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.delenv("JUPYTER_DATA_DIR", raising=False)
    where = broken_kernel(tmp_path / "home" / ".local" / "share" / "jupyter", str(tmp_path / "gone" / "python3"))
    assert Path(KernelSpecManager().get_kernel_spec("python3").resource_dir) == where, "the trap is one"


def test_kernels_are_the_interpreter_that_executes_them(users_kernel, plan, tmp_path, monkeypatch):
    small_template(tmp_path, monkeypatch, "import sys\nprint('python:', sys.executable)")
    folder = run_notebook("p", plan.run(loss="ce"), plan.name, "data", str(tmp_path / "runs"))
    assert f"python: {sys.executable}" in texts(folder / "run.ipynb")


def test_chapters_and_nbval_use_the_same_kernel(users_kernel, tmp_path):
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [nbformat.v4.new_code_cell("import sys\nprint(sys.executable)")]
    nbformat.write(notebook, tmp_path / "x.ipynb")
    execute_chapters([tmp_path / "x.ipynb"])
    assert texts(tmp_path / "x.ipynb") == f"{sys.executable}\n"
    # nbval and JupyterLab find it by the variable, which execute_chapters has set for this process's children.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", str(tmp_path / "x.ipynb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sh", "-c", "sleep 60"], "Kernel didn't respond in 2 seconds"),
        (["false"], "Kernel died before replying to kernel_info"),
        (["no-such-program"], "No such file or directory: 'no-such-program'"),
    ],
)
def test_a_kernel_that_never_answers_is_recorded_and_named(command, reason, plan, tmp_path, monkeypatch):
    small_template(tmp_path, monkeypatch, "print(1)")
    broken_kernel(tmp_path / "jupyter", *command)
    monkeypatch.setattr(batch, "use_own_kernel", lambda: None)
    monkeypatch.setattr(batch, "START_S", 2)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    config = plan.run(loss="ce")
    with pytest.raises((BatchError, OSError), match=re.escape(reason)):
        run_notebook("p", config, plan.name, "data", str(tmp_path / "runs"))
    (line,) = (tmp_path / "runs" / "tiny" / config.folder / "failure.txt").read_text().splitlines()
    assert reason in line
    (state,) = [state for state in run_states(plan, tmp_path / "runs") if state.config == config]
    assert (state.state, state.detail) == ("failed", line)


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
    monkeypatch.setattr(
        "reproduction.data.phantoms.cases.make_phantoms", lambda folder, *numbers: calls.append((folder, numbers))
    )
    prepare_data(Preset.load("quick"), tmp_path, None)
    numbers = tuple(Preset.load("quick").values[f"phantom_{name}"] for name in ("size", "cases", "seed"))
    assert calls == [(tmp_path / "phantoms-{}-{}-{}".format(*numbers), numbers)]


def test_the_source_reaches_the_data_script(tmp_path, monkeypatch):
    calls: list[Any] = []
    monkeypatch.setattr("reproduction.data.hippocampus.make_hippocampus", lambda *arguments: calls.append(arguments))
    prepare_data(Preset.load("hippocampus"), tmp_path, "somewhere")
    assert calls == [(tmp_path / "hippocampus", "somewhere")]


def test_the_ct_patches_are_cut_from_a_source_or_taken_as_they_are(tmp_path, monkeypatch):
    preset, asked = Preset.load("paper"), []
    cut = tiny.make_data(tmp_path / "cut", cases=12, seed=5)
    name = "reproduction.data.totalsegmentator.patches.make_totalsegmentator"
    monkeypatch.setattr(name, lambda *given: asked.append(given) or cut)
    said: list[str] = []
    assert prepare_data(preset, tmp_path, "archive.zip", said.append) == cut
    assert said == [f"{tmp_path / 'totalsegmentator'} holds 12 hippocampus; the preset paper means 400 of each"]
    assert asked == [(tmp_path / "totalsegmentator", "archive.zip")]
    # A finished folder, of any version, is not cut again; one that lost a case is.
    made = tiny.make_data(tmp_path)
    made.folder.rename(tmp_path / "totalsegmentator")
    found = prepare_data(preset, tmp_path, None)
    assert found.digest == made.digest and len(asked) == 1
    next((tmp_path / "totalsegmentator" / "hippocampus").glob("*.npz")).unlink()
    assert prepare_data(preset, tmp_path, None) == cut and asked[1] == (tmp_path / "totalsegmentator", None)


def test_threads_of_a_run_are_those_of_its_preset(plan, tmp_path, monkeypatch):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    for name in names:
        monkeypatch.setenv(name, "7")
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(batch, "execute_notebook", lambda *_: seen.append({name: os.environ[name] for name in names}))
    run_notebook("tiny.yaml", plan.run(loss="ce"), "tiny", "data", str(tmp_path))
    assert seen == [dict.fromkeys(names, "1")]
