"""Sites, settings and calls of commands."""

from __future__ import annotations

from click.testing import Result
from flask import Flask

from tests.support.small_web import Reply

PAGES = [f"http://93.184.216.34/{number}" for number in range(4)]
NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"


def sitemap(*pages: str, root: str = "urlset", entry: str = "url", more: str = "") -> bytes:
    entries = "".join(f"<{entry}><loc>\n {page} </loc>{more}</{entry}>" for page in pages)
    return f"<?xml version='1.0'?><{root} xmlns='{NAMESPACE}'>{entries}</{root}>".encode()


def run(app: Flask, *arguments: str, code: int = 0, text: str | None = None) -> Result:
    done = app.test_cli_runner().invoke(args=arguments, input=text)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


SITES = {
    "/sitemap.xml": Reply(body=sitemap(*PAGES)),
    "/index.xml": Reply(),  # its body needs the site's own address
    "/moved.xml": Reply(status=302, headers=(("Location", "http://10.0.0.1/sitemap.xml"),)),
    "/page.html": Reply(body=b"<!doctype html><html><p>404</html>"),
}
