"""What a thumbnail costs: processor time for 1280x720 to 400 pixels, against Pillow at its best.

Both make the same picture of the same page: their files differ by a few percent in size, and both are as
close to a reference. Processor time is what counts on a server that is busy with other pictures, and it
bears being measured on a machine that is.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from PIL import Image

from benchmarks.figures import Figure, figure, ratio
from benchmarks.scale import Scale
from tests.support.screenshots import decoded, encoded, likeness, page_picture
from thumbnailer.encoding import avif_quality
from thumbnailer.imaging import PictureLimits
from thumbnailer.model import DEFAULT_QUALITY
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Rendition, RenditionFormat

WIDTH, HEIGHT = 400, 225
NAME = f"1280x720 to {WIDTH} px"

#: Goal: 1.4 times as much for the same processor time.
TIMES_PILLOW = 1.4
#: Equal size and quality, within what two ways to scale differ by.
SIZE_SHARE = 1.05
LOST_DECIBELS = 0.5

PILLOW_OPTIONS: Mapping[RenditionFormat, Mapping[str, object]] = {
    RenditionFormat.PNG: {"compress_level": 7},
    RenditionFormat.JPEG: {"quality": DEFAULT_QUALITY, "optimize": True, "progressive": True},
    RenditionFormat.WEBP: {"quality": DEFAULT_QUALITY, "method": 2},
    RenditionFormat.AVIF: {
        "quality": avif_quality(DEFAULT_QUALITY),
        "speed": 6,
        "subsampling": "4:4:4",
        "max_threads": 1,
        "advanced": {"tune": "ssim"},
    },
}


Work = Callable[[], bytes]


def measure(scale: Scale) -> Iterator[Figure]:
    """WebP against its goal, the other formats to be known."""
    page = encoded(page_picture(), "png")
    renderer = Renderer(PictureLimits(), concurrency=1)
    for wanted in (RenditionFormat.WEBP, RenditionFormat.JPEG, RenditionFormat.PNG, RenditionFormat.AVIF):
        rendition = Rendition(format=wanted, thumb_width=WIDTH)
        ours, theirs = partial(_with_libvips, renderer, page, rendition), partial(with_pillow, page, wanted)
        # The first run loads code and memory.
        pairs = [_one_run(ours, theirs, max(5, scale.repeats // 5)) for _ in range(scale.rounds + 1)][1:]
        yield from _compare(wanted, pairs, has_goal=wanted is RenditionFormat.WEBP)
        yield from _alike(f"{NAME} {wanted}", ours(), theirs(), has_goal=wanted is RenditionFormat.WEBP)


def _with_libvips(renderer: Renderer, page: bytes, rendition: Rendition) -> bytes:
    return renderer.render(page, rendition).body


def with_pillow(body: bytes, wanted: RenditionFormat) -> bytes:
    """The same thumbnail by Pillow: as quick as it goes without losing quality."""
    with Image.open(io.BytesIO(body)) as picture:
        thumbnail = picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return encoded(thumbnail, wanted, **PILLOW_OPTIONS[wanted])


def _compare(
    wanted: RenditionFormat, pairs: list[tuple[float, float]], *, has_goal: bool
) -> Iterator[Figure]:
    name = f"{NAME} {wanted}"
    yield figure(f"{name}: processor time", "ms", (mine for mine, _ in pairs))
    yield figure(f"{name}: processor time of Pillow", "ms", (other for _, other in pairs))
    yield ratio(
        f"{name}: pictures per processor time, against Pillow",
        [other for _, other in pairs],
        [mine for mine, _ in pairs],
        at_least=TIMES_PILLOW if has_goal else None,
        goal=9 if has_goal else None,
    )


def _one_run(ours: Work, theirs: Work, pictures: int) -> tuple[float, float]:
    """Processor time in milliseconds for a picture; by turns, so that a busy machine slows both alike."""
    mine = other = 0.0
    for _ in range(pictures):
        mine += _processor_seconds(ours)
        other += _processor_seconds(theirs)
    return mine * 1000 / pictures, other * 1000 / pictures


def _processor_seconds(work: Work) -> float:
    """Of all threads."""
    started_at = time.process_time()
    work()
    return time.process_time() - started_at


def _alike(name: str, mine: bytes, other: bytes, *, has_goal: bool) -> Iterator[Figure]:
    reference = page_picture().resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    lost = likeness(decoded(other), reference) - likeness(decoded(mine), reference)
    size = len(mine) / len(other)
    yield figure(f"{name}: size of the file", "bytes", [len(mine)])
    yield figure(f"{name}: share of Pillow's size", "", [size], at_most=SIZE_SHARE if has_goal else None)
    if math.isfinite(lost):
        yield figure(
            f"{name}: likeness lost to Pillow", "dB", [lost], at_most=LOST_DECIBELS if has_goal else None
        )
