"""Imports point downwards only, and nobody hides one."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent

#: From the ground up. Rooms of one layer do not know each other; the modules of one room do.
LAYERS: list[dict[str, tuple[str, ...]]] = [
    {"errors": ("thumbnailer.errors",)},
    {"model": ("thumbnailer.model", "thumbnailer.devices", "thumbnailer.sites")},
    {
        "calls": ("thumbnailer.bounded_calls", "thumbnailer.sharing"),
        "processes": ("thumbnailer.process_memory",),
        "scratch": ("thumbnailer.scratch",),
    },
    {
        "guard": (
            "thumbnailer.addresses",
            "thumbnailer.guard",
            "thumbnailer.host_patterns",
            "thumbnailer.hostnames",
            "thumbnailer.lookup",
            "thumbnailer.target",
        ),
        "imaging": ("thumbnailer.imaging", "thumbnailer.png_pixels", "thumbnailer.structure"),
        "telemetry": (
            "thumbnailer.telemetry",
            "thumbnailer.metrics",
            "thumbnailer.counter_files",
            "thumbnailer.ended_counters",
        ),
        "bulkhead": ("thumbnailer.bulkhead", "thumbnailer.line"),
        "cooldown": ("thumbnailer.cooldown",),
        "rations": ("thumbnailer.rations",),
        "signing": (
            "thumbnailer.signature_faults",
            "thumbnailer.signature_mistakes",
            "thumbnailer.signing",
        ),
        "wire": ("thumbnailer.wire",),
    },
    {
        "egress": (
            "thumbnailer.egress",
            "thumbnailer.egress_dial",
            "thumbnailer.egress_proxy",
            "thumbnailer.proxy_messages",
            "thumbnailer.refusals",
            "thumbnailer.sitemaps",
        ),
        "breakers": ("thumbnailer.breakers", "thumbnailer.circuits"),
        "database": (
            "thumbnailer.database",
            "thumbnailer.engines",
            "thumbnailer.migrations",
            "thumbnailer.schema",
        ),
        "rendering": (
            "thumbnailer.blanks",
            "thumbnailer.decoding",
            "thumbnailer.encoding",
            "thumbnailer.fingerprints",
            "thumbnailer.libvips",
            "thumbnailer.negotiation",
            "thumbnailer.placeholder_glyphs",
            "thumbnailer.placeholder_shapes",
            "thumbnailer.placeholders",
            "thumbnailer.rendering",
            "thumbnailer.renditions",
        ),
    },
    {
        "providers": ("thumbnailer.providers",),
        "cache": (
            "thumbnailer.backend",
            "thumbnailer.cache",
            "thumbnailer.cache_files",
            "thumbnailer.catalogue",
            "thumbnailer.failures",
            "thumbnailer.file_cache",
            "thumbnailer.flights",
            "thumbnailer.locks",
            "thumbnailer.memory_cache",
            "thumbnailer.picture_cache",
            "thumbnailer.purges",
            "thumbnailer.purging",
            "thumbnailer.setbacks",
        ),
        "storage": (
            "thumbnailer.local_storage",
            "thumbnailer.s3_clients",
            "thumbnailer.s3_settings",
            "thumbnailer.s3_storage",
            "thumbnailer.storage",
        ),
        "access": (
            "thumbnailer.access_tables",
            "thumbnailer.key_file",
            "thumbnailer.key_store",
            "thumbnailer.keyring",
            "thumbnailer.keys",
            "thumbnailer.plans",
        ),
        "webhooks": ("thumbnailer.webhooks",),
        "accounts": (
            "thumbnailer.accounts",
            "thumbnailer.budgets",
            "thumbnailer.counters",
            "thumbnailer.quotas",
            "thumbnailer.usage",
        ),
    },
    {
        "pipeline": (
            "thumbnailer.arrival",
            "thumbnailer.explaining",
            "thumbnailer.errands",
            "thumbnailer.keeping",
            "thumbnailer.photographer",
            "thumbnailer.pipeline",
            "thumbnailer.refreshing",
            "thumbnailer.spool",
            "thumbnailer.streaming",
            "thumbnailer.terms",
            "thumbnailer.thumbnails",
            "thumbnailer.written_requests",
        )
    },
    {"jobs": ("thumbnailer.jobs", "thumbnailer.pages")},
    {"diagnosis": ("thumbnailer.diagnosis",)},
    {"blueprints": ("blueprints",), "settings": ("settings",)},
    {"config": ("config",)},
    {"wiring": ("wiring",)},
    {"entries": ("app", "worker")},
]
#: What is loaded only where it is needed, by an import inside a function: it is large, or brings in much, and
#: many deployments, or their first answers, do without it. Annotations may name it by TYPE_CHECKING.
LATE = (
    "adblock",
    "alembic",
    "boto3",
    "botocore",
    "celery",
    "filelock",
    "kombu",
    "playwright.async_api",
    "pyvips",
    "sqlalchemy.dialects.postgresql",
    "thumbnailer.providers.chromium",
    "thumbnailer.providers.memory_watch",
    "thumbnailer.s3_clients",
    "thumbnailer.s3_settings",
    "thumbnailer.s3_storage",
    "wiring.broker",
    "wiring.diagnosis",
)
FRAMEWORKS = ("flask", "flask_caching", "flask_limiter", "flask_smorest", "celery", "marshmallow", "werkzeug")


def _sources() -> list[Path]:
    folders = ("thumbnailer", "blueprints", "settings", "wiring")
    nested = [path for folder in folders for path in (PROJECT / folder).rglob("*.py")]
    return sorted([*nested, *(PROJECT / f"{name}.py" for name in ("app", "config", "worker"))])


def _module(path: Path) -> str:
    dotted = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


def _imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def _place(module: str) -> tuple[int, str] | None:
    """Layer and room of one of our modules, None for anybody else's."""
    for number, layer in enumerate(LAYERS):
        for room, members in layer.items():
            if any(module == member or module.startswith(f"{member}.") for member in members):
                return number, room
    return None


@pytest.mark.parametrize("path", _sources(), ids=_module)
def test_every_import_points_downwards(path: Path) -> None:
    module = _module(path)
    if module == "thumbnailer":
        return
    here = _place(module)
    assert here is not None, f"{module} has no place in the house: give it one in LAYERS"
    for imported, node in _imports(ast.parse(path.read_text())):
        there = _place(imported)
        if there is not None:
            assert there[0] < here[0] or there[1] == here[1], f"{module}:{node.lineno} imports {imported}"


@pytest.mark.parametrize("path", _sources(), ids=_module)
def test_no_import_is_hidden_but_of_what_is_loaded_late(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for imported, node in _imports(tree):
        is_late = any(imported == name or imported.startswith(f"{name}.") for name in LATE)
        assert node in tree.body or is_late, f"{path.name}:{node.lineno} hides the import of {imported}"


def test_an_application_by_default_loads_nothing_that_may_come_later() -> None:
    program = (
        "import sys; from app import create_app; "
        "create_app('testing', {'PROVIDERS': 'snapapi', 'SNAPAPI_KEY': 'key', 'DATABASE_URL': 'sqlite://', "
        "'REDIS_URL': 'redis://127.0.0.1:9'}); print(*sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60)
    assert {name for name in done.stdout.split() if name in LATE} == set()


@pytest.mark.parametrize("path", sorted((PROJECT / "thumbnailer").rglob("*.py")), ids=_module)
def test_the_trip_knows_no_framework(path: Path) -> None:
    for imported, node in _imports(ast.parse(path.read_text())):
        assert imported.split(".")[0] not in FRAMEWORKS, f"{path.name}:{node.lineno} imports {imported}"


@pytest.mark.parametrize("path", _sources(), ids=_module)
def test_files_stay_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 320


@pytest.mark.parametrize("path", _sources(), ids=_module)
def test_functions_stay_short_enough_to_read(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 40, f"{path.name}:{node.lineno} {node.name} has {length} lines"


def test_what_is_kept_is_text_and_the_pictures_of_the_docs() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    kept = [PROJECT / name for name in listed.stdout.split("\0") if name]
    others = [path for path in kept if path.is_file() and b"\0" in path.read_bytes()[:8192]]
    assert kept
    assert [path for path in others if path.parent != PROJECT / "docs" / "images"] == []
