"""Signed URLs: one text for one URL, good for nobody else's and for no other."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import FrozenInstanceError
from urllib.parse import quote, quote_plus, urlsplit

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.support.interpreters import interpreter
from tests.support.vectors import KEYS, VECTORS, Vector
from thumbnailer.errors import (
    InvalidParameters,
    SignatureExpired,
    SignatureInvalid,
    SignatureRequired,
    ThumbnailerError,
)
from thumbnailer.signing import (
    MAX_EXP,
    MAX_KEYS,
    Parameter,
    Signed,
    SigningKey,
    UrlSigner,
    canonical_string,
    parse_signing_keys,
    read_parameters,
)

NOW = 1_764_000_000.0
TARGET = ("url", "https://example.com/?q=a+b")
K1, K2 = KEYS["k1"], KEYS["k2"]
SIGNER = UrlSigner(parse_signing_keys(f"k2:{K2},k1:{K1}"))
BOUNDED = UrlSigner(parse_signing_keys(f"k2:{K2}"), longest_life_seconds=3600)


def received(url: str) -> tuple[str, tuple[Parameter, ...]]:
    """Path and parameters of a URL, as a server has them."""
    parts = urlsplit(url)
    return parts.path, read_parameters(parts.query.encode())


def verified(url: str, *, now: float = NOW, signer: UrlSigner = SIGNER) -> Signed:
    return signer.verify(*received(url), now)


# --- vectors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_each_vector_is_signed_as_published(vector: Vector) -> None:
    text = canonical_string(vector.path, vector.signed_parameters)
    assert text == vector.string_to_sign
    assert SigningKey(vector.kid, bytes.fromhex(KEYS[vector.kid])).signature(text) == vector.sig
    signer = UrlSigner(parse_signing_keys(f"{vector.kid}:{KEYS[vector.kid]}"))
    before = 1_700_000_000.0
    parameters = [(name, value) for name, value in vector.parameters]
    assert vector.base + str(signer.sign(vector.path, parameters, now=before, exp=vector.exp)) == vector.url
    query = urlsplit(vector.url).query.encode()
    assert signer.verify(vector.path, read_parameters(query), before) == Signed(vector.kid, vector.exp)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_openssl_makes_the_same_signature(vector: Vector) -> None:
    command = [
        "openssl",
        "dgst",
        "-sha256",
        "-mac",
        "HMAC",
        "-macopt",
        f"hexkey:{KEYS[vector.kid]}",
        "-binary",
    ]
    digest = subprocess.run(
        command, input=vector.string_to_sign.encode(), capture_output=True, check=True, timeout=30
    ).stdout
    assert base64.urlsafe_b64encode(digest).decode() == vector.sig + "="


def test_the_traps_are_among_the_vectors() -> None:
    texts = "".join(vector.string_to_sign for vector in VECTORS)
    for trap in (
        "%2B",
        "%25",
        "%C3%BC",
        "%26",
        "%2F%2F",
        "%F0%9F",
        "%20",
        "~",
        "%2A",
        "%27",
        "%28",
        "wait_for=\n",
    ):
        assert trap.strip() in texts, trap
    assert {vector.kid for vector in VECTORS} == set(KEYS)
    assert any(vector.exp for vector in VECTORS)


# --- what is one URL, and what is another ------------------------------------------------------


SIGNED = SIGNER.sign("/thumb", [TARGET, ("thumb_width", "400"), ("selector", "#é ~*")], now=NOW)
QUERY = f"{SIGNED.query}&sig={SIGNED.sig}"


def respelt(old: str, new: str) -> str:
    assert old in QUERY
    return QUERY.replace(old, new)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(QUERY, id="as it was signed"),
        pytest.param("&".join(reversed(QUERY.split("&"))), id="in another order"),
        pytest.param(respelt("%20", "+"), id="a plus for a space"),
        pytest.param(respelt("%C3%A9", "%c3%a9"), id="escapes in small letters"),
        pytest.param(respelt("%C3%A9", "é"), id="raw UTF-8"),
        pytest.param(respelt("~", "%7E"), id="an escape that was not needed"),
        pytest.param(respelt("%2A", "*"), id="a character left bare"),
        pytest.param(respelt("%3A%2F%2F", "://"), id="bare colon and slashes in the target"),
        pytest.param(respelt("thumb_width", "thumb%5Fwidth"), id="an escape in a name"),
        pytest.param(QUERY.replace("&", "&&") + "&", id="empty places between ampersands"),
    ],
)
def test_spellings_that_every_form_decoder_reads_alike_are_one_url(query: str) -> None:
    assert SIGNER.verify("/thumb", read_parameters(query.encode()), NOW).kid == "k2"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        pytest.param("/screenshot", QUERY, id="another path"),
        pytest.param("/thumb/", QUERY, id="a slash more"),
        pytest.param("//thumb", QUERY, id="a slash doubled"),
        pytest.param("/THUMB", QUERY, id="a path in capitals"),
        pytest.param("/service/thumb", QUERY, id="a prefix"),
        pytest.param("/thumb", respelt("thumb_width=400", "thumb_width=401"), id="a changed value"),
        pytest.param("/thumb", respelt("thumb_width=400&", ""), id="a missing parameter"),
        pytest.param("/thumb", f"{QUERY}&delay=0", id="an added parameter"),
        pytest.param("/thumb", f"{QUERY}&delay", id="an added parameter without a value"),
        pytest.param("/thumb", f"{QUERY}&thumb_width=400", id="a repeated parameter"),
        pytest.param("/thumb", f"{QUERY}&exp=4102444800", id="an added end"),
        pytest.param("/thumb", respelt("kid=k2&", ""), id="a missing kid"),
        pytest.param("/thumb", respelt("kid=k2", "kid=k1"), id="another key's id"),
        pytest.param("/thumb", respelt("kid=k2", "kid=k3"), id="an unknown key's id"),
        pytest.param("/thumb", respelt("kid=k2", "kid="), id="an empty key id"),
        pytest.param("/thumb", respelt("kid=k2", "kid=k2&kid=k2"), id="a key id twice"),
        pytest.param("/thumb", respelt("thumb_width", "Thumb_width"), id="a name in capitals"),
        pytest.param("/thumb", respelt("%2B", "%252B"), id="encoded twice"),
        pytest.param("/thumb", respelt("%2B", "+"), id="a plus that was escaped"),
        pytest.param("/thumb", respelt("%C3%A9", "e%CC%81"), id="the same letter composed otherwise"),
        pytest.param("/thumb", respelt("%C3%A9", "%E9"), id="Latin-1"),
        pytest.param("/thumb", f"{QUERY}=", id="a padded signature"),
        pytest.param("/thumb", f"{QUERY}&sig={SIGNED.sig}", id="a signature twice"),
        pytest.param("/thumb", QUERY[:-1], id="a signature cut off"),
        pytest.param("/thumb", f"{SIGNED.query}&sig=", id="an empty signature"),
        pytest.param("/thumb", f"{SIGNED.query}&sig=%C3%BC", id="a signature beyond ASCII"),
        pytest.param("/thumb", f"{SIGNED.query}&sig={SIGNED.sig.swapcase()}", id="a signature in other case"),
    ],
)
def test_whatever_differs_is_another_url(path: str, query: str) -> None:
    with pytest.raises(SignatureInvalid):
        SIGNER.verify(path, read_parameters(query.encode()), NOW)


def test_the_last_digit_of_a_signature_has_one_spelling() -> None:
    """Two of its bits say nothing: a decoder would let four digits pass for one."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    good = []
    for last in digits:
        try:
            verified(f"/thumb?{SIGNED.query}&sig={SIGNED.sig[:-1]}{last}")
            good.append(last)
        except SignatureInvalid:
            pass
    assert good == [SIGNED.sig[-1]]


def test_no_signature_is_a_failure_of_its_own() -> None:
    with pytest.raises(SignatureRequired):
        verified(f"/thumb?{SIGNED.query}")


@pytest.mark.parametrize(
    "query", [b"url=%FF&sig=a", b"url=\xff&sig=a", b"%C3%28=1&sig=a", b"url=%ED%A0%80&sig=a"], ids=repr
)
def test_bytes_that_are_no_utf8_are_refused(query: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="UTF-8"):
        SIGNER.verify("/thumb", read_parameters(query), NOW)


def test_halves_of_surrogate_pairs_are_neither_signed_nor_verified() -> None:
    with pytest.raises(InvalidParameters, match="UTF-8"):
        SIGNER.sign("/thumb", [("url", "\ud800")], now=NOW)
    with pytest.raises(SignatureInvalid, match="UTF-8"):
        SIGNER.verify("/thumb", [("url", "\ud800"), ("sig", "\ud800")], NOW)


# --- keys -------------------------------------------------------------------------------------


def test_the_first_key_signs_and_all_verify() -> None:
    assert SIGNED.kid == "k2"
    old = UrlSigner(parse_signing_keys(f"k1:{K1}")).sign("/thumb", [TARGET], now=NOW)
    assert verified(str(old)).kid == "k1"


def test_a_key_that_is_taken_away_verifies_no_more() -> None:
    with pytest.raises(SignatureInvalid, match="No live key"):
        verified(str(SIGNED), signer=UrlSigner(parse_signing_keys(f"k1:{K1}")))


@pytest.mark.parametrize("kid", ["k1", "k2"])
def test_without_a_kid_every_live_key_is_tried(kid: str) -> None:
    sig = SigningKey(kid, bytes.fromhex(KEYS[kid])).signature(canonical_string("/thumb", [TARGET]))
    assert SIGNER.verify("/thumb", [TARGET, ("sig", sig)], NOW) == Signed(kid, None)


def test_keys_may_be_written_in_capitals_and_over_lines() -> None:
    keys = parse_signing_keys(f"k2:{K2.upper()},\n  k1:{K1}").keys
    assert [(key.kid, key.secret.hex()) for key in keys] == [("k2", K2), ("k1", K1)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(K1, "key 1 has no id", id="no id"),
        pytest.param(f"k1:{K1},", "key 2 has no id", id="a comma at the end"),
        pytest.param(f":{K1}", "key 1 has no id", id="an empty id"),
        pytest.param(f"schlüssel:{K1}", "key 1 has no id", id="an id beyond ASCII"),
        pytest.param(f"{'k' * 33}:{K1}", "key 1 has no id", id="a long id"),
        pytest.param(f"k1:{K1[:-1]}", "key 1 is not written in pairs", id="half a byte"),
        pytest.param(f"k2:{K2},k1:{'x' * 64}", "key 2 is not written in pairs", id="no hexadecimal digits"),
        pytest.param(f"k1:{K1[:32]} {K1[32:]}", "key 1 is not written in pairs", id="a space within"),
        pytest.param(f"k1:{K1[:-2]}", "key 1 has 31 bytes", id="too short"),
        pytest.param(f"k1:{K1 * 2}00", "key 1 has 65 bytes", id="too long"),
        pytest.param("k1:", "key 1 has 0 bytes", id="empty"),
        pytest.param(f"k1:{'00' * 32}", "key 1 is not random", id="zeros"),
        pytest.param(f"k1:{K1},k1:{K2}", "the same id", id="one id twice"),
        pytest.param(f"k1:{K1},k2:{K1}", "the same key twice", id="one key twice"),
        pytest.param(
            ",".join(f"k{n}:{n:02x}{K1[2:]}" for n in range(1, MAX_KEYS + 2)), "at most 16", id="too many"
        ),
    ],
)
def test_what_is_wrong_with_keys_is_named_and_not_quoted(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as raised:
        parse_signing_keys(text)
    for part in (K1[:16], K2[:16], K1[-16:], "schlüssel", "xxx"):
        assert part not in str(raised.value)


def test_a_key_shows_in_no_repr() -> None:
    key = parse_signing_keys(f"k1:{K1}").keys[0]
    assert "k1" in repr(key)
    assert "secret" not in repr(key)
    assert repr(key.secret) not in repr(SIGNER)
    with pytest.raises(FrozenInstanceError):
        Signed("k1", None).exp = 5  # type: ignore[misc]  # that is the point


# --- the end of a URL -------------------------------------------------------------------------


def signed_with(exp: str, signer: UrlSigner = SIGNER) -> str:
    """A URL that is well signed with any text as its end."""
    key = signer.keys.keys[0]
    parameters = [TARGET, ("kid", key.kid), ("exp", exp)]
    text = canonical_string("/thumb", parameters)
    return f"/thumb?{text.partition('?')[2]}&sig={key.signature(text)}"


@pytest.mark.parametrize(
    ("now", "is_good"),
    [(NOW, True), (NOW + 9.999, True), (NOW + 10, False), (NOW + 11, False)],
    ids=["before", "just before", "at it", "after it"],
)
def test_a_url_is_good_until_its_end(now: float, is_good: bool) -> None:
    url = signed_with(f"{int(NOW) + 10}")
    if is_good:
        assert verified(url, now=now) == Signed("k2", int(NOW) + 10)
    else:
        with pytest.raises(SignatureExpired):
            verified(url, now=now)


NO_SECONDS = ["", "0", "-1", "+1764000900", "1764000900.0", "1.8e9", "0x7FFFFFFF", " 1764000900"]
NO_SECONDS += ["01764000900", "never", "1764000900000", "١٧٦٤٠٠٠٩٠٠", "9" * 5000]


@pytest.mark.parametrize("exp", NO_SECONDS, ids=lambda exp: repr(exp[:20]))
def test_an_end_is_a_whole_number_of_seconds(exp: str) -> None:
    with pytest.raises(SignatureInvalid, match="unix seconds"):
        verified(signed_with(exp))


def test_an_end_that_was_added_tells_nothing_of_having_been_good() -> None:
    with pytest.raises(SignatureInvalid):
        verified(f"{SIGNED}&exp=1")


@pytest.mark.parametrize("exp", [int(NOW), int(NOW) - 1, 0, MAX_EXP + 1, 1_764_000_000_000])
def test_no_url_is_signed_that_would_be_refused(exp: int) -> None:
    with pytest.raises(InvalidParameters) as raised:
        SIGNER.sign("/thumb", [TARGET], now=NOW, exp=exp)
    assert set(raised.value.fields) == {"exp"}


@pytest.mark.parametrize("name", ["sig", "kid", "exp"])
def test_what_signing_sets_itself_cannot_be_given(name: str) -> None:
    with pytest.raises(InvalidParameters) as raised:
        SIGNER.sign("/thumb", [TARGET, (name, "1")], now=NOW)
    assert set(raised.value.fields) == {name}


def test_a_longest_life_bounds_every_url() -> None:
    signed = BOUNDED.sign("/thumb", [TARGET], now=NOW)
    assert signed.exp == NOW + 3600
    assert verified(str(signed), signer=BOUNDED).exp == signed.exp
    with pytest.raises(InvalidParameters, match="exp"):
        BOUNDED.sign("/thumb", [TARGET], now=NOW, exp=int(NOW) + 3601)
    with pytest.raises(SignatureInvalid, match="within 3600 seconds"):
        verified(signed_with(f"{int(NOW) + 3601}", BOUNDED), signer=BOUNDED)
    with pytest.raises(SignatureInvalid, match="need an exp"):
        verified(str(SIGNED), signer=BOUNDED)


# --- properties -------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = TEXT.filter(lambda name: name not in ("sig", "kid", "exp") and name != "")
PARAMETERS = st.lists(st.tuples(NAMES, TEXT), max_size=8)
PATHS = st.lists(TEXT, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
ENCODERS = st.sampled_from(
    [
        lambda text: quote(text, safe=""),
        lambda text: quote_plus(text, safe=""),
        lambda text: quote(text, safe="!*'():@/?,;[]"),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    ]
)
ENDS = st.none() | st.integers(int(NOW) + 1, MAX_EXP)


@settings(deadline=None)
@given(path=PATHS, parameters=PARAMETERS, exp=ENDS)
def test_what_is_signed_verifies(path: str, parameters: list[Parameter], exp: int | None) -> None:
    signed = SIGNER.sign(path, parameters, now=NOW, exp=exp)
    _, _, query = str(signed).partition("?")
    assert SIGNER.verify(path, read_parameters(query.encode()), NOW) == Signed("k2", exp)


@settings(deadline=None)
@given(parameters=PARAMETERS, encoder=ENCODERS, seed=st.randoms())
def test_order_and_spelling_of_a_query_do_not_matter(
    parameters: list[Parameter], encoder: object, seed: object
) -> None:
    signed = SIGNER.sign("/thumb", parameters, now=NOW)
    pairs = [*parameters, ("kid", signed.kid), ("sig", signed.sig)]
    seed.shuffle(pairs)  # type: ignore[attr-defined]  # hypothesis' Random
    query = "&".join(f"{encoder(name)}={encoder(value)}" for name, value in pairs)  # type: ignore[operator]  # as above
    assert SIGNER.verify("/thumb", read_parameters(query.encode()), NOW).kid == "k2"


@settings(deadline=None)
@given(parameters=PARAMETERS.filter(bool), change=st.data())
def test_any_single_change_to_the_parameters_fails(
    parameters: list[Parameter], change: st.DataObject
) -> None:
    signed = SIGNER.sign("/thumb", parameters, now=NOW)
    before = [*parameters, ("kid", signed.kid)]
    after = list(before)
    place = change.draw(st.integers(0, len(before) - 1))
    what = change.draw(st.sampled_from(["drop", "rename", "revalue", "add", "double"]))
    if what == "drop":
        del after[place]
    elif what == "rename":
        after[place] = (change.draw(NAMES), after[place][1])
    elif what == "revalue":
        after[place] = (after[place][0], change.draw(TEXT))
    else:
        after.append((change.draw(NAMES), change.draw(TEXT)) if what == "add" else after[place])
    assume(sorted(after) != sorted(before))
    with pytest.raises(SignatureInvalid):
        SIGNER.verify("/thumb", [*after, ("sig", signed.sig)], NOW)


@settings(deadline=None)
@given(query=PARAMETERS, place=st.integers(0, 10_000), byte=st.integers(0x20, 0x7E))
def test_any_single_byte_changed_in_a_url_is_refused_or_means_the_same(
    query: list[Parameter], place: int, byte: int
) -> None:
    url = str(SIGNER.sign("/thumb", query, now=NOW)).encode()
    place %= len(url)
    changed = url[:place] + bytes([byte]) + url[place + 1 :]
    path, _, rest = changed.partition(b"?")
    try:
        parameters = read_parameters(rest)
        SIGNER.verify(path.decode(), parameters, NOW)
    except ThumbnailerError:
        return
    assert path == b"/thumb"
    assert sorted(parameters) == sorted(read_parameters(url.partition(b"?")[2]))


NORMALISE = """
const urls = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const form = (url) => {
  const one = new URL(url);
  one.search = new URLSearchParams(one.search);
  return one.href;
};
process.stdout.write(JSON.stringify(urls.map((url) => [new URL(url).href, form(url)])));
"""


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PARAMETERS, min_size=30, max_size=60))
def test_a_signature_survives_what_browsers_make_of_a_url(batch: list[list[Parameter]]) -> None:
    """WHATWG URL, as browsers parse it: as it is, and with its query written anew as a form."""
    urls = [f"https://thumbs.example.com{SIGNER.sign('/thumb', one, now=NOW)}" for one in batch]
    done = subprocess.run(
        [interpreter("node"), "-e", NORMALISE],
        input=json.dumps(urls),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for url, (parsed, rewritten) in zip(urls, json.loads(done.stdout), strict=True):
        assert parsed == url, "nothing is left for a browser to normalise"
        assert verified(rewritten).kid == "k2"
