"""Tests of reproduction.text: numbers and tables as the pages show them."""

import pytest

from reproduction.text import interval, markdown_table, short


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
