"""API keys of a file, beside those of the database."""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path

import pytest

from settings.values import database_url_of
from tests.support.clocks import NOON
from tests.support.keys import Ticks
from thumbnailer.database import Database
from thumbnailer.key_file import read_key_file
from thumbnailer.key_store import KeyStore
from thumbnailer.keyring import Keyring
from thumbnailer.keys import KeyTerms, digest_of, id_of, new_id, new_token
from thumbnailer.plans import Plan
from thumbnailer.schema import upgrade


def entry(token: str, name: str = "shop", more: str = "") -> str:
    return f'[[keys]]\nid = "{id_of(token)}"\nname = "{name}"\ndigest = "{digest_of(token)}"\n{more}\n'


def test_keys_of_a_file_count_beside_those_of_the_database(store: KeyStore, tmp_path: Path) -> None:
    path, ticks = tmp_path / "keys.toml", Ticks()
    token, other = new_token(new_id()), new_token(new_id())
    path.write_text(entry(token))
    keyring = Keyring(store, path, clock=ticks)
    _, stored = store.create("stored", KeyTerms())
    assert [bool(keyring.find(one, NOON)) for one in (token, stored, other)] == [True, True, False]
    (tmp_path / "new").write_text(entry(other))
    (tmp_path / "new").rename(path)
    ticks.now += 3
    assert [bool(keyring.find(one, NOON)) for one in (token, stored, other)] == [False, True, True]


def test_a_key_of_the_file_goes_before_one_of_the_same_id(store: KeyStore, tmp_path: Path) -> None:
    key, stored = store.create("stored", KeyTerms())
    filed = new_token(key.id)
    (tmp_path / "keys.toml").write_text(entry(filed, name="filed"))
    keyring = Keyring(store, tmp_path / "keys.toml", clock=Ticks())
    assert [bool(keyring.find(one, NOON)) for one in (filed, stored)] == [True, False]
    assert keyring.name_of(key.id) == "filed"


def test_a_file_whose_last_key_is_taken_out_opens_nothing(store: KeyStore, tmp_path: Path) -> None:
    path, ticks = tmp_path / "keys.toml", Ticks()
    token = new_token(new_id())
    path.write_text(entry(token))
    keyring = Keyring(store, path, clock=ticks)
    assert keyring.find(token, NOON)
    path.write_text("")
    ticks.now += 3
    assert keyring.find(token, NOON) is None
    assert not keyring.is_empty()
    path.write_text("[[keys]\n")
    assert not Keyring(store, path).is_empty(), "nor does one that a new process cannot read"


def test_a_plan_that_is_gone_is_complained_of_once(store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    ticks = Ticks()
    keyring = Keyring(store, clock=ticks, plans={"pro": Plan(daily_captures=7)})
    keys = [store.create(plan, KeyTerms(plan=plan))[0] for plan in ("pro", "gone", "lost")]
    for _ in range(3):
        assert [keyring.daily_captures(key.id) for key in keys] == [7, None, None]
        ticks.now += 3
    said = [record.getMessage() for record in caplog.records if record.name == "thumbnailer.keyring"]
    assert said == ["PLANS has no plan gone, lost; its keys have the usual limits."]


def test_a_file_that_becomes_faulty_leaves_its_keys_as_they_were_and_is_complained_of_once(
    store: KeyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, ticks = tmp_path / "keys.toml", Ticks()
    token = new_token(new_id())
    path.write_text(entry(token))
    keyring = Keyring(store, path, clock=ticks)
    assert keyring.find(token, NOON)
    path.write_text("[[keys]\n")
    for _ in range(3):
        ticks.now += 3
        assert keyring.find(token, NOON)
    assert len([record for record in caplog.records if record.name == "thumbnailer.keyring"]) == 1
    path.unlink()
    ticks.now += 3
    assert keyring.find(token, NOON)


def test_the_file_alone_needs_no_database(tmp_path: Path) -> None:
    token = new_token(new_id())
    (tmp_path / "keys.toml").write_text(entry(token))
    with closing(Database(database_url_of("postgresql://u@127.0.0.1:1/x"), upgrade=upgrade)) as database:
        keyring = Keyring(KeyStore(database), tmp_path / "keys.toml")
        assert keyring.find(token, NOON)
        assert not keyring.is_empty()


GOOD = entry("tn_abcdefghijkm_" + "A" * 43)


@pytest.mark.parametrize(
    "written", ["2027-01-01T00:00:00", "2027-01-01T00:00:00Z", "2027-01-01T09:00:00+09:00"], ids=str
)
def test_a_time_without_a_zone_is_utc_wherever_the_machine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    (tmp_path / "keys.toml").write_text(f"{GOOD}expires = {written}")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        (key,) = read_key_file(tmp_path / "keys.toml")
    time.tzset()
    assert key.terms.expires_at == 1_798_761_600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[keys]", "is no TOML"),
        ("# für alle", "cannot be read as UTF-8 text"),
        ("a = 1", r"must hold \[\[keys\]\] tables"),
        ("keys = 1", r"must hold \[\[keys\]\] tables"),
        ("keys = [1]", "key 1: must be a table"),
        (GOOD + GOOD, "two keys the same id"),
        (GOOD.replace("abcdefghijkm", "SHORT"), "key 1: id is not as"),
        (GOOD.replace('"shop"', "7"), "key 1: name must be a text"),
        (re.sub(r'digest = "\w', 'digest = "Z', GOOD), "key 1: digest is not as"),
        (GOOD + 'scope = ["render"]', "key 1: scope is no member"),
        (GOOD + 'scopes = ["rendr"]', "key 1: scopes: must be of render, persist"),
        (GOOD + 'scopes = "render"', "key 1: scopes must be a list"),
        (GOOD + 'expires = "soon"', "key 1: expires must be a time"),
        (GOOD + 'plan = "Pro"', "key 1: plan must be a name"),
        (GOOD + "daily_captures = -1", "key 1: daily_captures must be"),
        (GOOD + "daily_captures = true", "key 1: daily_captures must be"),
        (GOOD + "targets = []", "key 1: targets names no host"),
        (GOOD + 'targets = ["a b"]', "key 1: targets: 'a b' is no host"),
        (GOOD + 'limits = { thumb = "plenty" }', "key 1: the limit of thumb"),
        (GOOD + 'limits = { thumbs = "1 per day" }', "key 1: 'thumbs' has no limit"),
        (GOOD + "limits = { thumb = 5 }", "key 1: limits must be"),
    ],
    ids=lambda value: value[:30] if value.startswith("key") else "",
)
def test_a_fault_of_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message) as raised:
        read_key_file(path)
    assert digest_of("tn_abcdefghijkm_" + "A" * 43)[1:] not in str(raised.value)
