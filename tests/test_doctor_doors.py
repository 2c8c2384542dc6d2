"""flask doctor on who takes captures, who may come in, and the running service."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from config import documented_settings
from tests.support import answers
from tests.support.answers import Received, content, json_error
from tests.support.browser_processes import descendants
from tests.support.doctor import (
    IN_URL,
    PASSWORD,
    examine,
    fresh_settings,
    made_database,
    run_flask,
    states,
)
from tests.support.processes import free_port, wait_until
from tests.support.service import running_service, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.diagnosis import State, browsers, fonts
from thumbnailer.key_store import KeyStore
from thumbnailer.keys import KeyTerms
from thumbnailer.model import Deadline

SNAPSHARP_KEY = "sk_live_of_the_tests"
SIGNING_KEY = "00112233445566778899aabbccddeeff" * 2
WEBHOOK_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    return fresh_settings(tmp_path, upstream.url)


# --- The guard --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opened", "profile", "state"),
    [
        pytest.param("", "production", "ok", id="nothing"),
        pytest.param("10.1.2.3:8080", "production", "warning", id="something, in production"),
        pytest.param("10.1.2.3:8080", "testing", "ok", id="something, in tests"),
        pytest.param("169.254.0.0/16", "testing", "failed", id="the metadata of clouds"),
        pytest.param("127.0.0.1:80", "testing", "warning", id="loopback, in tests"),
        pytest.param("127.0.0.0/8", "production", "failed", id="loopback, in production"),
    ],
)
def test_what_the_guard_lets_pass_is_told(
    fresh: dict[str, str], opened: str, profile: str, state: str
) -> None:
    report = examine(fresh | {"ALLOWED_PRIVATE_TARGETS": opened}, "guard", profile=profile)
    assert report.of("guard", "targets")[0] == state


# --- Providers --------------------------------------------------------------------------------


def snapsharp(fresh: dict[str, str], url: str, key: str = SNAPSHARP_KEY) -> dict[str, str]:
    return fresh | {"PROVIDERS": "snapsharp", "SNAPSHARP_API_KEY": key, "SNAPSHARP_API_BASE": url}


@pytest.mark.parametrize(
    ("key", "state"), [(SNAPSHARP_KEY, "ok"), ("sk_test_wrong_key", "failed")], ids=["right", "wrong"]
)
def test_a_key_is_tried_without_a_capture(
    fresh: dict[str, str], upstream: Upstream, key: str, state: str
) -> None:
    report = examine(snapsharp(fresh, upstream.url, key), "providers")
    assert report.of("providers", "snapsharp")[0] == state
    assert [(one.method, one.target) for one in upstream.requests] == [("GET", "/v1/usage")]
    assert upstream.requests[0].header("Authorization") == f"Bearer {key}"
    assert key not in report.text


def test_a_vendor_that_quotes_the_key_does_not_tell_it(fresh: dict[str, str], upstream: Upstream) -> None:
    upstream.behave(json_error(401, {"message": f"{SNAPSHARP_KEY} is wrong"}))
    report = examine(snapsharp(fresh, upstream.url), "providers")
    assert (report.code, report.of("providers", "snapsharp")[0]) == (1, "failed")
    assert "SNAPSHARP_API_KEY" in report.of("providers", "snapsharp")[1]
    assert SNAPSHARP_KEY not in report.text


@pytest.mark.parametrize(
    ("answer", "state", "found"),
    [
        pytest.param(json_error(503, {}), "warning", "answers 503", id="out of order"),
        pytest.param(json_error(403, {}), "failed", "refuses the key: 403", id="a plan that is over"),
        pytest.param(json_error(404, {}), "ok", "says nothing of the key", id="no such route"),
        pytest.param(answers.reset(), "failed", "cannot be reached", id="reset"),
        pytest.param(answers.silence(), "failed", "no answer in time", id="silence"),
        pytest.param(answers.endless(), "ok", "takes the key", id="an endless answer"),
    ],
)
def test_what_a_vendor_answers_is_told(
    fresh: dict[str, str], upstream: Upstream, answer: answers.Answer, state: str, found: str
) -> None:
    upstream.behave(answer)
    told = examine(snapsharp(fresh, upstream.url), "providers", timeout=2).of("providers", "snapsharp")
    assert told[0] == state
    assert found in told[1]


def test_a_vendor_that_cannot_try_keys_gets_none(fresh: dict[str, str], upstream: Upstream) -> None:
    report = examine(fresh | snapapi_environment(upstream.url), "providers")
    state, told = report.of("providers", "snapapi")
    assert (state, "no way to try a key" in told) == ("ok", True)
    assert [one.target for one in upstream.requests] == ["/"]
    assert "sk-test-secret" not in upstream.requests[0].head.decode()


def test_the_browser_photographs_a_page_of_our_own(fresh: dict[str, str]) -> None:
    report = examine(fresh | {"PROVIDERS": "chromium"}, "providers", timeout=60)
    assert report.of("providers", "chromium: picture") == (
        "ok",
        "a page of our own was photographed: 320 x 240 pixels ",
    )
    assert "Chrom" in report.of("providers", "chromium: program")[1]
    assert report.of("providers", "chromium: driver")[0] == "ok"
    assert report.of("providers", "chromium: sandbox")[0] == "ok"
    assert report.of("providers", "chromium: fonts")[0] == "ok"
    wait_until(lambda: not descendants(), what="the end of the browser")


def script(path: Path, text_of: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text_of}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param("exit 3", "exitCode=3", id="ends at once"),
        pytest.param(
            "echo 'No usable sandbox! See the page.' >&2; exit 1", "user namespaces", id="no sandbox"
        ),
        pytest.param(
            "echo 'x: error while loading shared libraries: libnss3.so' >&2; exit 127",
            "libnss3.so",
            id="no library",
        ),
    ],
)
def test_a_browser_that_does_not_start_is_told(fresh: dict[str, str], lines: str, found: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # as root's, the browser is another user
        program = script(Path(folder, "chromium"), lines)
        browser = {"PROVIDERS": "chromium", "CHROMIUM_PATH": str(program), "CHROMIUM_SANDBOX": "false"}
        report = examine(fresh | browser, "providers", timeout=60)
    assert report.code == 1
    assert report.of("providers", "chromium: program")[0] == "failed"
    state, told = report.of("providers", "chromium: picture")
    assert state == "failed"
    assert found in told
    assert report.of("providers", "chromium: sandbox")[0] == "warning"


def test_a_browser_that_hangs_is_told(tmp_path: Path) -> None:
    program = script(tmp_path / "hangs", "exec sleep 60")
    verdict = browsers.is_there(Deadline.after(0.3), program=program)
    assert (verdict.state, "does not say its version in time" in verdict.found) == (State.FAILED, True)


def test_a_machine_without_a_browser_is_told() -> None:
    verdict = browsers.is_there(Deadline.after(1), program=None)
    assert (verdict.state, "install-chromium" in verdict.advice) == (State.FAILED, True)


def test_a_driver_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "echo 'node: error while loading shared libraries: libatomic.so.1: no such file' >&2; exit 127"
    monkeypatch.setenv("PLAYWRIGHT_NODEJS_PATH", str(script(tmp_path / "node", says)))
    verdict = browsers.driver_is_there(Deadline.after(20))
    assert verdict.state is State.FAILED
    assert "Playwright's driver does not start" in verdict.found
    assert "libatomic.so.1" in verdict.found
    assert "install-chromium" in verdict.advice


def test_fonts_that_are_missing_are_told_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_latin = "/usr/share/fonts/truetype/liberation"
    configuration = f"<fontconfig><dir>{only_latin}</dir><cachedir>{tmp_path}</cachedir></fontconfig>"
    (tmp_path / "fonts.conf").write_text(configuration)
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    verdict = fonts.are_there(Deadline.after(10))
    assert verdict.found == "no font has Arabic, Devanagari, Chinese, Japanese, Korean, emoji"
    packages = "fonts-noto-core fonts-noto-cjk fonts-noto-color-emoji"
    assert verdict.advice == f"Install {packages}, and restart the service."


def test_a_machine_that_cannot_tell_its_fonts_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "LIBRARY", "libnothing.so.1")
    assert fonts.are_there(Deadline.after(10)).state is State.WARNING


# --- Who may come in --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "profile", "state"),
    [
        pytest.param({}, "production", "failed", id="production, and nothing said"),
        pytest.param({"ALLOW_ANONYMOUS": "true"}, "production", "warning", id="production, open"),
        pytest.param({"PUBLIC_TARGETS": "example.com"}, "production", "ok", id="production, one site"),
        pytest.param({"SIGNING_KEYS": f"k1:{SIGNING_KEY}"}, "production", "ok", id="production, signed"),
        pytest.param({}, "development", "ok", id="development"),
    ],
)
def test_who_may_come_in_is_told(
    fresh: dict[str, str], settings: dict[str, str], profile: str, state: str
) -> None:
    report = examine(fresh | settings, "access", profile=profile)
    assert report.of("access", "API keys")[0] == state
    assert report.code == (1 if state == "failed" else 0)


def test_keys_are_counted_and_not_told(fresh: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    with made_database(fresh["DATABASE_URL"]) as database:
        _, token = KeyStore(database).create("shop", KeyTerms())
        report = examine(fresh, "access", profile="production")
        assert report.of("access", "API keys") == ("ok", "1 of 1 API keys is live ")
        KeyStore(database).revoke("shop")
    state, told = examine(fresh, "access", profile="production").of("access", "API keys")
    assert (state, "nobody can come in" in told) == ("warning", True)
    assert token not in report.text


def test_secrets_are_counted_and_not_told(fresh: dict[str, str]) -> None:
    secret = {"SIGNING_KEYS": f"new:{SIGNING_KEY},old:{SIGNING_KEY[::-1]}", "WEBHOOK_SECRET": WEBHOOK_SECRET}
    report = examine(fresh | secret, "access")
    assert report.of("access", "signing keys")[1].startswith("2 keys of 256 bits and more; new signs")
    assert report.of("access", "webhooks")[1].startswith("1 secret")
    for text_of in (SIGNING_KEY, SIGNING_KEY[::-1], WEBHOOK_SECRET):
        assert text_of not in report.text


def test_a_weak_signing_key_is_a_fault_that_does_not_quote_it(fresh: dict[str, str]) -> None:
    report = examine(
        fresh | {"SIGNING_KEYS": f"k1:{'ab' * 32}", "WEBHOOK_SECRET": "whsec_short"}, "configuration"
    )
    assert "not random" in report.of("configuration", "SIGNING_KEYS")[1]
    assert "base64" in report.of("configuration", "WEBHOOK_SECRET")[1]
    assert "abab" not in report.text
    assert "whsec_short" not in report.text


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        pytest.param({"TRUSTED_PROXIES": "0.0.0.0/0"}, "failed", id="everybody"),
        pytest.param({"TRUSTED_PROXIES": "10.0.0.5,128.0.0.0/1"}, "failed", id="half of everybody"),
        pytest.param({"TRUSTED_PROXIES": "10.0.0.5"}, "ok", id="one"),
        pytest.param({"PUBLIC_BASE_URL": "https://127.0.0.1:9"}, "warning", id="a proxy that nobody trusts"),
        pytest.param({}, "ok", id="none"),
    ],
)
def test_who_is_trusted_is_judged(fresh: dict[str, str], settings: dict[str, str], state: str) -> None:
    assert examine(fresh | settings, "access").of("access", "proxies")[0] == state


def test_a_whole_report_on_what_is_broken_holds_no_secret(fresh: dict[str, str]) -> None:
    port = free_port()
    secret = {
        "REDIS_URL": f"redis://me:{IN_URL}-cache@127.0.0.1:{port}/0",
        "LIMITER_REDIS_URL": f"redis://me:{IN_URL}-limiter@127.0.0.1:{port}/1",
        "DATABASE_URL": f"postgresql://me:{IN_URL}-database@127.0.0.1:{port}/pictures",
        "SNAPSHARP_API_KEY": SNAPSHARP_KEY,
        "SNAPAPI_KEY": "sk-of-snapapi",
        "HERMESFORGE_API_KEY": "key-of-hermesforge",
        "S3_ACCESS_KEY_ID": "AKIDOFTHETESTS",
        "S3_SECRET_ACCESS_KEY": "secret-of-the-tests",
        "SIGNING_KEYS": f"k1:{SIGNING_KEY}",
        "WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    assert secret.keys() >= {one.name for one in documented_settings() if one.secret} - {"SCREENSHOT_API_KEY"}
    nowhere = f"http://127.0.0.1:{port}"
    places = (
        "SNAPSHARP_API_BASE",
        "SNAPAPI_BASE",
        "HERMESFORGE_API_BASE",
        "S3_ENDPOINT_URL",
        "PUBLIC_BASE_URL",
    )
    names = {"PROVIDERS": "snapsharp,snapapi,hermesforge", "S3_BUCKET": "pictures"}
    environ = fresh | secret | names | dict.fromkeys(places, nowhere)
    report, printed = examine(environ), run_flask(environ, "doctor")
    assert (report.code, printed.exit_code, "failed" in states(report)) == (1, 1, True)
    told = f"{report.text} {printed.output}".lower()
    hidden = [
        IN_URL,
        PASSWORD,
        *(value.split(":")[-1] for name, value in secret.items() if "URL" not in name),
    ]
    assert [text for text in hidden if text.lower() in told] == []


# --- The running service ----------------------------------------------------------------------


def test_a_service_that_runs_is_asked(fresh: dict[str, str], tmp_path: Path) -> None:
    own = {name: value for name, value in fresh.items() if name != "PORT"}
    with running_service(tmp_path, own) as service:
        port = service.url.rpartition(":")[2]
        environ = fresh | {"PORT": port, "PUBLIC_BASE_URL": service.url}
        report = examine(environ, "service")
    assert states(report) == {"ok"}
    assert report.of("service", "ready")[1].startswith(f"the service at {service.url} is ready")


@pytest.mark.parametrize(("status", "code"), [("degraded", 0), ("down", 1)], ids=["degraded", "down"])
def test_what_the_service_says_of_itself_is_told(
    fresh: dict[str, str], upstream: Upstream, status: str, code: int
) -> None:
    def ready(_received: Received) -> answers.Answer:
        parts = {"cache": "down", "storage": "ok"}
        providers = [{"name": "snapsharp", "breaker": "open"}]
        body = json.dumps({"status": status, "parts": parts, "providers": providers}).encode()
        return content(body, "application/json", status=503 if status == "down" else 200)

    upstream.behave(ready)
    environ = fresh | {"PORT": upstream.url.rpartition(":")[2], "HOST": "0.0.0.0"}
    report = examine(environ, "service")
    assert report.code == code
    assert f"is {status}: cache, snapsharp (breaker open)" in report.of("service", "ready")[1]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(json_error(404, {}), 404, id="nothing there"),
        pytest.param(json_error(200, {"status": "UP"}), 200, id="the health of another"),
    ],
)
def test_another_service_at_the_public_address_is_told(
    fresh: dict[str, str], upstream: Upstream, answer: answers.Answer, status: int
) -> None:
    upstream.behave(answer)
    environ = fresh | {"PUBLIC_BASE_URL": f"{upstream.url}/thumbs"}
    state, told = examine(environ, "service").of("service", "public address")
    assert state == "warning"
    assert f"{upstream.url}/thumbs/health answers {status}" in told
