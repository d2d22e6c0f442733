#!/bin/sh
# The same tools over acknowledged links: each may run in a terminal (with tcp://, on a machine) of its own, be killed and
# started again. The end of the stream runs through all three, so that the script ends when everything is delivered.
#     pipelines/separate-processes.sh FILE PROGRAM OUT
set -eu
PATH="${STREAM_BIN:-$(dirname "$0")/../bin}:$PATH"
file=${1:?FILE} program=${2:?PROGRAM} out=${3:?OUT}
links=$(mktemp -d)
trap 'rm -rf "$links"' EXIT
broadcast "file:$out" --from "ipc://$links/out" &
last=$!
process "$program" --from "ipc://$links/in" --to "ipc://$links/out" &
ingest "$file" --to "ipc://$links/in"
wait "$last"
