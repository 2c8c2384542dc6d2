"""Keeps secrets out of what is said.

URLs are said without the parts that may hold some, and whatever is said in the end goes past a ``Veil``,
because errors of libraries quote what they like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

#: Shorter texts stand in too many words; passwords of such a length are no secret.
LEAST_CHARACTERS = 3

#: A URL's user and password, wherever it is quoted.
CREDENTIALS = re.compile(r"(?<=://)[^\s/@]*@")
#: Parameters of a URL that libpq and redis-py take passwords from.
PASSWORD_PARAMETERS = frozenset({"password", "sslpassword", "ssl_password", "passfile"})


class Veil:
    """Takes ``secrets`` out of texts, in each way in which a URL may spell them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spelled = {spelling for secret in secrets for spelling in _spellings(secret)}
        kept = sorted((one for one in spelled if len(one) >= LEAST_CHARACTERS), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, kept)), re.IGNORECASE) if kept else None

    def over(self, text: str) -> str:
        """One printable line without any secret."""
        veiled = self._secrets.sub("[secret]", text) if self._secrets else text
        veiled = CREDENTIALS.sub("", veiled)
        return " ".join("".join(sign if sign.isprintable() else " " for sign in veiled).split())


def _spellings(secret: str) -> set[str]:
    return {secret, unquote(secret), quote(secret, safe=""), repr(secret)[1:-1]}


def passwords_in(url: str) -> frozenset[str]:
    """The passwords that a URL holds, as they are written there."""
    parts = urlsplit(url)
    own = {parts.password} if parts.password else set()
    return frozenset(own | {value for name, value in parse_qsl(parts.query) if name in PASSWORD_PARAMETERS})


def shown(url: str) -> str:
    """A URL as it may be said: scheme, host, port and path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
