"""Names of networks."""

import pytest

from reproduction.models import CRITERIA, parse


def test_names_are_taken_apart():
    assert parse("unet") == ("unet", 0, "")
    assert parse("lunet") == ("lunet", 0, "") and parse("lunet12") == ("lunet", 12, "")
    assert {parse(f"doubling4-{criterion}").criterion for criterion in CRITERIA} == set(CRITERIA)


def test_widths_have_as_many_levels_as_features():
    assert parse("unet").widths((8, 9)) == (8, 9)
    assert parse("lunet").widths((8, 16, 32)) == (8, 8, 8)
    assert parse("lunet4").widths((8, 16, 32)) == (4, 4, 4)
    assert parse("doubling3-l2").widths((8, 16, 32)) == (3, 6, 12)


@pytest.mark.parametrize(
    "name", ["", "vnet", "unet8", "unet-l2", "lunet0", "lunet-1", "lunet04", "doubling8-", "Lunet"]
)
def test_what_is_no_name(name):
    with pytest.raises(ValueError, match=f"model is '{name}'; expected one of unet, lunet and doubling"):
        parse(name)
