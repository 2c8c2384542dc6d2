"""``flask thumb`` and ``flask warm``: thumbnails for whoever sits at the service's machine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from blueprints.capture_requests import Asked
from blueprints.command_lines import faults_told, takes_options, texts_of, told
from blueprints.parsing import typed_options
from blueprints.pictures import judge, thumb_door
from blueprints.schemas import ThumbQuery
from blueprints.services import Services, services
from thumbnailer.egress import GuardedSession
from thumbnailer.errors import InvalidParameters, ThumbnailerError
from thumbnailer.model import POWERFUL, Capture
from thumbnailer.photographer import Photographer
from thumbnailer.sitemaps import Listing, fetch_listing, gather_pages, read_listing
from thumbnailer.terms import CacheStatus, Delivery
from thumbnailer.usage import OPERATOR

#: What today's browsers send for an ``<img>``; it counts for ``format=auto`` only.
ACCEPT_OF_BROWSERS = "image/avif,image/webp,image/*,*/*;q=0.8"

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}

#: Options that are about an HTTP answer.
OF_ANSWERS = frozenset({"download", "exp", "kid", "on_error", "sig", "wait"})


@click.command("thumb")
@click.argument("url")
@click.option(
    "--output", "-o", required=True, metavar="FILE", help="The file to write; - is standard output."
)
@takes_options("--option")
@with_appcontext
def thumb(url: str, output: str, options: tuple[tuple[str, str], ...]) -> None:
    """Write the thumbnail of the page at URL to a file, from the cache or newly taken.

    The file's ending says which format; all else is as GET /thumb does it.
    """
    texts = texts_of(options)
    ending = Path(output).suffix.lower()
    if output != "-" and not texts.keys() & {"format", "preset"}:
        if ending not in FORMATS:
            raise click.ClickException(f"FILE must end in {', '.join(FORMATS)}, or --option say format=….")
        texts["format"] = FORMATS[ending]
    with faults_told():
        asked = judge({**_given(texts), "url": url}, thumb_door(), accept=None)
        delivery = _fetch(services(), asked)
    _write(output, delivery.capture)
    if delivery.trouble:
        click.echo(f"It is an old one. A new one failed: {told(delivery.trouble)}", err=True)


@click.command("warm")
@click.argument("source", metavar="FILE|SITEMAP")
@click.option(
    "--preset", "presets", multiple=True, help="A preset of PRESETS; may be repeated, for several sizes."
)
@takes_options("--option", "-o")
@click.option(
    "--accept",
    default=ACCEPT_OF_BROWSERS,
    show_default=True,
    help="The Accept header that format=auto goes by.",
)
@click.option("--parallel", type=click.IntRange(1, 32), default=2, show_default=True, help="Pages at once.")
@with_appcontext
def warm(
    source: str, presets: tuple[str, ...], options: tuple[tuple[str, str], ...], accept: str, parallel: int
) -> None:
    """Fill the cache with the thumbnails of many pages, so that nobody has to wait for them.

    FILE has one URL on each line (- is standard input), or is a sitemap; SITEMAP is the URL of one. If it
    was interrupted, run it again: what is fresh in the cache is not taken again.
    """
    if not services().is_cache_shared:
        raise click.ClickException(
            "Each process keeps its cache in its own memory: set CACHE_DIR or REDIS_URL."
        )
    texts = texts_of(options)
    if presets and "preset" in texts:
        raise click.ClickException("An option must not be repeated.")
    with faults_told():
        variants = [_given({**texts, "preset": one}) for one in presets] or [_given(texts)]
        if own := sorted(POWERFUL & texts.keys()):
            raise click.ClickException(f"{', '.join(own)}: such pictures are their caller's own.")
        pages = _pages(source)
        wishes = list(_wishes(pages, variants, accept))
    if not services().checks["cache"]():
        raise click.ClickException("The cache takes nothing: flask doctor --only cache says why.")
    tally = Tally()
    try:
        _warm(wishes, tally, parallel)
    finally:
        for fault in tally.faults:
            click.echo(fault, err=True)
        taken, there, failed = (tally.fates[fate] for fate in Fate)
        click.echo(f"{taken} taken, {there} there already, {failed} failed.")
    if failed:
        raise SystemExit(1)


class Fate(Enum):
    """What came of one picture."""

    TAKEN = auto()
    THERE = auto()
    FAILED = auto()


#: Brings one picture.
Fetch = Callable[[], Delivery]


@dataclass
class Tally:
    """What came of the pictures of a list; ``faults`` says of which pages some failed, and why."""

    fates: Counter[Fate] = field(default_factory=Counter)
    faults: dict[str, None] = field(default_factory=dict)

    def count(self, page: str, fate: Fate, fault: str) -> None:
        self.fates[fate] += 1
        if fault:
            self.faults[f"{page}: {fault}"] = None


def _warm(wishes: Sequence[tuple[str, Fetch]], tally: Tally, parallel: int) -> None:
    """Fetch them all, however many fail; whoever interrupts it waits for what is under way only.

    They are counted in the end, in the order of the list.
    """
    pool = ThreadPoolExecutor(parallel)
    pages: dict[Future[tuple[Fate, str]], str] = {}
    try:
        pages.update((pool.submit(_fate_of, fetch), page) for page, fetch in wishes)
        with click.progressbar(length=len(pages), label="Warming", show_pos=True, file=sys.stderr) as bar:
            for done in as_completed(pages):
                done.result()
                bar.update(1)
    finally:
        pool.shutdown(cancel_futures=True)
        for done, page in pages.items():
            if not done.cancelled() and done.exception() is None:
                tally.count(page, *done.result())


def _fate_of(fetch: Fetch) -> tuple[Fate, str]:
    """What becomes of one picture, and what is wrong; nothing holds on to the picture itself."""
    try:
        delivery = fetch()
    except ThumbnailerError as error:
        return Fate.FAILED, told(error)
    if delivery.trouble:
        return Fate.FAILED, f"{told(delivery.trouble)} The old picture is kept."
    if not delivery.is_kept:
        return Fate.FAILED, "The cache could not keep it."
    return (Fate.THERE if delivery.cache_status is CacheStatus.HIT else Fate.TAKEN), ""


def _wishes(
    pages: Sequence[str], variants: Sequence[Mapping[str, Any]], accept: str
) -> Iterator[tuple[str, Fetch]]:
    """One for each page and variant. Raises ``InvalidParameters`` where not the page is at fault."""
    found, door = services(), thumb_door()
    for page in pages:
        for given in variants:
            try:
                asked = judge({**given, "url": page}, door, accept)
            except ThumbnailerError as error:
                if isinstance(error, InvalidParameters) and error.fields.keys() != {"url"}:
                    raise
                yield page, _failing(error)
            else:
                yield page, partial(_fetch, found, asked)


def _failing(error: ThumbnailerError) -> Fetch:
    def fail() -> Delivery:
        raise error

    return fail


def _given(texts: Mapping[str, str]) -> dict[str, Any]:
    """Options as ``GET /thumb`` reads them. Raises ``InvalidParameters``."""
    if pointless := sorted((OF_ANSWERS | {"url"}) & texts.keys()):
        raise InvalidParameters({name: ["Means nothing here."] for name in pointless})
    return typed_options(texts, ThumbQuery())


def _fetch(found: Services, asked: Asked) -> Delivery:
    """Bring a picture on the operator's own account; an old one only where a new one fails.

    Limits are for callers over HTTP, but the budget of the service is that of its providers.
    """
    photographer = Photographer(
        accounts=found.accounts,
        thumbnails=found.thumbnails,
        deadline_seconds=found.bounds.deadline_seconds,
    )
    return photographer.take(asked.request, OPERATOR, asked.max_age_seconds)


def _pages(source: str) -> list[str]:
    """Raises ``ClickException``, and what the guard raises."""
    session = GuardedSession(services().guard)
    seconds = services().bounds.deadline_seconds

    def fetch(url: str) -> Listing:
        return fetch_listing(session, url, timeout_seconds=seconds)

    try:
        if source.lower().startswith(("http://", "https://")):
            listing = fetch(source)
        else:
            with click.open_file(source, "rb") as file:
                listing = read_listing(file.read())
        pages = gather_pages(listing, fetch)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        session.close()
    if not pages:
        raise click.ClickException("The list names no pages.")
    return pages


def _write(output: str, capture: Capture) -> None:
    """Write the whole picture, or nothing; what is no file, such as a pipe or a device, is written into."""
    record, body = capture.record, capture.body()
    try:
        if output == "-" or (Path(output).exists() and not Path(output).is_file()):
            with click.open_file(output, "wb") as stream:
                stream.write(body)
                stream.flush()
        else:
            _replace(Path(os.path.realpath(output)), body)  # what a link names, not the link
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror or error}.") from error
    if output != "-":
        size = f"{record.width} by {record.height} pixels, {record.size_bytes} bytes"
        click.echo(f"Wrote {output}: {record.content_type}, {size}.", err=True)


def _replace(path: Path, body: bytes) -> None:
    """Raises OSError, and leaves the file as it was then."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_bytes(body)
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
