"""The fonts that pages can be drawn with: fontconfig is asked, as Chromium asks it.

Its program ``fc-list`` is missing in small images; the library is where Debian's Chromium is.
"""

from __future__ import annotations

import ctypes

from thumbnailer.diagnosis import Verdict, doubtful, well
from thumbnailer.model import Deadline

LIBRARY = "libfontconfig.so.1"

#: One letter of each script, and the Debian package that draws it: those of docs/deployment.md#fonts.
SCRIPTS = {
    "Latin": ("A", "fonts-liberation"),
    "Arabic": ("ع", "fonts-noto-core"),
    "Devanagari": ("अ", "fonts-noto-core"),
    "Chinese": ("中", "fonts-noto-cjk"),
    "Japanese": ("あ", "fonts-noto-cjk"),
    "Korean": ("가", "fonts-noto-cjk"),
    "emoji": ("😀", "fonts-noto-color-emoji"),
}

#: What of the library gives pointers; the rest that is called here gives nothing.
POINTERS = ("FcInitLoadConfigAndFonts", "FcNameParse", "FcObjectSetCreate", "FcFontList")


def are_there(_deadline: Deadline) -> Verdict:
    """Looks for a font that has a letter of each script."""
    try:
        missing = _missing(ctypes.CDLL(LIBRARY))
    except OSError:
        return doubtful(
            f"{LIBRARY} is not there, so nobody can say",
            "Install fontconfig and the fonts that the page names.",
        )
    if missing:
        packages = " ".join(dict.fromkeys(SCRIPTS[script][1] for script in missing))
        return doubtful(f"no font has {', '.join(missing)}", f"Install {packages}, and restart the service.")
    return well(f"there are fonts for {', '.join(SCRIPTS)}")


def _missing(library: ctypes.CDLL) -> list[str]:
    for name in POINTERS:
        getattr(library, name).restype = ctypes.c_void_p
    configuration = ctypes.c_void_p(library.FcInitLoadConfigAndFonts())
    try:
        return [
            script for script, (letter, _) in SCRIPTS.items() if not _count(library, configuration, letter)
        ]
    finally:
        library.FcConfigDestroy(configuration)


def _count(library: ctypes.CDLL, configuration: ctypes.c_void_p, letter: str) -> int:
    """How many fonts have a letter."""
    pattern = ctypes.c_void_p(library.FcNameParse(f":charset={ord(letter):x}".encode()))
    wanted = ctypes.c_void_p(library.FcObjectSetCreate())
    library.FcObjectSetAdd(wanted, b"family")
    found = ctypes.c_void_p(library.FcFontList(configuration, pattern, wanted))
    count = (
        ctypes.cast(found, ctypes.POINTER(ctypes.c_int))[0] if found else 0
    )  # the first member of FcFontSet
    if found:
        library.FcFontSetDestroy(found)
    library.FcObjectSetDestroy(wanted)
    library.FcPatternDestroy(pattern)
    return int(count)
