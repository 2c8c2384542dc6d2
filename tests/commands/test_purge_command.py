"""flask purge, and what is said of all commands."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import click
import pytest
from flask import Flask

from blueprints.doctor_command import doctor
from tests.support.answers import refusing_url
from tests.support.command_sites import PAGES, run
from tests.support.doctor import IN_URL, as_an_ordinary_user, run_flask
from tests.support.service import PROJECT, TARGET, client_of, running_app
from tests.support.upstream import Upstream
from wiring.command_line import COMMANDS


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
