"""The recipes in the documentation arrive at the published vectors, each under its own interpreter."""

from __future__ import annotations

import html
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jinja2 import Environment

from tests.support.interpreters import run
from tests.support.service import PROJECT
from tests.support.vectors import KEYS, RECIPES, SIGNING_KEYS, VECTORS, VECTORS_FILE
from thumbnailer.signing import Signed, UrlSigner, parse_signing_keys, read_parameters

DRIVERS = Path(__file__).parent / "support/recipes"
BASE = "https://thumbs.example.com"
K1 = f"k1:{KEYS['k1']}"
SIGNER = UrlSigner(parse_signing_keys(SIGNING_KEYS))
DAY_SECONDS = 86_400

SignUrl = Callable[..., str]


@pytest.fixture
def python_recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[SignUrl]:
    monkeypatch.syspath_prepend(RECIPES)
    yield import_module("signed_url").signed_url
    for name in ("signed_url", "signed_url_jinja"):
        sys.modules.pop(name, None)


def test_python_arrives_at_every_vector(python_recipe: SignUrl) -> None:
    for vector in VECTORS:
        key = f"{vector.kid}:{KEYS[vector.kid]}"
        assert python_recipe(vector.base, vector.path, vector.parameters, key, vector.exp) == vector.url


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["php", DRIVERS / "php.php", RECIPES / "signed_url.php"], id="PHP"),
        pytest.param(["ruby", DRIVERS / "ruby.rb", RECIPES / "signed_url.rb"], id="Ruby"),
        pytest.param(["node", DRIVERS / "node.mjs", RECIPES / "signed_url.mjs"], id="Node.js"),
        pytest.param(["node", DRIVERS / "node.mjs", RECIPES / "signed_url_web_crypto.mjs"], id="Web Crypto"),
    ],
)
def test_each_language_arrives_at_every_vector(command: list[str | Path]) -> None:
    urls = json.loads(run(*command, text=VECTORS_FILE.read_text(encoding="utf-8")))
    assert dict(zip([vector.name for vector in VECTORS], urls, strict=True)) == {
        vector.name: vector.url for vector in VECTORS
    }


@pytest.mark.parametrize("recipe", ["signed_url.mjs", "signed_url_web_crypto.mjs"])
def test_javascript_takes_an_object_as_well(recipe: str) -> None:
    single = [one for one in VECTORS if len({name for name, _ in one.parameters}) == len(one.parameters)]
    document = json.loads(VECTORS_FILE.read_text(encoding="utf-8"))
    names = {vector.name for vector in single}
    document["vectors"] = [one for one in document["vectors"] if one["name"] in names]
    urls = json.loads(
        run("node", DRIVERS / "node.mjs", RECIPES / recipe, "object", text=json.dumps(document))
    )
    assert urls == [vector.url for vector in single]


@pytest.mark.parametrize(
    "command",
    [
        ["python3", "signed_url.py"],
        ["php", "signed_url.php"],
        ["node", "signed_url.mjs"],
        ["ruby", "signed_url.rb"],
    ],
    ids=lambda command: command[0],
)
def test_each_recipe_signs_from_the_command_line(command: list[str]) -> None:
    options = ["url=https://example.com/?q=a+b=c&d=ü", "selector=it's (1) *~", "a=10", "a=2"]
    url = run(
        command[0], RECIPES / command[1], BASE, "/thumb", *options, environ={"SIGNING_KEYS": SIGNING_KEYS}
    ).rstrip("\n")
    signed = SIGNER.sign("/thumb", [], now=0)
    assert url.startswith(f"{BASE}/thumb?a=10&a=2&kid={signed.kid}&selector=it%27s%20%281%29%20%2A~&url=")
    assert_verifies(url)


def assert_verifies(url: str, *, exp: int | None = None) -> None:
    """The service takes ``url``, as a browser or ``curl`` would send it."""
    parts = urlsplit(url)
    assert SIGNER.verify(parts.path, read_parameters(parts.query.encode()), 0) == Signed("k1", exp)


OPTIONS_IN = {
    "python3": """
import sys; sys.path.insert(0, FOLDER); sys.dont_write_bytecode = True
from signed_url import signed_url
options = dict(url="u", full_page=True, delay=0, dark_mode=False, format=None, dpr=1.5)
print(signed_url(BASE, "/thumb", options, KEY), end="")
""",
    "php": """
require FOLDER . '/signed_url.php';
$options = ['url' => 'u', 'full_page' => true, 'delay' => 0, 'dark_mode' => false,
  'format' => null, 'dpr' => 1.5];
echo thumbnailer_signed_url(BASE, '/thumb', $options, KEY);
""",
    "ruby": """
require "#{FOLDER}/signed_url.rb"
options = {url: 'u', full_page: true, delay: 0, dark_mode: false, format: nil, dpr: 1.5}
print Thumbnailer.signed_url(BASE, '/thumb', options, KEY)
""",
    "node": """
const options = {url: 'u', full_page: true, delay: 0, dark_mode: false, format: null,
  fit: undefined, dpr: 1.5};
import(FOLDER + '/signed_url.mjs').then(({ signedUrl }) =>
  process.stdout.write(signedUrl(BASE, '/thumb', options, KEY)));
""",
}
CONSTANT_IN = {"php": "const {} = '{}';", "node": "const {} = '{}';"}
RUN_TEXT = {"python3": "-c", "php": "-r", "ruby": "-e", "node": "-e"}


@pytest.mark.parametrize("language", OPTIONS_IN)
def test_flags_numbers_and_nothing_are_written_as_the_service_reads_them(language: str) -> None:
    constant = CONSTANT_IN.get(language, "{} = '{}'")
    constants = [constant.format(*each) for each in (("FOLDER", RECIPES), ("BASE", BASE), ("KEY", K1))]
    url = run(language, RUN_TEXT[language], "\n".join(constants) + OPTIONS_IN[language])
    query, _, _ = url.partition("&sig=")
    assert query == f"{BASE}/thumb?dark_mode=false&delay=0&dpr=1.5&full_page=true&kid=k1&url=u"
    assert_verifies(url)


@pytest.mark.parametrize(
    "template",
    [
        "{{ page | thumbnail(thumb_width=400, full_page=True) }}",
        "{{ thumbnail(page, thumb_width=400, full_page=True) }}",
    ],
    ids=["filter", "global"],
)
def test_jinja_templates_sign_for_a_day_and_escape(python_recipe: SignUrl, template: str) -> None:
    now = 1_764_030_000.5
    environment = Environment(autoescape=True)
    import_module("signed_url_jinja").install(environment, BASE, K1, clock=lambda: now)
    target = "https://example.com/?a=1&b=\"<ü>'"
    written = environment.from_string(template).render(page=target)
    assert re.search(r"&(?!amp;)|[<>\"']", written) is None
    url = html.unescape(written)
    exp = (int(now) // DAY_SECONDS + 2) * DAY_SECONDS
    assert url == python_recipe(
        BASE, "/thumb", {"url": target, "thumb_width": 400, "full_page": True}, K1, exp
    )
    assert DAY_SECONDS < exp - now <= 2 * DAY_SECONDS
    assert_verifies(url, exp=exp)


def test_wordpress_shows_a_signed_picture() -> None:
    attributes = {
        "url": "https://example.com/?a=1&amp;b=%0A2",
        "width": "320",
        "alt": 'Say "hi" & <go>',
        "x": "y",
    }
    before = int(time.time())
    image = run(
        "php", DRIVERS / "wordpress.php", RECIPES / "wordpress_thumbnails.php", BASE, SIGNING_KEYS,
        text=json.dumps(attributes),
    )  # fmt: skip
    found = re.fullmatch(
        r'<img src="([^"<>]*)" srcset="([^"<>]*) 2x" width="320" height="180"'
        r' alt="Say &quot;hi&quot; &amp; &lt;go&gt;" loading="lazy" decoding="async">',
        image,
    )
    assert found, image
    sized = {"thumb_width": "320", "thumb_height": "180", "fit": "cover", "format": "webp"}
    for url, expected in ((found[1], sized), (found[2], {**sized, "dpr": "2"})):
        parameters = dict(read_parameters(urlsplit(html.unescape(url)).query.encode()))
        assert parameters.pop("url") == "https://example.com/?a=1&b=%0A2"
        exp = int(parameters.pop("exp"))
        assert exp % DAY_SECONDS == 0
        assert DAY_SECONDS <= exp - before <= 2 * DAY_SECONDS
        assert {name: parameters[name] for name in parameters if name not in ("kid", "sig")} == expected
        assert_verifies(html.unescape(url), exp=exp)


def test_every_recipe_is_shown_in_the_documentation() -> None:
    page = (PROJECT / "docs/signing.md").read_text(encoding="utf-8")
    recipes = {path.name for path in RECIPES.iterdir() if path.is_file()}
    assert set(re.findall(r"\]\(recipes/([^)]+)\)", page)) == recipes
