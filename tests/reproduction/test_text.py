"""Tests of reproduction.text: numbers and tables as the pages show them."""

import subprocess
import sys

import pytest

from reproduction.text import interval, markdown_table, note, percent, short, table


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.7055, 4), ".7055"),
        ((0.0,), ".000"),
        ((1.0,), "1.000"),
        ((-1.25, 2), "−1.25"),
        ((-0.0004,), "−.000"),
        ((0.012, 3, "+"), "+.012"),
        ((10.05, 1), "10.1"),
        ((-10.06, 1, "+"), "−10.1"),
    ],
)
def test_numbers(arguments, text):
    assert short(*arguments) == text


def test_a_number_that_rounds_to_one_is_one():
    assert short(0.9996) == "1.000" and short(-0.9996) == "−1.000"


def test_only_the_mean_of_an_interval_shows_its_sign():
    assert interval(0.01, -0.02, 0.04, 2, "+") == "+.01 [−.02, .04]"
    assert interval(0.5, 0.4, 0.6) == ".500 [.400, .600]"


def test_tables():
    text = markdown_table(["organ", "method", "Dice"], [["kidney", "CE(*)", 0.5], ["aorta", "SD(0)", None]], left=2)
    assert text.splitlines() == [
        "| organ | method | Dice |",
        "| --- | --- | ---: |",
        r"| kidney | CE(\*) | 0.5 |",
        "| aorta | SD(0) | None |",
    ]
    assert markdown_table(["a"], []) == "| a |\n| --- |"


def test_percent():
    assert percent(0.12345) == "12.3 %" and percent(0.02, 2) == "2.00 %"
    assert percent(0.5, 0, "+") == "+50 %" and percent(-0.001) == "−0.1 %"


def test_a_table_in_a_notebook_is_the_same_text():
    header, rows = ["organ", "method", "Dice"], [["kidney", "CE(*)", ".5"]]
    assert table(header, rows).data == markdown_table(header, rows)
    assert table(header, rows, left=2).data == markdown_table(header, rows, left=2) != table(header, rows).data


def test_notes_are_kept_as_plain_text_under_the_names_of_the_chapter(monkeypatch):
    kept = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, text, display: kept.update({name: (text, display)}))
    note("errata", table_below="3 of 12", seeds=4)
    assert kept == {"errata-table-below": ("3 of 12", False), "errata-seeds": ("4", False)}


def test_numbers_need_no_notebook():
    code = "import sys, reproduction.text; sys.exit(bool({'IPython', 'myst_nb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
