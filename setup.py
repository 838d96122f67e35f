"""The long description of the wheel: the README's part on the library, without links into the repository."""

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
PARTS = re.findall(r"<!-- library -->\n(.*?)<!-- /library -->", README, re.DOTALL)

setup(
    long_description=re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", "\n".join(PARTS)),
    long_description_content_type="text/markdown",
)
