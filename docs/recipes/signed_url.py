"""Signed URLs for the thumbnail service. Needs nothing but the standard library; tested with Python 3.11.

On the command line::

    export SIGNING_KEYS=k1:<hex>
    python3 signed_url.py https://thumbs.example.com /thumb url=https://example.com/ thumb_width=400
"""

import base64
import hashlib
import hmac
import os
import sys
from collections.abc import Mapping
from urllib.parse import quote


def signed_url(base, path, parameters, keys, exp=None):
    """The signed URL of ``path``, such as ``/thumb``, of the service that is published at ``base``.

    ``parameters`` is a mapping, or pairs of name and value; a value of None is left out. ``keys`` is
    what the service has in SIGNING_KEYS; the first one signs. ``exp``: unix seconds, a whole number.
    """
    kid, _, secret = keys.split(",")[0].strip().partition(":")
    given = parameters.items() if isinstance(parameters, Mapping) else parameters
    pairs = [*given, ("kid", kid), ("exp", exp)]
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs if value is not None)
    query = "&".join(f"{name}={value}" for name, value in encoded)
    path = quote(path, safe="/")
    digest = hmac.new(bytes.fromhex(secret), f"v1\n{path}?{query}".encode(), hashlib.sha256).digest()
    sig = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{base}{path}?{query}&sig={sig}"


def _encode(value):
    """RFC 3986: only letters, digits and -._~ stay as they are."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text, safe="")


if __name__ == "__main__":
    base, path, *options = sys.argv[1:]
    print(signed_url(base, path, [option.split("=", 1) for option in options], os.environ["SIGNING_KEYS"]))
