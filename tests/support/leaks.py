"""Ways in which a page makes its browser connect: the shared cases, and more of our own.

Each is HTML in which ``{u}`` stands for an http URL, ``{w}`` for its WebSocket URL, ``{s}`` for its https
URL, ``{h}`` for its host and port and ``{p}`` for its port; braces are doubled as for ``str.format``.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.small_web import Reply, Seen

REPOSITORY = Path(__file__).parent.parent.parent
SHARED_CASES = REPOSITORY.parent / "shared" / "ssrf" / "dynamic.json"
OWN_CASES = REPOSITORY / "tests" / "ssrf" / "dynamic.json"


@dataclass(frozen=True, slots=True)
class Leak:
    """One way; ``headers`` are those of the document that takes it."""

    html: str
    headers: tuple[tuple[str, str], ...] = ()


def shared_cases() -> list[dict[str, Any]]:
    """The dynamic cases; the copy beside the repository where there is one."""
    cases: list[dict[str, Any]] = json.loads(
        (SHARED_CASES if SHARED_CASES.is_file() else OWN_CASES).read_text()
    )
    return cases


_STUN = (
    "const c = new RTCPeerConnection({{iceServers: [{servers}]}}); c.createDataChannel('x');"
    "c.createOffer().then(offer => c.setLocalDescription(offer));"
)


def _rtc(servers: str) -> str:
    return f"<script>{_STUN.replace('{servers}', servers)}</script>"


_XSLT = (
    "<?xml version='1.0'?><?xml-stylesheet type='text/xsl' href='{u}'?>"
    "<!DOCTYPE a [<!ENTITY b SYSTEM '{u}'>]><a>&b;</a>"
)

_ELEMENTS: dict[str, str] = {
    "a-ping": "<a id=a href='#x' ping='{u}'>x</a><script>a.click()</script>",
    "audio": "<audio src='{u}' autoplay></audio>",
    "audio-worklet": "<script>new AudioContext().audioWorklet.addModule('{u}')</script>",
    "base": "<base href='{u}'><img src='x'>",
    "blob-worker": "<script>new Worker(URL.createObjectURL(new Blob(['fetch(\"{u}\")'])))</script>",
    "clicked-link": "<a id=a href='{u}'>x</a><script>a.click()</script>",
    "clicked-download": "<a id=a href='{u}' download>x</a><script>a.click()</script>",
    "css-background": "<div style='background: url({u})'>x</div>",
    "css-content": "<style>p::after {{ content: url({u}) }}</style><p>x",
    "css-cursor": "<body style='cursor: url({u}), auto'>x",
    "css-image-set": "<div style='background: image-set(\"{u}\" 1x)'>x</div>",
    "css-import": "<style>@import '{u}';</style>",
    "css-list-image": "<ul style='list-style-image: url({u})'><li>x</ul>",
    "css-mask": "<div style='mask: url({u}); filter: url({u}#f)'>x</div>",
    "css-shape": "<div style='float: left; shape-outside: url({u})'>x</div>",
    "dns-prefetch": "<link rel=dns-prefetch href='{u}'>",
    "dynamic-import": "<script>import('{u}')</script>",
    "embed": "<embed src='{u}'>",
    "fetch-credentials": "<script>fetch('http://user:word@{h}/').catch(() => 0)</script>",
    "fetch-https": "<script>fetch('{s}', {{mode: 'no-cors'}})</script>",
    "fetch-keepalive": "<script>fetch('{u}', {{mode: 'no-cors', keepalive: true}})</script>",
    "fetch-later": "<script>fetchLater('{s}', {{activateAfter: 0}})</script>",
    "fetch-local": "<script>fetch('{u}', {{mode: 'no-cors', targetAddressSpace: 'local'}})</script>",
    "fetch-post": "<script>fetch('{u}', {{method: 'PUT', body: 'x'.repeat(9999)}})</script>",
    "form-get": "<form id=f action='{u}'><input name=x></form><script>f.submit()</script>",
    "frameset": "<frameset><frame src='{u}'></frameset>",
    "icon": "<link rel=icon href='{u}'><link rel=apple-touch-icon href='{u}'>",
    "iframe": "<iframe src='{u}'></iframe>",
    "iframe-https": "<iframe src='{s}'></iframe>",
    "img": "<img src='{u}'>",
    "img-srcset": "<img srcset='{u} 1x' src='data:,'>",
    "input-image": "<input type=image src='{u}'>",
    "javascript-url": "<iframe src='javascript:location=\"{u}\"'></iframe>",
    "lazy-frame": "<iframe src='{u}' loading=lazy></iframe>",
    "location": "<script>location = '{u}'</script>",
    "location-https": "<script>location = '{s}'</script>",
    "module": "<script type=module src='{u}'></script>",
    "module-import": "<script type=module>import '{u}'</script>",
    "module-worker": "<script>new Worker('data:text/javascript,import \"{u}\"', {{type: 'module'}})</script>",
    "object": "<object data='{u}'></object>",
    "paint-worklet": "<script>CSS.paintWorklet.addModule('{u}')</script>",
    "picture": "<picture><source srcset='{u}'><img src='data:,'></picture>",
    "pop-up": "<script>window.open('{u}')</script>",
    "preload-font": "<link rel=preload as=font crossorigin href='{u}'>",
    "preload-image": "<link rel=preload as=image href='{u}'>",
    "prerender": "<link rel=prerender href='{u}'>",
    "rtc-stun": _rtc("{{urls: 'stun:{h}'}}"),
    "rtc-turn": _rtc("{{urls: 'turn:{h}', username: 'u', credential: 'c'}}"),
    "rtc-turn-tcp": _rtc("{{urls: 'turn:{h}?transport=tcp', username: 'u', credential: 'c'}}"),
    "rtc-turns": _rtc("{{urls: 'turns:{h}', username: 'u', credential: 'c'}}"),
    "script": "<script src='{u}'></script>",
    "service-worker": "<script>navigator.serviceWorker?.register('{u}')</script>",
    "shared-worker": "<script>new SharedWorker('data:text/javascript,fetch(\"{u}\")')</script>",
    "speculation": "<script type=speculationrules>"
    '{{"prefetch": [{{"urls": ["{u}"]}}], "prerender": [{{"urls": ["{u}"]}}]}}</script>',
    "stylesheet": "<link rel=stylesheet href='{u}'>",
    "svg-fe-image": "<svg><filter id=i><feImage href='{u}'/></filter><rect filter='url(#i)' width=9 height=9>"
    "</svg>",
    "svg-object": "<object type='image/svg+xml' data=\"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'>"
    "<image href='{u}'/><script href='{u}'/></svg>\"></object>",
    "svg-script": "<svg><script href='{u}'></script></svg>",
    "svg-use": "<svg><use href='{u}#x'/></svg>",
    "template-shadow": "<div><template shadowrootmode=open><link rel=stylesheet href='{u}'></template></div>",
    "track": "<video><track default kind=captions src='{u}'></video><script>"
    "document.querySelector('track').track.mode = 'showing'</script>",
    "video-poster": "<video poster='{u}'></video>",
    "wasm": "<script>WebAssembly.instantiateStreaming(fetch('{u}'))</script>",
    "websocket": "<script>new WebSocket('{w}')</script>",
    "websocket-stream": "<script>window.WebSocketStream && new WebSocketStream('{w}')</script>",
    "websocket-tls": "<script>new WebSocket('{w}'.replace('ws:', 'wss:'))</script>",
    "web-transport": "<script>new WebTransport('{s}').ready.catch(() => 0)</script>",
    "web-transport-hashes": "<script>new WebTransport('{s}', {{serverCertificateHashes: "
    "[{{algorithm: 'sha-256', value: new Uint8Array(32)}}]}}).ready.catch(() => 0)</script>",
    "worker-import-scripts": "<script>new Worker('data:text/javascript,importScripts(\"{u}\")')</script>",
    "worker-websocket": "<script>new Worker('data:text/javascript,new WebSocket(\"{w}\")')</script>",
    "xhr": "<script>const x = new XMLHttpRequest(); x.open('GET', '{u}'); x.send()</script>",
    "xhr-synchronous": "<script>const x = new XMLHttpRequest(); x.open('GET', '{u}', false);"
    "try {{ x.send() }} catch {{}}</script>",
    "xml-stylesheet": '<script>document.write("<iframe src=\'" + URL.createObjectURL(new Blob('
    f"[{json.dumps(_XSLT)}], {{{{type: 'text/xml'}}}})) + \"'></iframe>\")</script>",
    "xslt-processor": "<script>const parse = text => new DOMParser().parseFromString(text, 'text/xml');"
    "const x = new XSLTProcessor(); x.importStylesheet(parse(`<x:stylesheet version='1.0' "
    "xmlns:x='http://www.w3.org/1999/XSL/Transform'><x:include href='{u}'/><x:template match='/'>"
    "<x:copy-of select=\"document('{u}')\"/></x:template></x:stylesheet>`));"
    "x.transformToDocument(parse('<a/>'))</script>",
}

_BY_HEADERS: dict[str, Leak] = {
    "header-link": Leak("x", (("Link", "<{u}>; rel=preload; as=image, <{u}>; rel=preconnect"),)),
    "header-refresh": Leak("x", (("Refresh", "0;url={u}"),)),
    "header-report-uri": Leak(
        "<img src='/x'>", (("Content-Security-Policy", "img-src 'none'; report-uri {u}"),)
    ),
    "header-reporting": Leak(
        "<img src='/x'>",
        (
            ("Reporting-Endpoints", 'a="{u}"'),
            ("Report-To", '{{"group":"a","max_age":99,"endpoints":[{{"url":"{s}"}}]}}'),
            ("NEL", '{{"report_to":"a","max_age":99,"success_fraction":1.0}}'),
            ("Content-Security-Policy", "img-src 'none'; report-to a"),
        ),
    ),
    "header-speculation": Leak("x", (("Speculation-Rules", '"{u}"'),)),
    "header-source-map": Leak("<script>0</script>", (("SourceMap", "{u}"),)),
}


def all_leaks() -> Mapping[str, Leak]:
    """Every way, by its name."""
    shared = {
        case["vector"]: Leak(case["html"])
        for case in shared_cases()
        if case["kind"] == "chromium-subresource"
    }
    return shared | {name: Leak(text) for name, text in _ELEMENTS.items()} | _BY_HEADERS


def fill(text: str, host: str, name: str) -> str:
    """``text`` aimed at ``host``, which has a port; the URL's path says which way was taken."""
    port = host.rpartition(":")[2]
    return text.format(
        u=f"http://{host}/{name}", w=f"ws://{host}/{name}", s=f"https://{host}/{name}", h=host, p=port
    )


def frame(source: str) -> str:
    return f"<iframe src='{html.escape(source, quote=True)}' width=80 height=40></iframe>"


def leaking_pages(leaks: Mapping[str, Leak], few: Collection[str] = ()) -> Callable[[Seen], Reply]:
    """What a site answers that has all these pages, each aimed at the host named in its query.

    ``/all`` holds each way in a frame of its own and is green around them, ``/few`` those that
    are few, ``/way/NAME`` has one,
    ``/to`` redirects to the URL in its query.
    """

    def reply(seen: Seen) -> Reply:
        parts = urlsplit(seen.path)
        aim = unquote(parts.query)
        if parts.path == "/to":
            return Reply(302, (("Location", aim),), b"")
        if parts.path in ("/all", "/few"):
            names = leaks if parts.path == "/all" else few
            frames = "".join(frame(f"/way/{name}?{parts.query}") for name in names)
            return _page(f"<body style='background: lime; margin: 20px'>{frames}")
        name = parts.path.removeprefix("/way/")
        if name not in leaks:
            return Reply(404)
        headers = tuple((field, fill(text, aim, name)) for field, text in leaks[name].headers)
        return _page(fill(leaks[name].html, aim, name), headers)

    return reply


def _page(body: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(200, (("Content-Type", "text/html; charset=utf-8"), *headers), body.encode())
