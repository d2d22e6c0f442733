/* What stages left on disk, for the audit of those that do not run: their last counts, and whether these and their logs are still what the pipeline's
 * ledger was made of. */
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "audit_private.h"
#include "base/file.h"
#include "base/memory.h"
#include "net/spool.h"

#define LAST_MAX 65536

bool audit_last_read(audit_last_t *last, const char *directory) {
    char *path = mem_format("%s/ledger", directory);
    buf_t text = {0};
    json_error_t error;
    json_t *object = file_read(path, LAST_MAX, &text, NULL) ? NULL : json_loadb((const char *) text.data, text.size, 0, &error);
    bool sound = json_is_object(object);
    for (unsigned i = 0; sound && i < LEDGER_COUNT; i++) {
        const json_t *count = json_object_get(object, audit_ledger_keys[i]);
        sound = json_is_integer(count);
        last->ledger[i] = json_integer_value(count);
    }
    last->frames = (uint64_t) json_integer_value(json_object_get(object, "frames"));
    last->spooled = (uint64_t) json_integer_value(json_object_get(object, "spooled"));
    json_decref(object);
    buf_fini(&text);
    mem_free(path);
    return sound;
}

/* NULL: they agree. */
static char *compare_counts(const audit_entry_t *entry, const audit_last_t *last, const char *directory) {
    for (unsigned i = 0; i < LEDGER_COUNT; i++)
        if (entry->ledger[i] != last->ledger[i])
            return mem_format("its ledger in %s says \"%s\" %lld, and the pipeline's %lld", directory, audit_ledger_keys[i],
                              (long long) last->ledger[i], (long long) entry->ledger[i]);
    return NULL;
}

/* last: NULL when it did not come to an orderly end; then its log says alone how far it goes. */
static char *check_log(const char *directory, const audit_last_t *last) {
    char *path = mem_format("%s/spool", directory), *wrong = NULL;
    spool_content_t content;
    err_t err = {{0}};
    int result = access(path, F_OK) ? last && last->frames ? err_set(&err, "it is gone") : 0 : spool_content(path, &content, &err);
    if (result)
        wrong = mem_format("its log in %s: %s", path, err.text);
    else if (last && last->frames && !content.used) {
        uint64_t first = last->frames - last->spooled + 1;
        if (content.number != last->frames)
            wrong = mem_format("its log in %s ends with frame %llu, and %llu had been written", path, (unsigned long long) content.number,
                               (unsigned long long) last->frames);
        else if (last->spooled && content.lowest > first)
            wrong = mem_format("frames %llu to %llu are missing from its log in %s, and had not been delivered", (unsigned long long) first,
                               (unsigned long long) content.lowest - 1, path);
    }
    mem_free(path);
    return wrong;
}

static void check(audit_stage_t *stage, const audit_entry_t *entry, const char *directory) {
    audit_last_t last;
    bool orderly = audit_last_read(&last, directory);
    if (access(directory, F_OK))
        stage->contradicted = mem_format("its directory %s is gone", directory);
    if (!stage->contradicted && orderly && !entry->killed)
        stage->contradicted = compare_counts(entry, &last, directory);
    if (!stage->contradicted)
        stage->contradicted = check_log(directory, orderly ? &last : NULL);
}

bool audit_check_disk(audit_t *audit, const char *name, const char *directory) {
    audit_last_t last;
    for (size_t i = 0; i < audit->count && audit->readings; i++) {
        audit_stage_t *stage = &audit->stages[i];
        const audit_entry_t *entry = &stage->entries[audit_slot(audit, 0)];
        if (strcmp(stage->name, name) != 0)
            continue;
        if (entry->known && !stage->contradicted)
            check(stage, entry, directory);
        return true;
    }
    return !audit_last_read(&last, directory);
}
