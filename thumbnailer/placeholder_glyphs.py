"""The two drawings: a browser window that is being filled, and one that broke."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thumbnailer.placeholder_shapes import Pen, Point, intersect, move, unite

if TYPE_CHECKING:
    import pyvips

#: A window is so much wider than high.
ASPECT = 4 / 3

#: Lower windows, in pixels, have no buttons, and a plain cross where they broke.
DETAILED_HEIGHT = 26


@dataclass(frozen=True, slots=True)
class Window:
    """The measures of a browser window of ``height`` pixels, on whole pixels where lines shall be sharp."""

    height: int

    @property
    def width(self) -> int:
        """Even or odd as the height is, so that both are centred alike."""
        return self.height + 2 * round(self.height * (ASPECT - 1) / 2)

    @property
    def stroke(self) -> int:
        return max(1, round(self.height / 22))

    @property
    def bar(self) -> int:
        """The lower edge of the title bar's line."""
        return max(3, round(self.height * 0.25))

    @property
    def is_detailed(self) -> bool:
        return self.height >= DETAILED_HEIGHT

    @property
    def pen(self) -> Pen:
        return Pen(self.width, self.height, margin=2 * self.stroke)

    def inside(self, x: float, y: float) -> Point:
        """A point of the window's pane: 0, 0 is its top left corner, 1, 1 the opposite one."""
        pane_width, pane_height = self.width - 2 * self.stroke, self.height - self.stroke - self.bar
        return self.stroke + x * pane_width, self.bar + y * pane_height


def pending_glyph(window: Window) -> pyvips.Image:
    """A window with three dots in it."""
    if not window.is_detailed:
        return unite(_frame(window), *(_small_dot(window, place) for place in (-1, 0, 1)))
    radius = window.height * 0.06
    dots = [window.pen.disc(window.inside(x, 0.5), radius) for x in (0.28, 0.5, 0.72)]
    return unite(_frame(window), *dots)


def failed_glyph(window: Window) -> pyvips.Image:
    """A window with a picture in it that is broken in two."""
    if not window.is_detailed:
        return unite(_frame(window), *_cross(window))
    whole = unite(_frame(window), _landscape(window))
    gap = window.stroke * 0.7
    left = window.pen.left_of_zigzag(window.width * 0.53, window.height * 0.09, window.height * 0.25)
    return unite(
        intersect(move(whole, -window.stroke, 0), left + gap),
        intersect(move(whole, window.stroke, window.stroke), gap - left),
    )


def _frame(window: Window) -> pyvips.Image:
    pen, stroke = window.pen, window.stroke
    outline = pen.frame((0, 0), (window.width, window.height), window.height * 0.12, stroke)
    middle = window.bar - stroke / 2
    bar = pen.path([(stroke, middle), (window.width - stroke, middle)], stroke)
    if not window.is_detailed:
        return unite(outline, bar)
    radius = max(0.9, (window.bar - 2 * stroke) * 0.19)
    buttons = [pen.disc((stroke + radius * (3 + 3.6 * place), window.bar / 2), radius) for place in range(3)]
    return unite(outline, bar, *buttons)


def _landscape(window: Window) -> pyvips.Image:
    slopes = ((0.12, 0.84), (0.34, 0.44), (0.52, 0.7), (0.66, 0.53), (0.88, 0.84))
    hills = window.pen.path([window.inside(x, y) for x, y in slopes], window.stroke)
    return unite(hills, window.pen.disc(window.inside(0.74, 0.24), window.height * 0.055))


def _small_dot(window: Window, place: int) -> pyvips.Image:
    x, y = _sharp_middle(window)
    radius = max(0.75, window.height * 0.07)
    return window.pen.disc((x + place * round(radius * 3.6), y), radius)


def _cross(window: Window) -> tuple[pyvips.Image, pyvips.Image]:
    x, y = _sharp_middle(window)
    arm = max(1, round((window.height - window.bar) * 0.19))
    pen, stroke = window.pen, window.stroke * 1.4  # slanting lines look thinner than upright ones
    return (
        pen.path([(x - arm, y - arm), (x + arm, y + arm)], stroke),
        pen.path([(x + arm, y - arm), (x - arm, y + arm)], stroke),
    )


def _sharp_middle(window: Window) -> Point:
    """The middle of the pane, on the centre of a pixel in both directions or on an edge in both."""
    x, y = window.inside(0.5, 0.5)
    return x, math.floor(y) + x % 1
