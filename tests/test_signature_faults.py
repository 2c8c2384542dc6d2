"""Why a signature does not fit: usual mistakes are recognised, and nothing is given away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.vectors import KEYS
from thumbnailer.errors import SignatureInvalid
from thumbnailer.signature_faults import Diagnosis, diagnose
from thumbnailer.signature_mistakes import Published
from thumbnailer.signing import Parameter, UrlSigner, parse_signing_keys, read_parameters

NOW = 1_764_000_000.0
K1, K2 = KEYS["k1"], KEYS["k2"]
SIGNER = UrlSigner(parse_signing_keys(f"k2:{K2},k1:{K1}"))
PUBLISHED = Published("https://example.com/service", ("/thumb", "/screenshot"))

#: What is signed by the right rules: every character is one that some encoder treats otherwise.
TARGET = "https%3A%2F%2Fexample.com%2FK%C3%B6ln%3Fq%3Da%2Bb"
QUERY = f"exp=4102444800&kid=k1&selector=it%27s%20~a&url={TARGET}&width=800"
TEXT = f"v1\n/thumb?{QUERY}"


def sig_of(text: str, key: str = K1) -> str:
    digest = hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def judged(sig: str, query: str = QUERY, *, path: str = "/thumb", now: float = NOW) -> Diagnosis:
    parameters = read_parameters(f"{query}&sig={quote(sig)}".encode())
    return diagnose(SIGNER, path, parameters, now, PUBLISHED)


def codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code for finding in diagnosis.findings]


def signed_as(old: str, new: str) -> str:
    """The signature of a text that went wrong in one place."""
    assert old in TEXT
    return sig_of(TEXT.replace(old, new))


def test_a_good_signature_has_no_findings_and_its_text_is_told() -> None:
    assert judged(sig_of(TEXT)) == Diagnosis(TEXT, ())


ORDERED = QUERY.split("&")
PARAMETERS = {
    "width": "800",
    "url": "https://example.com/Köln?q=a+b",
    "selector": "it's ~a",
    "kid": "k1",
    "exp": "4102444800",
}
FORM = urlencode(sorted(PARAMETERS.items()))
PLAIN = "&".join(f"{name}={value}" for name, value in sorted(PARAMETERS.items()))
UNSORTED = "&".join(f"{name}={quote(value, safe='')}" for name, value in PARAMETERS.items())
ESCAPE = re.compile("%[0-9A-F]{2}")


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        pytest.param(TEXT.replace("/thumb", "/service/thumb"), "path", "prefix", id="the prefix of a proxy"),
        pytest.param(
            TEXT.replace("/thumb", "https://example.com/service/thumb"),
            "path",
            "whole address",
            id="the whole address",
        ),
        pytest.param(TEXT.replace("/thumb", "/screenshot"), "path", "/screenshot", id="another route"),
        pytest.param(TEXT.replace("/thumb", "/thumb/"), "path", "slash", id="a slash at the end"),
        pytest.param(TEXT.replace("/thumb", "thumb"), "path", "slash", id="no slash at the beginning"),
        pytest.param(
            TEXT.replace("&width=800", ""), "parameter-added", "width", id="a parameter added later"
        ),
        pytest.param(
            TEXT.replace("&width=800", "").replace("kid=k1&", ""),
            "parameter-added",
            "kid, width",
            id="two parameters added later",
        ),
        pytest.param(
            TEXT.replace("exp=4102444800&kid=k1&", ""), "parameter-added", "exp", id="kid and exp added later"
        ),
        pytest.param(TEXT.replace("%20", "+"), "encoding", "space", id="a plus for a space"),
        pytest.param(TEXT.replace("~", "%7E"), "encoding", "%7E", id="an escaped tilde"),
        pytest.param(f"v1\n/thumb?{FORM.replace('~', '%7E')}", "encoding", "forms", id="a form encoder"),
        pytest.param(TEXT.replace("%27", "'"), "encoding", "encodeURIComponent", id="encodeURIComponent"),
        pytest.param(TEXT.replace("%2F", "/"), "encoding", "slashes", id="bare slashes"),
        pytest.param(
            TEXT.replace("%2F", "/").replace("%3A", ":"), "encoding", "colons", id="bare slashes and colons"
        ),
        pytest.param(
            ESCAPE.sub(lambda escape: escape[0].lower(), TEXT),
            "encoding",
            "small",
            id="small hexadecimal digits",
        ),
        pytest.param(f"v1\n/thumb?{PLAIN}", "encoding", "not at all", id="no encoding"),
        pytest.param(f"v1\n/thumb?{UNSORTED}", "order", "order of the URL", id="the order of the URL"),
        pytest.param(
            "v1\n/thumb?" + "&".join([*ORDERED[2:], *sorted(ORDERED[:2])]),
            "order",
            "at the end",
            id="kid and exp at the end",
        ),
        pytest.param(TEXT.replace("%", "%25"), "encoded-twice", "twice", id="encoded twice"),
        pytest.param(TEXT.removeprefix("v1\n"), "text", "v1", id="no version"),
        pytest.param(TEXT.replace("\n", "\\n"), "text", "line feed", id="a backslash and an n"),
        pytest.param(TEXT + "\n", "text", "at the end", id="a line feed at the end"),
        pytest.param(TEXT.replace("?", "", 1), "text", "question mark", id="no question mark"),
        pytest.param(TEXT.replace("\n", "\r\n"), "text", "carriage", id="a carriage return"),
    ],
)
def test_usual_mistakes_are_recognised(text: str, code: str, word: str) -> None:
    assert text != TEXT
    diagnosis = judged(sig_of(text), UNSORTED)
    assert codes(diagnosis) == [code]
    assert word in diagnosis.findings[0].detail
    assert diagnosis.string_to_sign == TEXT


DIGEST = hmac.new(bytes.fromhex(K1), TEXT.encode(), hashlib.sha256)


@pytest.mark.parametrize(
    ("sig", "code"),
    [
        pytest.param(DIGEST.hexdigest(), "signature-spelling", id="hexadecimal"),
        pytest.param(base64.urlsafe_b64encode(DIGEST.digest()).decode(), "signature-spelling", id="padded"),
        pytest.param(base64.b64encode(DIGEST.digest()).decode(), "signature-spelling", id="plain base64"),
        pytest.param(
            base64.b64encode(DIGEST.hexdigest().encode()).decode().rstrip("="),
            "signature-spelling",
            id="base64 of hexadecimal",
        ),
        pytest.param(sig_of(TEXT)[:-1], "signature-spelling", id="cut off"),
        pytest.param("", "signature-spelling", id="empty"),
        pytest.param("ü" * 43, "signature-spelling", id="beyond ASCII"),
        pytest.param("A" * 43, "unknown", id="anything"),
        pytest.param(sig_of(TEXT, K2), "wrong-key", id="another key than kid says"),
        pytest.param(sig_of(TEXT, K1.encode().hex()), "key-not-decoded", id="the key's hexadecimal text"),
        pytest.param(sig_of(TEXT, K1.upper().encode().hex()), "key-not-decoded", id="the same in capitals"),
        pytest.param(signed_as("width=800", "width=801"), "unknown", id="another value"),
    ],
)
def test_wrong_keys_and_spellings_are_recognised(sig: str, code: str) -> None:
    assert codes(judged(sig)) == [code]


def test_two_mistakes_of_different_kinds_are_both_named() -> None:
    sig = sig_of(TEXT.replace("~", "%7E"), K2) + "="
    assert codes(judged(sig)) == ["signature-spelling", "wrong-key", "encoding"]


@pytest.mark.parametrize(
    ("query", "sig", "found"),
    [
        pytest.param(
            QUERY.replace("kid=k1", "kid=k9"),
            sig_of(TEXT),
            ["unknown-key", "parameter-missing"],
            id="an unknown kid",
        ),
        pytest.param(
            QUERY.replace("kid=k1&", ""),
            sig_of(TEXT),
            ["parameter-missing"],
            id="a kid that was signed and left out",
        ),
        pytest.param(QUERY.replace("%2B", "+"), sig_of(TEXT), ["plus"], id="a bare plus"),
        pytest.param(
            QUERY.replace("%", "%25"), sig_of(TEXT), ["encoded-twice"], id="a URL encoded once more"
        ),
        pytest.param(
            QUERY.replace("&", "&amp;"), sig_of(TEXT), ["html-entities"], id="entities, the signature apart"
        ),
        pytest.param(f"{QUERY}&sig=a", sig_of(TEXT), ["repeated"], id="two signatures"),
    ],
)
def test_what_happened_to_a_good_url_is_recognised(query: str, sig: str, found: list[str]) -> None:
    assert codes(judged(sig, query)) == found


def test_a_url_out_of_html_has_no_sig_at_all() -> None:
    query = f"{QUERY}&sig={sig_of(TEXT)}".replace("&", "&amp;")
    diagnosis = diagnose(SIGNER, "/thumb", read_parameters(query.encode()), NOW, PUBLISHED)
    assert codes(diagnosis) == ["html-entities"]


def test_a_missing_signature_is_named() -> None:
    diagnosis = diagnose(SIGNER, "/thumb", read_parameters(QUERY.encode()), NOW, PUBLISHED)
    assert codes(diagnosis) == ["no-signature"]


@pytest.mark.parametrize(
    ("exp", "code"), [("1763999999", "expired"), ("1764000900000", "end"), ("soon", "end")]
)
def test_a_good_signature_whose_time_is_over_or_none_is_told_apart(exp: str, code: str) -> None:
    query = QUERY.replace("4102444800", exp)
    diagnosis = judged(sig_of(f"v1\n/thumb?{query}"), query)
    assert codes(diagnosis) == [code]


def test_an_end_that_was_changed_is_not_told_to_have_been_good() -> None:
    assert codes(judged(sig_of(TEXT), QUERY.replace("4102444800", "1763999999"))) == ["unknown"]


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(SignatureInvalid, match="UTF-8"):
        diagnose(SIGNER, "/thumb", [("url", "\ud800"), ("sig", "a")], NOW, PUBLISHED)


def test_how_much_of_a_signature_is_right_is_not_told() -> None:
    right = sig_of(TEXT)
    answers = {
        judged(right[:count] + "A" * (43 - count))
        for count in range(42)
        if right[count:] != "A" * (43 - count)
    }
    assert len(answers) == 1


@settings(deadline=None, max_examples=50)
@given(
    parameters=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=30),
    sig=st.text(max_size=90) | st.sampled_from([sig_of(TEXT), "A" * 43]),
)
def test_a_diagnosis_never_fails_and_never_shows_a_key_or_the_right_signature(
    parameters: list[Parameter], sig: str
) -> None:
    try:
        diagnosis = diagnose(SIGNER, "/thumb", [*parameters, ("sig", sig)], NOW, PUBLISHED)
    except SignatureInvalid:
        return
    shown = repr(diagnosis)
    for key in (K1, K2):
        right = sig_of(diagnosis.string_to_sign, key)
        assert right == sig or right not in shown
        assert key not in shown
