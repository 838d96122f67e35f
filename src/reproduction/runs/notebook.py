"""Data sets of a preset, and notebooks by papermill and nbconvert (book chapter *Reproduce*)."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from reproduction.config import POINT, Preset, RunConfig, is_done
from reproduction.data.cases import CaseSet
from reproduction.paths import atomic_write, project_root, use_own_kernel
from reproduction.runs.gpus import expected_patches

START_S = 120  # for a kernel to answer, on a busy machine


class BatchError(RuntimeError):
    """A step of a batch failed; the message is for the person who started it."""


def prepare_data(
    preset: Preset, data: str | os.PathLike[str], source: str | None, report: Callable[[str], None] = print
) -> CaseSet:
    """Make the data set of a preset below ``data``; a finished one is opened.

    A set with fewer cases than the preset means, made so by a person, is taken, and ``report`` says so.
    """
    # Loaded late: SciPy and the rest would be read by every process that only starts a notebook.
    from reproduction.data import hippocampus
    from reproduction.data.openkbp import patches as openkbp
    from reproduction.data.phantoms import cases as phantom_set
    from reproduction.data.totalsegmentator import patches as totalsegmentator

    config = preset.runs()[0]  # all runs of a preset have one data set
    folder = Path(data) / config.data_folder
    if config.dataset == "hippocampus":
        return hippocampus.make_hippocampus(folder, source)
    if config.dataset in openkbp.SETS:
        return openkbp.make_openkbp(folder, source, config.dataset)
    if config.dataset == "phantoms":
        return phantom_set.make_phantoms(folder, config.phantom_size, config.phantom_cases, config.phantom_seed)
    # A finished folder is taken as it is, whichever version of the data set it was cut from.
    made = CaseSet(folder) if (folder / "manifest.json").is_file() else None
    if made is None or made.missing():
        made = totalsegmentator.make_totalsegmentator(folder, source)
    counts = {organ: len(made.entries(organ)) for organ in made.manifest["organs"]}
    expected, _ = expected_patches(config)
    if min(counts.values()) < expected:
        listed = ", ".join(f"{count} {organ}" for organ, count in counts.items())
        report(f"{folder} holds {listed}; the preset {preset.name} means {expected} of each")
    return made


def execute_notebook(template: str, target: str | os.PathLike[str], parameters: dict[str, Any]) -> None:
    """Execute ``notebooks/templates/<template>.ipynb`` with papermill, in a kernel of its own, as ``target``.

    The kernel is this interpreter, see :func:`reproduction.paths.use_own_kernel`. What the notebook prints appears on
    standard error as it comes. ``target`` is the record: it is there, with the error in it, also when a cell fails.

    Raises
    ------
    BatchError
        If a parameter is unknown, a cell raises (its error in one line, and where the notebook is), or the kernel dies,
        does not start, or does not answer within ``START_S`` seconds.
    """
    # jsonschema would compile a grammar for web addresses, which takes longer than all the rest of this import.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    use_own_kernel()
    path = project_root() / "notebooks" / "templates" / f"{template}.ipynb"
    known = papermill.inspect_notebook(_as_written(path))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise BatchError(f"{template}.ipynb has no parameter {unknown[0]!r}; it has {', '.join(known)}")
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    for part in Path(target).parent.glob(f"{Path(target).stem}.*.part.ipynb"):  # of processes that were killed
        pid = part.name.split(".")[-3]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            part.unlink(missing_ok=True)
    temporary = Path(target).with_suffix(f".{os.getpid()}.part.ipynb")
    where = f"notebook: {Path(target).resolve()}"
    try:
        with warnings.catch_warnings():
            # nbformat's and jupyter_client's own deprecations are no business of the person at the terminal.
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                _as_written(path),
                _as_written(temporary),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                start_timeout=START_S,
                stdout_file=sys.stderr,
                cwd=str(Path.cwd()),
                extra_arguments=["--log-level=CRITICAL"],
            )
    except PapermillExecutionError as error:
        raise BatchError(f"{error.ename}: {' '.join(str(error.evalue).split())} ({where})") from error
    except DeadKernelError as error:
        raise BatchError(f"the process of {template}.ipynb died: killed, or out of memory ({where})") from error
    except OSError:
        raise
    except Exception as error:  # such as a kernel that never answers
        text = " ".join(str(error).split())
        raise BatchError(f"{template}.ipynb could not be executed: {type(error).__name__}: {text} ({where})") from error
    finally:
        if temporary.exists():
            os.replace(temporary, target)


def _as_written(path: Path) -> str:
    """Escape braces: papermill fills parameters into paths."""
    return str(path).replace("{", "{{").replace("}", "}}")


def execute_chapters(files: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Execute notebooks in place with nbconvert, all of ``notebooks/`` without any; say which one comes.

    Raises
    ------
    BatchError
        If a cell raises; nbconvert has then said which.
    """
    use_own_kernel()
    for path in files or sorted((project_root() / "notebooks").glob("*.ipynb")):
        print(f"executing {path}", flush=True)
        command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", "--log-level=ERROR"]
        # Stored notebooks have no times of execution and no sliders' state: the same outputs are the same file.
        settings = ("record_timing", "store_widget_state")
        command += [*(f"--ExecutePreprocessor.{setting}=False" for setting in settings), str(path)]
        if subprocess.run(command, check=False).returncode:
            raise BatchError(f"{path} was not executed; the reason is above")


def data_digest(data: str | os.PathLike[str], config: RunConfig) -> str | None:
    """Digest of a run's data set, None where it has not been made."""
    folder = Path(data) / config.data_folder
    return CaseSet(folder).digest if (folder / "manifest.json").is_file() else None


def run_notebook(preset: str, config: RunConfig, name: str, data: str, runs: str) -> Path:
    """Execute one training run through its notebook; return the run's folder."""
    folder = Path(runs) / name / config.folder
    if is_done(folder, config, data_digest(data, config)):
        return folder  # its notebook is the record of the training, and a second one would be empty
    point = {axis: getattr(config, axis) for axis in POINT}
    folder.mkdir(parents=True, exist_ok=True)
    # The kernel inherits these: runs side by side do not fight for cores, and sums are added up in one order.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(config.threads)
    try:
        execute_notebook("training_run", folder / "run.ipynb", {"preset": preset, **point, "data": data, "runs": runs})
    except Exception as error:
        # Also failures outside execute(), such as a kernel that died, are then seen by `python -m reproduction status`.
        with suppress(OSError):  # on a full disk the error itself matters more than its record
            atomic_write(folder / "failure.txt", f"{' '.join(str(error).split())}\n")
        raise
    return folder
