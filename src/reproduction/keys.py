"""Keys of presets, configurations and notebooks: YAML that has each once, and errors that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

#: What pydantic found wrong, in this project's words; braces are filled from the error's context.
_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": "letters, digits and underscores",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
}


def one_line(error: ValidationError, values: dict[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """Say the first thing that is wrong: the field, what was found, and what was expected.

    ``values`` are those that were given; ``fields`` are those of the model that refused them.
    """
    first = error.errors(include_url=False)[0]
    field, kind = str(first["loc"][0]), first["type"]
    if field == "features":
        expected = "a list of at least two positive integers"
    elif kind == "literal_error":
        expected = f"one of {', '.join(get_args(fields[field].annotation))}"
    else:
        expected = _EXPECTED.get(kind, first["msg"]).format(**first.get("ctx", {}))
    if kind == "float_type" and isinstance(values[field], str) and "e" in values[field].lower():
        expected += " (YAML takes 1e-5 for text: write 1.0e-5)"
    return f"{field} is {values.get(field, first['input'])!r}; expected {expected}"


def check_names(what: str, given: Any, known: Any, required: Any = ()) -> None:
    """Refuse unknown and missing names, and suggest what may have been meant.

    Examples
    --------
    >>> check_names("preset", ["epoch"], ["epochs", "fold"])
    Traceback (most recent call last):
    ValueError: preset has the unknown key 'epoch'; did you mean 'epochs'?
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(str, known))}"
            raise ValueError(f"{what} has the unknown key {name!r}; {hint}")
    missing = [name for name in required if name not in given]
    if missing:
        raise ValueError(f"{what} lacks {', '.join(map(repr, missing))}")


class Loader(yaml.SafeLoader):
    """YAML as everybody reads it, but a key that occurs twice is an error: the first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make the dict of a mapping, as the base class does."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def notebook_parameters(namespace: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """Parameters of a papermill template, from its ``globals()``; every other name is refused.

    papermill injects a name that the template does not know with no more than a warning: the run would then silently
    use a default. Call this right after the cell tagged ``parameters``, before any import. What IPython and the user's
    startup files had defined before the first cell does not count.

    Examples
    --------
    >>> notebook_parameters({"_private": 0, "fold": 1, "a": 0.01}, ("a", "fold"))
    {'a': 0.01, 'fold': 1}
    >>> notebook_parameters({"fold": 1, "a": 0.01, "epoch": 3}, ("a", "fold"))
    Traceback (most recent call last):
    ValueError: notebook has the unknown key 'epoch'; known are a, fold
    """
    interactive = {"In", "Out", "exit", "quit", "get_ipython", "open", "notebook_parameters"}
    shell: Any = namespace.get("get_ipython")
    before = {} if shell is None else shell().user_ns_hidden
    names = [
        name
        for name, value in namespace.items()
        if not name.startswith("_") and name not in interactive and not (name in before and before[name] is value)
    ]
    check_names("notebook", names, known, required=known)
    return {name: namespace[name] for name in known}
