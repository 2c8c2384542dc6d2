"""What the tests put into storages."""

from __future__ import annotations

from tests.support.s3 import record_of

RECORD = record_of(b"\x89PNG a picture")
URL = "https://example.com/"
NOT_KEYS = {
    "nothing": "",
    "absolute": "/etc/passwd",
    "upwards": "../secret.png",
    "upwards in the middle": "thumbs/../../secret.png",
    "upwards at the end": "thumbs/..",
    "the folder itself": ".",
    "a hidden file": "thumbs/.x.part",
    "a label": ".records/thumbs/x.png.json",
    "an empty segment": "thumbs//x.png",
    "a slash at the end": "thumbs/x.png/",
    "NUL": "thumbs/x\0.png",
    "a line break": "thumbs/x.png\n",
    "a backslash": "thumbs\\x.png",
    "percent-encoded dots": "%2e%2e/x.png",
    "a lone surrogate": "thumbs/\ud800.png",
    "an over-long name": "x" * 201,
    "an over-long name in two-byte letters": "ü" * 101,
    "an over-long path": "/".join(["x" * 100] * 11),
}
