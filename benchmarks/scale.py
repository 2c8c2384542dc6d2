"""How long and how often to measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """``rounds`` of ``seconds`` each for loads; ``repeats`` for what is done a number of times each round."""

    rounds: int
    seconds: int
    repeats: int


FULL = Scale(rounds=5, seconds=3, repeats=100)
QUICK = Scale(rounds=3, seconds=1, repeats=20)
