/* The text formats: one line each. */
#include "data/format_record.h"

#define FORMAT(...) &(const format_t) {__VA_ARGS__}

const format_t *const format_table[] = {
    FORMAT("ndjson", "one JSON object a line", format_ndjson_decoder, format_ndjson_encoder),
    FORMAT("json", "JSON: an object, an array of objects, or several in a row; written as ndjson", format_json_decoder, format_ndjson_encoder),
    FORMAT("csv", "comma-separated values with a header row", format_csv_decoder, format_csv_encoder),
    FORMAT("tsv", "tab-separated values with a header row", format_tsv_decoder, format_tsv_encoder),
    FORMAT("lines", "raw lines, each a string in one field", format_lines_decoder, format_lines_encoder),
    FORMAT("logfmt", "lines of key=value pairs", format_logfmt_decoder, format_logfmt_encoder),
    FORMAT("common", "access logs of web servers: the Common Log Format", format_common_decoder, NULL),
    FORMAT("combined", "access logs as Apache and nginx write them: common, with referrer and user agent", format_combined_decoder, NULL),
    FORMAT("syslog", "files of syslog: messages of RFC 5424 or RFC 3164, with or without priority, one a line", format_syslog_decoder, NULL),
    FORMAT("regex", "lines that --pattern takes apart into the fields that its groups name", format_regex_decoder, NULL),
    FORMAT("statsd", "metrics as statsd's clients send them, NAME:VALUE|TYPE|@RATE|#TAGS", format_statsd_decoder, NULL),
    FORMAT("xml", "XML: the elements at --xml-records, by default those right inside of the root", format_xml_decoder, NULL),
    FORMAT("msgpack", "msgpack maps or [time, map] entries in a row", format_msgpack_decoder, format_msgpack_encoder),
    NULL,
};
