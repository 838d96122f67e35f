"""What the built pages need in a browser, and what Sphinx and the theme leave out or get wrong.

A description for every page; links from the sources to entries that exist; names that may wrap behind a dot or an
underscore; captions, roles and labels that fit what they stand at. For a search from the disk, where a page may not
read other pages: the text of every page as a script, and an order of the results.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes

TEXTS = "search_texts.js"
DESCRIPTION = 160  # characters of a page that a list of results shows
BACK = re.compile(r'(class="viewcode-back" href="[^"#]*#)([^"]*)"')
NAME = re.compile(r'(?<=<span class="pre">)[^<]{16,}(?=</span>)')
CAPTION = re.compile(r"<caption>(<span class=\"caption-number\">.*?)</caption>", re.S)  # a box that may stay in sight
LABELS = {
    '<div role="list" class="citation-list">': '<div class="citation-list">',
    ' role="doc-biblioentry"': "",
    '<summary aria-label="Toggle hidden content">': "<summary>",  # it shows words, which name it
}


def describe(doctree: nodes.document | None, title: str) -> str:
    """Give the start of a page's first paragraph, up to the end of a word; without one the page's title."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        if isinstance(paragraph.parent, nodes.section):
            text = " ".join(paragraph.astext().split())
            return text if len(text) <= DESCRIPTION else text[:DESCRIPTION].rsplit(" ", 1)[0] + " …"
    return title


def back_to_entry(objects: dict[str, Any]) -> Any:
    """Give what mends a link from a source to the reference: functions stand there under the package or the module."""

    def mend(match: re.Match[str]) -> str:
        name = match[2]
        if name in objects:
            return match[0]
        last = name.rpartition(".")[2]
        found = [known for known in objects if known.startswith("noisyseg.") and known.endswith(f".{last}")]
        return f'{match[1]}{found[0]}"' if found else match[0].replace(f"#{name}", "")

    return mend


def complete(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Complete a page's head and mend its body, just before it is written."""
    text = describe(doctree, f"{nodes.unescape(context.get('title', ''))}. {app.config.html_title}")
    text = html.escape(re.sub(r"<[^>]*>", "", text))
    context["metatags"] = context.get("metatags", "") + f'\n    <meta name="description" content="{text}" />'
    if pagename == "search":
        app.add_js_file(TEXTS)
        app.add_js_file("search_from_disk.js")
    if pagename == "book/explorer":
        app.add_css_file("explorer.css")
        app.add_js_file("explorer.js", loading_method="defer")
    if "body" in context:
        for found, mended in LABELS.items():
            context["body"] = context["body"].replace(found, mended)
        context["body"] = CAPTION.sub(r"<caption><div>\1</div></caption>", context["body"])
        context["body"] = NAME.sub(lambda name: re.sub(r"([._/])(?=\w)", r"\1<wbr/>", name[0]), context["body"])
        if pagename.startswith("_modules/"):
            objects = app.env.domains["py"].objects
            context["body"] = BACK.sub(back_to_entry(objects), context["body"])


def outline(node: nodes.Element) -> str:
    """Give the words of a section and of those in it, each in an element with the section's id."""
    parts = []
    for child in node.children:
        if isinstance(child, nodes.section):
            parts.append(f'<section id="{" ".join(child["ids"][:1])}">{outline(child)}</section>')
        elif not isinstance(child, (nodes.title, nodes.raw, nodes.comment, nodes.substitution_definition)):
            parts.append(html.escape(" ".join(child.astext().split()), quote=False))
    return " ".join(part for part in parts if part)


def write_texts(app: Any, error: Exception | None) -> None:
    """Write the words of every page as a script, which a page from the disk may load."""
    if error is None and app.builder.name == "html":
        texts = {name: outline(app.env.get_doctree(name)) for name in sorted(app.env.found_docs)}
        script = f"const SEARCH_TEXTS = {json.dumps(texts, ensure_ascii=False)};\n"
        (Path(app.outdir) / "_static" / TEXTS).write_text(script, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connect to the build."""
    app.config.html_search_scorer = str(Path(__file__).with_name("scorer.js"))
    app.connect("html-page-context", complete)
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
