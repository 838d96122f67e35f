"""What a chapter takes to execute: measured on a tiny one."""

from __future__ import annotations

import nbformat
import pytest

from reproduction.report import chapter_times
from reproduction.report.chapter_times import Cost, chapters, listed_pages, measure, read_costs, write_costs
from reproduction.runs.notebook import BatchError

BUSY = """import time
block = bytearray(150 * 2**20)
block[::4096] = bytes(len(block[::4096]))
while time.process_time() < 2:
    pass"""


def notebook(path, source):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    return path


def test_the_pages_are_those_of_the_book():
    pages = listed_pages()
    assert pages[0] == ("", "book/index") and ("II Label noise", "notebooks/label_noise") in pages
    assert chapters()[0] == "losses_and_metrics" and "explore" not in chapters()


@pytest.mark.slow
def test_a_busy_kernel_is_seen(tmp_path):
    path = notebook(tmp_path / "busy.ipynb", BUSY)
    before = path.read_bytes()
    cost = measure(path)
    assert cost.chapter == "busy" and 2 <= cost.processor_s < 60 and cost.peak_mib > 150
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_chapter_that_fails_is_named(tmp_path, capfd):
    with pytest.raises(BatchError, match=r"bad\.ipynb was not executed"):
        measure(notebook(tmp_path / "bad.ipynb", "1 / 0"))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_one_chapter_renews_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(chapter_times, "measure", lambda path: Cost(path.stem, 1.5, 300.0))
    assert read_costs(tmp_path) == {}
    write_costs(["volume"], tmp_path)
    monkeypatch.setattr(chapter_times, "measure", lambda path: Cost(path.stem, 2.5, 400.0))
    table = write_costs(["losses_and_metrics"], tmp_path)
    assert table.read_text() == "chapter,processor_s,peak_mib\nlosses_and_metrics,2.5,400.0\nvolume,1.5,300.0\n"
    assert (tmp_path / "provenance.json").is_file()
    with pytest.raises(
        ValueError, match=r"chapter 'volumes' is not in _toc\.yml; expected one of losses_and_metrics, "
    ):
        write_costs(["volumes"], tmp_path)
