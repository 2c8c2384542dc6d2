#!/bin/sh
# Makes .venv, or the folder named, and installs exactly what a lock file names:
# scripts/setup.sh LOCKFILE [FOLDER]
set -eu
cd "$(dirname "$0")/.."
lock=$1
venv=${2:-.venv}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or later is needed; name it by PYTHON=/path/to/python3" >&2
    return 1
}

if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        # Debian and Ubuntu keep this part of Python in a package of its own.
        scripts/apt-install.sh "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    echo "Making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

echo "Installing $lock"
# The lock is complete, so nothing is resolved; every file has to have one of the hashes in it.
"$venv/bin/python" -m pip install --quiet --quiet --no-input --disable-pip-version-check --no-deps \
    --no-compile --require-hashes --requirement "$lock"
# By all cores, where pip has but one. What no Python can read, such as a package's templates, stays as it is.
"$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" || true

# The service reads .env by itself. Flask would do so, too, before any command: it breaks with a trace where it cannot, and shows
# libraries variables that the service's own processes do not have.
cp scripts/skip_dotenv.pth "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
