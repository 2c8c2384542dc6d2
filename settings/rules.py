"""What settings mean together: defaults made from others, contradictions, and doubts worth a warning."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from settings.reading import DOCUMENTATION, Environment, Fault, Setting
from settings.vendors import HTTP_PROVIDERS, SINGLE_PROVIDER_SETTINGS

HTTP_CONCURRENCY = 32
LEAST_QUEUE = 32
CPU_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")

#: Variables that start like this are meant for this service; all others may be anybody's.
OWN_PREFIX = re.compile(
    "(BLANK|BREAKER|CACHE|CHALLENGE|CHROMIUM|DATABASE|FAILOVER|FAILURE|HERMESFORGE|LIMIT|PUBLIC|RATELIMIT|S3|SCREENSHOT"
    "|SIGNED|SIGNING|SNAPAPI|SNAPSHARP|STORAGE|THUMB|UPSTREAM)_"
)

#: How the variables end by which Kubernetes tells of a service.
SERVICE_LINK = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)?)\Z"
)


def usable_cores() -> int:
    """Processor cores that this process may use: its affinity, bounded by the cgroup's quota.

    A container on a large machine sees all cores but is given the time of a few (cgroup v2,
    ``cpu.max``: quota and period in microseconds).
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_QUOTA_FILE.read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def provider_names(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The providers in use: those that are named, else those that have a key, else Chromium."""
    keyed = tuple(name for name, each in HTTP_PROVIDERS.items() if values[each.key_setting])
    return values["PROVIDERS"] or keyed or ("chromium",)


def computed_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of settings that nobody set and that follow from others."""
    names = provider_names(values)
    share = max(1, usable_cores() // values["WEB_CONCURRENCY"])
    usual = HTTP_CONCURRENCY if any(name in HTTP_PROVIDERS for name in names) else share
    concurrency, waiting = values["UPSTREAM_CONCURRENCY"] or usual, _waiting(values)
    queue = values["CAPTURE_QUEUE"]
    if queue is None:
        queue = min(max(3 * concurrency, LEAST_QUEUE), waiting // 2)
    return {
        "PROVIDERS": names,
        "UPSTREAM_CONCURRENCY": concurrency,
        "WEB_WAITING": waiting,
        "CAPTURE_QUEUE": queue,
        "LIMITER_REDIS_URL": values["LIMITER_REDIS_URL"] or values["REDIS_URL"],
    }


def _waiting(values: Mapping[str, Any]) -> int:
    """How many requests may wait in one process; at least one thread is left for answers from the cache."""
    threads = int(values["WEB_THREADS"])
    return int(values["WEB_WAITING"] or threads - max(1, threads // 8))


def cross_faults(values: Mapping[str, Any]) -> list[Fault]:
    """Contradictions between settings.

    A rule that needs a setting which is missing in ``values``, because it has a fault of its own,
    cannot be judged and is left out.
    """
    faults: list[Fault] = []
    for rule in (_provider_faults, _queue_faults, _ttl_faults, _pause_faults, _s3_faults, _access_faults):
        with contextlib.suppress(KeyError):
            faults += list(rule(values))
    return faults


def _provider_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    http_names = [name for name in provider_names(values) if name in HTTP_PROVIDERS]
    for name in SINGLE_PROVIDER_SETTINGS:
        if values[name] and not values["PROVIDERS"]:
            yield Fault(name, "is given, but PROVIDERS does not say which provider it is for")
        elif values[name] and len(http_names) > 1:
            yield Fault(
                name, f"could be for each of {', '.join(http_names)}; use the settings of each provider"
            )
    for name in http_names:
        provider = HTTP_PROVIDERS[name]
        key = values[provider.key_setting] or values["SCREENSHOT_API_KEY"]
        if provider.vendor.is_key_required and not key:
            yield Fault(provider.key_setting, f"is needed, because PROVIDERS names {name}")


def _ttl_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    if values["TTL_MIN"] > values["TTL_MAX"]:
        yield Fault("TTL_MIN", f"must not be above TTL_MAX ({values['TTL_MAX']})")


def _pause_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    if values["FAILURE_PAUSE"] > values["FAILURE_PAUSE_MAX"]:
        yield Fault("FAILURE_PAUSE", f"must not be above FAILURE_PAUSE_MAX ({values['FAILURE_PAUSE_MAX']:g})")


def _queue_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    queue, threads, waiting = values["CAPTURE_QUEUE"], values["WEB_THREADS"], _waiting(values)
    if waiting >= threads:
        yield Fault(
            "WEB_WAITING",
            f"must be below WEB_THREADS ({threads}), or no thread is left for answers from the cache",
        )
    if queue is not None and queue >= waiting:
        yield Fault(
            "CAPTURE_QUEUE",
            f"must be below WEB_WAITING ({waiting}), or nobody else may wait for the captures in line",
        )


def _s3_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    pair = ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
    for missing, other in (pair, pair[::-1]):
        if values[other] and not values[missing]:
            yield Fault(missing, f"is needed, because {other} is given")
    if values["S3_SSE_KMS_KEY_ID"] and not str(values["S3_SSE"]).startswith("aws:kms"):
        yield Fault("S3_SSE_KMS_KEY_ID", "has no effect unless S3_SSE is aws:kms or aws:kms:dsse")


def _access_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    for name in values["PUBLIC_PRESETS"]:
        if name not in values["PRESETS"]:
            yield Fault("PUBLIC_PRESETS", f"names {name}, which PRESETS does not have")


def doubts(
    values: Mapping[str, Any], environment: Environment, settings: Sequence[Setting]
) -> tuple[str, ...]:
    """What is allowed but probably not meant, one sentence each, without any value."""
    return (
        *_unsafe(values),
        *_forgetful(values),
        *_unused(values, environment),
        *_unknown(environment, settings),
    )


def _unsafe(values: Mapping[str, Any]) -> Iterator[str]:
    if not values["CHROMIUM_SANDBOX"] and "chromium" in values["PROVIDERS"]:
        yield f"Chromium runs without its sandbox ({DOCUMENTATION}#the-sandbox)."


def _forgetful(values: Mapping[str, Any]) -> Iterator[str]:
    if values["WEBHOOK_SECRET"] and sum(values["WEBHOOK_RETRIES"]) >= values["JOB_RETENTION"]:
        yield "WEBHOOK_RETRIES lasts longer than JOB_RETENTION: late messages tell of jobs that are gone."


def _unused(values: Mapping[str, Any], environment: Environment) -> Iterator[str]:
    http_names = [name for name in values["PROVIDERS"] if name in HTTP_PROVIDERS]
    unused = [
        name
        for provider, each in HTTP_PROVIDERS.items()
        for name in (each.key_setting, each.base_setting)
        if values[name] and provider not in http_names
    ]
    unused += [name for name in SINGLE_PROVIDER_SETTINGS if values[name] and not http_names]
    for name in unused:
        yield f"{name} has no effect, because PROVIDERS does not name its provider."
    if values["SIGNED_URL_MAX_SECONDS"] and not values["SIGNING_KEYS"]:
        yield "SIGNED_URL_MAX_SECONDS has no effect, because SIGNING_KEYS is not set."
    if not values["S3_BUCKET"]:
        for name in sorted(environment.names()):
            if name.startswith("S3_") and name.removesuffix("_FILE") in values:
                yield f"{name} has no effect, because S3_BUCKET is not set."


def _unknown(environment: Environment, settings: Sequence[Setting]) -> Iterator[str]:
    known = [spelling for declared in settings for spelling in declared.spellings]
    for name in sorted(environment.names().difference(known, _service_links(environment.names()))):
        if name.startswith("AWS_"):  # the SDK's own, some of which are called almost like ours
            if name in environment.names_in_file_alone():
                yield f"{name} has no effect in .env: the AWS SDK reads the environment alone."
            continue
        if name == "CACHE_DIRECTORY":  # what systemd says of CacheDirectory=
            continue
        similar = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if not similar and not OWN_PREFIX.match(name) and name not in environment.file_names():
            continue
        question = f" Did you mean {similar[0]}?" if similar else ""
        yield f"{name} is no setting of this service.{question}"


def _service_links(names: Collection[str]) -> Iterator[str]:
    """What Kubernetes tells every container of each other service, whatever that is called.

    Source: Kubernetes, "Service", discovery by environment variables.
    """
    services = tuple(name.removesuffix("SERVICE_HOST") for name in names if name.endswith("_SERVICE_HOST"))
    of_services = (name for name in names if name.startswith(services))
    return (name for name in of_services if SERVICE_LINK.search(name))
