"""The command line: one line for every error, the exit codes, and what it does not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import noisyseg
import tiny
from reproduction import __main__ as cli
from reproduction.__main__ import main
from reproduction.config import Preset
from reproduction.report import book
from reproduction.runs import notebook as batch

COMMANDS = ("grid", "data", "run", "cell", "status", "tables", "calibration", "notebooks", "times", "book", "pdf")
OF_A_PRESET = COMMANDS[:7]


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reproduction", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a command that must end with exit code 1, one line on standard error and nothing else."""
    assert main(list(arguments)) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.endswith("\n"), output
    (line,) = output.err.splitlines()
    assert line.startswith("reproduction: "), line
    return line.removeprefix("reproduction: ")


# help, usage


def test_help_does_not_load_torch():
    code = (
        "import sys\nfrom reproduction.__main__ import main\n"
        "try: main(['--help'])\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False" and done.stderr == ""
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ") and line.split()]
    assert set(COMMANDS) <= set(listed)


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"noisyseg {noisyseg.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_refuses_unknown_options(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0 and f"usage: python -m reproduction {name}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main([name, "--presett", "smoke"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --presett" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: command"),
        (["reproduc"], "invalid choice: 'reproduc'"),
        (["run", "--loss", "dice"], "invalid choice: 'dice'"),
        (["run", "--fold", "one"], "invalid int value: 'one'"),
        (["grid", "--cores", "many"], "invalid int value: 'many'"),
    ],
)
def test_usage_errors_end_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and said in capsys.readouterr().err


# errors


@pytest.mark.parametrize("name", OF_A_PRESET)
def test_an_unknown_preset(name, capsys):
    assert refused(capsys, name, "--preset", "smok").startswith("preset is 'smok'; there are ")


@pytest.mark.parametrize("name", OF_A_PRESET)
def test_a_preset_file_that_is_missing_or_wrong(name, capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    assert str(path) in refused(capsys, name, "--preset", str(path))
    path.write_text("about: [")
    assert "mine.yaml is not valid YAML" in refused(capsys, name, "--preset", str(path))
    path.write_text(path.read_text().replace("[", "x\ngrid: {}\nrun: {}\nepoch: 3"))
    assert "unknown key 'epoch'" in refused(capsys, name, "--preset", str(path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grid", "--cores", "0"], "--cores is 0; expected at least 1"),
        (["status", "--cores", "-1"], "--cores is -1; expected at least 1"),
        (["grid", "--source", "no/such/folder"], "source no/such/folder does not exist"),
        (["grid", "--profile", "moon"], "profile is 'moon'; there are "),
        (["data", "--source", "no/such/folder"], "source no/such/folder does not exist"),
        (["run"], "loss is missing; preset smoke has ce, sd"),
        (["run", "--loss", "ce", "--fold", "7"], "fold is 7; preset smoke has 0"),
        (["run", "--loss", "ce", "--organ", "spleen"], "organ is 'spleen'; preset smoke has hippocampus"),
        (["cell", "--a", "0.5"], "a is 0.5; preset smoke has 0.02"),
        (["tables"], "2 of 2 runs of smoke are missing, the first is hippocampus-a0.020-ce-fold0-unet"),
        (["run", "--loss", "ce", "--training-seed", "9"], "training_seed is 9; preset smoke has 1"),
        (["book", "--results", "no/such/folder"], "results is no/such/folder; expected a folder of result tables"),
    ],
)
def test_bad_values(arguments, said, capsys, tmp_path, monkeypatch, root):
    monkeypatch.setenv("NOISYSEG_ROOT", str(root))
    monkeypatch.chdir(tmp_path)
    name, *more = arguments
    more += ["--preset", "smoke"] if name != "book" else []
    assert said in refused(capsys, name, *more)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_of_several_must_be_named(capsys):
    assert (
        refused(capsys, "cell", "--preset", "hippocampus")
        == "a is missing; preset hippocampus has 0.0, 0.01, 0.02, 0.03"
    )


def test_no_project_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("NOISYSEG_ROOT", str(tmp_path))
    assert refused(capsys, "status", "--preset", "smoke").startswith(
        "no project folder: looked for workflow/presets in "
    )


def test_errors_that_nobody_foresaw_are_one_line_too(capsys, monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("organs")

    monkeypatch.setattr(cli, "_dispatch", broken)
    assert refused(capsys, "status") == "unexpected KeyError: 'organs' (NOISYSEG_TRACEBACK=1 shows where)"
    monkeypatch.setenv("NOISYSEG_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["status"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "runs/x"), "[Errno 28] No space left on device: 'runs/x'"),
        (ValueError("two\n   lines"), "two lines"),
        (FloatingPointError("the training loss is nan"), "the training loss is nan"),
        (MemoryError(), "unexpected MemoryError (NOISYSEG_TRACEBACK=1 shows where)"),
    ],
)
def test_the_line_of_an_error(error, line, capsys, monkeypatch):
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_dispatch", broken)
    assert refused(capsys, "status") == line


def test_ctrl_c_ends_with_130(capsys, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", stopped)
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "reproduction: stopped; the same command goes on from here\n"


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for arguments in (["--help"], ["status", "--preset", "hippocampus", "--runs", str(tmp_path)]):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "reproduction", *arguments]
        process = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, env=environment)
        os.close(writing)
        assert (process.returncode, process.stderr) == (0, b"")


def test_no_traceback_in_a_real_process(tmp_path):
    done = command("tables", "--preset", "smoke", "--runs", str(tmp_path))
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1


# the home folder, where caches go


def unusable_homes(tmp_path: Path) -> dict[str, str]:
    """Homes that nobody can write, not even root: below a file, and an unset one whose user has no home."""
    (tmp_path / "file").touch()
    return {"below a file": str(tmp_path / "file" / "x"), "missing": str(tmp_path / "none"), "relative": "."}


@pytest.mark.parametrize("home", ["below a file", "missing", "relative"])
def test_an_unusable_home_is_replaced_below_runs(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", unusable_homes(tmp_path)[home])
    assert main(["status", "--preset", "smoke", "--runs", str(tmp_path / "runs")]) == 0
    assert os.environ["HOME"] == str(tmp_path / "runs" / ".home") and (tmp_path / "runs" / ".home").is_dir()
    said = capsys.readouterr().err
    assert said == f"the home folder cannot be written: caches go to {tmp_path / 'runs' / '.home'}\n"


def test_a_home_that_can_be_written_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["status", "--preset", "smoke", "--runs", str(tmp_path / "runs")]) == 0
    assert os.environ["HOME"] == str(tmp_path) and capsys.readouterr().err == ""
    monkeypatch.delenv("HOME")
    assert main(["status", "--preset", "smoke", "--runs", str(tmp_path / "runs")]) == 0
    assert "HOME" not in os.environ and not (tmp_path / "runs").exists(), "the user's own, by the password file"


# what the commands hand on


def test_notebooks_are_executed_by_this_interpreter_in_place(monkeypatch, tmp_path, root):
    seen: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1 if "bad" in command[-1] else 0)

    monkeypatch.setattr(batch.subprocess, "run", run)
    assert main(["notebooks", "a.ipynb", "b.ipynb"]) == 0
    assert [command[-1] for command in seen] == ["a.ipynb", "b.ipynb"]
    assert seen[0][:3] == [sys.executable, "-m", "nbconvert"] and {"--execute", "--inplace"} <= set(seen[0])
    assert os.environ["JUPYTER_PATH"].split(os.pathsep)[0] == str(root / "src" / "reproduction" / "jupyter")
    assert main(["notebooks", "bad.ipynb", "b.ipynb"]) == 1 and len(seen) == 3
    seen.clear()
    assert main(["notebooks"]) == 0
    assert {Path(command[-1]) for command in seen} == set((root / "notebooks").glob("*.ipynb"))


def test_run_hands_on_its_point(monkeypatch, capsys):
    seen: list[object] = []
    monkeypatch.setattr(batch, "run_notebook", lambda *arguments: seen.append(arguments) or "folder")
    point = ["--a", "0.02", "--loss", "sd", "--fold", "3", "--training-seed", "2"]
    assert main(["run", "--preset", "hippocampus", *point, "--runs", "r"]) == 0
    config = Preset.load("hippocampus").run(a=0.02, loss="sd", fold=3, training_seed=2)
    assert seen == [("hippocampus", config, "hippocampus", "data", "r")] and capsys.readouterr().out == "folder\n"


def test_cell_hands_on_its_point(monkeypatch, capsys):
    seen: list[object] = []
    monkeypatch.setattr(batch, "execute_notebook", lambda *arguments: seen.append(arguments))
    assert main(["cell", "--preset", "hippocampus", "--a", "0.03", "--runs", "r"]) == 0
    target = Path("r", "hippocampus", "cells", "hippocampus-a0.030.ipynb")
    parameters = {"preset": "hippocampus", "organ": "hippocampus", "a": 0.03, "runs": "r"}
    assert seen == [("cell", target, parameters)]


def test_data_says_what_it_made(monkeypatch, capsys, tmp_path):
    made = tiny.make_data(tmp_path)
    monkeypatch.setattr(batch, "prepare_data", lambda preset, data, source: made)
    assert main(["data", "--preset", "smoke", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'hippocampus'}: 10 cases, SHA-256 {made.digest[:12]}\n"


# the book's stage


def test_a_folder_that_is_no_book_is_left_alone(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "is no earlier build of the book; it is left alone" in refused(capsys, "book", "--html", str(tmp_path))
    assert "is no earlier build" in refused(capsys, "book", "--html", str(tmp_path / "thesis.tex"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


CHAPTERS = ("notebooks/a.ipynb", "notebooks/your_run.ipynb")
STORED = "\n".join(f"stored {chapter}" for chapter in CHAPTERS)


@pytest.fixture
def small_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one chapter and one notebook, and a build that only copies: the staging is what is tested."""
    root = tmp_path / "root"
    for folder in ("workflow/presets", "book", "notebooks/templates", "notebooks/.ipynb_checkpoints"):
        (root / folder).mkdir(parents=True)
    for name in ("_config.yml", "_toc.yml", "book/index.md", "notebooks/templates/t.ipynb", *CHAPTERS):
        (root / name).write_text(f"stored {name}")
    monkeypatch.setenv("NOISYSEG_ROOT", str(root))
    return root


def fake_call(fail: str = ""):
    calls = []

    def call(command: list[str], environment: dict[str, str], folder: Path, what: str) -> None:
        calls.append((what, environment.get("NOISYSEG_RESULTS"), folder))
        if what == fail:
            raise batch.BatchError(f"{what} failed")
        if "nbconvert" in command:
            Path(command[-1]).write_text("executed")
        else:
            stage, work = Path(command[command.index("build") + 1]), Path(command[-1])
            html = work / "_build" / "html"
            html.mkdir(parents=True)
            for name in ("index.html", "objects.inv"):
                (html / name).write_text("\n".join((stage / chapter).read_text() for chapter in CHAPTERS))
            assert "-W" in command and "-n" in command
            assert sorted(p.name for p in stage.iterdir()) == ["_config.yml", "_toc.yml", "book", "notebooks"]
            assert sorted(p.name for p in (stage / "notebooks").iterdir()) == ["a.ipynb", "your_run.ipynb"]

    return call, calls


def test_the_book_is_built_in_a_copy(small_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NOISYSEG_RESULTS", "of another run")
    call, calls = fake_call()
    monkeypatch.setattr(book, "_call", call)
    # What lies beside the pages is the person's own, whatever it is called.
    (tmp_path / "out" / "work").mkdir(parents=True)
    (tmp_path / "out" / "work" / "thesis.tex").write_text("years of work")
    before = {path: path.read_text() for path in small_root.rglob("*") if path.is_file()}
    page = book.build_book(tmp_path / "out" / "html")
    assert page == tmp_path / "out" / "html" / "index.html" and page.read_text() == STORED
    assert calls == [("book", None, small_root)]
    # With results the page of the run is executed, and only in the copy; an earlier build is replaced.
    (tmp_path / "results").mkdir()
    assert (
        book.build_book(tmp_path / "out" / "html", tmp_path / "results").read_text()
        == "stored notebooks/a.ipynb\nexecuted"
    )
    assert [what for what, *_ in calls[1:]] == ["notebook your_run.ipynb", "book"]
    assert {results for _, results, _ in calls[1:]} == {str(tmp_path / "results")}
    assert {path: path.read_text() for path in small_root.rglob("*") if path.is_file()} == before
    assert (tmp_path / "out" / "work" / "thesis.tex").read_text() == "years of work"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"html", "work", ".html.lock"}
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "book: executing your_run.ipynb with your results",
        "book: building the pages, about half a minute",
        "book: done in 0 s",
    ]


@pytest.mark.parametrize("step", ["notebook your_run.ipynb", "book"])
def test_a_build_that_fails_leaves_the_last_one(step, small_root, tmp_path, monkeypatch):
    monkeypatch.setattr(book, "_call", fake_call()[0])
    page = book.build_book(tmp_path / "out" / "html")
    monkeypatch.setattr(book, "_call", fake_call(fail=step)[0])
    (tmp_path / "results").mkdir()
    with pytest.raises(batch.BatchError, match=f"{step} failed"):
        book.build_book(tmp_path / "out" / "html", tmp_path / "results")
    assert page.read_text() == STORED


def test_a_failing_step_shows_its_last_lines(tmp_path, capfd):
    code = "print('first'); print('last'); raise SystemExit(3)"
    with pytest.raises(batch.BatchError, match="the step failed with exit code 3; its output is above"):
        book._call([sys.executable, "-c", code], dict(os.environ), tmp_path, "the step")
    assert capfd.readouterr().err == "first\nlast\n"
