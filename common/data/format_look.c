/* What data that cannot be read may be instead, and what would read it: said beside the record, for those who take remarks. */
#include <string.h>

#include "data/format_record.h"

static const char *kind_of(text_t start) {
    static const struct {
        const char *bytes, *remark;
    } kinds[] = {
        {"\xff\xfe", "this is UTF-16, as it seems: iconv -f UTF-16 -t UTF-8 makes it readable"},
        {"\xfe\xff", "this is UTF-16, as it seems: iconv -f UTF-16 -t UTF-8 makes it readable"},
        {"\x1f\x8b", "this is compressed by gzip, as it seems: gunzip -c before, or a path that ends in .gz"},
        {"\x28\xb5\x2f\xfd", "this is compressed by zstd, as it seems: zstd -dc before, or a path that ends in .zst"},
        {"PK\x03\x04", "this is a ZIP archive, or a spreadsheet, as it seems: unpack it, or save it as CSV in UTF-8"},
        {"SQLite format 3", "this is a database of SQLite, as it seems: ingest sqlite:FILE reads it"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (start.size >= strlen(kinds[i].bytes) && memcmp(start.data, kinds[i].bytes, strlen(kinds[i].bytes)) == 0)
            return kinds[i].remark;
    return NULL;
}

void format_look(const decoder_t *decoder, decode_target_t *target, text_t record, const char *reason) {
    const char *remark = decoder->records <= 1 ? kind_of(record) : NULL;
    if (!remark && reason && strstr(reason, "UTF-8"))
        remark = "text is read as UTF-8; where it is Latin-1, iconv -f LATIN1 -t UTF-8 makes it so";
    if (remark && target->remark)
        target->remark(target->argument, decoder->records, remark);
}
