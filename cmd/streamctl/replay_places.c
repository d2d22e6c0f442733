/* Text that could not be read again keeps the place where it first stood: what the replay read it from is gone afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "replay_private.h"

typedef struct origin {
    uint64_t hash;                    /* of the text */
    uint64_t index;                   /* letters are read again in their order */
    json_t *place;                    /* NULL: it had none */
} origin_t;

typedef struct origins {
    origin_t *items;
    size_t count, room;
    uint64_t next;                    /* the first one that may be meant */
    buf_t *out;                       /* letters with their places */
} origins_t;

static int by_hash(const void *a, const void *b) {
    const origin_t *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static uint64_t text_hash(const json_t *letter) {
    const json_t *text = json_object_get(letter, "text");
    return XXH3_64bits(json_string_value(text), json_string_length(text));
}

static void note_origin(origins_t *origins, json_t *letter) {
    if (!json_is_string(json_object_get(letter, "text")))
        return;
    if (origins->count == origins->room)
        origins->items = mem_resize(origins->items, (origins->room = origins->room ? 2 * origins->room : 64) * sizeof *origins->items);
    origins->items[origins->count] = (origin_t){text_hash(letter), origins->count, json_incref(json_object_get(letter, "place"))};
    origins->count++;
}

/* The first letter from `next` on with this text, or NULL: the source's format cuts the text in another way now. */
static const origin_t *find_origin(const origins_t *origins, uint64_t hash) {
    size_t low = 0, high = origins->count;
    const origin_t wanted = {hash, origins->next, NULL};
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (by_hash(&origins->items[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < origins->count && origins->items[low].hash == hash ? &origins->items[low] : NULL;
}

static void put_letter(origins_t *origins, json_t *letter) {
    const origin_t *origin = json_is_string(json_object_get(letter, "text")) ? find_origin(origins, text_hash(letter)) : NULL;
    if (origin)
        origins->next = origin->index + 1;
    if (origin && origin->place)
        json_object_set(letter, "place", origin->place);
    else
        json_object_del(letter, "place");
    char *line = json_dumps(letter, JSON_COMPACT);
    buf_put_text(origins->out, line);
    buf_put_byte(origins->out, '\n');
    free(line);
}

static int each_letter(const char *path, origins_t *origins, void (*take)(origins_t *origins, json_t *letter), err_t *err) {
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return err_errno(err, "read %s", path);
    for (ssize_t n; (n = getline(&line, &room, file)) > 0;) {
        json_t *letter = json_loadb(line, (size_t) n, JSON_ALLOW_NUL, NULL);
        if (json_is_object(letter))
            take(origins, letter);
        json_decref(letter);
    }
    int result = ferror(file) ? err_errno(err, "read %s", path) : 0;
    fclose(file);
    free(line);
    return result;
}

int replay_places_restore(const char *dead, const char *file, err_t *err) {
    buf_t out = {0};
    origins_t origins = {.out = &out};
    int result = each_letter(file, &origins, note_origin, err);
    if (origins.count)
        qsort(origins.items, origins.count, sizeof *origins.items, by_hash);
    if (result == 0)
        result = each_letter(dead, &origins, put_letter, err);
    if (result == 0)
        result = file_write_atomic(dead, out.data, out.size, 0640, err);
    for (size_t i = 0; i < origins.count; i++)
        json_decref(origins.items[i].place);
    mem_free(origins.items);
    buf_fini(&out);
    return result;
}
