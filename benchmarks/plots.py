"""Draws the plots of ``docs/benchmarks.md``, from the results that are named, else the newest.

Runs in ``.venv-bench``, where matplotlib is, and so imports nothing of the service.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

plt.rcParams.update({"svg.hashsalt": "thumbnailer", "svg.fonttype": "path", "font.size": 9})

PROJECT = Path(__file__).parent.parent
FOLDER = PROJECT / "docs" / "images" / "benchmarks"
OURS, OTHERS = "#0b6e4f", "#9aa5b1"

#: File, title, part, what the names of its figures begin with, and which of its bars are ours.
PLOTS = (
    ("hits", "Hits per second, the application alone, 60 KB", "hits", "hits, 60 KB: ", ("thumbnailer",)),
    ("edge", "Hits per second at the edge, 60 KB", "edge", "edge, 60 KB: ", ("edge",)),
    ("edge-10", "Hits per second at the edge, 10 KB", "edge", "edge, 10 KB: ", ("edge",)),
    (
        "busy",
        "Hits per second while captures of 5 s run",
        "busy",
        "",
        ("application", "edge"),
    ),
    (
        "misses",
        "What a miss adds to the upstream's own time, ms",
        "misses",
        "a miss: added by ",
        ("thumbnailer",),
    ),
    ("idle", "Idle memory, MiB", "idle", "idle: memory of ", ("thumbnailer",)),
    ("instances", "Hits per second of processor time", "instances", "", ("1", "2", "4")),
)
UNITS = {"misses": "ms", "idle": "MiB"}


def chosen(figures: list[dict[str, Any]], part: str, begins: str) -> list[dict[str, Any]]:
    """The figures of a plot."""
    unit = UNITS.get(part, "1/s")
    found = [each for each in figures if each["unit"] == unit and each["name"].startswith(begins)]
    if part == "instances":
        return [each for each in found if "processor time" in each["name"]]
    return [each for each in found if "after its first answer" not in each["name"]]


def label(name: str, begins: str) -> str:
    text = name.removeprefix(begins)
    for ending in (": hits per second of processor time", ": hits"):
        text = text.removesuffix(ending)
    return text.replace(" captures under way", " captures")


def draw(results: dict[str, Any]) -> None:
    """All plots of parts that were measured: bars for medians, whiskers from the least to the most."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.svg"):
        old.unlink()
    for file, title, part, begins, ours in PLOTS:
        shown = chosen(results["figures"].get(part, []), part, begins)
        if not shown:
            continue
        labels = [label(each["name"], begins) for each in shown]
        medians = [each["median"] for each in shown]
        below = [each["median"] - min(each["values"]) for each in shown]
        above = [max(each["values"]) - each["median"] for each in shown]
        colours = [OURS if text.startswith(ours) else OTHERS for text in labels]
        drawing, axes = plt.subplots(figsize=(7, 0.6 + 0.34 * len(shown)), layout="constrained")
        bars = axes.barh(labels, medians, xerr=(below, above), color=colours, height=0.66, capsize=2)
        axes.bar_label(
            bars,
            labels=[f" {value:,.4g}" if value < 1000 else f" {value:,.0f}" for value in medians],
            padding=3,
        )
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.set_xlim(0, max(one + more for one, more in zip(medians, above, strict=True)) * 1.15)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")
        drawing.savefig(FOLDER / f"{file}.svg", metadata={"Date": None}, facecolor="white")
        plt.close(drawing)


def main() -> None:
    """Draw them, and say where."""
    folder = PROJECT / "benchmarks" / "results"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else max(folder.glob("*.json"))
    draw(json.loads(path.read_text(encoding="utf-8")))
    print(f"{FOLDER} shows {path}")


if __name__ == "__main__":
    main()
