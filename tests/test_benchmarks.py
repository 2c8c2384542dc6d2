"""The measurements: what a figure is held against, and that the page of the docs tells what was measured."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks.figures import figure, ratio
from benchmarks.results_page import PAGE, named_in, read, written
from tests.support.service import PROJECT


@pytest.mark.parametrize(
    ("values", "asked", "is_met"),
    [
        pytest.param([1, 2, 9], {"at_most": 5}, False, id="the worst counts"),
        pytest.param([1, 2, 9], {"at_most": 5, "by_median": True}, True, id="the median counts"),
        pytest.param([1, 8, 9], {"at_least": 5}, False, id="the least counts"),
        pytest.param([1, 8, 9], {"at_least": 5, "by_median": True}, True, id="the median, from below"),
        pytest.param([1, 8, 9], {}, True, id="nothing is asked"),
    ],
)
def test_figures_are_held_against_what_is_asked(
    values: list[float], asked: dict[str, Any], is_met: bool
) -> None:
    assert figure("hits", "1/s", values, **asked).is_met is is_met


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio("share", [2, 9, 4], [1, 3, 1]).values == (2, 3, 4)


def test_the_page_tells_what_its_results_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, named_in(page)) == page


def test_every_plot_is_shown_and_every_part_has_its_place() -> None:
    page = PAGE.read_text(encoding="utf-8")
    drawn = {path.name for path in (PROJECT / "docs" / "images" / "benchmarks").glob("*.svg")}
    assert drawn == set(re.findall(r"images/benchmarks/([a-z0-9-]+\.svg)", page))
    assert all(f"<!-- results: {part} -->" in page for part in read(named_in(page))["parts"])
