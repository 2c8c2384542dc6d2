#!/bin/sh
# Finds a Chromium for captures or installs one, what its driver needs, and the fonts of pages. Needs .venv.
set -eu
cd "$(dirname "$0")/.."

has_chromium() {
    if [ -n "${CHROMIUM_PATH:-}" ]; then
        [ -x "$CHROMIUM_PATH" ]
    else
        .venv/bin/python -c 'import sys
from thumbnailer.providers.launch import find_chromium
sys.exit(find_chromium() is None)'
    fi
}

if ! has_chromium; then
    # Debian has the small headless shell; elsewhere Playwright brings its own.
    scripts/apt-install.sh chromium-headless-shell ||
        .venv/bin/python -m playwright install --with-deps chromium-headless-shell ||
        .venv/bin/python -m playwright install chromium-headless-shell
    has_chromium || { echo "No Chromium was found; name one by CHROMIUM_PATH" >&2; exit 1; }
fi

# Playwright's driver needs it, and does not bring it. Compilers do, but small machines have none.
.venv/bin/python -c 'import ctypes; ctypes.CDLL("libatomic.so.1")' 2>/dev/null || scripts/apt-install.sh libatomic1

scripts/apt-install.sh fonts-liberation fonts-noto-core fonts-noto-color-emoji fonts-noto-cjk ||
    echo "Going on without them: some scripts and emoji will show as boxes" >&2
