#!/bin/sh
# Runs every test, several at a time: scripts/test.sh WORKERS [PYTEST ARGUMENTS]
#
# Tests share the machine with each other, and real browsers, servers and workers have time limits. So a
# handful of tests that fail beside others are named and run once more, one after the other with nothing
# beside them. What fails then as well fails the run.
set -eu
cd "$(dirname "$0")/.."
workers=$1
shift
most_again=3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

status=0
.venv/bin/pytest -n "$workers" --dist worksteal -q -o cache_dir="$folder" "$@" || status=$?
[ "$status" -eq 1 ] || exit "$status"

.venv/bin/python - "$folder" "$most_again" <<'EOF' || exit 1
import json
import sys
from pathlib import Path

folder, most_again = Path(sys.argv[1]), int(sys.argv[2])
failed = list(json.loads((folder / "v/cache/lastfailed").read_text()))
if len(failed) > most_again or not all("::" in test for test in failed):
    sys.exit(1)
(folder / "again").write_text("\n".join(failed))
EOF

echo "Failed beside others, and run again alone:"
cat "$folder/again"
echo
.venv/bin/pytest -q "@$folder/again"
