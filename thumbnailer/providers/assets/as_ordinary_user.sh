#!/bin/sh
# Starts the browser as the user whom ordinary_user.py names in the environment: hands the profile
# folder over, gives up every right of root's for good, and becomes the browser.
set -eu

for argument; do
    case $argument in
        --user-data-dir=*) chown -- "$BROWSER_UID:$BROWSER_UID" "${argument#*=}" ;;
    esac
done

program=$BROWSER_PROGRAM uid=$BROWSER_UID
unset BROWSER_PROGRAM BROWSER_UID
exec setpriv --reuid="$uid" --regid="$uid" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs -- \
    "$program" "$@"
