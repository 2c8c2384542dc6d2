"""What the playground's tests share: a browser, an open service and a closed one, and who looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from tests.support.browsers import Visitor, running_browser, visiting
from tests.support.playground import Playground, running_playground
from tests.support.service import TARGET
from tests.support.vectors import SIGNING_KEYS


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """A service that is open to everyone."""
    with running_playground(tmp_path_factory.mktemp("open"), RATELIMIT_ENABLED="false") as playground:
        yield playground


@pytest.fixture(scope="package")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """A service that wants a key or a signature."""
    folder = tmp_path_factory.mktemp("closed")
    settings = {"RATELIMIT_ENABLED": "false", "SIGNING_KEYS": SIGNING_KEYS}
    with running_playground(folder, has_key=True, **settings) as playground:
        yield playground


@pytest.fixture
def visitor(browser: Browser, opened: Playground) -> Iterator[Visitor]:
    with visiting(browser, opened.url, permissions=["clipboard-read", "clipboard-write"]) as visitor:
        yield visitor


@pytest.fixture
def target(request: pytest.FixtureRequest) -> str:
    """A page that no other test has had photographed."""
    return f"{TARGET}?{quote(request.node.name, safe='')}"
