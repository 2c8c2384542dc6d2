"""Checks of the machine: its Python, libvips, memory, files and user."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
from pathlib import Path

from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.encoding import encode
from thumbnailer.libvips import claim, vips
from thumbnailer.model import Deadline
from thumbnailer.renditions import RenditionFormat

MIB = 1024 * 1024

#: What a worker process takes up, in MiB: as measured in docs/deployment.md#memory, and a fair start.
LEAST_WITH_BROWSER, FAIR_WITH_BROWSER = 300, 500
LEAST_WITHOUT, FAIR_WITHOUT = 50, 100

#: Where a cgroup keeps its limit: version 2, then 1, which writes a huge number for none.
MEMORY_LIMIT_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
MEMORY_FILE = Path("/proc/meminfo")

#: The browser's profile and shared memory lie in the temporary folder, and streams are spooled there.
LEAST_TEMPORARY_BYTES, FAIR_TEMPORARY_BYTES = 32 * MIB, 256 * MIB

#: Beside the clients' connections: those of gunicorn, as many as its configuration allows to be idle; those
#: of the browser's way out, two for each of 512; files, pipes and neighbours.
IDLE_CONNECTIONS, BROWSER_FILES, OTHER_FILES = 1000, 1024, 100

#: What libvips is allowed to read here.
DECODED = (RenditionFormat.PNG, RenditionFormat.JPEG, RenditionFormat.WEBP)


def names_its_python(_deadline: Deadline) -> Verdict:
    """An older Python would not come as far as this."""
    return well(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")


def encodes_every_format(_deadline: Deadline) -> Verdict:
    """Writes a small picture in each format, and reads those that captures come in."""
    claim()
    library = vips()
    version = ".".join(str(library.version(part)) for part in range(3))
    picture = library.Image.black(16, 16, bands=3).copy(interpretation="srgb")
    lacking = []
    for wanted in RenditionFormat:
        try:
            body = encode(picture, wanted).body
            if wanted in DECODED:
                library.Image.new_from_buffer(body, "").avg()
        except library.Error:
            lacking.append(wanted.value)
    if lacking:
        advice = "Install the packages of requirements.lock, whose libvips has them all."
        return wrong(f"libvips {version} cannot do {', '.join(lacking)}", advice)
    return well(f"libvips {version}: {', '.join(wanted.value for wanted in RenditionFormat)}")


def has_memory(_deadline: Deadline, *, workers: int, has_browser: bool) -> Verdict:
    """Compares the limit of this container, or the machine's memory, with what the workers take up."""
    limit_bytes, whose = _memory_limit()
    if limit_bytes is None:
        return well("nothing says how much memory there is")
    each = limit_bytes // MIB // workers
    least, fair = (LEAST_WITH_BROWSER, FAIR_WITH_BROWSER) if has_browser else (LEAST_WITHOUT, FAIR_WITHOUT)
    found = f"{limit_bytes // MIB} MiB, {whose}, for {workers} web {'worker' if workers == 1 else 'workers'}"
    advice = f"Give it {fair * workers} MiB, or set WEB_CONCURRENCY to {max(1, limit_bytes // MIB // fair)}."
    if each < least:
        return wrong(found, advice)
    return doubtful(found, advice) if each < fair else well(found)


def _memory_limit() -> tuple[int | None, str]:
    machine = _machine_memory()
    for path in MEMORY_LIMIT_FILES:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal() and (machine is None or int(text) < machine):
            return int(text), "the limit of this container"
    return machine, "the memory of this machine"


def _machine_memory() -> int | None:
    try:
        lines = MEMORY_FILE.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def has_processors(_deadline: Deadline, *, workers: int, cores: int) -> Verdict:
    """Compares the worker processes with the processor cores that they may use."""
    found = f"{workers} web {'worker' if workers == 1 else 'workers'} on {cores} cores"
    if workers > cores:
        return doubtful(found, f"Set WEB_CONCURRENCY to {cores}: more processes than cores gain nothing.")
    return well(found)


def has_room_for_drafts(_deadline: Deadline) -> Verdict:
    """Writes a file to the temporary folder, and looks at how much more would fit.

    /dev/shm does not matter: the browser is told to keep its shared memory here as well.
    """
    folder = tempfile.gettempdir()
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"written by flask doctor")
        file.flush()
    free = shutil.disk_usage(folder).free
    found = f"{free // MIB} MiB are free in {folder}"
    advice = f"Make room for {FAIR_TEMPORARY_BYTES // MIB} MiB, or let TMPDIR name another folder."
    if free < LEAST_TEMPORARY_BYTES:
        return wrong(found, advice)
    return doubtful(found, advice) if free < FAIR_TEMPORARY_BYTES else well(found)


def may_open_files(_deadline: Deadline, *, threads: int, has_browser: bool) -> Verdict:
    """Compares the limit that this command was started under with what one web worker may need."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return well("there is no limit")
    needed = threads + IDLE_CONNECTIONS + OTHER_FILES + (BROWSER_FILES if has_browser else 0)
    found = f"ulimit -n is {limit}; a busy web worker may need {needed}"
    advice = (
        "Raise it: LimitNOFILE=65536 in the systemd unit, ulimits in docker-compose.yml, ulimit -n elsewhere."
    )
    return doubtful(found, advice) if limit < needed else well(found)


def is_nobody_special(_deadline: Deadline, *, is_production: bool) -> Verdict:
    """Looks at who runs this command, which should be who runs the service."""
    user = os.geteuid()
    if user == 0 and is_production:
        advice = "Run the service, and this command, as an ordinary user: what root writes others cannot."
        return doubtful("this command runs as root", advice)
    return well(f"this command runs as user {user}")
