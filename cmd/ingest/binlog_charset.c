/* Character sets of MariaDB. The binary log has texts as the tables have them; libmariadb's own conversion is not built in on Debian. */
#include "binlog_charset.h"

#include <iconv.h>
#include <mysql.h>
#include <string.h>

/* How libc calls them; what is not here is called the same. */
static const char *const names[][2] = {
    {"latin1", "CP1252"},     {"latin2", "ISO-8859-2"}, {"latin5", "ISO-8859-9"},         {"latin7", "ISO-8859-13"},  {"hebrew", "ISO-8859-8"},
    {"greek", "ISO-8859-7"},  {"tis620", "TIS-620"},    {"koi8r", "KOI8-R"},              {"koi8u", "KOI8-U"},        {"ujis", "EUC-JP"},
    {"eucjpms", "EUC-JP-MS"}, {"euckr", "EUC-KR"},      {"gb2312", "EUC-CN"},             {"macroman", "MACINTOSH"},  {"macce", "MAC-CENTRALEUROPE"},
    {"hp8", "HP-ROMAN8"},     {"dec8", "DEC-MCS"},      {"armscii8", "ARMSCII-8"},        {"ucs2", "UCS-2BE"},        {"utf16", "UTF-16BE"},
    {"utf16le", "UTF-16LE"},  {"utf32", "UTF-32BE"},
};

/* Collations of Unicode 14 are in blocks of 256, those without padding 1024 behind the others; the library does not know all of them. */
static const char *charset_of(unsigned collation) {
    static const char *const blocks[] = {"utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"};
    if (collation >= 2048)
        return (collation - 2048) / 256 < sizeof blocks / sizeof *blocks ? blocks[(collation - 2048) / 256] : NULL;
    const MARIADB_CHARSET_INFO *known = mariadb_get_charset_by_nr(collation % 1024);
    return known ? known->csname : NULL;
}

unsigned binlog_unit(unsigned collation) {
    const char *charset = charset_of(collation);
    return !charset ? 1 : strcmp(charset, "utf32") == 0 ? 4 : strcmp(charset, "ucs2") == 0 || strncmp(charset, "utf16", 5) == 0 ? 2 : 1;
}

static bool is_ascii(text_t text) {
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] & 0x80)
            return false;
    }
    return true;
}

static bool convert(buf_t *out, const char *charset, text_t text) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(charset, names[i][0]) == 0) {
            charset = names[i][1];
            break;
        }
    }
    iconv_t converter = iconv_open("UTF-8", charset);
    if (converter == (iconv_t) -1)
        return false;
    size_t left = text.size, room = 4 * text.size + 4, before = room;
    char *from = (char *) text.data, *to = (char *) buf_reserve(out, room);
    bool good = iconv(converter, &from, &left, &to, &room) != (size_t) -1 && !left;
    iconv_close(converter);
    out->size += good ? before - room : 0;
    return good;
}

bool binlog_utf8(buf_t *out, unsigned collation, text_t text) {
    const char *charset = charset_of(collation);
    if (!charset)
        return false;
    if (strncmp(charset, "utf8", 4) != 0 && (binlog_unit(collation) > 1 || !is_ascii(text)))
        return convert(out, charset, text);
    buf_put(out, text.data, text.size);
    return true;
}
