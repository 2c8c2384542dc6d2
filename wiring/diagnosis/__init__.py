"""What ``flask doctor`` looks at, from the settings: the list of all checks.

Everything is tried with the parts that the service itself is made of, and in the order in which one thing
needs another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from config import ConfigurationError, Reading, Settings, groups_with, secret_values
from settings.reading import DOCUMENTATION, DOTENV, Fault
from thumbnailer.diagnosis import Check, Examination, State, Verdict, doubtful, well, wrong
from thumbnailer.diagnosis.reasons import reason_of
from thumbnailer.diagnosis.secrecy import passwords_in
from thumbnailer.model import Deadline
from thumbnailer.signing import SigningKeys
from wiring.diagnosis.access import access_checks, guard_checks, service_checks
from wiring.diagnosis.machine import machine_checks, room_checks
from wiring.diagnosis.providers import breaker_checks, provider_checks
from wiring.diagnosis.stores import cache_checks, database_checks, job_checks, limit_checks, storage_checks
from wiring.web import check_settings

Make = Callable[[Settings], Iterator[Check]]


@dataclass(frozen=True, slots=True)
class Subject:
    """Checks that belong together; ``groups`` are those of ``Settings`` that they go by."""

    part: str
    groups: frozenset[str]
    make: Make


def _subject(part: str, groups: str, make: Make) -> Subject:
    return Subject(part, frozenset(groups.split()), make)


SUBJECTS = (
    _subject("machine", "", machine_checks),
    _subject("machine", "server providers", room_checks),
    _subject("database", "database", database_checks),
    _subject("cache", "cache limits", cache_checks),
    _subject("limits", "cache limits", limit_checks),
    _subject("storage", "storage s3", storage_checks),
    _subject("guard", "targets", guard_checks),
    _subject("providers", "providers chromium pictures", provider_checks),
    _subject("providers", "providers cache", breaker_checks),
    _subject("jobs", "cache jobs database webhooks", job_checks),
    _subject("access", "access database doors signing webhooks", access_checks),
    _subject("service", "doors server", service_checks),
)


def plan_examination(reading: Reading, start_error: Exception | None) -> Examination:
    """All checks of a deployment.

    ``start_error`` is why the application could not be made. Where a setting has a fault, the checks of
    what it belongs to are skipped: they would look at something else.
    """
    faults = _all_faults(reading, start_error)
    at_fault = groups_with({fault.name for fault in faults})
    is_lost = any(fault.name == DOTENV for fault in faults)  # what stands there, nobody knows
    checks = list(_of_configuration(reading.settings, faults, start_error))
    for subject in SUBJECTS:
        if subject.groups and (is_lost or subject.groups & at_fault):
            checks.append(_skipped(subject.part))
        else:
            checks += _made(subject, reading.settings)
    return Examination(checks, _secrets_of(reading.settings))


def _all_faults(reading: Reading, start_error: Exception | None) -> tuple[Fault, ...]:
    """The faults that the start would name, and those that it would come to once the first are mended."""
    faults = set(reading.faults)
    if isinstance(start_error, ConfigurationError):
        faults.update(start_error.faults)
    if not reading.faults:
        try:
            check_settings(reading.settings)
        except ConfigurationError as error:
            faults.update(error.faults)
    return tuple(sorted(faults))


def _of_configuration(
    settings: Settings, faults: Sequence[Fault], start_error: Exception | None
) -> Iterator[Check]:
    """One line for each fault and each doubt, one where there are none."""
    check = partial(Check, part="configuration", tried="read and check all settings")
    if not faults and not settings.warnings:
        found = well(f"all settings are right; the profile is {settings.profile}")
        yield check(name="settings", look=_said(found), page=DOCUMENTATION)
    for fault in faults:
        verdict = wrong(
            f"{fault.name} {fault.problem}", f"Mend {fault.name}; the service does not start with it."
        )
        yield check(name=fault.name, look=_said(verdict), page=fault.page)
    for doubt in settings.warnings:
        verdict = doubtful(doubt, "Take it out, or change it to what is meant.")
        yield check(name="doubt", look=_said(verdict), page=DOCUMENTATION)
    if start_error is not None and not isinstance(start_error, ConfigurationError):
        verdict = wrong(reason_of(start_error), "Mend what it names; the service does not start with it.")
        yield check(name="start", tried="make the application", look=_said(verdict), page=DOCUMENTATION)


def _made(subject: Subject, settings: Settings) -> list[Check]:
    """The checks of a subject; one that says why, where not even its parts can be made."""
    try:
        return list(subject.make(settings))
    except Exception as error:  # noqa: BLE001  # whatever a part's library thinks of its settings
        verdict = wrong(reason_of(error), "Mend the setting that it speaks of.")
        look = _said(verdict)
        return [Check(part=subject.part, name="-", tried="make it", look=look, page=DOCUMENTATION)]


def _skipped(part: str) -> Check:
    verdict = Verdict(State.SKIPPED, "its settings have faults")
    return Check(part=part, name="-", tried="nothing", look=_said(verdict), page=DOCUMENTATION)


def _said(verdict: Verdict) -> Callable[[Deadline], Verdict]:
    return lambda _deadline: verdict


def _secrets_of(settings: Settings) -> frozenset[str]:
    return frozenset(text for value in secret_values(settings) for text in _texts_of(value))


def _texts_of(value: Any) -> Iterator[str]:
    """What of a secret setting must not be said: of a URL its password, of the others all."""
    if isinstance(value, SigningKeys):
        yield from (key.secret.hex() for key in value.keys)
    elif isinstance(value, tuple):
        yield from value
    elif "://" in str(value):
        yield from passwords_in(str(value))
    else:
        yield str(value)
