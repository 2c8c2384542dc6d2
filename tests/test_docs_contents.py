"""A list of contents at the head of a page of documentation names what is on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.markdown import anchor_of
from tests.support.service import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_a_list_of_contents_names_every_section_in_order(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    contents = re.findall(r"\]\(#([\w-]+)\)", text.partition("\n## ")[0])
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert not contents or contents == [anchor_of(title) for title in titles]
