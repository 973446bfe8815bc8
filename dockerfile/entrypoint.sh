#!/usr/bin/env bash
# What a container does:
#   head [ray options]            the head node of a Ray cluster
#   worker HOST:PORT [options]    one more node of it
#   doctor | train | ...          a command of openrlhf-ext
#   anything else                 is run as it is, e.g. bash
set -euo pipefail

role=${1:-doctor}
case "$role" in
    head)
        shift
        exec ray start --head --block --port "${RAY_PORT:-6379}" --dashboard-host 0.0.0.0 --disable-usage-stats "$@"
        ;;
    worker)
        [ $# -ge 2 ] || { echo "worker needs the head's address: worker HOST:PORT" >&2 && exit 2; }
        address=$2
        shift 2
        exec ray start --address "$address" --block --disable-usage-stats "$@"
        ;;
    doctor | prepare | train | merge | collect | explore | evaluate | search | grade | report | jobs | -h | --help | --version)
        exec openrlhf-ext "$role" "${@:2}"
        ;;
    *)
        exec "$@"
        ;;
esac
