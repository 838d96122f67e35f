"""What every test has: one thread, no display, no network beyond this host, and the shared data where there is some."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

# Before the first import of NumPy or torch: xdist runs one process a core, and the sums must not depend on the cores.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["MPLBACKEND"] = "Agg"

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
LOOPBACK = ("127.", "::1", "localhost")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
# For the library's tests once more, on other versions of Python and of what it needs (test_wheel.py).
settings.register_profile("again", deadline=None, derandomize=True, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def lacking(message: str) -> NoReturn:
    """Skip the test because this machine lacks something, but fail it in CI, which has to have everything."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"{message} (CI is set, so this is a failure and not a skip)")
    pytest.skip(message)


def require_folder(folder: Path, shown: str) -> Path:
    """Return `folder`; where it is missing, skip the test that asks, but fail it in CI, which must use real data."""
    if folder.is_dir():
        return folder
    lacking(f"no real data: expected the folder {shown} beside the repository")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first: they are handed out whole, and the last one is then a short one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, `../shared/data`: the test is skipped without it, and failed in CI."""
    return require_folder(SHARED_DATA, "../shared/data")


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book as `make book` builds it, and where: `make test` leaves it there for the person who has called it.

    It is built once in a run of the tests, in whichever process asks first.
    """
    from filelock import FileLock  # neither is there where the library is tested alone

    from reproduction.report.book import build_book

    run = tmp_path_factory.getbasetemp()
    run = run.parent if os.environ.get("PYTEST_XDIST_WORKER") else run
    folder = ROOT / "_build" / "html"
    with FileLock(run / "book.lock"):
        if not (run / "book.built").exists():
            build_book(folder)
            (run / "book.built").touch()
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data with the tiny data set, made anew for every test module, which may spoil it."""
    from tiny import make_data  # it imports torch, and must come after what is set above

    folder = tmp_path_factory.mktemp("data")
    make_data(folder)
    return folder


@pytest.fixture(scope="session")
def hippocampus_source() -> Path:
    """A local copy of Task04_Hippocampus in its official layout, as `--source` takes it: `../shared/data/msd`."""
    return require_folder(SHARED_DATA / "msd" / "Task04_Hippocampus", "../shared/data/msd/Task04_Hippocampus").parent


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse every connection that leaves this host: a test that needs one would pass or fail by the weather."""
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: object, original=original) -> object:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):  # type: ignore[index]
                raise OSError(f"tests may not use the network: connection to {address!r}")
            return original(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)
    yield
