/* What functions of other languages are called here. */
#include "data/lang/function.h"

#include <stdio.h>
#include <strings.h>

/* In small letters, without _ ; several names may stand behind each other. What is here is the remedy of the hint. */
typedef struct foreign {
    const char *names, *here;
} foreign_t;

static const foreign_t foreign_names[] = {
    {"len size strlen charlength characterlength cardinality arraylength mapsize", "length"},
    {"numbytes octetlength bytelen bytesize", "byte_length"},
    {"substr mid", "substring"},
    {"left", "substring(text, 0, n), or truncate"},
    {"right", "substring(text, -n)"},
    {"tolower downcase asciidowncase lcase lowercase makelower", "lower"},
    {"toupper upcase asciiupcase ucase uppercase makeupper", "upper"},
    {"initcap titlecase", "title"},
    {"strip stripwhitespace btrim", "trim"},
    {"ltrim lstrip stripstart", "trim_start"},
    {"rtrim rstrip stripend", "trim_end"},
    {"ltrimstr removeprefix stripprefix", "trim_prefix"},
    {"rtrimstr removesuffix stripsuffix", "trim_suffix"},
    {"lpad padleft leftpad", "pad_start"},
    {"rpad padright rightpad", "pad_end"},
    {"startswith hasprefix", "starts_with"},
    {"endswith hassuffix", "ends_with"},
    {"includes inside", "contains"},
    {"strpos position instr charindex indexof find locate indices", "index_of"},
    {"splitvalue splitpart splitindex explode strtok", "split; one part is get(split(text, \",\"), n)"},
    {"implode stringjoin concatws groupconcat listagg", "join"},
    {"sub", "replace, or replace_regex with a pattern"},
    {"gsub regexpreplace rereplaceall", "replace_regex"},
    {"regexpextract regexpsubstring regexpsubstr", "extract"},
    {"capture captures reparse refindobject parsegrok grok", "parse_regex, with (?<name>...) in the pattern"},
    {"scan findall refindall regexpextractall parseregexall refindallsubmatch", "extract_all"},
    {"match test regexpmatches regexplike regexpmatch rlike similarto like ilike rematch any", "text ~ \"pattern\""},
    {"tonumber tofloat float decimal numeric parsenumber parsefloat tonum", "number, double or int"},
    {"toint tointeger integer bigint toint64", "int"},
    {"todouble", "double"},
    {"tostring tochar str text varchar tostr stringify", "string"},
    {"tobool toboolean boolean", "bool"},
    {"cast convert trycast", "int(x), double(x), string(x), bool(x) or time(x)"},
    {"totime totimestamp parsetimestamp timestampparse date datetime todate totimestampltz", "time(x), or parse_time(text, format)"},
    {"strptime strtotime tsparse dateparse", "parse_time(text, format, zone?)"},
    {"strftime formattimestamp dateformat tsformat formatdate sec2gmt strftimelocal", "format_time(time, format, zone?)"},
    {"fromunixtime fromunixtimestamp unixtimestampmillis fromepoch", "time(number)"},
    {"tounixtimestamp unixtimestamp tsunix mktime todate2 toseconds", "epoch(time)"},
    {"tsunixmilli tounixmilli", "epoch_ms(time)"},
    {"datetrunc tstrunc truncdate tumblestart tumble", "time_trunc(time, \"month\"), or time_floor(time, 10s)"},
    {"dateadd timestampadd adddate tsaddiso8601 dateplus", "time_add(time, 1, \"month\"), or time + 1h"},
    {"datesub timestampsub subdate", "time_add(time, -1, \"month\"), or time - 1h"},
    {"datediff timestampdiff tssub datecalc", "time_diff(from, to, \"day\"), or a difference in seconds: to - from"},
    {"dayofweek isoweekday dow", "weekday"},
    {"dayofmonth", "day"},
    {"dayofyear doy", "day_of_year"},
    {"weekofyear isoweek", "week"},
    {"tstz converttimezone attimezone converttz gmttime", "a zone at the end: format_time(time, \"%F %T\", \"Europe/Berlin\")"},
    {"timestamp ts eventtime rowtime proctime", "@timestamp, the event's time"},
    {"nvl ifnull firstnonnull default or catch", "a ?? b"},
    {"isnull isnone isnil isnullish missing", "x is null"},
    {"exists defined isnotnull isdefined notnull", "x is not null"},
    {"nullif", "null_if"},
    {"iif case decode choose iff", "if(condition, a, b)"},
    {"lag prev previous", "the operator delta, the difference to the event before: delta a"},
    {"power", "pow"},
    {"mean average", "the aggregate avg; over an array array_average"},
    {"variance varpop varsamp", "the aggregate var"},
    {"percentile percentilecont quantile approxpercentile", "an aggregate: p99(x), p50(x), ..."},
    {"ceiling", "ceil"},
    {"truncatenumber fix", "trunc"},
    {"mod modulo", "a % b"},
    {"intdiv idiv quotient", "div"},
    {"log1 loge", "ln"},
    {"signum", "sign"},
    {"bitand", "bit_and"},
    {"bitor", "bit_or"},
    {"bitxor", "bit_xor"},
    {"bitnot", "bit_not"},
    {"lshift shl bitshiftleft shiftl", "shift_left"},
    {"rshift shr bitshiftright shiftr", "shift_right"},
    {"typeof gettype kind", "type"},
    {"isinteger isint64", "is_int"},
    {"isfloat isreal", "is_double"},
    {"istext isstr", "is_string"},
    {"isobject isrecord", "is_map"},
    {"islist", "is_array"},
    {"isboolean", "is_bool"},
    {"istimestamp isdate", "is_time"},
    {"tojson encodejson jsonencode formatjson tojsonstring", "to_json"},
    {"fromjson json jsondecode jsonparse decodejson", "parse_json"},
    {"jsonvalue jsonquery jsonextract jsonpathquery jsonpathqueryfirst jsonpathexists jsonpath", "parse_json(text).name"},
    {"encodebase64 tobase64", "base64"},
    {"decodebase64 frombase64", "unbase64"},
    {"decodebase16 fromhex decodehex unhexlify", "unhex"},
    {"encodebase16 tohex encodehex", "hex"},
    {"encodepercent uri urlencode escapeurlquery queryescape encodeuri", "url_encode"},
    {"decodepercent urldecode unescapeurlquery queryunescape", "url_decode"},
    {"sha", "sha1, sha256 or sha512"},
    {"sha2", "sha256 or sha512"},
    {"xxhash xxhash64 fnv fingerprint murmur3 farmhash", "hash"},
    {"hmac", "hmac_sha256"},
    {"uuid5 uuidv5", "uuid(text)"},
    {"ipcidrcontains cidrmatch ipincidr cidrcontains inet ipinrange", "ip_in_cidr"},
    {"ipaton inetaton", "ip_to_int"},
    {"ipntoa inetntoa", "int_to_ip"},
    {"parseurl parseuri", "parse_url"},
    {"parsequerystring", "parse_query"},
    {"parsekeyvalue parsekv kv strtomap", "parse_key_value"},
    {"parsedurationms", "parse_duration"},
    {"push arrayappend arrayadd", "append"},
    {"arraydistinct distinctarray uniq dedup arrayunique", "unique"},
    {"arraysort sortby", "sort"},
    {"arrayreverse", "reverse"},
    {"arraycontains arrayposition", "contains, or x in array"},
    {"arrayunion union", "unique(array_concat(a, b))"},
    {"arraymean", "array_average"},
    {"add", "array_sum, or append"},
    {"map foreach mapeach reduce fold sumby", "nothing: no function takes a function; the operator unnest makes an event of each item"},
    {"mapkeys objectkeys objkeys", "keys"},
    {"mapvalues objectvalues objvalues", "values"},
    {"toentries keyvalues objectentries mapentries", "entries"},
    {"fromkeyvalues objectconstruct mapfromentries object", "from_entries"},
    {"haskey mapcontainskey", "has"},
    {"element elementat nth getpath elt itemat", "get(x, key)"},
    {"set assign setpath objectput", "put, or the operator set"},
    {"mapconcat assignall deepmerge", "merge"},
    {"without delkeys erase exceptkeys", "omit"},
    {"project selectkeys onlykeys", "pick"},
    {"sequence generateseries series", "range"},
    {"transpose arrayzip", "zip"},
    {"del delete remove", "the operator unset: unset a, b"},
    {"select filter", "the operator where"},
    {"stdistance stdistancesphere haversine geodistance distance", "geo_distance"},
    {"stwithin stcontains pointinpolygon geowithin", "geo_within"},
    {"greatestof max2 ", "greatest"},
    {"leastof min2 minof", "least"},
    {"abort error assert", "the operators where and validate"},
    {"splitax splitnv", "split"},
    {"strlevenshtein editdistance", "levenshtein"},
    {"fmtnum printf format sprintf tofixed formatint", "format_number(x, decimals), or + and string(x)"},
};

static const char no_clock[] =
    "programs are repeatable, so there is no clock: @timestamp is the event's time, meta.ingest_time when it was taken in";
static const char no_chance[] =
    "programs are repeatable, so there is no chance in them: bucket(key, n) spreads by key, the operator sample takes a share";

/* Names as they are compared: in small letters, without _. */
static void normalise(text_t name, char *out, size_t size) {
    size_t length = 0;
    for (size_t i = 0; i < name.size && length + 1 < size; i++)
        if (name.data[i] != '_')
            out[length++] = (char) (name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] + 32 : name.data[i]);
    out[length] = 0;
}

static bool is_one_of(const char *name, const char *words) {
    size_t size = strlen(name);
    for (const char *at = words; size && (at = strstr(at, name)); at += size)
        if ((at == words || at[-1] == ' ') && (at[size] == ' ' || !at[size]))
            return true;
    return false;
}

const char *function_suggest(text_t name, char *buffer, size_t size) {
    char text[64], plain[64];
    snprintf(text, sizeof text, "%.*s", (int) (name.size < 63 ? name.size : 63), name.data);
    normalise(name, plain, sizeof plain);
    if (is_one_of(plain, "count sum avg min max stddev var median first last collect distinct slope rate top")) {
        snprintf(buffer, size, "%s is an aggregate: window tumbling 10s by KEY: %s(x). Over arguments there are least and greatest, over an array array_sum, "
                               "array_average, array_min and array_max", text, text);
        return buffer;
    }
    if (is_one_of(plain, "now currenttimestamp currenttime currentdate localtimestamp localtime systime sysdate today timestampunix timestampunixmilli getdate utcnow"))
        return no_clock;
    if (is_one_of(plain, "rand random randomint urand newuuid uuidv4 uuidv7 uuid4 uuid7 nanoid ksuid ulid randomfloat randombool randombytes randominteger newid"))
        return no_chance;
    for (size_t i = 0; i < sizeof foreign_names / sizeof *foreign_names; i++) {
        if (is_one_of(plain, foreign_names[i].names)) {
            snprintf(buffer, size, "here it is %s", foreign_names[i].here);
            return buffer;
        }
    }
    const char *names[512];
    size_t count = 0;
    for (const function_t *const *table = function_tables; *table; table++) {
        for (const function_t *function = *table; function->name && count < 512; function++) {
            char known[64];
            normalise(text_of(function->name), known, sizeof known);
            if (strcmp(known, plain) == 0) { /* the same in another style: toJson, IS_NULL */
                snprintf(buffer, size, "here it is %s", function->name);
                return buffer;
            }
            names[count++] = function->name;
        }
    }
    const char *near = text_nearest(text, names, count);
    if (near)
        snprintf(buffer, size, "did you mean %s?", near);
    else
        snprintf(buffer, size, "process --functions lists all");
    return buffer;
}
