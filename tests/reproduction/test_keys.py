"""Keys of YAML files: each once, known, and what is wrong in one line."""

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from reproduction.keys import Loader, check_names, one_line


def test_check_names():
    check_names("x", ["a"], ["a", "b"], required=["a"])
    with pytest.raises(ValueError, match=r"^x lacks 'b', 'c'$"):
        check_names("x", ["a"], ["a", "b", "c"], required=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"^x has the unknown key 7; known are a$"):
        check_names("x", {7: 1}, ["a"])


def test_a_key_that_occurs_twice_is_an_error():
    assert yaml.load("{a: 1, b: {a: 2}}", Loader) == {"a": 1, "b": {"a": 2}}
    with pytest.raises(yaml.YAMLError, match="the key 'a' occurs twice"):
        yaml.load("{b: {a: 1, a: 2}}", Loader)


def test_a_default_that_does_not_fit_is_shown_too():
    class Numbers(BaseModel, validate_default=True):
        count: int = -1
        size: float

    values = {"size": "1e-5"}
    with pytest.raises(ValidationError) as caught:
        Numbers.model_validate(values, strict=True)
    expected = "size is '1e-5'; expected a finite number (YAML takes 1e-5 for text: write 1.0e-5)"
    assert one_line(caught.value, values, Numbers.model_fields) == expected
