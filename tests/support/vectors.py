"""The published test vectors of signed URLs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

RECIPES = Path(__file__).parent.parent.parent / "docs/recipes"
VECTORS_FILE = RECIPES / "vectors.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One signed URL: what goes in, what is signed, and what comes out."""

    name: str
    base: str
    path: str
    parameters: list[list[str]]
    kid: str
    exp: int | None
    string_to_sign: str
    sig: str
    url: str

    @property
    def signed_parameters(self) -> list[tuple[str, str]]:
        """The parameters with those that signing adds, but ``sig``."""
        added = {"kid": self.kid} | ({} if self.exp is None else {"exp": str(self.exp)})
        return [*((name, value) for name, value in self.parameters), *added.items()]


_DOCUMENT = json.loads(VECTORS_FILE.read_text(encoding="utf-8"))
KEYS: dict[str, str] = _DOCUMENT["keys"]
VECTORS = [Vector(**each) for each in _DOCUMENT["vectors"]]
#: The vectors' keys as the setting has them.
SIGNING_KEYS = ",".join(f"{kid}:{digits}" for kid, digits in KEYS.items())
