#!/bin/sh
# Two tools and a pipe: generated measurements, of which the hot ones are kept. Lines of JSON on standard output.
#     pipelines/hot-sensors.sh [COUNT] [DEGREES]
set -eu
PATH="${STREAM_BIN:-$(dirname "$0")/../bin}:$PATH"
count=${1:-1000} degrees=${2:-25}
ingest generator:sensors --rate 0 --count "$count" --seed 1 |
    process "where temperature > $degrees | keep sensor_id, location, temperature"
