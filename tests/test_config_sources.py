"""Settings: where their text comes from, what never shows, and that all are documented."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from config import ConfigurationError, documented_settings, load_settings, read_settings
from settings.reading import Setting
from settings.values import PROJECT_FOLDER
from tests.support.doctor import as_an_ordinary_user
from tests.support.jobs import SECRET as WEBHOOK_SECRET
from tests.support.settings import faults_of, load

SECRET = "sk-live-never-to-be-seen"
SETTINGS = {declared.name: declared for declared in documented_settings()}
SECRETS = [declared for declared in documented_settings() if declared.secret]

# --- .env -------------------------------------------------------------------------------------


def test_the_environment_goes_before_the_env_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text('PORT=1001\nWEB_THREADS=9\nLOG_LEVEL="debug" # why\nWEB_CONCURRENCY=7\n')
    settings = load_settings("testing", {"PORT": "1002", "WEB_CONCURRENCY": ""}, dotenv)
    assert (settings.server.port, settings.server.threads, settings.logs.level) == (1002, 9, "debug")
    assert settings.server.workers == 2, "an empty variable brings back the default"


def test_a_missing_env_file_is_no_fault_and_none_of_another_project_stands_in(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1001\n")
    (tmp_path / "project").mkdir()
    assert load_settings("testing", {}, tmp_path / "project" / ".env").server.port == 8000


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda path: path.mkdir(), "is no file of settings", id="a folder"),
        pytest.param(
            lambda path: path.write_bytes(b"PORT=1\nLOG_LEVEL=\xff\n"),
            "cannot be read as UTF-8 text: see line 2",
            id="Latin-1",
        ),
        pytest.param(
            lambda path: path.write_text("PORT=1", encoding="utf-16"),
            "cannot be read as UTF-8 text: see line 1",
            id="UTF-16",
        ),
    ],
)
def test_an_unreadable_env_file_is_a_fault_that_says_where(make: Any, problem: str, tmp_path: Path) -> None:
    make(tmp_path / ".env")
    with pytest.raises(ConfigurationError, match=problem) as raised:
        load_settings("testing", {}, tmp_path / ".env")
    assert str(raised.value).endswith("(docs/configuration.md)")


def test_an_env_file_of_another_user_is_a_fault(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("PORT=1")
    dotenv.chmod(0)
    with as_an_ordinary_user(), pytest.raises(ConfigurationError, match="cannot be read: permission denied"):
        load_settings("testing", {}, dotenv)


# --- secrets ----------------------------------------------------------------------------------


def secret_value(declared: Setting) -> str:
    if declared.name == "WEBHOOK_SECRET":
        return f"whsec_{base64.b64encode(SECRET.encode() * 2).decode()}"
    if declared.name == "DATABASE_URL":
        return f"postgresql+psycopg://user:{SECRET}@host/name"
    if declared.name == "SIGNING_KEYS":
        return f"k1:{(SECRET * 2).encode().hex()}"
    return f"redis://:{SECRET}@host:6379/0" if "REDIS" in declared.name else SECRET


def environ_with(name: str, value: str) -> dict[str, str]:
    """An environment in which every secret may stand alone."""
    environ = {"PROVIDERS": "hermesforge", "S3_BUCKET": "bucket", name: value}
    pair = {"S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": "key"}
    return pair | environ if name in pair else environ


def everything_in(settings: object) -> list[object]:
    """All values in a tree of dataclasses, those that are dataclasses themselves too."""
    if isinstance(settings, tuple):
        return [settings] + [leaf for part in settings for leaf in everything_in(part)]
    if not dataclasses.is_dataclass(settings):
        return [settings]
    return [settings] + [
        leaf for part in dataclasses.fields(settings) for leaf in everything_in(getattr(settings, part.name))
    ]


@pytest.mark.parametrize("declared", SECRETS, ids=lambda declared: declared.name)
def test_no_secret_shows_in_settings_or_their_warnings(declared: Setting) -> None:
    settings = load(environ_with(declared.name, secret_value(declared)))
    assert declared.parse(secret_value(declared)) in everything_in(settings)
    assert SECRET not in repr(settings)
    assert SECRET not in repr(settings.providers.upstream("hermesforge"))


@pytest.mark.parametrize("declared", SECRETS, ids=lambda declared: declared.name)
def test_a_secret_may_come_from_a_file(declared: Setting, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(secret_value(declared) + "\r\n")
    environ = environ_with(declared.name, "")
    if declared.name.startswith("S3_"):
        environ |= {"S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": "key"} | {declared.name: ""}
    settings = load(environ | {declared.file_name: str(file)})
    assert declared.parse(secret_value(declared)) in everything_in(settings)


@pytest.mark.parametrize("declared", SECRETS, ids=lambda declared: declared.name)
def test_a_faulty_secret_is_named_but_not_shown(declared: Setting) -> None:
    assert SECRET not in faults_of({declared.name: f"http://{SECRET} \x07"})[declared.name]


@pytest.mark.parametrize("declared", SECRETS, ids=lambda declared: declared.name)
def test_a_secret_given_twice_is_a_fault(declared: Setting, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("other")
    environ = {declared.name: secret_value(declared), declared.file_name: str(tmp_path / "secret")}
    fault = faults_of(environ)[declared.name]
    assert "more than once" in fault
    assert SECRET not in fault


@pytest.mark.parametrize(
    "content", [None, "", "\n", b"\xff\xfe"], ids=["missing", "empty", "blank", "binary"]
)
def test_a_secret_file_that_holds_nothing_readable_is_a_fault(
    content: str | bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "SNAPAPI_KEY" in faults_of({"SNAPAPI_KEY_FILE": str(file)})


# --- warnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "warning"),
    [
        ({"LIMIT_TUMB": SECRET}, "LIMIT_TUMB is no setting of this service. Did you mean LIMIT_THUMB?"),
        ({"S3_BUKET": SECRET}, "S3_BUKET is no setting of this service. Did you mean S3_BUCKET?"),
        ({"REDIS_URI": SECRET}, "REDIS_URI is no setting of this service. Did you mean REDIS_URL?"),
        ({"CACHE_COLOUR_OF_IT": SECRET}, "CACHE_COLOUR_OF_IT is no setting of this service."),
        ({"S3_REGION": "eu"}, "S3_REGION has no effect, because S3_BUCKET is not set."),
        (
            {"PROVIDERS": "chromium", "SNAPAPI_KEY": SECRET},
            "SNAPAPI_KEY has no effect, because PROVIDERS does not name its provider.",
        ),
        (
            {"PROVIDERS": "chromium", "SCREENSHOT_API_KEY": SECRET},
            "SCREENSHOT_API_KEY has no effect, because PROVIDERS does not name its provider.",
        ),
        (
            {"WEBHOOK_RETRIES": "60,3600", "JOB_RETENTION": "3660", "WEBHOOK_SECRET": WEBHOOK_SECRET},
            "WEBHOOK_RETRIES lasts longer than JOB_RETENTION: late messages tell of jobs that are gone.",
        ),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_what_is_probably_not_meant_is_a_warning_without_its_value(
    environ: dict[str, str], warning: str
) -> None:
    settings = load(environ)
    assert warning in settings.warnings
    assert SECRET not in repr(settings)


def test_a_setting_with_a_fault_is_not_called_one_that_is_not_set() -> None:
    environ = {"S3_BUCKET": "no bucket", "S3_REGION": "eu", "LIMIT_TUMB": "x"}
    reading = read_settings("testing", environ, dotenv=PROJECT_FOLDER / "no such file")
    assert [fault.name for fault in reading.faults] == ["S3_BUCKET"]
    assert [doubt.split()[0] for doubt in reading.settings.warnings] == ["LIMIT_TUMB"]


def test_an_unknown_name_in_the_env_file_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SOMETHING_ELSE=1\n")
    settings = load_settings("testing", {}, tmp_path / ".env")
    assert any(warning.startswith("SOMETHING_ELSE is no setting") for warning in settings.warnings)


def test_what_the_aws_sdk_will_not_see_is_a_warning(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("AWS_PROFILE=shop\nAWS_ROLE_ARN=x\n")
    told = load_settings("testing", {"AWS_PROFILE": "shop"}, dotenv).warnings
    assert told == ("AWS_ROLE_ARN has no effect in .env: the AWS SDK reads the environment alone.",)


def test_what_kubernetes_tells_of_other_services_is_no_setting_and_no_warning() -> None:
    address = "tcp://10.0.0.7:6379"
    environ = {
        "CACHE_SERVICE_HOST": "10.0.0.7",
        "CACHE_SERVICE_PORT": "6379",
        "CACHE_SERVICE_PORT_REDIS": "6379",
        "CACHE_PORT": address,
        "CACHE_PORT_6379_TCP": address,
        "CACHE_PORT_6379_TCP_PROTO": "tcp",
        "CACHE_PORT_6379_TCP_PORT": "6379",
        "CACHE_PORT_6379_TCP_ADDR": "10.0.0.7",
    }
    assert load(environ).warnings == ()
    assert [warning.split()[0] for warning in load({"CACHE_PORT": address}).warnings] == ["CACHE_PORT"]
    assert [warning.split()[0] for warning in load(environ | {"CACHE_TLT": "60"}).warnings] == ["CACHE_TLT"]


def test_other_programs_variables_are_nobodys_business() -> None:
    foreign = {
        "AWS_CA_BUNDLE": "x",
        "CACHE_DIRECTORY": "/var/cache/thumbnailer",
        "PATH": "/bin",
        "HOME": "/root",
        "HOSTNAME": "web",
        "LANG": "C",
        "PIP_CERT": "x",
        "TZ": "UTC",
    }
    assert len(load(foreign).warnings) == len(load().warnings)


# --- documentation ----------------------------------------------------------------------------

ROW = re.compile(r'\| <a id="(\w+)"></a>`(\w+)`( 🔒)? \| (.*?) \| (.*) \|')


def documented_default(declared: Setting) -> str:
    words = f"`{declared.default}`" if declared.default else declared.computed or "-"
    for profile, default in sorted(declared.profile_defaults.items()):
        words += f"; {profile}: " + (f"`{default}`" if default else "-")
    return words


def test_the_documentation_has_every_setting_with_its_default_and_no_other() -> None:
    text = (PROJECT_FOLDER / "docs/configuration.md").read_text(encoding="utf-8")
    rows = {name: (anchor, bool(lock), default) for anchor, name, lock, default, _ in ROW.findall(text)}
    assert rows == {
        name: (name.lower(), declared.secret, documented_default(declared))
        for name, declared in SETTINGS.items()
    }


def test_the_documentation_explains_each_setting_in_the_words_of_its_declaration() -> None:
    text = (PROJECT_FOLDER / "docs/configuration.md").read_text(encoding="utf-8")
    meanings = {name: meaning for _, name, _, _, meaning in ROW.findall(text)}
    for name, declared in SETTINGS.items():
        assert meanings[name].startswith(declared.explanation), name


def test_the_example_file_has_every_setting_with_its_default_and_no_other() -> None:
    text = (PROJECT_FOLDER / ".env.example").read_text(encoding="utf-8")
    written = {name: value.strip('"') for name, value in re.findall(r"(?m)^#(\w+)=(.*)$", text)}
    assert written == {name: declared.default or "" for name, declared in SETTINGS.items()}


def test_the_example_file_explains_each_setting_in_the_words_of_its_declaration() -> None:
    text = (PROJECT_FOLDER / ".env.example").read_text(encoding="utf-8")
    comments = {name: comment for comment, name in re.findall(r"(?m)^# (.+)\n#(\w+)=", text)}
    assert comments == {
        name: declared.explanation + (f" (secret; or {declared.file_name})" if declared.secret else "")
        for name, declared in SETTINGS.items()
    }


def test_the_example_file_can_be_used_as_it_is(tmp_path: Path) -> None:
    example = (PROJECT_FOLDER / ".env.example").read_text(encoding="utf-8")
    everything_set = tmp_path / ".env"
    everything_set.write_text(re.sub(r"(?m)^#(?=\w+=)", "", example), encoding="utf-8")
    settings = load_settings("development", {}, everything_set)
    assert settings.pictures == load().pictures
    assert settings.limits == load().limits
