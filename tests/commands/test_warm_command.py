"""flask warm, and the lists of pages that it reads."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.support.answers import Received, image, json_error
from tests.support.command_sites import PAGES, SITES, run, sitemap
from tests.support.processes import wait_until
from tests.support.service import PROJECT, running_app, snapapi_environment
from tests.support.small_web import Reply, Seen, Site
from tests.support.upstream import Upstream
from thumbnailer.sitemaps import MAX_PAGES, Listing, gather_pages, read_listing

BROWSER = {"Accept": "image/avif,image/webp,*/*"}


def seen_targets(upstream: Upstream) -> list[Any]:
    return sorted(request.json["url"] for request in upstream.requests)


# --- flask warm -------------------------------------------------------------------------------


def test_warmed_pages_are_answered_from_the_cache_in_what_browsers_ask_for(
    app: Flask, upstream: Upstream, tmp_path: Path
) -> None:
    source = tmp_path / "pages.txt"
    source.write_text("# ours\n\n" + "\n".join([*PAGES, PAGES[0]]), encoding="utf-8")
    done = run(app, "warm", str(source), "--preset", "card", "--preset", "hero")
    assert "Warming" in done.stderr
    assert len(upstream.requests) == len(PAGES), "one capture for both sizes"
    for preset, content_type in (("card", "image/avif"), ("hero", "image/png")):
        query = {"url": PAGES[3], "preset": preset}
        answer = app.test_client().get("/thumb", query_string=query, headers=BROWSER, buffered=True)
        assert (answer.headers["X-Cache"], answer.content_type) == ("HIT", content_type)


def test_an_interrupted_warming_goes_on_where_it_stopped(
    settings: dict[str, str], upstream: Upstream
) -> None:
    """Over processes: the second application has nothing but the cache."""
    lists = ["\n".join(PAGES[:2]), "\n".join(PAGES)]
    with running_app(settings) as app:
        assert run(app, "warm", "-", text=lists[0]).stdout == "2 taken, 0 there already, 0 failed.\n"
    with running_app(settings) as app:
        assert run(app, "warm", "-", text=lists[1]).stdout == "2 taken, 2 there already, 0 failed.\n"
    assert seen_targets(upstream) == PAGES


def test_who_interrupts_a_warming_is_told_what_has_been_taken(
    settings: dict[str, str], upstream: Upstream, tmp_path: Path
) -> None:
    interrupted = threading.Event()

    def answer(received: Received) -> Any:
        assert received.json["url"] == PAGES[0] or interrupted.wait(30)
        return image("png", 640, 360)

    upstream.behave(answer)
    pages = tmp_path / "pages.txt"
    pages.write_text("\n".join(PAGES))
    # A shell that runs the tests behind its back has them, and their children, ignore the signal.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "flask", "warm", str(pages)]
    command += ["--parallel", "1"]
    environ = {"PATH": os.environ["PATH"], "APP_ENV": "testing", **settings}
    with subprocess.Popen(
        command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: len(upstream.requests) == 2, what="the second page")
        process.send_signal(signal.SIGINT)
        interrupted.set()
        told, log = process.communicate(timeout=30)
    assert (process.returncode, "Aborted!" in log, "Traceback" in log) == (1, True, False), log
    assert told == f"{len(upstream.requests)} taken, 0 there already, 0 failed.\n"


def test_pages_that_fail_are_named_and_stop_no_other(app: Flask, upstream: Upstream) -> None:
    def answer(received: Received) -> Any:
        is_dead = received.json["url"] == PAGES[1]
        return json_error(404, {"message": "gone"}) if is_dead else image("png", 640, 360)

    upstream.behave(answer)
    listed = [PAGES[0], PAGES[1], "http://10.0.0.1/", "nonsense", PAGES[2]]
    done = run(app, "warm", "-", text="\n".join(listed), code=1)
    assert done.stdout == "2 taken, 0 there already, 3 failed.\n"
    named = [line.partition(": ")[0] for line in done.stderr.splitlines() if ": " in line]
    assert named == [PAGES[1], "http://10.0.0.1/", "nonsense"], "in the order of the list"


def test_a_sitemap_index_is_followed_and_its_pages_are_warmed(
    app: Flask, upstream: Upstream, web: Site
) -> None:
    origin = f"http://127.0.0.1:{web.server_address[1]}"
    index = sitemap(f"{origin}/sitemap.xml", f"{origin}/b.xml.gz", root="sitemapindex", entry="sitemap")
    more = gzip.compress(sitemap(PAGES[0], "http://93.184.216.34/b?x=1&amp;y=2"))

    def reply(seen: Seen) -> Reply:
        return {"/index.xml": Reply(body=index), "/b.xml.gz": Reply(body=more)}.get(
            seen.path, SITES["/sitemap.xml"]
        )

    web.reply = reply
    assert "5 taken, 0 there" in run(app, "warm", f"{origin}/index.xml").stdout
    assert seen_targets(upstream) == [*PAGES, "http://93.184.216.34/b?x=1&y=2"]


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        pytest.param("/absent.xml", "answers with status 404", id="not there"),
        pytest.param("/page.html", "no well-formed XML", id="a web page"),
        pytest.param("/moved.xml", "not a public", id="led to a private address"),
    ],
)
def test_a_sitemap_that_is_none_is_refused(app: Flask, web: Site, path: str, fault: str) -> None:
    done = run(app, "warm", f"http://127.0.0.1:{web.server_address[1]}{path}", code=1)
    assert fault in done.output


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param(["-"], "names no page", id="an empty list"),
        pytest.param(["absent.txt"], "No such file", id="no such file"),
        pytest.param(["-", "--preset", "nope"], "preset: There is no such preset.", id="no such preset"),
        pytest.param(["-", "-o", "css=p{}"], "their caller's own", id="what is nobody else's"),
        pytest.param(["-", "-o", "thumb_width=1"], "thumb_width: ", id="out of range"),
        pytest.param(["-", "-o", "preset=card", "--preset", "hero"], "repeated", id="presets in two ways"),
    ],
)
def test_warm_says_what_is_wrong(app: Flask, arguments: list[str], fault: str) -> None:
    text = PAGES[0] if len(arguments) > 1 else ""
    assert fault in run(app, "warm", *arguments, text=text, code=1).output


def test_the_memory_of_a_process_can_only_be_reached_over_http(upstream: Upstream) -> None:
    with running_app(snapapi_environment(upstream.url)) as app:
        assert "own memory" in run(app, "warm", "-", text=PAGES[0], code=1).output
        assert "own memory" in run(app, "purge", "--everything", code=1).output


# --- lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "listing"),
    [
        pytest.param(
            b"\xef\xbb\xbfhttp://a/\r\n# b\r\n\r\n http://c/",
            Listing(("http://a/", "http://c/")),
            id="text",
        ),
        pytest.param(sitemap("http://a/?b=1&amp;c=2"), Listing(("http://a/?b=1&c=2",)), id="a sitemap"),
        pytest.param(
            sitemap(
                "http://a/",
                more="<image:image xmlns:image='i'><image:loc>http://a/i</image:loc></image:image>",
            ),
            Listing(("http://a/",)),
            id="pictures are no pages",
        ),
        pytest.param(
            sitemap("http://a/s.xml", root="sitemapindex", entry="sitemap"),
            Listing((), ("http://a/s.xml",)),
            id="an index",
        ),
        pytest.param(gzip.compress(sitemap("http://a/")), Listing(("http://a/",)), id="gzip"),
        pytest.param(
            "\ufeff<urlset><url><loc>http://a/ü</loc></url></urlset>".encode("utf-16-le"),
            Listing(("http://a/ü",)),
            id="UTF-16",
        ),
    ],
)
def test_lists_are_read(content: bytes, listing: Listing) -> None:
    assert read_listing(content) == listing


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"<urlset><url>", "well-formed", id="cut off"),
        pytest.param(b"<rss><channel/></rss>", "document of rss", id="a feed"),
        pytest.param(b"<!DOCTYPE u [<!ENTITY a 'b'>]><urlset/>", "document type", id="entities"),
        pytest.param(
            b"<?xml version='1.0' encoding='x-none'?><urlset/>", "well-formed", id="no such encoding"
        ),
        pytest.param(b"\xff\xfe\xfd\xfc", "neither", id="bytes"),
        pytest.param(gzip.compress(b"http://a/" * 99)[:-9], "damaged", id="gzip that is cut off"),
        pytest.param(gzip.compress(b"\n" * 60_000_000, 1), "longer than", id="gzip that unfolds"),
    ],
)
def test_what_is_no_list_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_listing(content)


@pytest.mark.parametrize(
    "nested",
    [
        pytest.param(Listing(sitemaps=("http://a/",)), id="an index within an index"),
        pytest.param(Listing(pages=tuple(map(str, range(MAX_PAGES + 1)))), id="too many pages"),
    ],
)
def test_lists_end_somewhere(nested: Listing) -> None:
    with pytest.raises(ValueError, match=r"within another|more than"):
        gather_pages(Listing(sitemaps=("http://b/",)), lambda url: nested)


def test_a_sitemap_is_fetched_once_and_not_too_many_are() -> None:
    fetched: list[str] = []

    def fetch(url: str) -> Listing:
        fetched.append(url)
        return Listing(pages=(url,))

    assert gather_pages(Listing(sitemaps=("http://a/", "http://b/") * 1000), fetch) == [
        "http://a/",
        "http://b/",
    ]
    assert fetched == ["http://a/", "http://b/"]
    with pytest.raises(ValueError, match="more than 50000 sitemaps"):
        gather_pages(Listing(sitemaps=tuple(map(str, range(50_001)))), fetch)
    assert len(fetched) == 2


def test_a_sitemap_is_not_endlessly_deep() -> None:
    with pytest.raises(ValueError, match="levels deep"):
        read_listing(b"<urlset>" + b"<a>" * 1_000_000)
