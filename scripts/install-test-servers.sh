#!/bin/sh
# Installs the servers that the tests start: Redis and nginx.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

missing=
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v nginx >/dev/null || missing="$missing nginx"
# shellcheck disable=SC2086  # several words are meant
[ -z "$missing" ] || scripts/apt-install.sh $missing
