"""Statements, functions and tests: each names the others, and what finds them finds what is missing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from reproduction.report import statements as st

CHAPTER = """(volumes)=
# Volumes

Some text with {prf:ref}`thm-other`.

## A section without a label

:::{prf:theorem} Bounds
:label: thm-bounds

$x \\leq 1$. In code: {py:func}`noisyseg.dice_volume_bounds`, {py:meth}`noisyseg.GaussianDeformation.sample`.
:::

:::{prf:proof}
{py:func}`noisyseg.dice` is not in the statement.
:::

(inner)=
## Inner

::::{prf:definition} Nested
:label: def-nested

:::{note}
{py:func}`noisyseg.dice` twice: {py:func}`~noisyseg.dice`.
:::
::::
"""
BOUNDS = st.Statement("thm-bounds", "theorem", "Bounds", "p", "volumes", (("func", "noisyseg.dice_volume_bounds"),))


def check(*labels):
    return st.Check("test_x", "test_it", labels, "def test_it(): ...")


def test_statements_of_a_chapter():
    first, second = st.statements_in("p", [CHAPTER])
    assert first == st.Statement(
        "thm-bounds",
        "theorem",
        "Bounds",
        "p",
        "volumes",  # a section without a label is no place to link to: the one before is
        (("func", "noisyseg.dice_volume_bounds"), ("meth", "noisyseg.GaussianDeformation.sample")),
    )
    assert (second.label, second.section, second.functions) == ("def-nested", "inner", (("func", "noisyseg.dice"),))
    assert st.statements_in("p", CHAPTER.split("(inner)=")[:1]) == [first]


def test_a_section_goes_on_in_the_next_cell():
    one, two = CHAPTER.split(":::{prf:theorem}")
    assert st.statements_in("p", [one, ":::{prf:theorem}" + two]) == st.statements_in("p", [CHAPTER])


def test_a_statement_without_label_is_refused():
    with pytest.raises(ValueError, match=r"p: expected one :label: in ':::\{prf:lemma\} L', found \[\]"):
        st.statements_in("p", [":::{prf:lemma} L\nNothing.\n:::"])


def test_checks_of_a_folder(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_b.py").write_text(
        "import pytest\n\n\n@pytest.mark.slow\n@pytest.mark.statement('thm-a', 'def-b')\n"
        "@pytest.mark.parametrize('x', [1])\ndef test_first(x):\n    assert x\n\n\ndef test_second():\n    assert 1\n"
    )
    (found,) = st.checks(tmp_path)
    assert (found.module, found.name, found.labels) == ("test_b", "test_first", ("thm-a", "def-b"))
    assert found.source.startswith("@pytest.mark.slow\n") and found.source.endswith("    assert x")
    assert found.anchor == "check-test-b-test-first"


@pytest.mark.parametrize(
    ("stated", "checked", "found"),
    [
        ([BOUNDS, BOUNDS], [check("thm-bounds")], "thm-bounds is the label of 2 statements"),
        ([st.Statement("x", "lemma", "", "p", "", ())], [check("x")], "p: the label x does not begin with def-"),
        ([st.Statement("thm-x", "lemma", "", "p", "", ())], [check("thm-x")], "p: thm-x names no function"),
        ([BOUNDS], [check("thm-bounds")], "the docstring of noisyseg.dice_volume_bounds does not name thm-bounds"),
        ([BOUNDS], [], "p: no test is marked with thm-bounds"),
        ([], [check("thm-z")], "test_x.test_it is marked with thm-z, which is no statement"),
        (
            [st.Statement("thm-x", "lemma", "", "p", "", (("func", "noisyseg.none"),))],
            [check("thm-x")],
            "p: thm-x names noisyseg.none, which is no function, class or method",
        ),
    ],
)
def test_every_missing_link_is_found(stated, checked, found):
    assert any(line.startswith(found) for line in st.problems(stated, checked))


def test_the_book_and_the_code_name_each_other():
    stated = st.statements()
    assert len(stated) > 30
    assert st.problems(stated, st.checks()) == []


def test_the_command_prints_the_table():
    done = subprocess.run(
        [sys.executable, "-m", "reproduction.report.statements"], capture_output=True, text=True, check=True
    )
    assert re.search(r"\nthm-dice  \(theorem: .+; notebooks/optimal_segmentations\)\n", done.stdout)
    assert "noisyseg.dice_threshold" in done.stdout and done.stderr == ""
