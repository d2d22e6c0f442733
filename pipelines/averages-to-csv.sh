#!/bin/sh
# A file of measurements to a table of averages: NDJSON (or CSV) in, windows in event time, CSV out.
#     pipelines/averages-to-csv.sh FILE TIME_FIELD KEY_FIELD VALUE_FIELD WINDOW OUT.csv
set -eu
PATH="${STREAM_BIN:-$(dirname "$0")/../bin}:$PATH"
file=${1:?FILE} time=${2:?TIME_FIELD} key=${3:?KEY_FIELD} value=${4:?VALUE_FIELD} window=${5:?WINDOW} out=${6:?OUT.csv}
ingest "$file" --time "$time" |
    process "window tumbling $window by $key: count() as events, avg($value) as average, min($value) as least, max($value) as greatest" |
    broadcast "file:$out?format=csv"
