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
renew_lists() {
    $as_root timeout --foreground 120 apt-get -o Acquire::Retries=0 -o Acquire::http::Timeout=10 update
}
# Their folders change whenever some are fetched; the lists themselves are as old as what they list.
are_lists_of_today() {
    lists=
    eval "$(apt-config shell lists Dir::State::lists/d)"
    [ -n "$(find "$lists" "$lists/partial" -maxdepth 0 -mtime -1 2>/dev/null)" ]
}
# By old lists a browser of months ago would be installed, with all the holes that have been closed since.
# Without a network they have to do.
prepare_and_install() {
    are_lists_of_today || renew_lists || true
    # Those of a fresh machine are empty.
    install || { renew_lists && install; }
}
echo "Installing$missing"
if ! prepare_and_install >"$log" 2>&1 9<&-; then
    tail -n 20 "$log" >&2
    echo "Could not install$missing" >&2
    exit 1
fi
