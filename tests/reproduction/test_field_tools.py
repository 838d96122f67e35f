"""Tests of reproduction.chapters.field_tools: rows and values of the measured fields, and their figure."""

import numpy as np
import pandas as pd
import pytest

from reproduction.chapters.field_tools import (
    deviation_in_errors,
    first_value,
    largest_deviation,
    load,
    plot_tools,
    select,
    settings_in_words,
    with_error,
)


@pytest.fixture
def measured():
    rows = [("A", "sd", "line", 0.1, 0.5, 0.0101), ("A", "covariance", "middle", 0.0, 1.01, 0.004)]
    rows += [("A", "covariance", "middle", 0.2, 0.45, 0.01), ("B", "sd", "line", 0.1, 0.9, 0.1)]
    return pd.DataFrame(rows, columns=["method", "quantity", "place", "distance", "value", "standard_error"])


def test_values_by_hand(measured):
    assert with_error(0.12345, 0.00201) == "0.123 (3)" and with_error(0.5, 0.01, "+") == "+0.500 (10)"
    assert first_value(measured, "A", "sd", "line") == "0.500 (11)"
    assert largest_deviation(measured, "A", "middle", lambda r: 1 - 2 * r) == "-0.150 (10)"
    places = ["middle", "corner"]
    assert deviation_in_errors(measured, "A", "covariance", places, lambda r: 1 - 2 * r) == pytest.approx(15)


def test_rows_that_are_missing_are_named(measured):
    assert len(select(measured, "A", "covariance")) == 2
    with pytest.raises(ValueError, match="method 'C', quantity 'sd'"):
        select(measured, "C", "sd")


def test_stored_measurements_are_whole():
    measured, about = load()
    lines = settings_in_words(about)
    assert len(lines) == len(about["draws"]) == measured["method"].nunique() == 6
    assert lines[0].startswith("noisyseg, 3,000 draws: `a = 0.02`")
    assert lines[2].startswith(f"MONAI {about['peers']['monai']}, ")
    figure = plot_tools(measured, lambda r: np.exp(-((r / about["b"]) ** 2) / 2))
    assert len(figure.axes) == 3 and len(figure.legends[0].get_texts()) == 7
