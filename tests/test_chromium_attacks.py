"""Pages that mean harm: each costs its own picture at most, and the next page is photographed as ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, cast

import psutil
import pytest

from tests.support.answers import Answer, Received, content, redirect
from tests.support.browser_processes import the_browser
from tests.support.chromium import chromium, take
from tests.support.pages import GREEN, colour_at
from tests.support.processes import wait_until
from tests.support.upstream import Upstream
from thumbnailer.errors import (
    CaptureRefused,
    PageCrashed,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamFailed,
)
from thumbnailer.process_memory import used_bytes
from thumbnailer.providers.challenges import read_markers
from thumbnailer.providers.chromium import ChromiumProvider
from thumbnailer.providers.memory_watch import MemoryBounds, MemoryWatch
from thumbnailer.providers.running_browser import RunningBrowser

MEBIBYTE = 1 << 20

#: No ordinary page of these tests uses half of it.
BOUNDS = MemoryBounds(page_bytes=400 * MEBIBYTE, browser_bytes=3000 * MEBIBYTE)

WEBGL = "const g = document.createElement('canvas').getContext('webgl');"
BUFFER = "g.bindBuffer(g.ARRAY_BUFFER, g.createBuffer()); g.bufferData(g.ARRAY_BUFFER, 256e6, g.STATIC_DRAW)"
CANVAS = "const c = new OffscreenCanvas(3000, 3000); const x = c.getContext('2d');"
LINK = "const a = document.createElement('a'); a.href = '/file'; a.download = 'x';"
FRAME = "document.body.append(document.createElement('iframe')); frames[0].location = '/green'"

#: Scripts, and what they may end in besides a picture of what there is to see and the end of the time.
HOSTILE: dict[str, tuple[str, tuple[type[ThumbnailerError], ...]]] = {
    "dialogs without end": ("for (;;) alert(1)", ()),
    "dialogs all the time": ("setInterval(() => { confirm(1); prompt(2) }, 1)", ()),
    "asks to stay": (
        "onbeforeunload = () => 'no'; setInterval(() => location = '?' + Math.random(), 9)",
        (TargetUnreachable,),
    ),
    "loads itself again": ("location.reload()", ()),
    "goes on and on in its history": (
        "for (;;) history.pushState({a: 'x'.repeat(1e5)}, '', '?' + Math.random())",
        (),
    ),
    "prints": ("setInterval(() => print(), 9)", ()),
    "opens windows": ("setInterval(() => open('/green'), 5)", ()),
    "downloads": (
        f"{LINK} setInterval(() => a.click(), 5)",
        (CaptureRefused,),
    ),
    "spins in fifty workers": (
        "for (let i = 0; i < 50; i++) new Worker(URL.createObjectURL(new Blob(['for (;;);'])))",
        (),
    ),
    "ponders a pattern": ("/^(a+)+$/.test('a'.repeat(60) + 'b')", ()),
    "grows in frames": (
        f"setInterval(() => {{ {FRAME} }}, 1)",
        (),
    ),
    "fills the memory of the graphics": (
        f"{WEBGL} setInterval(() => {{ {BUFFER} }}, 5)",
        (),
    ),
}

SEEN = {"pageLeft": 0, "pageTop": 0, "width": 320, "height": 240, "scale": 1}


def _seen(**lies: str) -> str:
    shown = ", ".join(f"{name}: {lies.get(name, value)}" for name, value in SEEN.items())
    return f"Object.defineProperty(window, 'visualViewport', {{value: {{{shown}}}}})"


#: Scripts that let a page say what is not true, to whoever asks in the page itself.
LIES = {
    "a text for a number": _seen(pageLeft="'left'", scale="'much'"),
    "no number": _seen(height="NaN"),
    "without end": _seen(width="Infinity"),
    "a date that is none": _seen(pageTop="new Date(NaN)"),
    "no scale at all": _seen(scale="0"),
    "less than nothing": _seen(width="-5"),
    "as wide as no page": _seen(width="1e300"),
    "nothing": "Object.defineProperty(window, 'visualViewport', {value: {}})",
    "a box that is none": "Element.prototype.getBoundingClientRect = () => ({x: 'a', y: NaN})",
    "another greatest": "Math.max = () => 'z'",
    "names that are none": "Document.prototype.querySelectorAll = () => [{id: {}, classList: [1]}]",
    "any check": "Array.prototype.findIndex = () => 1e9",
    # HTML, "Named access on the Document object": these go before what the browser has by the same name.
    "elements by the names of functions": "for (const name of ['documentElement', 'querySelector', "
    "'querySelectorAll', 'scrollingElement']) document.body.append(Object.assign(new Image(), {name}))",
}

#: A URL of nearly two million characters, as long as Chromium takes any, over and over.
ASKS = "const u = '/x?' + 'a'.repeat(19e5); setInterval(() => fetch(u + Math.random()).catch(() => 0), 20)"

#: Scripts that take memory where V8's own limit does not count it.
GREEDY = {
    "typed arrays": "const a = []; for (;;) { const b = new Uint8Array(32e6); b.fill(1); a.push(b) }",
    "a document": "for (;;) document.write('<p>' + 'x'.repeat(1e5))",
    "WebAssembly": "const a = []; for (;;) { const m = new WebAssembly.Memory({initial: 500, maximum: 9000});"
    " new Uint8Array(m.buffer).fill(1); a.push(m) }",
    "canvases": f"const a = []; for (;;) {{ {CANVAS} x.fillRect(0, 0, 3000, 3000);"
    " x.getImageData(0, 0, 9, 9); a.push(c) }",
}


def play(received: Received) -> Answer:
    """The page that the path names."""
    name = received.path[1:].replace("%20", " ")
    if name == "circle":
        return redirect("/circle?again")
    if name == "file":
        return content(b"x" * 1000, "application/octet-stream")
    script = {**{one: text for one, (text, _) in HOSTILE.items()}, **GREEDY, **LIES, "asks": ASKS}.get(name)
    if script is None:
        return content(b"<body style='background: lime'>", "text/html")
    return content(f"<body style='background: lime'><script>{script}</script>x".encode(), "text/html")


@pytest.fixture(scope="module")
def pages() -> Iterator[Upstream]:
    with Upstream(play) as pages:
        yield pages


@pytest.fixture(scope="module")
def provider() -> Iterator[ChromiumProvider]:
    with chromium(memory=BOUNDS, challenge_markers=read_markers()) as provider:
        yield provider


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_page_costs_its_own_picture_and_no_other(
    provider: ChromiumProvider, pages: Upstream, name: str
) -> None:
    # On a busy machine three seconds may not even suffice to open the page.
    with contextlib.suppress(TargetTooSlow, UpstreamFailed, *HOSTILE[name][1]):
        take(provider, f"{pages.url}/{name}", seconds=3)
    assert colour_at(take(provider, f"{pages.url}/green"), 10, 10) == GREEN


@pytest.mark.parametrize("name", LIES)
def test_a_page_that_lies_about_itself_is_photographed_or_refused(
    provider: ChromiumProvider, pages: Upstream, name: str
) -> None:
    for options in ({"block_ads": True}, {"selector": "body"}, {"full_page": True}):
        with contextlib.suppress(CaptureRefused):
            assert take(provider, f"{pages.url}/{name}", **options)


def test_redirects_without_end_are_the_targets_fault(provider: ChromiumProvider, pages: Upstream) -> None:
    with pytest.raises(TargetUnreachable, match="redirects without end"):
        take(provider, f"{pages.url}/circle")


@pytest.mark.parametrize("name", GREEDY)
def test_a_page_that_takes_memory_is_ended_long_before_the_machine_has_none(
    provider: ChromiumProvider, pages: Upstream, name: str
) -> None:
    take(provider, f"{pages.url}/green")
    browser = the_browser()
    with pytest.raises(PageCrashed):
        take(provider, f"{pages.url}/{name}")
    assert colour_at(take(provider, f"{pages.url}/green"), 10, 10) == GREEN
    assert the_browser() == browser, "the others' pages go on"


def test_a_browser_that_uses_too_much_itself_is_replaced_and_the_page_is_blamed(pages: Upstream) -> None:
    bounds = MemoryBounds(page_bytes=1 << 40, browser_bytes=MEBIBYTE)
    with chromium(memory=bounds) as provider, pytest.raises(PageCrashed):
        take(provider, f"{pages.url}/green", seconds=30)


HOLD = f"held = bytearray({200 * MEBIBYTE}); held[::4096] = b'1' * len(held[::4096]); input()"
HOLDER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}]); input()"


def test_the_watch_ends_what_is_too_large_and_nothing_else() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE) as parent:
        try:
            (child,) = _children_once_up(parent)
            MemoryWatch(parent.pid, lambda: None, MemoryBounds(500 * MEBIBYTE, 1000 * MEBIBYTE)).look()
            assert child.is_running()
            assert parent.poll() is None
            watch = MemoryWatch(parent.pid, lambda: None, MemoryBounds(100 * MEBIBYTE, 1000 * MEBIBYTE))
            watch.look()
            wait_until(lambda: not child.is_running(), what="the end of the child")
            assert (parent.poll(), watch.ended) == (None, 1)
            watch = MemoryWatch(parent.pid, lambda: None, MemoryBounds(100 * MEBIBYTE, MEBIBYTE))
            watch.look()
            assert parent.wait(20) < 0
            watch.look()  # there is nothing left to end
            assert watch.ended == 1
        finally:
            parent.kill()


def test_the_watch_ends_a_driver_that_is_too_large() -> None:
    """It keeps what pages say, and they may say much."""
    with subprocess.Popen([sys.executable, "-c", ""]) as browser:
        browser.wait()
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE) as driver:
        try:
            wait_until(lambda: used_bytes(driver.pid) > 200 * MEBIBYTE, what="the memory to be held")
            watch = MemoryWatch(
                browser.pid, lambda: driver.pid, MemoryBounds(100 * MEBIBYTE, 1000 * MEBIBYTE)
            )
            watch.look()
            assert driver.wait(20) < 0
            assert watch.ended == 1
        finally:
            driver.kill()


def test_the_watch_looks_only_while_a_capture_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbnailer.providers.memory_watch.LOOK_SECONDS", 0)
    watch = MemoryWatch(os.getpid(), lambda: None, MemoryBounds(page_bytes=1 << 40, browser_bytes=1 << 40))
    running, looks = RunningBrowser(cast("Any", None), watch, AsyncExitStack()), list[None]()
    monkeypatch.setattr(watch, "look", lambda: looks.append(None))

    async def looks_meanwhile() -> int:
        before = len(looks)
        for _ in range(20):
            await asyncio.sleep(0)
        return len(looks) - before

    async def captures() -> list[bool]:
        watching = asyncio.ensure_future(watch.run())
        seen = [await looks_meanwhile()]
        for change in (running.lend, running.lend, running.take_back, running.take_back):
            change()
            await asyncio.sleep(0)
            seen.append(await looks_meanwhile())
        watching.cancel()
        return [looks > 1 for looks in seen]

    assert asyncio.run(captures()) == [False, True, True, True, False]


def test_a_page_that_asks_for_too_much_is_ended_before_the_service_keeps_all_of_it(
    provider: ChromiumProvider, pages: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbnailer.providers.hearsay.MAX_TOLD_BYTES", 4 * MEBIBYTE)
    with pytest.raises(PageCrashed, match="asks for too much"):
        take(provider, f"{pages.url}/asks", delay=10_000, seconds=60)
    assert colour_at(take(provider, f"{pages.url}/green"), 10, 10) == GREEN


def _children_once_up(parent: subprocess.Popen[bytes]) -> list[psutil.Process]:
    process = psutil.Process(parent.pid)
    wait_until(
        lambda: any(child.memory_info().rss > 200 * MEBIBYTE for child in process.children()),
        what="the child to hold its memory",
    )
    return process.children()
