"""Checks of the HTTP providers: whether they can be reached, and take our key. None takes a capture."""

from __future__ import annotations

from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.diagnosis.reasons import reason_of
from thumbnailer.diagnosis.wires import ask
from thumbnailer.errors import UpstreamError
from thumbnailer.model import Deadline
from thumbnailer.providers.vendor import Vendor

REFUSALS = frozenset({401, 403})
#: The vendor has no such route, or does not say there what it should: its answer tells nothing of the key.
SERVER_ERROR = 500


def answers(
    deadline: Deadline, *, vendor: Vendor, base: str, key: str | None, key_setting: str, base_setting: str
) -> Verdict:
    """Asks for our usage where the vendor tells it, else for nothing in particular."""
    path = vendor.usage_path if key else None
    headers = vendor.key_headers(key) if key and path else {}
    try:
        answer = ask(f"{base}{path or '/'}", deadline, headers)
    except UpstreamError as error:
        advice = f"See whether {base_setting} is right, and this machine may connect to it."
        return wrong(f"{base} cannot be reached: {reason_of(error)}", advice)
    if path is None:
        return _reached(vendor, base, answer.status, has_key=key is not None)
    if answer.status in REFUSALS:
        return wrong(
            f"{base} refuses the key: {answer.status}", f"Put a live key of {vendor.name} into {key_setting}."
        )
    if answer.status == 200:
        return well(f"{base} takes the key")
    if answer.status >= SERVER_ERROR:
        return _unwell(vendor, base, answer.status)
    return well(f"{base} answers {answer.status} for {path}, which says nothing of the key")


def _reached(vendor: Vendor, base: str, status: int, *, has_key: bool) -> Verdict:
    """Whatever it answers to such a question, it is there."""
    if status >= SERVER_ERROR:
        return _unwell(vendor, base, status)
    if has_key:
        return well(f"{base} is there; {vendor.name} has no way to try a key without a capture")
    return well(f"{base} is there; no key is configured")


def _unwell(vendor: Vendor, base: str, status: int) -> Verdict:
    return doubtful(
        f"{base} answers {status}", f"See whether {vendor.name} has trouble, or what a proxy before it says."
    )
