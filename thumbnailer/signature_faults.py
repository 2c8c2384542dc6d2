"""Why a signature does not fit: finds what was signed instead, by making the usual mistakes.

HMAC tells nothing of what went in. So each likely mistake is made here as well, and what comes of it
is compared with the signature at hand, whole and in constant time. Never in part: whoever could
learn how many of its first characters are right could find a signature one character at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thumbnailer.errors import SignatureExpired, SignatureInvalid, SignatureRequired
from thumbnailer.signature_mistakes import Mistake, Published, mistakes, respell
from thumbnailer.signing import OWN_PARAMETERS, Parameter, SigningKey, UrlSigner, canonical_string

ENTITIES = "The URL was taken out of HTML without turning &amp; into &."
NO_MISTAKE_KNOWN = (
    "No usual mistake explains it: the key is another one, or names and values are. Compare string_to_sign "
    "with what your program signs, character by character."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; ``code`` is for programs, ``detail`` for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What has to be signed for a URL, and what is wrong with its signature: nothing, if it is good."""

    string_to_sign: str
    findings: tuple[Finding, ...]


def diagnose(
    signer: UrlSigner, path: str, parameters: Sequence[Parameter], now: float, published: Published
) -> Diagnosis:
    """Judge a URL as ``UrlSigner.verify`` does, and say why.

    Raises:
        SignatureInvalid: the URL holds text that UTF-8 cannot encode.
    """
    try:
        text = canonical_string(path, parameters)
    except UnicodeEncodeError:
        raise SignatureInvalid("The URL holds text that UTF-8 cannot encode.") from None
    try:
        signer.verify(path, parameters, now)
    except SignatureRequired:
        return Diagnosis(text, (_no_signature(parameters),))
    except SignatureExpired:
        return Diagnosis(text, (Finding("expired", "The signature fits; the time that exp names is over."),))
    except SignatureInvalid as error:
        return Diagnosis(text, tuple(_reasons(signer, path, parameters, published, str(error))))
    return Diagnosis(text, ())


def _no_signature(parameters: Sequence[Parameter]) -> Finding:
    if any(name.startswith("amp;") for name, _ in parameters):
        return Finding("html-entities", ENTITIES)
    return Finding("no-signature", "The URL has no parameter sig.")


def _reasons(
    signer: UrlSigner, path: str, parameters: Sequence[Parameter], published: Published, verdict: str
) -> Iterator[Finding]:
    names = [name for name, _ in parameters]
    if any(names.count(name) > 1 for name in OWN_PARAMETERS):
        yield Finding("repeated", verdict)
        return
    given = dict(parameters)
    is_known = bool(signer.keys.named(given.get("kid")))
    if not is_known:
        yield Finding("unknown-key", verdict)
    spelling, sig = respell(given["sig"])
    if spelling:
        yield Finding("signature-spelling", spelling)
    found = _find(signer, sig, mistakes(path, parameters, signer.keys, published))
    if found is None:
        if is_known and not spelling:
            yield Finding("unknown", NO_MISTAKE_KNOWN)
        return
    mistake, key, is_hex_text = found
    if is_hex_text:
        yield Finding("key-not-decoded", "The key's hexadecimal text was used; decode it to bytes first.")
    if is_known and given.get("kid") not in (None, key.kid):
        yield Finding(
            "wrong-key", f"It was signed with the key {key.kid}, which is not the one that kid names."
        )
    if mistake.code:
        yield Finding(mistake.code, mistake.detail)
    elif is_known and not spelling and not is_hex_text and given.get("kid") in (None, key.kid):
        yield Finding("end", verdict)  # all that is left to be wrong


def _find(signer: UrlSigner, sig: str, tried: Iterator[Mistake]) -> tuple[Mistake, SigningKey, bool] | None:
    """The first mistake that leads to ``sig``, with which key, and whether with its hexadecimal text."""
    spelt = [
        (
            key,
            SigningKey(key.kid, secret.encode() if isinstance(secret, str) else secret),
            isinstance(secret, str),
        )
        for key in signer.keys.keys
        for secret in (key.secret, key.secret.hex(), key.secret.hex().upper())
    ]
    for mistake in tried:
        for key, variant, is_hex_text in spelt:
            if variant.fits(mistake.text, sig):
                return mistake, key, is_hex_text
    return None
