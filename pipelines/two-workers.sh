#!/bin/sh
# One source, two processes that share the work by key, one file. Events of one key always go to the same worker, so that its windows
# are whole.
#     pipelines/two-workers.sh FILE KEY_FIELD PROGRAM OUT
set -eu
PATH="${STREAM_BIN:-$(dirname "$0")/../bin}:$PATH"
file=${1:?FILE} key=${2:?KEY_FIELD} program=${3:?PROGRAM} out=${4:?OUT}
links=$(mktemp -d)
trap 'rm -rf "$links"' EXIT
broadcast "file:$out" --from "ipc://$links/a" --from "ipc://$links/b" &
last=$!
process "$program" --from "ipc://$links/in?partition=0" --to "ipc://$links/a" &
process "$program" --from "ipc://$links/in?partition=1" --to "ipc://$links/b" &
ingest "$file" --to "ipc://$links/in?partitions=2&key=$key"
wait "$last"
