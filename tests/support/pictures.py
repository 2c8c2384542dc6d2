"""Real pictures for tests, small or of any number of megabytes, without files."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
FILLER_BYTES = 65536


@functools.cache
def picture(image_format: str = "png", width: int = 320, height: int = 200) -> bytes:
    """A whole picture, ``png``, ``jpeg``, ``webp`` or ``pdf``, the same at every call."""
    if image_format == "pdf":
        return _pdf(width, height)
    image = Image.radial_gradient("L").resize((width, height)).convert("RGB")
    image.paste((200, 30, 30), (0, 0, width // 2, height // 4))
    encoded = io.BytesIO()
    image.save(encoded, image_format.upper())
    return encoded.getvalue()


@functools.cache
def animation(image_format: str, frames: int, side: int = 8) -> bytes:
    """An animated ``png``, ``webp``, ``avif`` or ``gif``; all frames differ."""
    pictures = [
        Image.new("RGB", (side, side), (number * 83 % 256, number % 2 * 200, 99)) for number in range(frames)
    ]
    encoded = io.BytesIO()
    pictures[0].save(
        encoded, image_format.upper(), save_all=True, append_images=pictures[1:], duration=40, loop=0
    )
    return encoded.getvalue()


@functools.cache
def png_of_size(width: int, height: int) -> bytes:
    """A whole PNG with right checksums that says it is so large, and holds one row of black."""
    row = zlib.compress(bytes(1 + 3 * width))
    return png_of_chunks((b"IDAT", row), header=png_header(width, height, colour=2))


def png_header(
    width: int = 320, height: int = 200, *, depth: int = 8, colour: int = 0, rest: bytes = bytes(3)
) -> bytes:
    """The content of an ``IHDR``, of grey pixels by default; ``rest`` is packing, filtering, interlacing."""
    return struct.pack(">IIBB", width, height, depth, colour) + rest


def png_of_chunks(*chunks: tuple[bytes, bytes], header: bytes = png_header()) -> bytes:
    """A PNG of these chunks between its header and its end; their checksums are right."""
    parts = ((b"IHDR", header), *chunks, (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def grey_rows(count: int, width: int = 320) -> bytes:
    """So many rows of grey pixels, packed."""
    return zlib.compress(bytes(count * (width + 1)), 1)


def big_png(size_bytes: int) -> Iterator[bytes]:
    """A valid PNG of 320x200 pixels and exactly ``size_bytes``, in pieces of some 64 KiB.

    Its bulk is noise in ancillary chunks that decoders skip (PNG, section 5.4), so neither side has to
    hold it, and nothing on the way can compress it.
    """
    small = picture()
    head_end = len(PNG_SIGNATURE) + 25  # the IHDR chunk has 12 bytes around 13
    yield small[:head_end]
    remaining = size_bytes - len(small)
    assert remaining == 0 or remaining >= 12, "a chunk of PNG takes at least 12 bytes"
    filler = _chunk(b"fiLl", random.Random(7).randbytes(FILLER_BYTES - 12))
    while remaining >= FILLER_BYTES + 12:
        yield filler
        remaining -= FILLER_BYTES
    while remaining:
        length = remaining if remaining <= FILLER_BYTES else remaining // 2
        yield _chunk(b"fiLl", bytes(length - 12))
        remaining -= length
    yield small[head_end:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _pdf(width: int, height: int) -> bytes:
    """One empty page, with a cross-reference table that is right (ISO 32000-1, section 7.5)."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] >>" % (width, height),
    ]
    document = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        document
        + b"xref\n0 4\n0000000000 65535 f \n"
        + table
        + b"trailer\n<< /Size 4 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(document)
    )
