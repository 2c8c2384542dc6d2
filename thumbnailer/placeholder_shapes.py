"""Shapes for placeholders, and the masks of them: 255 where there is ink, 0 where there is none.

Drawn from signed distances, so that every size has smooth edges without fonts, files or an SVG parser: a
pixel whose centre lies ``d`` pixels outside of a shape is covered by ``0.5 - d`` of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

from thumbnailer import libvips

if TYPE_CHECKING:
    import pyvips

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws on a sheet of ``width`` by ``height`` pixels with a margin around it.

    Every method returns a distance image: pixels, negative within the shape.
    """

    width: int
    height: int
    margin: int

    def disc(self, centre: Point, radius: float) -> pyvips.Image:
        return self._distances("circle", a=self._place(centre), r=radius)

    def panel(self, corner: Point, opposite: Point, radius: float) -> pyvips.Image:
        """A filled rectangle with round corners."""
        corners = [radius] * 4
        return self._distances("rounded-box", a=self._place(corner), b=self._place(opposite), corners=corners)

    def frame(self, corner: Point, opposite: Point, radius: float, stroke: float) -> pyvips.Image:
        """The outline of a panel, drawn inwards."""
        return (self.panel(corner, opposite, radius) + stroke / 2).abs() - stroke / 2

    def path(self, points: Sequence[Point], stroke: float) -> pyvips.Image:
        """Straight lines from point to point with round ends."""
        lines = [
            self._distances("line", a=self._place(start), b=self._place(end))
            for start, end in pairwise(points)
        ]
        return unite(*lines) - stroke / 2

    def left_of_zigzag(self, x: float, swing: float, tooth: float) -> pyvips.Image:
        """All that lies left of a jagged line down the sheet, which swings around ``x``.

        ``tooth`` is the height of one stroke of the line.
        """
        pixel = libvips.vips().Image.xyz(self.width + 2 * self.margin, self.height + 2 * self.margin)
        across, down = pixel[0] + 0.5 - self.margin, pixel[1] + 0.5 - self.margin
        swung = (((down / tooth) % 2 - 1).abs() * 2 - 1) * swing
        return (across - x - swung) * math.cos(math.atan(2 * swing / tooth))

    def _distances(self, shape: str, **measures: object) -> pyvips.Image:
        return libvips.vips().Image.sdf(
            self.width + 2 * self.margin, self.height + 2 * self.margin, shape, **measures
        )

    def _place(self, point: Point) -> list[float]:
        """libvips measures from the centres of pixels, drawings from their edges."""
        return [coordinate + self.margin - 0.5 for coordinate in point]


def unite(*shapes: pyvips.Image) -> pyvips.Image:
    """What lies in any of the shapes."""
    return reduce(lambda one, other: one.minpair(other), shapes)


def intersect(one: pyvips.Image, other: pyvips.Image) -> pyvips.Image:
    """What lies in both shapes."""
    return one.maxpair(other)


def move(shape: pyvips.Image, right: int, down: int) -> pyvips.Image:
    """The shape elsewhere on its sheet."""
    return shape.embed(right, down, shape.width, shape.height, extend="copy")


def coverage(shape: pyvips.Image) -> pyvips.Image:
    """The mask of a shape."""
    return ((0.5 - shape) * 255).rint().cast("uchar")
