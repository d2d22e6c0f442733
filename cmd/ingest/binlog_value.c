/* Values as rows in the binary log of MySQL and MariaDB have them (https://mariadb.com/kb/en/rows_event_v1v2-rows_compressed_event_v1/,
 * https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html). Every length is checked against what is left of the event. */
#include "binlog_value.h"

#include <mysql.h>
#include <stdio.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "binlog_charset.h"
#include "data/pack.h"
#include "mysql_source.h"

#define INFLATED_MAX (64u * 1024 * 1024)
#define INFLATED_RATIO 1032            /* zlib makes of a byte no more than so many */
#define DECIMAL_MAX 65
#define SCALE_MAX 38

uint8_t binlog_real_type(const binlog_column_t *column, unsigned *length) {
    unsigned first = column->meta & 0xff, second = column->meta >> 8;
    *length = second;
    if (column->type != MYSQL_TYPE_STRING || !first)
        return column->type;
    if ((first & 0x30) == 0x30)
        return (uint8_t) first;
    *length = second | ((first & 0x30) ^ 0x30) << 4; /* of CHAR: two bits more hide, turned around, in the type */
    return (uint8_t) (first | 0x30);
}

bool binlog_inflate(buf_t *out, const uint8_t *bytes, size_t size, size_t limit) {
    bytes_t reader = {bytes, bytes + size, false};
    unsigned head = (unsigned) bytes_little(&reader, 1);
    size_t length = bytes_big(&reader, head & 7);
    if (reader.bad || !(head & 0x80) || (head & 0x70) || (head & 7) > 4 || length > limit || length / INFLATED_RATIO > size)
        return false;
    z_stream stream = {.next_in = (Bytef *) reader.at, .avail_in = (uInt) bytes_left(&reader)};
    if (inflateInit2(&stream, head & 8 ? -MAX_WBITS : MAX_WBITS) != Z_OK)
        return false;
    stream.next_out = buf_reserve(out, length + 1);
    stream.avail_out = (uInt) length + 1;
    int result = inflate(&stream, Z_FINISH);
    bool good = result == Z_STREAM_END && stream.total_out == length;
    inflateEnd(&stream);
    out->size += good ? length : 0;
    return good;
}

static void put_text(buf_t *out, const binlog_column_t *column, text_t text) {
    buf_t utf8 = {0};
    if (column->collation == BINLOG_BINARY || !binlog_utf8(&utf8, column->collation, text))
        pack_binary(out, text.data, text.size);
    else if (!column->json || !mysql_put_json(out, text_make((const char *) utf8.data, utf8.size)))
        mysql_put_text(out, text_make((const char *) utf8.data, utf8.size));
    buf_fini(&utf8);
}

static void put_integer(buf_t *out, const binlog_column_t *column, bytes_t *reader, unsigned size) {
    uint64_t number = bytes_little(reader, size);
    unsigned unused = 64 - 8 * size;
    if (column->is_unsigned)
        pack_uint(out, number);
    else
        pack_int(out, (int64_t) (number << unused) >> unused);
}

static void put_double(buf_t *out, bytes_t *reader, bool single) {
    uint64_t bits = bytes_little(reader, single ? 4 : 8);
    uint32_t half = (uint32_t) bits;
    float small;
    double number;
    memcpy(&small, &half, sizeof small);
    memcpy(&number, &bits, sizeof number);
    pack_double(out, single ? (double) small : number);
}

/* Nine digits to four bytes; what is left over, before and behind the point, to as few as it takes. All bytes of a negative number are inverted, and
 * the first bit after that. */
static void put_decimal(buf_t *out, const binlog_column_t *column, bytes_t *reader) {
    static const uint8_t sizes[10] = {0, 1, 1, 2, 2, 3, 3, 4, 4, 4};
    unsigned precision = column->meta & 0xff, scale = column->meta >> 8;
    if (!precision || precision > DECIMAL_MAX || scale > SCALE_MAX || scale > precision) {
        reader->bad = true;
        return;
    }
    unsigned whole = precision - scale, groups = (whole + 8) / 9 + (scale + 8) / 9;
    bool negative = bytes_left(reader) && !(*reader->at & 0x80), first = true;
    char text[DECIMAL_MAX + 32];
    size_t size = 2, at = size; /* room for a 0 and a sign in front */
    for (unsigned i = 0, before = whole, behind = scale; i < groups; i++) {
        unsigned digits = before ? (before % 9 ? before % 9 : 9) : behind > 9 ? 9 : behind, bytes = sizes[digits];
        uint32_t group = (uint32_t) bytes_big(reader, bytes);
        if (first)
            group ^= 1u << (8 * bytes - 1);
        if (negative)
            group = ~group;
        group &= bytes == 4 ? UINT32_MAX : (1u << 8 * bytes) - 1;
        first = false;
        if (!before && behind == scale)
            text[size++] = '.';
        size += (size_t) snprintf(text + size, sizeof text - size, "%0*u", (int) digits, group);
        if (size > sizeof text - 12) {
            reader->bad = true; /* groups of more digits than they stand for */
            return;
        }
        before ? (before -= digits) : (behind -= digits);
    }
    while (at + 1 < size && text[at] == '0' && text[at + 1] != '.')
        at++;
    if (text[at] == '.')
        text[--at] = '0';
    if (negative)
        text[--at] = '-';
    if (!reader->bad && !mysql_put_number(out, text_make(text + at, size - at)))
        pack_string(out, text + at, size - at);
}

/* So many digits behind the point, of a number of microseconds. */
static size_t print_fraction(char *out, size_t room, unsigned digits, uint32_t microseconds) {
    static const uint32_t divisors[7] = {1000000, 100000, 10000, 1000, 100, 10, 1};
    return digits ? (size_t) snprintf(out, room, ".%0*u", (int) digits, microseconds / divisors[digits]) : 0;
}

static uint32_t microseconds_of(uint64_t fraction, unsigned bytes) {
    return (uint32_t) (bytes == 1 ? fraction * 10000 : bytes == 2 ? fraction * 100 : fraction);
}

static bool fraction_size(const binlog_column_t *column, bytes_t *reader, unsigned *bytes) {
    *bytes = (column->meta + 1u) / 2;
    reader->bad |= column->meta > 6;
    return !reader->bad;
}

static void put_moment(buf_t *out, int64_t year, unsigned month, unsigned day, unsigned time, unsigned digits, uint32_t microseconds) {
    char text[64];
    size_t size = (size_t) snprintf(text, sizeof text, "%04lld-%02u-%02u %02u:%02u:%02u", (long long) year, month, day, time >> 12, time >> 6 & 63, time & 63);
    size += print_fraction(text + size, sizeof text - size, digits, microseconds);
    if (!mysql_put_time(out, text_make(text, size)))
        pack_string(out, text, size);
}

static unsigned hms(unsigned hours, unsigned minutes, unsigned seconds) {
    return hours << 12 | minutes << 6 | seconds;
}

static void put_datetime2(buf_t *out, const binlog_column_t *column, bytes_t *reader) {
    unsigned bytes;
    if (!fraction_size(column, reader, &bytes))
        return;
    uint64_t packed = bytes_big(reader, 5) & 0x7fffffffffu, fraction = bytes_big(reader, bytes), days = packed >> 17;
    put_moment(out, (int64_t) ((days >> 5) / 13), (unsigned) ((days >> 5) % 13), days & 31, packed & 0x1ffff, column->meta, microseconds_of(fraction, bytes));
}

/* YYYYMMDDhhmmss as a number. */
static void put_datetime(buf_t *out, bytes_t *reader) {
    uint64_t packed = bytes_little(reader, 8), date = packed / 1000000, time = packed % 1000000;
    put_moment(out, (int64_t) (date / 10000 % 10000), (unsigned) (date / 100 % 100), date % 100,
               hms((unsigned) (time / 10000), (unsigned) (time / 100 % 100), time % 100), 0, 0);
}

static void put_timestamp(buf_t *out, const binlog_column_t *column, bytes_t *reader, bool second) {
    unsigned bytes = 0;
    if (second && !fraction_size(column, reader, &bytes))
        return;
    int64_t seconds = (int64_t) (second ? bytes_big(reader, 4) : bytes_little(reader, 4));
    uint32_t microseconds = microseconds_of(bytes_big(reader, bytes), bytes);
    if (seconds || microseconds)
        pack_time(out, seconds * NS_PER_S + (microseconds % 1000000) * NS_PER_US);
    else
        put_moment(out, 0, 0, 0, 0, second ? column->meta : 0, 0);
}

static void put_date(buf_t *out, bytes_t *reader) {
    char text[32];
    unsigned packed = (unsigned) bytes_little(reader, 3);
    int size = snprintf(text, sizeof text, "%04u-%02u-%02u", packed >> 9, packed >> 5 & 15, packed & 31);
    pack_string(out, text, (size_t) size);
}

static void put_span(buf_t *out, bool negative, unsigned time, unsigned digits, uint32_t microseconds) {
    char text[48];
    size_t size = (size_t) snprintf(text, sizeof text, "%s%02u:%02u:%02u", negative ? "-" : "", time >> 12, time >> 6 & 63, time & 63);
    size += print_fraction(text + size, sizeof text - size, digits, microseconds);
    pack_string(out, text, size);
}

static void put_time2(buf_t *out, const binlog_column_t *column, bytes_t *reader) {
    unsigned bytes;
    if (!fraction_size(column, reader, &bytes))
        return;
    int64_t packed = (int64_t) bytes_big(reader, 3 + bytes) - (INT64_C(0x800000) << 8 * bytes);
    uint64_t size = (uint64_t) (packed < 0 ? -packed : packed);
    put_span(out, packed < 0, (unsigned) (size >> 8 * bytes) & 0x3fffff, column->meta, microseconds_of(size & ((UINT64_C(1) << 8 * bytes) - 1), bytes));
}

/* hhhmmss as a number. */
static void put_time(buf_t *out, bytes_t *reader) {
    int32_t packed = (int32_t) ((uint32_t) bytes_little(reader, 3) << 8) >> 8;
    unsigned size = (unsigned) (packed < 0 ? -packed : packed);
    put_span(out, packed < 0, hms(size / 10000, size / 100 % 100, size % 100), 0, 0);
}

static void put_word(buf_t *out, const binlog_column_t *column, uint64_t index) {
    if (index == 0 || index > column->word_count)
        pack_text(out, "");
    else
        put_text(out, column, column->words[index - 1]);
}

static void put_words(buf_t *out, const binlog_column_t *column, uint64_t bits) {
    buf_t text = {0}, comma = {0};
    for (unsigned i = binlog_unit(column->collation); i > 1; i--)
        buf_put_byte(&comma, 0);
    buf_put_byte(&comma, ',');
    for (unsigned i = 0; i < column->word_count && i < 64; i++) {
        if (!(bits >> i & 1))
            continue;
        if (text.size)
            buf_put(&text, comma.data, comma.size);
        buf_put(&text, column->words[i].data, column->words[i].size);
    }
    put_text(out, column, text_make((const char *) text.data, text.size));
    buf_fini(&text);
    buf_fini(&comma);
}

/* BINARY(n) is kept without the zeros at its end, CHAR without its blanks. */
static void put_char(buf_t *out, const binlog_column_t *column, bytes_t *reader, unsigned length) {
    size_t size = bytes_little(reader, length > 255 ? 2 : 1);
    const uint8_t *bytes = bytes_take(reader, size);
    if (!bytes)
        return;
    if (column->collation != BINLOG_BINARY || size >= length) {
        put_text(out, column, text_make((const char *) bytes, size));
        return;
    }
    char *padded = mem_zero(length);
    memcpy(padded, bytes, size);
    pack_binary(out, padded, length);
    mem_free(padded);
}

static void put_bytes(buf_t *out, const binlog_column_t *column, bytes_t *reader, unsigned size_of_size, bool compressed) {
    size_t size = bytes_little(reader, size_of_size);
    const uint8_t *bytes = bytes_take(reader, size);
    buf_t plain = {0};
    if (!bytes)
        return;
    if (!compressed || !size)
        put_text(out, column, text_make((const char *) bytes, size));
    else if (bytes[0] == 0)
        put_text(out, column, text_make((const char *) bytes + 1, size - 1));
    else if (binlog_inflate(&plain, bytes, size, INFLATED_MAX))
        put_text(out, column, text_make((const char *) plain.data, plain.size));
    else
        reader->bad = true;
    buf_fini(&plain);
}

static void put_bit(buf_t *out, const binlog_column_t *column, bytes_t *reader) {
    unsigned size = (column->meta >> 8) + ((column->meta & 0xff) > 0);
    const uint8_t *bytes = bytes_take(reader, size);
    if (size > 8)
        reader->bad = true;
    else if (bytes)
        mysql_put_bits(out, text_make((const char *) bytes, size));
}

int binlog_value_put(buf_t *out, const binlog_column_t *column, bytes_t *reader) {
    unsigned length;
    uint8_t type = binlog_real_type(column, &length);
    switch (type) {
    case MYSQL_TYPE_TINY: put_integer(out, column, reader, 1); break;
    case MYSQL_TYPE_SHORT: put_integer(out, column, reader, 2); break;
    case MYSQL_TYPE_INT24: put_integer(out, column, reader, 3); break;
    case MYSQL_TYPE_LONG: put_integer(out, column, reader, 4); break;
    case MYSQL_TYPE_LONGLONG: put_integer(out, column, reader, 8); break;
    case MYSQL_TYPE_FLOAT: put_double(out, reader, true); break;
    case MYSQL_TYPE_DOUBLE: put_double(out, reader, false); break;
    case MYSQL_TYPE_NEWDECIMAL: put_decimal(out, column, reader); break;
    case MYSQL_TYPE_YEAR: {
        unsigned year = (unsigned) bytes_little(reader, 1);
        pack_uint(out, year ? 1900 + year : 0);
        break;
    }
    case MYSQL_TYPE_DATE:
    case MYSQL_TYPE_NEWDATE: put_date(out, reader); break;
    case MYSQL_TYPE_TIME: put_time(out, reader); break;
    case MYSQL_TYPE_TIME2: put_time2(out, column, reader); break;
    case MYSQL_TYPE_DATETIME: put_datetime(out, reader); break;
    case MYSQL_TYPE_DATETIME2: put_datetime2(out, column, reader); break;
    case MYSQL_TYPE_TIMESTAMP: put_timestamp(out, column, reader, false); break;
    case MYSQL_TYPE_TIMESTAMP2: put_timestamp(out, column, reader, true); break;
    case MYSQL_TYPE_BIT: put_bit(out, column, reader); break;
    case MYSQL_TYPE_ENUM: put_word(out, column, bytes_little(reader, length <= 2 ? length : 2)); break;
    case MYSQL_TYPE_SET: put_words(out, column, bytes_little(reader, length <= 8 ? length : 8)); break;
    case MYSQL_TYPE_STRING: put_char(out, column, reader, length); break;
    case MYSQL_TYPE_VAR_STRING:
    case MYSQL_TYPE_VARCHAR: put_bytes(out, column, reader, column->meta > 255 ? 2 : 1, false); break;
    case BINLOG_VARCHAR_COMPRESSED: put_bytes(out, column, reader, column->meta > 255 ? 2 : 1, true); break;
    case MYSQL_TYPE_BLOB:
    case MYSQL_TYPE_GEOMETRY: put_bytes(out, column, reader, column->meta <= 4 ? column->meta : 4, false); break;
    case BINLOG_BLOB_COMPRESSED: put_bytes(out, column, reader, column->meta <= 4 ? column->meta : 4, true); break;
    default: return -1;
    }
    return reader->bad ? -1 : 0;
}
