"""What a picture is called when somebody saves it: ``Content-Disposition``, RFC 6266 and RFC 8187."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, urlsplit

from flask import Response

from thumbnailer.storage import file_ending

#: Endings that say what a file is, and would say it wrongly before another one.
_PICTURE_ENDING = re.compile(r"\.(?:png|jpe?g|webp|avif|gif|pdf)\Z", re.IGNORECASE)

#: What programs read alike within the quotes of ``filename``: RFC 6266, appendix D, warns of the rest.
_MISREAD = re.compile(r"[^A-Za-z0-9 !#$&'()+,.=@^_`{}~\[\]-]")

#: What need not be escaped in ``filename*``: attr-char of RFC 8187, section 3.2.1.
_PLAIN = "!#$&+-.^_`|~"

MAX_HOST_CHARACTERS = 100


def name_file(response: Response, url: str, download: str | None) -> None:
    """Say what ``response`` is called: to be saved where a name was asked for, else to be shown."""
    extension = file_ending(response.content_type)
    if download is None:
        host = (urlsplit(url).hostname or "")[:MAX_HOST_CHARACTERS]
        stem = _MISREAD.sub("-", host).strip("-.") or "page"
        response.headers.set("Content-Disposition", "inline", filename=f"{stem}.{extension}")
        return
    stem = _PICTURE_ENDING.sub("", download.strip(" .")).strip(" .") or "page"
    name = f"{stem}.{extension}"
    plain = _MISREAD.sub("_", unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode())
    plain = f"page{plain}" if plain.startswith(".") else plain
    if plain == name:
        response.headers.set("Content-Disposition", "attachment", filename=name)
    else:
        full = f"UTF-8''{quote(name, safe=_PLAIN)}"
        response.headers.set("Content-Disposition", "attachment", filename=plain, **{"filename*": full})
