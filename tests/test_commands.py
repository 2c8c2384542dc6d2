"""flask thumb, flask warm and flask purge: the trip without HTTP, and what they say when it goes wrong."""

from __future__ import annotations

import gzip
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from blueprints.doctor_command import doctor
from tests.support.answers import Received, image, json_error, refusing_url
from tests.support.doctor import IN_URL, as_an_ordinary_user, run_flask
from tests.support.processes import wait_until
from tests.support.service import PROJECT, TARGET, client_of, running_app, snapapi_environment
from tests.support.small_web import Reply, Seen, Site, serving
from tests.support.upstream import Upstream
from thumbnailer.sitemaps import MAX_PAGES, Listing, gather_pages, read_listing
from wiring.command_line import COMMANDS

PAGES = [f"http://93.184.216.34/{number}" for number in range(4)]
NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"
BROWSER = {"Accept": "image/avif,image/webp,*/*"}


def sitemap(*pages: str, root: str = "urlset", entry: str = "url", more: str = "") -> bytes:
    entries = "".join(f"<{entry}><loc>\n {page} </loc>{more}</{entry}>" for page in pages)
    return f"<?xml version='1.0'?><{root} xmlns='{NAMESPACE}'>{entries}</{root}>".encode()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(image("png", 640, 360)) as upstream:
        yield upstream


@pytest.fixture
def web() -> Iterator[Site]:
    site = Site(lambda seen: SITES.get(seen.path, Reply(status=404)))
    with serving(site):
        yield site


@pytest.fixture
def settings(upstream: Upstream, web: Site, tmp_path: Path) -> dict[str, str]:
    return snapapi_environment(
        upstream.url,
        CACHE_DIR=str(tmp_path / "cache"),
        MEDIA_DIR=str(tmp_path / "media"),
        PRESETS="card:thumb_width=100,format=auto;hero:thumb_width=200",
        ALLOWED_PRIVATE_TARGETS=f"127.0.0.1:{web.server_address[1]}",
        LIMIT_THUMB="1 per hour",
    )


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    with running_app(settings) as app:
        yield app


def run(app: Flask, *arguments: str, code: int = 0, text: str | None = None) -> Result:
    done = app.test_cli_runner().invoke(args=arguments, input=text)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


def seen_targets(upstream: Upstream) -> list[Any]:
    return sorted(request.json["url"] for request in upstream.requests)


# --- flask thumb ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        pytest.param("a.webp", [], "WEBP", id="by the ending"),
        pytest.param("a.JPG", [], "JPEG", id="by an ending in capitals"),
        pytest.param("a.avif", ["--option", "format=png"], "PNG", id="an option goes before the ending"),
        pytest.param("a", ["--option", "preset=hero"], "PNG", id="a preset needs no ending"),
    ],
)
def test_a_thumbnail_is_written_in_the_format_of_the_file(
    app: Flask, tmp_path: Path, name: str, options: list[str], kind: str
) -> None:
    run(app, "thumb", TARGET, "-o", str(tmp_path / name), "--option", "thumb_width=160", *options)
    with Image.open(tmp_path / name) as written:
        assert (written.format, written.size) == (kind, (160, 90))


def test_a_thumbnail_goes_to_standard_output_and_is_the_one_that_the_service_serves(
    app: Flask, upstream: Upstream
) -> None:
    written = run(app, "thumb", TARGET, "-o", "-", "--option", "thumb_width=160").stdout_bytes
    served = app.test_client().get("/thumb", query_string={"url": TARGET, "thumb_width": 160}, buffered=True)
    assert (served.headers["X-Cache"], served.data) == ("HIT", written)
    assert Image.open(io.BytesIO(written)).size == (160, 90)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param([TARGET, "-o", "a.gif"], "FILE must end in .png", id="no such format"),
        pytest.param([TARGET, "-o", "nowhere/a.png"], "No such file", id="no such folder"),
        pytest.param([TARGET, "-o", "a.png", "--option", "wait=3"], "wait: Means nothing", id="for answers"),
        pytest.param([TARGET, "-o", "a.png", "--option", "dpr=9"], "dpr: ", id="out of range"),
        pytest.param(["http://10.0.0.1/", "-o", "a.png"], "not a public", id="a forbidden target"),
        pytest.param(["page", "-o", "a.png"], "url: ", id="no URL"),
    ],
)
def test_thumb_says_what_is_wrong_and_writes_nothing(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fault in run(app, "thumb", *arguments, code=1).output
    assert not list(tmp_path.glob("*a.*"))


def test_a_failed_capture_leaves_the_file_as_it_is(app: Flask, upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    upstream.behave(json_error(404, {"message": "gone"}))
    run(app, "thumb", TARGET, "-o", str(path), code=1)
    assert path.read_bytes() == b"before"


def test_a_link_is_kept_and_what_it_names_is_written(app: Flask, tmp_path: Path) -> None:
    path, link = tmp_path / "picture", tmp_path / "a.png"
    path.write_bytes(b"before")
    link.symlink_to(path)
    run(app, "thumb", TARGET, "-o", str(link))
    assert link.is_symlink()
    with Image.open(path) as written:
        assert written.format == "PNG"


def test_a_pipe_is_written_into_and_stays_one(app: Flask, tmp_path: Path) -> None:
    pipe = tmp_path / "a.png"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        run(app, "thumb", TARGET, "-o", str(pipe))
        assert Image.open(io.BytesIO(read.result(20))).format == "PNG"
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        pytest.param("full", "full: No space left on device.", id="a full disk"),
        pytest.param("a" * 250 + ".png", "File name too long", id="a long name"),
        pytest.param(".", ".: Is a directory.", id="a folder"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, fault: str
) -> None:
    folder, full = tmp_path / "pictures", Path("full")
    folder.mkdir()
    monkeypatch.chdir(folder)
    full.symlink_to("/dev/full")
    done = run(app, "thumb", TARGET, "-o", output, "--option", "format=png", code=1)
    assert fault in done.output
    assert (list(Path().iterdir()), full.is_symlink()) == ([full], True)


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


SITES = {
    "/sitemap.xml": Reply(body=sitemap(*PAGES)),
    "/index.xml": Reply(),  # its body needs the site's own address
    "/moved.xml": Reply(status=302, headers=(("Location", "http://10.0.0.1/sitemap.xml"),)),
    "/page.html": Reply(body=b"<!doctype html><html><p>404</html>"),
}


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


# --- flask purge ------------------------------------------------------------------------------


def test_a_purge_reaches_what_the_service_has(settings: dict[str, str], upstream: Upstream) -> None:
    with client_of({**settings, "LIMIT_THUMB": "9 per hour", "CACHE_TAGS": "Cache-Tag"}) as client:
        for page in PAGES[:3]:
            client.get("/thumb", query_string={"url": page, "thumb_width": 100}, buffered=True)
        done = run(client.application, "purge", PAGES[0], PAGES[1])
        assert done.output.startswith("Deleted 2 captures and 2 thumbnails, forgot 0 failures.\nTags")
        states = [
            client.get("/thumb", query_string={"url": page, "thumb_width": 100}).headers["X-Cache"]
            for page in (PAGES[0], PAGES[2])
        ]
        assert states == ["MISS", "HIT"]
        assert (
            "Deleted 0 captures"
            in run(client.application, "purge", "--everything", "--before", "2001-01-01").output
        )
        assert "Deleted 2 captures" in run(client.application, "purge", "--host", "93.184.216.34").output


@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        pytest.param([], 1, "Name a URL, --host or --everything", id="nothing"),
        pytest.param(["page"], 1, "targets: ", id="no URL"),
        pytest.param(["--host", "a b"], 1, "hosts: ", id="no host"),
        pytest.param(["--everything", "--before", "noon"], 2, "must be such as", id="no time"),
    ],
)
def test_purge_says_what_is_wrong(app: Flask, arguments: list[str], code: int, fault: str) -> None:
    assert fault in run(app, "purge", *arguments, code=code).output


@pytest.mark.parametrize("arguments", [["warm", "-"], ["purge", "--everything"]], ids=["warm", "purge"])
def test_a_cache_that_is_down_is_told_before_anything_is_done(
    settings: dict[str, str], upstream: Upstream, arguments: list[str]
) -> None:
    port = urlsplit(refusing_url()).port
    with running_app(settings | {"REDIS_URL": f"redis://:{IN_URL}@127.0.0.1:{port}/0"}) as app:
        told = run(app, *arguments, code=1, text=f"{TARGET}\n").output
    assert "Error: The cache " in told
    assert IN_URL not in told
    assert upstream.requests == ()


def test_a_purge_as_the_wrong_user_says_what_that_one_may_not(settings: dict[str, str]) -> None:
    with as_an_ordinary_user() as folder:
        done = run_flask(
            settings | {"CACHE_DIR": f"{folder}/cache", "MEDIA_DIR": f"{folder}/media"},
            "purge",
            "--everything",
        )
    assert (done.exit_code, "Permission denied" in done.output) == (1, True), done.output


@pytest.mark.parametrize("command", [*COMMANDS, doctor], ids=lambda command: str(command.name))
def test_every_command_is_documented(command: click.Command) -> None:
    text = (PROJECT / "docs/commands.md").read_text(encoding="utf-8")
    assert re.search(rf"`flask {command.name}[ `]", text)
