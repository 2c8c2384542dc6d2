"""The files for Fly.io and Cloud Run: they fit the image, the settings and the service's own times."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from config import Settings, documented_settings
from tests.support.service import PROJECT, client_of
from tests.support.settings import load

SETTINGS = {name: declared for declared in documented_settings() for name in declared.spellings}
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")

#: What stands in for secrets where they are named only.
SECRETS = {
    "DATABASE_URL": "postgresql://user:password@/thumbnailer?host=/cloudsql/project:region:name",
    "REDIS_URL": "redis://10.0.0.3:6379/0",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "key",
    "SIGNING_KEYS": "k1:" + hashlib.sha256(b"for a test").hexdigest(),
    "WEBHOOK_SECRET": "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What a file says; times in seconds."""

    port: int
    variables: Mapping[str, str]
    secrets: frozenset[str]
    at_once: int
    answer_seconds: float
    probes: Mapping[str, int]
    least_instances: int
    memory: str

    @property
    def settings(self) -> Settings:
        secrets = {name: SECRETS[name] for name in self.secrets}
        return load({**image_variables(), **self.variables, **secrets}, profile="production")


def image_variables() -> dict[str, str]:
    (said,) = re.findall(r"^ENV (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    pairs = (pair.partition("=") for pair in said.replace("\\\n", " ").split())
    return {name: value for name, _, value in pairs if name in SETTINGS}


def fly() -> Platform:
    said = tomllib.loads((PROJECT / "deploy/fly/fly.toml").read_text(encoding="utf-8"))
    service, alive = said["http_service"], said["checks"]["alive"]
    comments = re.findall(
        r"fly secrets set .*", (PROJECT / "deploy/fly/fly.toml").read_text(encoding="utf-8")
    )
    return Platform(
        port=service["internal_port"],
        variables=said["env"],
        secrets=frozenset(re.findall(r"([A-Z0-9_]+)=", comments[0])),
        at_once=service["concurrency"]["hard_limit"],
        answer_seconds=service["http_options"]["idle_timeout"],
        probes={service["checks"][0]["path"]: service["internal_port"], alive["path"]: alive["port"]},
        least_instances=service["min_machines_running"],
        memory=said["vm"][0]["memory"],
    )


def cloud_run() -> Platform:
    said = yaml.safe_load((PROJECT / "deploy/cloudrun/service.yaml").read_text(encoding="utf-8"))
    template = said["spec"]["template"]
    (container,) = template["spec"]["containers"]
    given = container["env"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe")]
    return Platform(
        port=container["ports"][0]["containerPort"],
        variables={each["name"]: each["value"] for each in given if "value" in each},
        secrets=frozenset(each["name"] for each in given if "valueFrom" in each),
        at_once=template["spec"]["containerConcurrency"],
        answer_seconds=template["spec"]["timeoutSeconds"],
        probes={probe["path"]: probe["port"] for probe in probes},
        least_instances=int(template["metadata"]["annotations"]["autoscaling.knative.dev/minScale"]),
        memory=container["resources"]["limits"]["memory"],
    )


each_platform = pytest.mark.parametrize("read", [fly, cloud_run], ids=["fly", "cloud-run"])
Read = Callable[[], Platform]


@each_platform
def test_every_variable_is_a_setting_and_no_secret_stands_in_the_file(read: Read) -> None:
    platform = read()
    assert {*platform.variables, *platform.secrets} <= set(SETTINGS)
    assert not {name for name in platform.variables if SETTINGS[name].secret}
    assert all(SETTINGS[name].secret for name in platform.secrets)
    assert "PORT" not in platform.variables


@each_platform
def test_the_settings_are_sound_and_leave_no_doubt_but_of_the_sandbox(read: Read) -> None:
    assert all("sandbox" in warning for warning in read().settings.warnings)


@each_platform
def test_requests_and_probes_go_where_the_image_listens(read: Read) -> None:
    platform = read()
    exposed = [int(port) for port in re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)]
    assert [platform.port] == exposed == [platform.settings.server.port]
    assert platform.probes == {"/ready": platform.port, "/health": platform.port}


@each_platform
def test_the_platform_holds_requests_back_before_the_service_refuses_them(read: Read) -> None:
    server = read().settings.server
    assert 0 < read().at_once < server.workers * server.waiting


@each_platform
def test_the_service_answers_before_the_platform_loses_patience(read: Read) -> None:
    settings = read().settings
    own = settings.providers.timeout_seconds + settings.server.client_answer_seconds
    assert read().answer_seconds > own


@each_platform
def test_an_instance_is_always_there_and_has_memory_for_its_workers(read: Read) -> None:
    platform = read()
    assert platform.least_instances >= 1, "what goes on behind the answers needs one"
    gibibytes = int(re.sub(r"(gb|Gi)$", "", platform.memory))
    assert gibibytes * 2 >= platform.settings.server.workers, "500 MiB for each worker"


def test_a_machine_of_fly_keeps_its_files_on_the_volume_and_stops_in_its_time() -> None:
    said = tomllib.loads((PROJECT / "deploy/fly/fly.toml").read_text(encoding="utf-8"))
    (mount,) = said["mounts"]
    settings = fly().settings
    volume = mount["destination"]
    assert str(settings.cache.folder).startswith(f"{volume}/")
    assert str(settings.storage.media_folder).startswith(f"{volume}/")
    assert settings.database.url.startswith(f"sqlite:///{volume}/")
    assert settings.cache.max_bytes < int(mount["initial_size"].removesuffix("gb")) * 10**9 * 0.6
    assert said["kill_signal"] == "SIGTERM"
    assert said["kill_timeout"] > settings.providers.timeout_seconds + 15


def test_an_instance_of_cloud_run_keeps_nothing() -> None:
    settings = cloud_run().settings
    assert settings.cache.redis_url
    assert settings.database.url.startswith("postgresql+psycopg://")
    assert settings.s3.bucket


CLIENT, OTHER = "203.0.113.7", "203.0.113.8"
FLYS_OWN = "192.0.2.1"


@pytest.mark.parametrize(
    ("read", "peer", "forwarded"),
    [
        pytest.param(fly, "172.16.3.2", f"{OTHER}, {CLIENT}, {FLYS_OWN}", id="fly"),
        pytest.param(cloud_run, "169.254.169.126", f"{OTHER}, {CLIENT}", id="cloud-run"),
    ],
)
def test_the_caller_is_who_the_platform_says_whatever_the_caller_claims(
    read: Read, peer: str, forwarded: str
) -> None:
    own = {"TRUSTED_PROXIES": read().variables["TRUSTED_PROXIES"], "LIMIT_PURGE": "1 per minute"}
    with client_of({**own, "PROVIDERS": "chromium"}) as client:
        assert _purged(client, peer, forwarded) == 200
        assert _purged(client, peer, forwarded.replace(OTHER, "203.0.113.9")) == 429
        assert _purged(client, peer, forwarded.replace(CLIENT, "203.0.113.10")) == 200


def _purged(client: FlaskClient, peer: str, forwarded: str) -> int:
    url = {"url": "http://93.184.216.34/"}
    origin: Any = {"REMOTE_ADDR": peer}
    headers = {"X-Forwarded-For": forwarded}
    return client.delete("/cache", query_string=url, headers=headers, environ_base=origin).status_code
