"""Makes findings of checks: each for itself, in bounded time, whatever it raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from thumbnailer.bounded_calls import BoundedCalls
from thumbnailer.diagnosis import Check, Examination, Finding, State, Verdict
from thumbnailer.diagnosis.reasons import reason_of
from thumbnailer.diagnosis.secrecy import Veil
from thumbnailer.model import Deadline

#: What hangs keeps a place; there is one for every check there could be.
PLACES = 256
#: Of the time that a check has, what it may take by itself: the rest is for tidying up.
OWN_SHARE = 0.9


def examine(
    examination: Examination, *, seconds: float, only: frozenset[str] = frozenset()
) -> Iterator[Finding]:
    """The findings one after another, each after at most ``seconds``; ``only`` names parts, none for all."""
    calls, veil = BoundedCalls(PLACES), Veil(examination.secrets)
    with _silence():
        for check in examination.checks:
            if not only or check.part in only:
                yield _look(check, seconds, calls, veil)


def _look(check: Check, seconds: float, calls: BoundedCalls, veil: Veil) -> Finding:
    begun_at = time.perf_counter()
    try:
        verdict = calls.run(lambda: check.look(Deadline.after(seconds * OWN_SHARE)), seconds)
    except TimeoutError:
        verdict = Verdict(State.FAILED, f"no end after {seconds:g} seconds")
    except Exception as error:  # noqa: BLE001  # nothing that is wrong may end the examination
        verdict = Verdict(State.FAILED, reason_of(error))
    is_at_fault = verdict.state in (State.WARNING, State.FAILED)
    return Finding(
        part=check.part,
        check=check.name,
        state=verdict.state,
        tried=veil.over(check.tried),
        found=veil.over(verdict.found),
        advice=veil.over(verdict.advice or check.advice) if is_at_fault else "",
        docs=(verdict.page or check.page) if is_at_fault else "",
        seconds=time.perf_counter() - begun_at,
    )


@contextmanager
def _silence() -> Iterator[None]:
    """The log says nothing meanwhile: the findings say it, and know what is secret."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
