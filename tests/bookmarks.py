"""Bookmarks of a PDF, for the tests of the book on paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def entries(outline: list[Any], depth: int = 0) -> Iterator[tuple[int, Any]]:
    """Go through bookmarks with their depth."""
    for item in outline:
        if isinstance(item, list):
            yield from entries(item, depth + 1)
        else:
            yield depth, item
