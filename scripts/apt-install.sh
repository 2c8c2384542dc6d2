#!/bin/sh
# Installs those of the named Debian packages that are missing: as root, else with sudo.
set -eu

missing=
for package in "$@"; do
    if ! dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Please install what these Debian packages hold:$missing" >&2
    exit 1
fi
# One after the other, for those who set up side by side: apt does not wait for itself. The servers that it
# starts must not inherit the lock.
exec 9<"$0"
flock 9
as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root=sudo
    # Without a terminal sudo could only fail or hang at its question.
    if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
        echo "Please install as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086  # words are meant to be split: no sudo at all, and several packages
install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing
}
echo "Installing$missing"
# The package lists of a fresh machine are empty or old: fetch them where the first attempt fails.
if ! { install || { $as_root apt-get update && install; }; } >"$log" 2>&1 9<&-; then
    tail -n 20 "$log" >&2
    echo "Could not install$missing" >&2
    exit 1
fi
