/* RESP2: reading elements in place, and writing commands. */
#include "redis_reply.h"

#include <stdio.h>
#include <string.h>

#define HEAD_MAX (64u * 1024)          /* of a status, an error */
#define STRING_MAX (INT64_C(1) << 30)  /* twice what servers allow */
#define ARRAY_MAX (INT64_C(1) << 32)

/* The line behind the type's byte; its bytes with both ends, 0: not whole, -1: none. */
static ssize_t read_line(text_t *line, const char *data, size_t size) {
    const char *end = memchr(data + 1, '\r', size < HEAD_MAX ? size - 1 : HEAD_MAX);
    if (!end)
        return size > HEAD_MAX ? -1 : 0;
    if (end + 1 == data + size)
        return 0;
    if (end[1] != '\n')
        return -1;
    *line = text_make(data + 1, (size_t) (end - data - 1));
    return end + 2 - data;
}

static bool read_number(text_t text, int64_t *number) {
    err_t unused;
    return text_to_int(text, number, &unused) == 0;
}

ssize_t redis_read(redis_item_t *item, const char *data, size_t size) {
    text_t line;
    int64_t count;
    if (!size)
        return 0;
    if (!strchr("+-:$*", *data) || !*data)
        return -1;
    ssize_t head = read_line(&line, data, size);
    if (head <= 0)
        return head;
    switch (*data) {
    case '+':
    case '-':
        *item = (redis_item_t){.type = *data == '+' ? REDIS_STATUS : REDIS_ERROR, .text = line};
        return head;
    case ':':
        *item = (redis_item_t){.type = REDIS_INTEGER};
        return read_number(line, &item->number) ? head : -1;
    default:
        if (!read_number(line, &count) || count < -1 || count > (*data == '$' ? STRING_MAX : ARRAY_MAX))
            return -1;
    }
    if (count < 0 || *data == '*') {
        *item = (redis_item_t){.type = count < 0 ? REDIS_NULL : REDIS_ARRAY, .number = count < 0 ? 0 : count};
        return head;
    }
    if (size - (size_t) head < (size_t) count + 2)
        return 0;
    if (memcmp(data + head + count, "\r\n", 2) != 0)
        return -1;
    *item = (redis_item_t){.type = REDIS_STRING, .text = text_make(data + head, (size_t) count)};
    return head + count + 2;
}

/* A string may be long: only its head is needed for going on. */
static ssize_t read_head(redis_scan_t *scan, const char *data, size_t size) {
    redis_item_t item;
    text_t line;
    int64_t count;
    if (!size || *data != '$') {
        ssize_t head = redis_read(&item, data, size);
        if (head > 0)
            scan->left += item.type == REDIS_ARRAY ? (uint64_t) item.number : 0;
        return head;
    }
    ssize_t head = read_line(&line, data, size);
    if (head > 0) {
        if (!read_number(line, &count) || count < -1 || count > STRING_MAX)
            return -1;
        scan->skip = count < 0 ? 0 : (uint64_t) count + 2;
    }
    return head;
}

int redis_scan(redis_scan_t *scan, const char *data, size_t size) {
    for (;;) {
        size_t skip = scan->skip < size - scan->at ? (size_t) scan->skip : size - scan->at;
        scan->at += skip;
        scan->skip -= skip;
        if (scan->skip)
            return 0;
        if (!scan->left)
            return 1;
        ssize_t head = read_head(scan, data + scan->at, size - scan->at);
        if (head <= 0)
            return (int) head;
        scan->at += (size_t) head;
        scan->left--;
    }
}

bool redis_next(redis_cursor_t *cursor, redis_item_t *item) {
    ssize_t size = redis_read(item, cursor->at, (size_t) (cursor->end - cursor->at));
    if (size <= 0)
        return false;
    cursor->at += size;
    return true;
}

bool redis_next_text(redis_cursor_t *cursor, text_t *text) {
    redis_item_t item;
    if (!redis_next(cursor, &item) || item.type != REDIS_STRING)
        return false;
    *text = item.text;
    return true;
}

bool redis_skip(redis_cursor_t *cursor) {
    redis_scan_t scan = {.left = 1};
    if (redis_scan(&scan, cursor->at, (size_t) (cursor->end - cursor->at)) != 1)
        return false;
    cursor->at += scan.at;
    return true;
}

void redis_put_command(buf_t *out, size_t words) {
    buf_format(out, "*%zu\r\n", words);
}

void redis_put_word(buf_t *out, text_t word) {
    buf_format(out, "$%zu\r\n", word.size);
    buf_put(out, word.data, word.size);
    buf_put(out, "\r\n", 2);
}

void redis_put_number(buf_t *out, int64_t number) {
    char text[24];
    int size = snprintf(text, sizeof text, "%lld", (long long) number);
    redis_put_word(out, text_make(text, (size_t) size));
}

bool redis_id_read(redis_id_t *id, text_t text) {
    redis_id_t made = {0};
    text_t ms;
    err_t unused;
    if (!text_split(&text, '-', &ms) || text_to_uint(ms, &made.ms, &unused) || (text.data && text_to_uint(text, &made.number, &unused)))
        return false;
    *id = made;
    return true;
}

size_t redis_id_print(char text[REDIS_ID_TEXT], redis_id_t id) {
    return (size_t) snprintf(text, REDIS_ID_TEXT, "%llu-%llu", (unsigned long long) id.ms, (unsigned long long) id.number);
}
