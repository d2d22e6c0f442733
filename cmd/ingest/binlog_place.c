/* Places in the binary log, as text and back. */
#include "binlog_place.h"

#include <string.h>

#include "base/memory.h"

static bool read_gtid(text_t text, binlog_gtid_t *gtid) {
    text_t domain, server, sequence;
    uint64_t numbers[3];
    if (!text_split(&text, '-', &domain) || !text_split(&text, '-', &server) || !text_split(&text, '-', &sequence) || text.size ||
        text_to_uint(domain, &numbers[0], NULL) || text_to_uint(server, &numbers[1], NULL) || text_to_uint(sequence, &numbers[2], NULL) ||
        numbers[0] > UINT32_MAX || numbers[1] > UINT32_MAX)
        return false;
    *gtid = (binlog_gtid_t){(uint32_t) numbers[0], (uint32_t) numbers[1], numbers[2]};
    return true;
}

static bool read_under_way(text_t text, binlog_place_t *place) {
    text_t name;
    return text_split(&text, '+', &name) && read_gtid(name, &place->under_way) && text_to_uint(text, &place->changes, NULL) == 0 && place->changes;
}

int binlog_place_read(binlog_place_t *place, text_t text, err_t *err) {
    binlog_place_t read = {0};
    binlog_gtid_t gtid;
    text_t rest = text, list = text, item;
    const char *blank = text.size ? memchr(text.data, ' ', text.size) : NULL;
    bool good = true;
    if (blank) {
        list = text_make(text.data, (size_t) (blank - text.data));
        rest = text_make(blank + 1, text.size - list.size - 1);
        good = read_under_way(rest, &read);
    }
    while (good && list.size && text_split(&list, ',', &item))
        good = read_gtid(text_trim(item), &gtid) && binlog_place_done(&read, &gtid, NULL) == 0;
    if (!good) {
        binlog_place_fini(&read);
        return err_set(err, "'%.*s' is no position of a MariaDB server: it looks like 0-1-100, with commas between domains",
                       (int) (text.size < 100 ? text.size : 100), text.data);
    }
    binlog_place_fini(place);
    *place = read;
    return 0;
}

void binlog_gtid_put(buf_t *out, const binlog_gtid_t *gtid) {
    buf_format(out, "%u-%u-%llu", gtid->domain, gtid->server, (unsigned long long) gtid->sequence);
}

void binlog_place_put(const binlog_place_t *place, buf_t *out) {
    for (size_t i = 0; i < place->count; i++) {
        if (i)
            buf_put_byte(out, ',');
        binlog_gtid_put(out, &place->done[i]);
    }
}

void binlog_place_put_under_way(buf_t *out, const binlog_gtid_t *gtid) {
    buf_put_byte(out, ' ');
    binlog_gtid_put(out, gtid);
    buf_put_byte(out, '+');
}

bool binlog_place_has(const binlog_place_t *place, uint32_t domain) {
    for (size_t i = 0; i < place->count; i++) {
        if (place->done[i].domain == domain)
            return true;
    }
    return false;
}

int binlog_place_done(binlog_place_t *place, const binlog_gtid_t *gtid, err_t *err) {
    size_t i = 0;
    while (i < place->count && place->done[i].domain != gtid->domain)
        i++;
    if (i == BINLOG_DOMAINS_MAX)
        return err_set(err, "the server's log has more than %d domains", BINLOG_DOMAINS_MAX);
    if (i == place->count) {
        place->done = mem_resize(place->done, (place->count + 1) * sizeof *place->done);
        place->count++;
    }
    place->done[i] = *gtid;
    return 0;
}

void binlog_place_fini(binlog_place_t *place) {
    mem_free(place->done);
    *place = (binlog_place_t){0};
}
