"""The OpenAPI document, the service that it is of, and random requests made from it."""

from __future__ import annotations

import base64
import contextlib
import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import schemathesis
import schemathesis.engine
from flask import Flask
from schemathesis.engine import events

from tests.support.service import TARGET, running_app, snapapi_environment
from tests.support.upstream import Upstream

#: Options of JSON bodies only, for they let somebody in.
SECRETS = {"headers", "cookies"}

#: The JSON bodies, and what each takes beside the options.
BODIES: dict[str, set[str]] = {
    "ScreenshotBody": {"download", *SECRETS},
    "PersistBody": {"force", "presign", *SECRETS},
    "HermesforgeOptions": {"viewport"},
    "JobBody": {"persist", "webhook_url", "wait", *SECRETS},
}

#: Options that contradict others, which no schema can say; tests of their own hold what happens then.
CONTRADICTORY = {
    "selector",
    "clip",
    "quality",
    "retina",
    "viewport",
    "full_page",
    "thumb_width",
    "thumb_height",
    "preset",
    "dpr",
    "fit",
    *("fullPage", "clipX", "clipY", "clipWidth", "clipHeight", "isMobile", "hasTouch", "blockTrackers"),
}

#: The JSON bodies of other APIs that are spoken here.
VENDOR_BODIES = ("SnapSharpBody", "SnapApiBody")

#: Texts that may be longer than this are long.
LONG_CHARACTERS = 10_000


@contextlib.contextmanager
def documented_app(media: Path) -> Iterator[Flask]:
    """A service that has all that is documented, and refuses nobody."""
    with Upstream() as upstream:
        settings = snapapi_environment(
            upstream.url,
            RATELIMIT_ENABLED="false",
            MEDIA_DIR=str(media),
            DATABASE_URL=f"sqlite:///{media}/jobs.sqlite3",
            WEBHOOK_SECRET=f"whsec_{base64.b64encode(bytes(32)).decode()}",
            LOG_LEVEL="critical",
        )
        with running_app(settings) as app:
            yield app


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield path, method.upper(), operation


def usual(described: Mapping[str, Any]) -> str | None:
    """What is told to happen where a caller says nothing: in words, at the end of the description."""
    found = re.search(r" Default: (.+)\.$", described["description"])
    return found[1] if found else None


def schemas_in(part: Any) -> Iterator[dict[str, Any]]:
    """Every object in a part of a document, itself included."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from schemas_in(inner)


def _tame_purge(purge: dict[str, Any]) -> None:
    purge["anyOf"] = [  # which marshmallow cannot say
        {"required": ["targets"]},
        {"required": ["everything"], "properties": {"everything": {"const": True}}},
    ]
    purge["properties"]["targets"]["items"] = {"enum": [TARGET, f"{TARGET}?a=b"]}
    del purge["properties"]["hosts"]


def _tame_batch(batch: dict[str, Any]) -> None:
    batch["urls"] = {"enum": [[TARGET], [TARGET, f"{TARGET}?a=b"]]}
    for needing_async in ("persist", "webhook_url"):
        del batch[needing_async]


def _set_lengths_apart(schema: Any) -> None:
    """Spells ``^[…]*$`` as ``^(|[…]+)$`` where a text may be long.

    Schemathesis writes a text's greatest length into its pattern where it can, here as ``{0,50000}``.
    Compiled, each of those takes some 50 MB, and there are dozens at a time.
    """
    if isinstance(schema, dict):
        if schema.get("maxLength", 0) > LONG_CHARACTERS and isinstance(schema.get("pattern"), str):
            schema["pattern"] = re.sub(r"^\^(\[\^[^\]]+\])\*\$$", r"^(|\1+)$", schema["pattern"])
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            _set_lengths_apart(part)


def _tamed(document: dict[str, Any]) -> dict[str, Any]:
    """The document for a machine that knows no more than what it says: one target, nothing contradictory."""
    tamed = copy.deepcopy(document)
    bodies = [*BODIES, *VENDOR_BODIES, "BatchBody", "SignBody"]
    options = [tamed["components"]["schemas"][name]["properties"] for name in bodies]
    del tamed["servers"]  # it is asked within this process
    for _, _, operation in operations(tamed):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            body.pop("example", None)
            body.pop("examples", None)
        kept = [one for one in operation.get("parameters", []) if one["name"] not in CONTRADICTORY]
        operation["parameters"] = kept
        options.append({one["name"]: one["schema"] for one in kept})
    _tame_purge(tamed["components"]["schemas"]["PurgeBody"])
    for schemas in options:
        for name in CONTRADICTORY & schemas.keys():
            del schemas[name]
        for name, values in (
            ("url", [TARGET, f"{TARGET}?a=b"]),
            ("webhook_url", [TARGET]),
            ("wait", [0]),
            ("timezone", ["UTC", "Asia/Tokyo"]),
            ("fail_on_status", ["400-599", "none"]),
            ("timeout", [600_000]),
        ):
            if name in schemas:
                nothing = [None] if "null" in schemas[name].get("type", "") else []
                schemas[name].clear()
                schemas[name]["enum"] = values + nothing
    for name in VENDOR_BODIES:  # a cookie's domain has to be the target's host, and its name its own
        cookies = tamed["components"]["schemas"][name]["properties"]["cookies"]
        cookies["maxItems"] = 1
        del cookies["items"]["properties"]["domain"]
    _tame_batch(tamed["components"]["schemas"]["BatchBody"]["properties"])
    for page_body in ("PageBody", "PageChanges"):
        properties = tamed["components"]["schemas"][page_body]["properties"]
        for name in CONTRADICTORY & properties.keys():
            del properties[name]
        properties["url"] = {"enum": [TARGET]}
        properties["webhook_url"] = {"enum": [TARGET, None]}
        nothing = [None] if page_body == "PageChanges" else []
        properties["timezone"] = {"enum": ["UTC", *nothing]}
        properties["fail_on_status"] = {"enum": ["none", *nothing]}
    _set_lengths_apart(tamed)
    return tamed


def faults(
    app: Flask, document: dict[str, Any], *, phases: set[str], paths: list[str], examples: int
) -> list[str]:
    """What schemathesis, with every check it has, finds wrong with the answers of ``paths``."""
    schema = schemathesis.openapi.from_dict(_tamed(document)).include(path=paths)
    schema.app = app
    config = schema.config
    for phase in ("examples", "coverage", "fuzzing", "stateful"):
        getattr(config.phases, phase).enabled = phase in phases
    config.generation.max_examples = examples
    config.generation.deterministic = True
    config.generation.database = "none"
    # An Idempotency-Key that comes with another body is refused, as documented.
    # A stored image is where a job leads once the cache has lost its picture, such as by a purge.
    # An answer's URL that is tried as a target is one of this very service's, which it does not visit.
    config.checks.positive_data_acceptance.expected_statuses = ["2xx", "302", "403", "404", "422"]
    faults, cases = [], 0
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            faults.append(str(event))
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.interactions)
            faults += [
                f"{event.recorder.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info
            ]
    assert cases >= len(paths)
    return faults
