#!/bin/sh
# This machine's processor and memory as text, a line per reading: an ordinary program (awk) at the end of the pipe.
#     pipelines/watch-machine.sh [READINGS] [INTERVAL]
set -eu
PATH="${STREAM_BIN:-$(dirname "$0")/../bin}:$PATH"
readings=${1:-10} interval=${2:-1s}
ingest system: --kinds system --interval "$interval" --count "$readings" |
    process 'keep cpu_percent, memory_percent | set line = concat(cpu_percent, " ", memory_percent) | keep line' |
    awk -F'"' '{ split($4, n, " "); printf "cpu %5.1f %%   memory %5.1f %%\n", n[1], n[2]; fflush() }'
