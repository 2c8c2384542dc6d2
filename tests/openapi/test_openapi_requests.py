"""Any request made from the OpenAPI document is answered as it says."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from tests.support.openapi import faults


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
