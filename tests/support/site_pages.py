"""Target pages with what sites are made of nowadays, above all scripts that move things."""

from __future__ import annotations

from tests.support.target_pages import FILL, PAGES, TURN_GREEN, Answer, box, document

#: Calls ``draw`` with numbers that grow to 1 within a second, one for each frame.
_GROW = """
let began; const step = now => { began ??= now; const done = Math.min(1, (now - began) / 1000); draw(done);
if (done < 1) requestAnimationFrame(step); }; requestAnimationFrame(step);
"""

_BLOCKS = box("lime", height="340px") + box("lime", height="600px") + "<i></i>"

SITE_PAGES: dict[str, Answer] = {
    "/moves-by-script": Answer(
        document(
            "<script>const draw = done => { document.body.style.background ="
            f"`rgb(${{255 - 255 * done}}, ${{255 * done}}, 0)` }}; {_GROW}</script>",
            style=FILL,
        )
    ),
    "/grows-by-script": Answer(
        document(
            "<div style='height:1200px;background:lime'></div>"
            "<div id='shown' style='height:0;background:lime'></div><script>const draw = done => {"
            "shown.style.height = `${240 * done}px` }; new IntersectionObserver(([entry]) => {"
            f"if (entry.isIntersecting) {{ {_GROW} }} }}).observe(shown)</script>"
        )
    ),
    "/drawn-by-script": Answer(
        document(
            "<canvas width='320' height='240'></canvas><script>const brush = document.querySelector('canvas')"
            ".getContext('2d'); brush.fillStyle = 'lime'; const draw = done => {"
            f"brush.fillRect(0, 0, 320, 240 * done) }}; {_GROW}</script>",
            style=FILL + "canvas { display: block }",
        )
    ),
    "/moves-and-asks-late": Answer(
        document(
            "<p></p><script>onload = () => { const until = performance.now() + 2000; const step = now => {"
            "document.querySelector('p').style.marginLeft = `${now % 90}px`;"
            "if (now < until) requestAnimationFrame(step); else document.body.insertAdjacentHTML("
            "'beforeend', '<div class=cookie-banner></div>'); }; step(0); }</script>",
            style="body { background: lime } .cookie-banner { position: fixed; inset: 0; background: red }"
            "p { position: absolute; top: 80px; width: 20px; height: 20px; background: blue }",
        )
    ),
    "/moves-for-ever": Answer(
        document(
            "<p></p><script>const step = now => { document.querySelector('p').textContent = now;"
            "requestAnimationFrame(step); }; requestAnimationFrame(step)</script>",
            style="body { background: lime; height: 100vh } p { margin: 0; padding: 100px }",
        )
    ),
    "/smooth": Answer(
        document(
            f"<div id='moved'>{_BLOCKS}</div><script>const step = () => {{ moved.style.transform ="
            "'translateY(0px)'; requestAnimationFrame(step); }; step()</script>",
            style="html, body { height: 100%; overflow: hidden } body { background: red }",
        )
    ),
    "/smooth-behind-a-window": Answer(
        document(
            f"<div id='window'><div id='moved'>{_BLOCKS}</div></div>"
            "<script>document.body.style.height = '940px';"
            "const step = () => { moved.style.transform = `translateY(${-scrollY}px)`;"
            "requestAnimationFrame(step); }; step();"
            "const seen = new IntersectionObserver(entries => entries.forEach(entry => {"
            "if (entry.isIntersecting) entry.target.style.background = 'lime' }));"
            "document.querySelectorAll('i').forEach(element => seen.observe(element))</script>",
            style="#window { position: fixed; inset: 0; overflow: hidden } body { background: red }"
            "i { display: block; height: 100px; margin-top: -100px; background: red }",
        )
    ),
    "/backdrop": Answer(
        document(
            "<canvas></canvas><main></main>",
            style="canvas { position: fixed; left: 0; top: 0; width: 100%; height: 100vh; z-index: -1;"
            "background: lime } main { height: 940px }",
        )
    ),
    "/waits-until-nobody-scrolls": Answer(
        document(
            f"{_BLOCKS}<script>let waiting; const look = () => {{ const i = document.querySelector('i');"
            "if (i.getBoundingClientRect().top < innerHeight) i.style.background = 'lime' };"
            "onscroll = () => { clearTimeout(waiting); waiting = setTimeout(look, 100) }</script>",
            style="i { display: block; height: 100px; margin-top: -100px; background: red }",
        )
    ),
    "/slides": Answer(
        document(
            f"<div id='window'><div style='height:100%;transform:translateY(0)'>{_BLOCKS}</div></div>",
            style="#window { position: relative; height: 100vh; overflow: hidden }",
        )
    ),
    "/skips-what-is-out-of-view": Answer(
        document(
            f"<section>{box('lime', height='300px')}</section>" * 20,
            style="body { background: red }"
            "section { content-visibility: auto; contain-intrinsic-size: auto 100px }",
        )
    ),
    "/fetches-in-turn": Answer(
        document(
            "<script>onload = () => setTimeout(async () => { await fetch('/late.svg');"
            "await fetch('/late.svg?2');"
            f"{TURN_GREEN} }})</script>",
            style=FILL,
        )
    ),
    "/listens": Answer(document("<script>fetch('/stream').then(() => { document.title = 'x' })</script>")),
    "/polls": Answer(document("<script>fetch('/hang')</script>")),
    "/stream": Answer("data: x\n\n", content_type="text/event-stream", missing=1),
    "/late.svg": PAGES["/lime.svg"],
    "/miscounted": Answer(document(box("lime", height="100vh")), missing=100),
}
