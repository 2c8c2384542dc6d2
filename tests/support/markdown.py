"""What tests read out of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

Row = dict[str, str]


def tables(text: str) -> Iterator[list[Row]]:
    """The tables of a Markdown text, each a list of its rows by column name."""
    block: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif block:
            yield [dict(zip(block[0], cells, strict=True)) for cells in block[2:]]
            block = []


def anchor_of(heading: str) -> str:
    """Where a link to a heading leads."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Where links into a page may lead: its headings, and what is named on purpose."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {anchor_of(heading) for heading in headings} | set(re.findall(r'<a id="([^"]+)"', text))
