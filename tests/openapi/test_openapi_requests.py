"""Any request made from the OpenAPI document is answered as it says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.openapi import faults, operations


@pytest.mark.parametrize(
    "path",
    [
        "/thumb",
        "/persist",
        "/api/screenshots",
        "/v1/screenshot",
        "/v1/usage",
        "/media/{key}",
        "/cache",
        "/cache/purge",
        "/problems/{slug}",
        "/ready",
        "/health",
        "/docs",
        "/",
    ],
)
def test_values_at_and_beyond_every_documented_bound_are_answered_as_documented(
    app: Flask, document: dict[str, Any], path: str
) -> None:
    assert faults(app, document, phases={"coverage"}, paths=[path], examples=1) == []


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a strategy, by Hypothesis itself
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # nor does this; schemathesis does
@pytest.mark.parametrize("part", range(3))
def test_any_request_is_answered_as_documented(app: Flask, document: dict[str, Any], part: int) -> None:
    paths = list(document["paths"])[part::3]
    assert faults(app, document, phases={"fuzzing"}, paths=paths, examples=6) == []


#: Files, and what programs ask that add parameters of their own: probes, scrapers, caches.
INDULGENT = {"/health", "/ready", "/metrics", "/problems/{slug}", "/docs", "/", "/media/{key}"}


def test_no_route_ignores_a_misspelt_parameter(client: FlaskClient, document: dict[str, Any]) -> None:
    ignored = set()
    for path, method, _ in operations(document):
        asked = re.sub(r"{\w+}", "none", path) + "?misspelt=1"
        answer = client.open(asked, method=method, json=None if method in ("GET", "DELETE") else {})
        if (answer.status_code, "misspelt" in answer.text) != (400, True):
            ignored.add(path)
    assert ignored == INDULGENT
