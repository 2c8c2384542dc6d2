"""Under whom the browser runs: as an ordinary user, even where the service runs as root.

Chromium refuses root its sandbox, and a page that breaks out of a root's renderer has the machine. So a
root's browser is started through a small script that becomes a user whom nobody else is, and then the
browser. The service itself stays what it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Numbers that are nobody's: those that systemd, too, gives to users for the length of a service.
FIRST_UID = 61184
UIDS = 4336

LAUNCHER = Path(__file__).parent / "assets" / "as_ordinary_user.sh"

Environment = dict[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class OrdinaryUser:
    """The user that a root's browser runs as, and a folder that this user may write to."""

    uid: int
    home: Path

    def environment(self, program: Path, environment: Mapping[str, str | float | bool]) -> Environment:
        """``environment`` with what ``LAUNCHER`` needs to start ``program``, and no folder of root's."""
        folders = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(self.home))
        kept = {name: value for name, value in environment.items() if name not in ("XDG_RUNTIME_DIR", "USER")}
        return {**kept, **folders, "BROWSER_PROGRAM": str(program), "BROWSER_UID": str(self.uid)}


def ordinary_user(folder: str) -> OrdinaryUser | None:
    """Whom to run the browser as, with a home in ``folder``; None unless this process is root's.

    Others may pass through the folder afterwards, but neither list nor write it. Raises OSError.
    """
    if os.geteuid() != 0:
        return None
    home = Path(folder, "browser")
    uid = _free_uid()
    home.mkdir(mode=0o700)
    os.chown(home, uid, uid)
    Path(folder).chmod(0o711)
    return OrdinaryUser(uid, home)


def _free_uid() -> int:
    """A number that no process has; two that start at the same moment begin their search apart."""
    taken = {path.stat().st_uid for path in Path("/proc").glob("[0-9]*") if path.exists()}
    start = os.getpid()
    return next(uid for step in range(UIDS) if (uid := FIRST_UID + (start + step) % UIDS) not in taken)
