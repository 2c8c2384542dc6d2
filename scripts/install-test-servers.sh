#!/bin/sh
# Installs the servers that the tests start, Redis, nginx and PostgreSQL, the languages of the recipes, and what
# checks the alerts and the units: promtool and systemd-analyze.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

missing=
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v nginx >/dev/null || missing="$missing nginx"
command -v php >/dev/null || missing="$missing php-cli"
command -v ruby >/dev/null || missing="$missing ruby"
command -v promtool >/dev/null || missing="$missing prometheus"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
# Debian keeps its programs out of the path, one folder for each version.
PATH=$PATH:$(printf '%s:' /usr/lib/postgresql/*/bin)
command -v initdb >/dev/null || missing="$missing postgresql"
# shellcheck disable=SC2086  # several words are meant
[ -z "$missing" ] || scripts/apt-install.sh $missing
