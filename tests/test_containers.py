"""The image and the container stack: closed, bounded, watched, and saying what the settings understand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import playwright
import pytest
import yaml

from config import documented_settings
from tests.support.service import PROJECT

PURELIB, STDLIB = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
SETTING_NAMES = {name for declared in documented_settings() for name in declared.spellings}


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


# --- image ------------------------------------------------------------------------------------


def dockerfile_lines() -> list[str]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", read("Dockerfile"))
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_image_starts_from_a_fixed_release() -> None:
    bases = re.findall(r"(?m)^(?:ARG PYTHON_IMAGE=|FROM )(\S+)", read("Dockerfile"))
    assert [base for base in bases if base != "${PYTHON_IMAGE}"] == ["python:3.13-slim-bookworm"]


def test_the_image_runs_as_an_ordinary_user() -> None:
    users = [line.split()[1] for line in dockerfile_lines() if line.startswith("USER ")]
    assert users == ["10001:10001"], "a number, or Kubernetes cannot tell that it is not root's"
    (made,) = [line for line in dockerfile_lines() if "useradd" in line]
    assert "--uid 10001 " in made


def test_the_image_has_somebody_who_reaps_what_chromium_leaves_behind() -> None:
    entries = [line for line in dockerfile_lines() if line.startswith("ENTRYPOINT ")]
    assert entries == ['ENTRYPOINT ["tini", "--"]']
    assert any("apt-get install" in line and " tini " in line for line in dockerfile_lines())


def test_the_image_holds_exactly_the_locked_packages() -> None:
    installs = [line for line in dockerfile_lines() if "pip install" in line]
    assert len(installs) == 1
    assert "--require-hashes --requirement /tmp/requirements.lock" in re.sub(r"\s+", " ", installs[0])


def test_the_image_has_a_health_check_that_the_service_answers() -> None:
    checks = [line for line in dockerfile_lines() if line.startswith("HEALTHCHECK ")]
    assert len(checks) == 1
    assert "/health" in checks[0]


#: What every image of Debian has, and what Chromium's own package brings.
PACKAGES_AT_HAND = {"libc6", "libgcc-s1", "libstdc++6"}


def test_the_image_and_bare_machines_get_what_the_browsers_driver_is_linked_with() -> None:
    node = Path(playwright.__file__).parent / "driver" / "node"
    linked = subprocess.run(["ldd", node], capture_output=True, text=True, check=True, timeout=20).stdout
    libraries = re.findall(r"(?m)^\s*(lib\S+) =>", linked)
    needed = {_package_of(library) for library in libraries} - PACKAGES_AT_HAND
    assert needed == {"libatomic1"}
    (install,) = [line for line in dockerfile_lines() if "apt-get install" in line]
    assert needed <= set(install.split())
    assert needed <= set(read("scripts/install-chromium.sh").split())


def _package_of(library: str) -> str:
    """The Debian package that holds it here."""
    command = ["dpkg-query", "--search", f"*/{library}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    return told.partition(":")[0]


def test_no_package_lists_and_no_compiler_are_left_in_the_image() -> None:
    for line in dockerfile_lines():
        if "apt-get install" in line:
            assert "--no-install-recommends" in line
            assert "rm -rf /var/lib/apt/lists/*" in line
        assert not re.search(r"\b(gcc|g\+\+|build-essential|python3-dev)\b", line)


def test_the_image_holds_every_package_of_the_service() -> None:
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    modules = {path.name for path in PROJECT.glob("*.py")}
    copied = {name for line in dockerfile_lines() if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert packages | modules <= copied
    shown = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert packages | modules | {"requirements.lock"} == shown


def test_all_that_the_service_loads_is_compiled_in_the_image() -> None:
    (line,) = [line for line in dockerfile_lines() if "compileall" in line]
    arguments = shlex.split(line)
    left_out = re.compile(arguments[arguments.index("-x") + 1])
    compiled = tuple(f"{each}/" for each in arguments if each.startswith("/"))
    program = (
        "import sys, urllib.request; from app import create_app; "
        "create_app('testing', {'PROVIDERS': 'snapapi', 'SNAPAPI_KEY': 'key', 'DATABASE_URL': 'sqlite://'}); "
        "print(*{getattr(module, '__file__', None) for module in sys.modules.values()}, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {_in_the_image(path) for path in done.stdout.splitlines() if path.endswith(".py")}
    assert len(loaded) > 500
    assert {path for path in loaded if left_out.search(path) or not path.startswith(compiled)} == set()


def _in_the_image(path: str) -> str:
    """Where the Dockerfile puts what is at ``path`` here."""
    places = {PURELIB: "/opt/venv/lib/python/site-packages", STDLIB: "/usr/local/lib/python"}
    for here, there in {**places, str(PROJECT): "/app"}.items():
        if path.startswith(f"{here}/"):
            return there + path.removeprefix(here)
    raise ValueError(f"{path} is from nowhere")


def test_every_variable_of_the_image_is_a_setting_or_pythons() -> None:
    environment = next(line for line in dockerfile_lines() if line.startswith("ENV "))
    names = set(re.findall(r"([A-Z0-9_]+)=", environment))
    assert {name for name in names - SETTING_NAMES if not name.startswith("PYTHON")} == {"PATH"}


# --- stack ------------------------------------------------------------------------------------


def stack() -> dict[str, Any]:
    loaded = yaml.safe_load(read("docker-compose.yml"))
    assert isinstance(loaded, dict)
    return loaded


SERVICES = stack()["services"]


def test_every_variable_of_the_stack_is_a_setting() -> None:
    assert set(SERVICES["app"]["environment"]) <= SETTING_NAMES


def test_the_application_believes_the_address_that_nginx_has() -> None:
    address = SERVICES["nginx"]["networks"]["inside"]["ipv4_address"]
    assert SERVICES["app"]["environment"]["TRUSTED_PROXIES"] == address


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert service["logging"] == {"driver": "local"}, "which turns its files over"
    assert "healthcheck" in service or "build" in service, "the image of this project has its own"


@pytest.mark.parametrize("name", [name for name in SERVICES if "build" not in SERVICES[name]])
def test_foreign_images_have_a_version(name: str) -> None:
    assert re.fullmatch(r"([a-z]+/)?[a-z]+:v?\d+\.\d+(\.\d+|-\w+)", SERVICES[name]["image"])


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_jobs_have_workers_and_a_beat_with_the_settings_of_the_application(role: str) -> None:
    service = SERVICES[role]
    assert service["command"] == ["celery", "--app", "worker", role]
    for name in ("image", "environment", "volumes", "networks", "depends_on", "tmpfs"):
        assert service[name] == SERVICES["app"][name]


def test_only_who_runs_a_browser_may_make_namespaces() -> None:
    free = {name for name, each in SERVICES.items() if "seccomp=unconfined" in each["security_opt"]}
    assert free == {"app", "worker"}


def test_the_containers_of_prometheus_and_grafana_get_the_files_that_are_shipped() -> None:
    watchers = {name: each for name, each in SERVICES.items() if each.get("profiles") == ["monitoring"]}
    assert set(watchers) == {"prometheus", "grafana"}
    mounted = {
        volume.split(":")[0]: volume.split(":")[1] for each in watchers.values() for volume in each["volumes"]
    }
    files = {source: aim for source, aim in mounted.items() if source.startswith("./")}
    assert all((PROJECT / source).is_file() for source in files)
    rules = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["rule_files"]
    assert rules == [files["./deploy/prometheus/alerts.yml"]]
    (provider,) = yaml.safe_load(read("deploy/grafana/dashboards.yml"))["providers"]
    assert files["./deploy/grafana/dashboard.json"].startswith(provider["options"]["path"] + "/")
    (source,) = yaml.safe_load(read("deploy/grafana/datasource.yml"))["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_asks_where_the_service_and_the_workers_tell() -> None:
    asked = {
        (name, found["port"])
        for each in yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["scrape_configs"]
        for found in each["dns_sd_configs"]
        for name in found["names"]
    }
    environment = SERVICES["app"]["environment"]
    assert asked == {("app", 8000), ("worker", int(environment["JOB_METRICS_PORT"]))}


def test_counters_are_never_evicted_and_pictures_are() -> None:
    assert SERVICES["limiter"]["command"][-1] == "noeviction"
    assert SERVICES["cache"]["command"][-1] == "allkeys-lru"
    environment = SERVICES["app"]["environment"]
    assert ("//cache:" in environment["REDIS_URL"], "//limiter:" in environment["LIMITER_REDIS_URL"]) == (
        True,
        True,
    )
