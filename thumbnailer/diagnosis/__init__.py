"""What ``flask doctor`` looks at, and what it says: checks, verdicts, findings.

Each module beside this one holds the checks of one kind of part: small functions that try something with
what the service itself would use, change nothing that lasts, and say what came of it. ``wiring/diagnosis/``
lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from thumbnailer.model import Deadline

#: What is looked at, in the order in which one thing needs another.
PARTS = (
    "configuration",
    "machine",
    "database",
    "cache",
    "limits",
    "storage",
    "guard",
    "providers",
    "jobs",
    "access",
    "service",
)


class State(StrEnum):
    """How a part does. What is skipped could not be tried, for its settings have faults."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to.

    ``found`` is what it saw; ``advice`` one sentence for the operator, and ``page`` where the documentation
    says more: empty where all is well, or where the check's own page does.
    """

    state: State
    found: str
    advice: str = ""
    page: str = ""


def well(found: str) -> Verdict:
    """There is nothing to do."""
    return Verdict(State.OK, found)


def doubtful(found: str, advice: str, page: str = "") -> Verdict:
    """It works, and is perhaps not meant like this, or will not work for long."""
    return Verdict(State.WARNING, found, advice, page)


def wrong(found: str, advice: str, page: str = "") -> Verdict:
    """It does not work."""
    return Verdict(State.FAILED, found, advice, page)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One look at one part.

    ``tried`` says what is done, in a few words; ``look`` does it before a deadline, and what it raises counts
    as a failure. ``advice`` is for a failure that ``look`` has no better word for.
    """

    part: str
    name: str
    tried: str
    look: Callable[[Deadline], Verdict]
    page: str
    advice: str = "Read the page, and the service's log."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A check and its verdict; ``seconds`` is how long it took."""

    part: str
    check: str
    state: State
    tried: str
    found: str
    advice: str
    docs: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Examination:
    """All checks there are for a deployment, in the order in which they make sense.

    ``secrets`` are texts that no finding may hold.
    """

    checks: Sequence[Check]
    secrets: frozenset[str]


def worst(findings: Sequence[Finding]) -> State:
    """Failed where anything failed, else a warning where there is one."""
    states = {finding.state for finding in findings}
    return next((state for state in (State.FAILED, State.WARNING) if state in states), State.OK)
