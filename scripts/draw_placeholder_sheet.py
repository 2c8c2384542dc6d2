"""Draws docs/images/placeholders.png: the placeholders on a light and on a dark page.

Usage: python scripts/draw_placeholder_sheet.py [FILE]
"""

from __future__ import annotations

import sys
from functools import reduce
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))  # to be started as a file, from anywhere

import pyvips  # noqa: E402  not found before the line above

from thumbnailer.encoding import encode  # noqa: E402  the same
from thumbnailer.imaging import Dimensions  # noqa: E402  the same
from thumbnailer.placeholders import PlaceholderKind, draw  # noqa: E402  the same
from thumbnailer.renditions import RenditionFormat  # noqa: E402  the same

Colour = tuple[int, int, int]

SIZES = ((16, 16), (120, 90), (400, 300), (300, 1200), (1280, 720))
LIGHT, DARK = (255, 255, 255), (20, 23, 28)
GAP = 24
SHOWN_HEIGHT = 240


def main() -> None:
    """Write the sheet."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs/images/placeholders.png"
    rows = [row(kind, page) for page in (LIGHT, DARK) for kind in PlaceholderKind]
    sheet = reduce(lambda above, below: above.join(below, "vertical"), rows)
    path.write_bytes(encode(sheet.copy_memory(), RenditionFormat.PNG).body)


def row(kind: PlaceholderKind, page: Colour) -> pyvips.Image:
    """One kind in all sizes on one page; the largest are shown smaller."""
    cells = [_cell(Dimensions(*size), kind, page) for size in SIZES]
    together = reduce(lambda left, right: left.join(right, "horizontal", shim=GAP, background=page), cells)
    return _on_page(together, GAP, together.width + 2 * GAP, together.height + 2 * GAP, page)


def _cell(size: Dimensions, kind: PlaceholderKind, page: Colour) -> pyvips.Image:
    drawn = pyvips.Image.new_from_buffer(draw(size, kind, RenditionFormat.PNG).body, "")
    shown = drawn.thumbnail_image(size.width, height=SHOWN_HEIGHT, size="down").flatten(background=page)
    return _on_page(shown, 0, shown.width, SHOWN_HEIGHT, page)


def _on_page(picture: pyvips.Image, margin: int, width: int, height: int, page: Colour) -> pyvips.Image:
    return picture.embed(margin, margin, width, height, extend="background", background=page)


if __name__ == "__main__":
    main()
