#!/bin/sh
# Starts the browser as the user that ordinary_user.py names in the environment: hands the profile
# folder over, gives up every right of root's for good, and becomes the browser.
set -eu

for argument; do
    case $argument in
        --user-data-dir=*) chown "$BROWSER_UID:$BROWSER_GID" "${argument#*=}" ;;
    esac
done

program=$BROWSER_PROGRAM uid=$BROWSER_UID gid=$BROWSER_GID
unset BROWSER_PROGRAM BROWSER_UID BROWSER_GID
exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all --bounding-set=-all -- "$program" "$@"
