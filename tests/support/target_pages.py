"""Target pages, each with one peculiarity, in plain text."""

from __future__ import annotations

from typing import NamedTuple


class Answer(NamedTuple):
    body: str = ""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    missing: int = 0  # bytes that are promised and do not come


def document(body: str, *, style: str = "", head: str = "") -> str:
    base = "html, body { margin: 0 }"
    return f"<!doctype html><html><head><style>{base} {style}</style>{head}</head><body>{body}</body></html>"


def box(colour: str, *, width: str = "100%", height: str = "100px", more: str = "") -> str:
    return f"<div style='background:{colour};width:{width};height:{height}' {more}></div>"


FILL = "body { background: red; height: 100vh }"
TURN_GREEN = "document.body.style.background = 'lime';"

TALL_BLOCKS = 60
BLOCK_HEIGHT = 300

PAGES: dict[str, Answer] = {
    "/plain": Answer(document(box("lime", height="100vh"))),
    "/quarters": Answer(
        document(
            "<div style='display:grid;grid-template-columns:1fr 1fr;grid-template-rows:1fr 1fr;height:100vh'>"
            + "".join(f"<i style='background:{colour}'></i>" for colour in ("red", "lime", "blue", "white"))
            + "</div>"
        )
    ),
    "/world": Answer(
        document(
            "<h1>Emoji 😀 🚀 👩‍👩‍👧 🇨🇭</h1><h1>日本語 中文 한국어</h1><h1>العربية हिन्दी</h1>",
            style="body { font-family: sans-serif; padding: 10px }",
        )
    ),
    "/tall": Answer(
        document(
            "".join(
                f"<img src='/lime.svg?{number}' loading='lazy' width='100%' height='{BLOCK_HEIGHT}' "
                "style='display:block;background:red'>"
                for number in range(TALL_BLOCKS)
            )
        )
    ),
    "/observed": Answer(
        document(
            "".join(box("red", height="600px", more="class='lazy'") for _ in range(6))
            + "<script>const seen = new IntersectionObserver(entries => entries.forEach(entry => {"
            " if (entry.isIntersecting) entry.target.style.background = 'lime'; }));"
            "document.querySelectorAll('.lazy').forEach(element => seen.observe(element));</script>"
        )
    ),
    "/endless": Answer(
        document(
            "<main></main><script>const grow = () => document.querySelector('main').insertAdjacentHTML("
            "'beforeend', \"<div style='height:3000px;background:lime'></div>\"); grow();"
            "addEventListener('scroll', grow);</script>"
        )
    ),
    "/shell": Answer(
        document(
            "<header></header><main>" + box("lime", height="300px") * 3 + "</main>",
            style="body { position: fixed; inset: 0; display: grid; grid-template-rows: 40px 1fr }"
            "header { background: lime } main { overflow: auto; contain: strict; background: red }",
        )
    ),
    "/scrolling-body": Answer(
        document(
            box("lime", height="340px") + box("lime", height="600px"),
            style="html { height: 100%; overflow: hidden } body { height: 100%; overflow: auto }",
        )
    ),
    "/components": Answer(
        document(
            "<x-app></x-app><script>customElements.define('x-app', class extends HTMLElement {"
            "connectedCallback() { this.attachShadow({mode: 'open'}).innerHTML ="
            "`<div style='height:100vh;overflow-y:scroll'><p style='margin:0;height:940px;background:lime'>`"
            "} });</script>"
        )
    ),
    "/clinging": Answer(
        document(
            box("lime", height="100vh; animation:leave linear both; animation-timeline:scroll()")
            + box("lime", height="100px; animation:pass linear both; animation-timeline:view()")
            + "<div style='height:300px;background:red url(/lime.svg) fixed no-repeat'></div>"
            + "<div class='toggled' style='height:200px'></div>" * 3
            + "<div data-aos style='height:100px;background:lime'></div>"
            + box("blue", height="20px; position:sticky; bottom:0")
            + box("lime", height="200px")
            + box("blue", height="30px; position:fixed; bottom:0")
            + box("red", height="50px; position:fixed; bottom:0; transform:translateY(100%)")
            + "<script>const seen = new IntersectionObserver(entries => entries.forEach(entry =>"
            " entry.target.style.background = entry.isIntersecting ? 'lime' : ''));"
            "document.querySelectorAll('.toggled').forEach(element => seen.observe(element));</script>",
            style="body { background: red } [data-aos] { opacity: 0; transition: all .4s }"
            "@keyframes leave { to { opacity: 0 } } @keyframes pass { from, to { opacity: 0 } }",
        )
    ),
    "/late-background": Answer(
        document(
            "<script>onload = () => { document.body.style.backgroundImage = 'url(/late.svg)' }</script>",
            style=FILL,
        )
    ),
    "/restless-looks": Answer(
        document(
            "<textarea autofocus></textarea>",
            style="@keyframes beat { from, to { background: red } } body { background: lime }"
            "textarea { all: unset; display: block; height: 100vh; padding-left: 10px; font-size: 200px;"
            "caret-color: red; background: lime; animation: beat 1s infinite }",
        )
    ),
    "/fetches": Answer(
        document(f"<script>fetch('/late.svg').then(() => {{ {TURN_GREEN} }})</script>", style=FILL)
    ),
    "/deep": Answer(
        document(
            box("red", height="2000px")
            + "<div id='part'><img src='/late.svg' loading='lazy' width='320' height='300'></div>",
            style="#part { background: red } img { display: block }",
        )
    ),
    "/elements": Answer(
        document(
            box("red", height="2000px")
            + box("lime", width="120px", height="80px", more="id='target'")
            + box("red", height="900px")
            + "<p id='gone' style='display:none'>x</p>"
        )
    ),
    "/delayed": Answer(
        document(
            "", style=FILL, head=f"<script>onload = () => setTimeout(() => {{ {TURN_GREEN} }}, 400)</script>"
        )
    ),
    "/hanging-image": Answer(document(f"<img src='/hang'><script>{TURN_GREEN}</script>", style=FILL)),
    "/hanging-script": Answer(document("<script src='/hang'></script>", style=FILL)),
    "/hanging-style": Answer(
        document(
            "<iframe src='/hang' hidden></iframe><img src='/hang' hidden>",
            head="<link rel=stylesheet href='/hang'>",
            style="body { background: lime; height: 100vh }",
        )
    ),
    "/chain": Answer(
        document(
            "",
            style=FILL + "#late { display: block; width: 1px; height: 1px }",
            head="<script>onload = async () => { for (let i = 0; i < 5; i++) await fetch('/lime.svg?' + i);"
            f"document.body.insertAdjacentHTML('beforeend', '<i id=late></i>'); {TURN_GREEN} }}</script>",
        )
    ),
    "/restless": Answer(
        document(
            "",
            style=FILL,
            head="<script>onload = async () => {"
            f"{TURN_GREEN} for (;;) await fetch('/lime.svg?' + Math.random()); }}</script>",
        )
    ),
    "/ads": Answer(
        document(
            "<img src='/ads/banner.svg' width='100%' height='300' style='display:block'>"
            "<div class='ad-banner' style='height:400px;background:red'></div>",
            style="body { background: lime; height: 100vh }",
        )
    ),
    "/house-ads": Answer(
        document(
            box("red", height="100vh", more="class='house-promotion'"), style="body { background: lime }"
        )
    ),
    "/consent": Answer(
        document(
            box("lime", height="100vh")
            + "<div id='onetrust-consent-sdk'><div id='onetrust-banner-sdk' style='position:fixed;inset:0;"
            "background:red'><p>We use cookies.</p><button id='onetrust-pc-btn-handler'>Settings</button>"
            "<button id='onetrust-reject-all-handler'>Reject all</button></div></div><script>"
            "document.getElementById('onetrust-reject-all-handler').onclick = () => {"
            "fetch('/rejected'); document.getElementById('onetrust-banner-sdk').remove(); };</script>"
        )
    ),
    "/stubborn-consent": Answer(
        document(
            box("lime", height="100vh")
            + "<div class='cookie-banner' style='position:fixed;inset:0;background:red'></div>",
            style="body { overflow: hidden }",
        )
    ),
    "/from-the-right": Answer(
        document(
            "<div style='width:1000px;height:400px;background:red'>"
            + box("lime", width="320px", height="400px", more="id='start'")
            + "</div>",
            style="html { direction: rtl }",
        )
    ),
    "/hideable": Answer(
        document(
            "<div class='chat'></div><aside>x</aside>",
            style="body { background: lime; height: 100vh } .chat, aside { height: 50vh; background: red }",
        ),
        headers=(("Content-Security-Policy", "style-src 'unsafe-inline'; script-src 'none'"),),
    ),
    "/dialogs": Answer(
        document(f"<script>alert('a'); confirm('b'); prompt('c'); {TURN_GREEN}</script>", style=FILL)
    ),
    "/popups": Answer(document(f"<script>open('/plain'); open('/plain'); {TURN_GREEN}</script>", style=FILL)),
    "/file": Answer("x", content_type="application/octet-stream"),
    "/loop": Answer(document("<script>onload = () => { for (;;); }</script>")),
    "/hog": Answer(
        document(
            "<script>onload = () => { const a = []; for (;;) a.push(new Array(1e5).fill({})); }</script>"
        )
    ),
    "/moves-on": Answer("<script>location.replace('/plain')</script>"),
    "/moves-late-to-404": Answer(document("<script>onload = () => { location = '/status/404' }</script>")),
    "/moves-late-to-nowhere": Answer(
        document("<script>onload = () => { location = 'http://nowhere.example.com/' }</script>")
    ),
    "/frames-elsewhere": Answer(
        document(
            "<iframe src='http://10.0.0.1/' hidden></iframe><iframe src='https://10.0.0.1/' hidden></iframe>"
            f"<img src='http://10.0.0.1/x.png' hidden><script>{TURN_GREEN}</script>",
            style=FILL,
        )
    ),
    "/redirect-to-forbidden": Answer(status=302, headers=(("Location", "http://10.0.0.1/"),)),
    "/redirect-to-forbidden-over-tls": Answer(status=302, headers=(("Location", "https://10.0.0.1/"),)),
    "/refreshes-to-forbidden": Answer(
        "<meta http-equiv='refresh' content='0;url=http://169.254.169.254/latest/'>"
    ),
    "/moves-late-to-forbidden": Answer(
        document("<script>onload = () => { location = 'https://[::1]/' }</script>")
    ),
    "/posts-to-forbidden": Answer(
        "<form method='post' action='http://0xa.1/'></form><script>document.forms[0].submit()</script>"
    ),
    "/own-globals": Answer(
        document(
            box("lime", height="100vh")
            + "<script>window.Map = window.Set = function () {}; window.visualViewport = null;"
            "Array.prototype.toJSON = () => 'x'; document.querySelectorAll = null;"
            "Element.prototype.getBoundingClientRect = () => ({}); setTimeout = () => {};</script>"
        )
    ),
    "/redirect": Answer(status=302, headers=(("Location", "/plain"),)),
    "/empty-404": Answer(status=404),
    "/no-content": Answer(status=204),
    "/lime.svg": Answer(
        "<svg xmlns='http://www.w3.org/2000/svg'><rect width='100%' height='100%' fill='lime'/></svg>",
        content_type="image/svg+xml",
    ),
    "/ads/banner.svg": Answer(
        "<svg xmlns='http://www.w3.org/2000/svg'><rect width='100%' height='100%' fill='red'/></svg>",
        content_type="image/svg+xml",
    ),
    "/font-never-comes": Answer(
        document(
            "<p style='font-family:slow;height:100vh'>text</p>",
            style="@font-face { font-family: slow; src: url(/hang) } body { background: lime }",
        )
    ),
    "/wide-for-phones": Answer(document(box("lime", width="1000px", height="2000px"))),
}
