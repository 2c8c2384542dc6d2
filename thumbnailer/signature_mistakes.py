"""The usual mistakes of programs that sign URLs, each with the text that it leads them to sign."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from urllib.parse import quote, quote_plus, unquote, urlsplit

from thumbnailer.signing import (
    OWN_PARAMETERS,
    VERSION,
    Parameter,
    SigningKeys,
    canonical_query,
    canonical_string,
    encode,
    encode_signature,
)

#: Up to so many parameters, pairs of them are left out on trial as well.
MAX_PARAMETERS_FOR_PAIRS = 24

DIGEST = re.compile(r"[0-9a-fA-F]{64}")
STANDARD_BASE64 = str.maketrans("+/ ", "-_-")  # an unescaped plus arrives as a space

Pairs = Sequence[Parameter]


@dataclass(frozen=True, slots=True)
class Published:
    """Where the service is, such as ``https://example.com/thumbs``, and the ``paths`` that can be signed."""

    base: str
    paths: Sequence[str]


@dataclass(frozen=True, slots=True)
class Mistake:
    """What was done, and the ``text`` that was signed then; without a ``code`` it is none."""

    code: str
    detail: str
    text: str


def respell(sig: str) -> tuple[str | None, str]:
    """A signature as it should be written; the first part says what is wrong with how it is, if anything."""
    if DIGEST.fullmatch(sig):
        return "It is hexadecimal; write it in base64url.", encode_signature(bytes.fromhex(sig))
    plain = sig.rstrip("=").translate(STANDARD_BASE64)
    if plain != sig:
        return "It is padded or plain base64; write base64url without = at its end.", plain
    unpacked = _unpacked(sig)
    if DIGEST.fullmatch(unpacked):
        detail = "It is base64 of hexadecimal digits; encode the raw digest."
        return detail, encode_signature(bytes.fromhex(unpacked))
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", sig):
        return f"It has {len(sig)} characters; a signature has 43 letters, digits, - and _.", sig
    return None, sig


def _unpacked(sig: str) -> str:
    try:
        return base64.urlsafe_b64decode(sig + "=" * (-len(sig) % 4)).decode("ascii")
    except ValueError:
        return ""


def mistakes(path: str, parameters: Pairs, keys: SigningKeys, published: Published) -> Iterator[Mistake]:
    """The right text first, then what else may have been signed; each mistake by itself."""
    given = tuple((name, value) for name, value in parameters if name != "sig")
    yield Mistake("", "", canonical_string(path, given))
    yield from _other_paths(path, given, published)
    yield from _missing_or_added(path, given, keys)
    yield from _lost_pluses(path, given)
    yield from _other_values(path, given)
    yield from _other_encodings(path, given)
    yield from _other_orders(path, given)
    yield from _other_frames(path, given, published)


def _other_paths(path: str, given: Pairs, published: Published) -> Iterator[Mistake]:
    prefix = urlsplit(published.base).path.rstrip("/")
    candidates = [
        (
            f"{prefix}{path}",
            "It was signed with the prefix of the service's address; the path is the route's.",
        ),
        (f"{published.base}{path}", "It was signed with the whole address; the path is the route's alone."),
        (f"{path}/", "It was signed with a slash at the end of the path."),
        (path.removeprefix("/"), "It was signed without the slash at the beginning of the path."),
        *((other, f"It was signed for {other}.") for other in published.paths),
    ]
    query = canonical_query(given)
    for other, detail in candidates:
        yield Mistake("path", detail, f"{VERSION}\n{other}?{query}")


def _missing_or_added(path: str, given: Pairs, keys: SigningKeys) -> Iterator[Mistake]:
    names = sorted({name for name, _ in given})
    most = 2 if len(names) <= MAX_PARAMETERS_FOR_PAIRS else 1
    for count in range(1, most + 1):
        for left_out in combinations(names, count):
            rest = [(name, value) for name, value in given if name not in left_out]
            detail = f"Not signed, but in the URL: {', '.join(left_out)}."
            yield Mistake("parameter-added", detail, canonical_string(path, rest))
    unsigned = [(name, value) for name, value in given if name not in OWN_PARAMETERS]
    yield Mistake(
        "parameter-added", "Not signed, but in the URL: exp, kid.", canonical_string(path, unsigned)
    )
    for key in keys.keys:
        rest = [*((name, value) for name, value in given if name != "kid"), ("kid", key.kid)]
        detail = f"It was signed with kid={key.kid}, which the URL does not say."
        yield Mistake("parameter-missing", detail, canonical_string(path, rest))


def _other_values(path: str, given: Pairs) -> Iterator[Mistake]:
    changes: list[tuple[str, str, Callable[[str], str]]] = [
        ("encoded-twice", "The URL was encoded once more after it was signed.", unquote),
        ("encoded-twice", "The values were encoded twice before they were signed.", encode),
        ("case", "Names and values were signed in small letters.", str.lower),
        ("whitespace", "Values were signed with a line end.", lambda text: f"{text}\n"),
    ]
    for code, detail, change in changes:
        values = [(name, change(value)) for name, value in given]
        yield Mistake(code, detail, canonical_string(path, values))
    cleaned = [(name.removeprefix("amp;"), value) for name, value in given]
    yield Mistake(
        "html-entities", "Its & was written &amp; outside of HTML.", canonical_string(path, cleaned)
    )


def _lost_pluses(path: str, given: Pairs) -> Iterator[Mistake]:
    names = sorted({name for name, value in given if " " in value})
    for lost in [names, *([name] for name in names)]:
        values = [(name, value.replace(" ", "+") if name in lost else value) for name, value in given]
        detail = f"A + in {', '.join(lost)} has arrived as a space; write it %2B."
        yield Mistake("plus", detail, canonical_string(path, values))


def _lower_escapes(text: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), encode(text))


ENCODERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("as forms are: a space as +", lambda text: quote_plus(text, safe="")),
    ("as forms are: a space as +, ~ as %7E", lambda text: quote_plus(text, safe="").replace("~", "%7E")),
    ("as URLSearchParams does", lambda text: quote_plus(text, safe="*").replace("~", "%7E")),
    ("with ~ as %7E", lambda text: encode(text).replace("~", "%7E")),
    ("as encodeURIComponent does, which leaves !'()* bare", lambda text: quote(text, safe="!'()*")),
    ("with slashes left bare", lambda text: quote(text, safe="/")),
    ("with slashes and colons left bare", lambda text: quote(text, safe="/:")),
    ("as encodeURI does, for whole URLs", lambda text: quote(text, safe="!#$&'()*+,/:;=?@")),
    ("with small letters in its escapes", _lower_escapes),
    ("not at all", str),
)


def _other_encodings(path: str, given: Pairs) -> Iterator[Mistake]:
    for label, encoder in ENCODERS:
        for pairs in (
            sorted((encoder(n), encoder(v)) for n, v in given),
            [(encoder(n), encoder(v)) for n, v in given],
        ):
            query = "&".join(f"{name}={value}" for name, value in pairs)
            yield Mistake("encoding", f"It was encoded {label}.", f"{VERSION}\n{path}?{query}")


def _other_orders(path: str, given: Pairs) -> Iterator[Mistake]:
    encoded = [(encode(name), encode(value)) for name, value in given]
    own_last = sorted(encoded, key=lambda pair: (pair[0] in OWN_PARAMETERS, pair))
    orders = [
        ("in the order of the URL", encoded),
        ("as joined texts, name=value", sorted(encoded, key="=".join)),
        ("by the names before they were encoded", [(encode(n), encode(v)) for n, v in sorted(given)]),
        ("by name alone", sorted(encoded, key=lambda pair: pair[0])),
        ("without regard to capital letters", sorted(encoded, key=lambda pair: (pair[0].lower(), pair[1]))),
        ("with kid and exp at the end", own_last),
        ("backwards", sorted(encoded, reverse=True)),
    ]
    for label, pairs in orders:
        query = "&".join(f"{name}={value}" for name, value in pairs)
        yield Mistake("order", f"The parameters were sorted {label}.", f"{VERSION}\n{path}?{query}")


def _other_frames(path: str, given: Pairs, published: Published) -> Iterator[Mistake]:
    query = canonical_query(given)
    url = f"{path}?{query}"
    frames = [
        ("without the line v1", url),
        ("without the line v1, with the whole address", f"{published.base}{url}"),
        ("with \\n as two characters, not as a line feed", f"{VERSION}\\n{url}"),
        ("with a carriage return before the line feed", f"{VERSION}\r\n{url}"),
        ("with a line feed at the end", f"{VERSION}\n{url}\n"),
        ("without the path", f"{VERSION}\n{query}"),
        ("as the query alone", query),
        ("without the question mark", f"{VERSION}\n{path}{query}"),
        ("with a line feed instead of the question mark", f"{VERSION}\n{path}\n{query}"),
        ("with sig= at its end", f"{VERSION}\n{url}&sig="),
        ("with the method before it", f"{VERSION}\nGET {url}"),
    ]
    for label, text in frames:
        yield Mistake("text", f"It was signed {label}.", text)
