"""Under whom the browser runs: as an ordinary user, even where the service runs as root.

Chromium refuses root its sandbox, and a page that breaks out of an unsandboxed renderer of root's has
the machine. So a root's browser is started through a small script that hands the profile over to
``nobody`` and becomes that user before it becomes the browser.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Debian's account for what should own nothing.
USER = "nobody"

LAUNCHER = Path(__file__).parent / "assets" / "as_ordinary_user.sh"

Environment = dict[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class OrdinaryUser:
    """The user that a root's browser runs as, and a folder that this user may write to."""

    uid: int
    gid: int
    home: Path

    def environment(self, program: Path, environment: Mapping[str, str | float | bool]) -> Environment:
        """``environment`` with what ``LAUNCHER`` needs to start ``program``, and no folder of root's."""
        home = str(self.home)
        folders = {"HOME": home, "TMPDIR": home, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home}
        kept = {name: value for name, value in environment.items() if name != "XDG_RUNTIME_DIR"}
        program_and_user = {"BROWSER_PROGRAM": str(program), "BROWSER_UID": str(self.uid), "BROWSER_GID": str(self.gid)}
        return {**kept, **folders, "USER": USER, **program_and_user}


def ordinary_user(folder: str) -> OrdinaryUser | None:
    """Whom to run the browser as, with a new home in ``folder``; None unless this process is root's.

    The folder is opened for passing through, and for nothing else. Raises OSError, and KeyError where
    the system has no such user.
    """
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam(USER)
    home = Path(folder, "browser")
    home.mkdir(mode=0o700, exist_ok=True)
    os.chown(home, account.pw_uid, account.pw_gid)
    Path(folder).chmod(0o711)
    return OrdinaryUser(account.pw_uid, account.pw_gid, home)
