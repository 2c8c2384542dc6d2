#!/bin/sh
# Finds a Chromium for captures or installs one, and the fonts that pages need. Needs .venv.
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

scripts/apt-install.sh fonts-liberation fonts-noto-core fonts-noto-color-emoji fonts-noto-cjk ||
    echo "Going on without them: some scripts and emoji will show as boxes" >&2
