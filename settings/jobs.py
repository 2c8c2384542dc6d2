"""Settings of what goes on behind the answers: jobs, and the webhooks that tell of them."""

from __future__ import annotations

from dataclasses import dataclass

from settings.reading import setting
from settings.values import integer, listed, seconds, sequence
from thumbnailer.webhooks import parse_secret


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How jobs are done."""

    concurrency: int = setting(
        "JOB_CONCURRENCY", integer(1, 256), "4", "Jobs that one worker process does at once."
    )
    queue: int = setting(
        "JOB_QUEUE",
        integer(1, 1_000_000),
        "1000",
        "Jobs that may wait for a worker; when there are more, new ones are refused.",
    )
    retention_seconds: float = setting(
        "JOB_RETENTION",
        seconds(60, 31_536_000),
        "86400",
        "Seconds for which jobs, batches and webhook deliveries are kept after their end.",
    )
    retries: int = setting(
        "JOB_RETRIES", integer(0, 20), "2", "How often a job is tried again after a provider failed."
    )
    attempts: int = setting(
        "JOB_ATTEMPTS",
        integer(1, 1000),
        "10",
        "How often a job is begun at most, whether it is tried again or its worker died.",
    )
    lease_seconds: float = setting(
        "JOB_LEASE",
        seconds(3, 600),
        "15",
        "Seconds without a sign of life after which a job is taken from its worker and begun again.",
    )
    metrics_port: int = setting(
        "JOB_METRICS_PORT",
        integer(0, 65_535),
        "0",
        "TCP port on which a Celery worker serves its metrics to Prometheus, at `HOST`; 0 for none.",
    )


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """How pages are kept photographed."""

    limit: int = setting(
        "PAGE_LIMIT", integer(1, 10_000_000), "10000", "Pages that are kept photographed at most."
    )
    versions: int = setting(
        "PAGE_VERSIONS", integer(1, 1000), "5", "Good pictures of each page that are kept."
    )
    changed_bits: int = setting(
        "PAGE_CHANGE_THRESHOLD",
        integer(1, 256),
        "12",
        "How different a page has to look for `page.changed`: bits of 256.",
    )


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """How receivers are told."""

    secrets: tuple[str, ...] = setting(
        "WEBHOOK_SECRET",
        listed(parse_secret),
        "",
        "The secret that signs webhooks, `whsec_…`; several, separated by commas, while one is replaced.",
        secret=True,
    )
    timeout_seconds: float = setting(
        "WEBHOOK_TIMEOUT", seconds(1, 60), "15", "Seconds that a receiver has for its answer."
    )
    pauses_seconds: tuple[float, ...] = setting(
        "WEBHOOK_RETRIES",
        sequence(seconds(0.1, 604_800)),
        "5,300,1800,7200,18000,36000",
        "Seconds between the attempts to deliver a webhook; after the last one it has failed.",
    )
    silences: int = setting(
        "WEBHOOK_SILENCES",
        integer(1, 1000),
        "3",
        "Attempts in a row that a receiver leaves without an answer until it is left alone.",
    )
    rest_seconds: float = setting(
        "WEBHOOK_REST",
        seconds(0, 86_400),
        "300",
        "Seconds for which such a receiver is left alone; `0`: never.",
    )
