"""Checks of who may come in, where targets may be, and how the service is reached."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from thumbnailer.addresses import Network
from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.diagnosis.reasons import reason_of
from thumbnailer.diagnosis.wires import ask
from thumbnailer.errors import InvalidTarget, TargetForbidden, UpstreamError
from thumbnailer.guard import Guard
from thumbnailer.keys import ApiKey
from thumbnailer.model import Deadline
from thumbnailer.signing import SigningKeys

#: Where clouds tell machines their credentials, in several spellings; then this machine itself.
METADATA = (
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
)
LOOPBACK = ("http://127.0.0.1/", "http://[::1]/")

#: A network of so few bits is everybody.
EVERYBODY_BITS = 7


def refuses_private_targets(
    deadline: Deadline, *, guard: Guard, has_exceptions: bool, is_production: bool
) -> Verdict:
    """Asks the guard for addresses that no page may be at; connects to none."""
    advice = "Take what opens it out of ALLOWED_PRIVATE_TARGETS."
    if open_ones := [url for url in METADATA if _lets_pass(guard, url, deadline)]:
        return wrong(f"metadata addresses are open: {urlsplit(open_ones[0]).netloc}", advice)
    if open_ones := [url for url in LOOPBACK if _lets_pass(guard, url, deadline)]:
        return (doubtful if not is_production else wrong)(
            f"this machine is open: {urlsplit(open_ones[0]).netloc}", advice
        )
    if has_exceptions and is_production:
        return doubtful(
            "metadata addresses are refused; ALLOWED_PRIVATE_TARGETS opens others",
            "Leave it empty in production: whoever may ask for pictures can read what it opens.",
        )
    return well("metadata and loopback addresses are refused")


def _lets_pass(guard: Guard, url: str, deadline: Deadline) -> bool:
    try:
        guard.check(guard.parse(url), deadline)
    except (TargetForbidden, InvalidTarget):
        return False
    return True


def trusts_few(_deadline: Deadline, *, proxies: Sequence[Network], is_behind_proxy: bool) -> Verdict:
    """Judges the list of those who may say where a request came from."""
    wide = [str(one) for one in proxies if one.prefixlen <= EVERYBODY_BITS]
    if wide:
        return wrong(
            f"{', '.join(wide)} is nearly everybody: each caller can make up an address",
            "Let TRUSTED_PROXIES name your own proxies only.",
        )
    if not proxies and is_behind_proxy:
        advice = "Let TRUSTED_PROXIES name the proxy, or all callers share one limit."
        return doubtful(
            "PUBLIC_BASE_URL is https, which a proxy must have opened, and none is trusted", advice
        )
    if not proxies:
        return well("nobody: X-Forwarded-For is ignored")
    return well(f"{', '.join(map(str, proxies))}")


def is_reached(deadline: Deadline, *, base: str | None, is_production: bool) -> Verdict:
    """Asks for the service's health where callers are told that it is."""
    if base is None:
        if not is_production:
            return well("not set: answers name the host that the caller used")
        return doubtful(
            "not set: answers name the host that the caller used, and webhooks none", "Set PUBLIC_BASE_URL."
        )
    try:
        answer = ask(f"{base}/health", deadline)
    except UpstreamError as error:
        advice = (
            "See whether the service runs and PUBLIC_BASE_URL is right, or ask from outside of this network."
        )
        return doubtful(f"{base} cannot be reached from here: {reason_of(error)}", advice)
    if answer.status == 200 and answer.json == {"ok": True}:
        return well(f"the service answers at {base}")
    return doubtful(
        f"{base}/health answers {answer.status}, not as this service does",
        "Let the proxy pass /health on, and PUBLIC_BASE_URL hold the path below which it does.",
    )


def is_ready(deadline: Deadline, *, base: str) -> Verdict:
    """Asks the service itself how it does, where it is meant to listen on this machine."""
    try:
        answer = ask(f"{base}/ready", deadline)
    except UpstreamError as error:
        return doubtful(
            f"nothing answers at {base}: {reason_of(error)}",
            "Start the service, unless it is meant to run elsewhere.",
        )
    told = answer.json
    if not isinstance(told, dict) or not isinstance(told.get("parts"), dict):
        return doubtful(
            f"{base}/ready answers {answer.status}, not as this service does",
            "See what else listens there, or let PORT be another.",
        )
    down = [name for name, state in told["parts"].items() if state != "ok"]
    down += [
        f"{one.get('name')} (breaker {one.get('breaker')})"
        for one in told.get("providers", [])
        if isinstance(one, dict) and one.get("breaker") != "closed"
    ]
    if told.get("status") == "ready":
        return well(f"the service at {base} is ready")
    judge = wrong if told.get("status") == "down" else doubtful
    return judge(
        f"the service at {base} is {told.get('status')}: {', '.join(down)}",
        "See what the checks of these parts say.",
    )


def signs_well(_deadline: Deadline, *, keys: SigningKeys | None) -> Verdict:
    """Counts the keys of signed URLs; weak ones are faults of the configuration."""
    if keys is None:
        return well("none: there are no signed URLs")
    first = keys.keys[0]
    bits = min(len(key.secret) for key in keys.keys) * 8
    if len(keys.keys) == 1:
        return well(f"1 key of {bits} bits; {first.kid} signs")
    return well(
        f"{len(keys.keys)} keys of {bits} bits and more; {first.kid} signs, the others go on counting"
    )


def signs_webhooks(_deadline: Deadline, *, count: int) -> Verdict:
    """Counts the secrets; a malformed one is a fault of the configuration."""
    if not count:
        return well("none: webhook_url is refused")
    return well(f"{count} {'secret' if count == 1 else 'secrets'}, each signs every message")


def is_closed(
    _deadline: Deadline,
    *,
    filed: Sequence[ApiKey],
    stored: Sequence[ApiKey],
    others: Sequence[str],
    is_production: bool,
    allows_anonymous: bool,
    now: float,
) -> Verdict:
    """Counts live keys, and judges who comes in without one; ``others`` names what else lets callers in."""
    keys = [*filed, *stored]
    live = sum(key.is_live(now) for key in keys)
    if keys:
        found = f"{live} of {len(keys)} API keys {'is' if live == 1 else 'are'} live"
        if live or others:
            return well(found)
        return doubtful(f"{found}: nobody can come in", "Make a key with flask keys create.")
    if others:
        return well(f"no API keys; callers come in by {', '.join(others)}")
    if not is_production:
        return well("no API keys: open to everyone, as this profile is")
    if allows_anonymous:
        return doubtful(
            "no API keys, and ALLOW_ANONYMOUS is true: open to everyone, within the rate limits",
            "Make a key with flask keys create, unless that is meant.",
        )
    return wrong(
        "no API keys: production does not start open",
        "Make a key with flask keys create, or set ALLOW_ANONYMOUS to true where that is meant.",
    )
