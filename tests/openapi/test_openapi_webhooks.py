"""The OpenAPI document tells of each webhook message what is really sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient

from tests.support import answers, jobs
from tests.support.kept_pages import fall_due, keep, look, ready
from tests.support.processes import wait_until
from tests.support.receivers import accept, running_receiver, url_of
from tests.support.service import TARGET, client_of
from tests.support.small_web import Reply, Seen, Site
from tests.support.upstream import Upstream

EVENTS = {"screenshot.completed", "screenshot.failed", "batch.completed", "page.changed"}
#: What every request has, and what connections are made of.
USUAL = {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(answers.content(look(1), "image/png")) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    folder: Path = tmp_path_factory.mktemp("service")
    with client_of(jobs.environment(upstream, folder, **jobs.TELLING)) as client:
        yield client


@pytest.fixture(scope="module")
def messages(service: FlaskClient, upstream: Upstream) -> dict[str, list[Seen]]:
    """One message of each kind, as its receiver saw it, twice: it wants to hear each once more."""
    with running_receiver(lambda _seen: Reply(503, body=b"")) as receiver:
        _set_off(service, upstream, url_of(receiver))
        wait_until(lambda: {_event_of(seen) for seen in receiver.seen} == EVENTS)
        wait_until(lambda: all(len(attempts) >= 2 for attempts in _by_event(receiver).values()))
        receiver.reply = accept
        return _by_event(receiver)


def _set_off(service: FlaskClient, upstream: Upstream, webhook_url: str) -> None:
    page = keep(service, url=f"{TARGET}kept", webhook_url=webhook_url)["id"]
    ready(service, page)
    told = {"webhook_url": webhook_url}
    service.post("/screenshots", json={"url": TARGET, "wait": 20, **told})
    service.post("/screenshots/batch", json={"urls": [TARGET], "async": True, **told})
    upstream.behave(answers.snapapi_error(422, "TARGET_UNREACHABLE", "gone"))
    service.post("/screenshots", json={"url": f"{TARGET}gone", "wait": 20, **told})
    upstream.behave(answers.content(look(2), "image/png"))
    fall_due(service, page)


def _event_of(seen: Seen) -> str:
    return str(json.loads(seen.body)["type"])


def _by_event(receiver: Site) -> dict[str, list[Seen]]:
    return {event: [seen for seen in receiver.seen if _event_of(seen) == event] for event in EVENTS}


def test_every_message_is_documented_and_no_other(document: dict[str, Any]) -> None:
    assert document["webhooks"].keys() == EVENTS
    events = document["components"]["schemas"]["DeliveryAnswer"]["properties"]["event"]["enum"]
    assert set(events) == EVENTS


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_a_message_is_what_the_document_says(
    document: dict[str, Any], messages: dict[str, list[Seen]], event: str
) -> None:
    told = document["webhooks"][event]["post"]
    (content_type, body), *others = told["requestBody"]["content"].items()
    judge = jsonschema.Draft202012Validator({**body["schema"], "components": document["components"]})
    for seen in messages[event]:
        assert (seen.method, seen.headers["content-type"], others) == ("POST", content_type, [])
        assert [fault.message for fault in judge.iter_errors(json.loads(seen.body))] == []


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_a_message_has_the_headers_that_the_document_tells(
    document: dict[str, Any], messages: dict[str, list[Seen]], event: str
) -> None:
    told = {one["name"]: one for one in document["webhooks"][event]["post"]["parameters"]}
    for seen in messages[event]:
        assert seen.headers.keys() - USUAL == told.keys()
        for name, header in told.items():
            assert (header["in"], header["required"]) == ("header", True)
            assert re.fullmatch(header["schema"]["pattern"], seen.headers[name]), name
    first, again = messages[event][:2]
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])


def test_what_a_receiver_answers_decides_as_the_document_says(document: dict[str, Any]) -> None:
    """What each status does: ``tests/test_webhooks.py``."""
    for event, methods in document["webhooks"].items():
        assert methods["post"]["responses"].keys() == {"2XX", "410", "default"}, event
