/* Fields out of a file's path: all of it, its levels, or what the groups of a regular expression find in it. */
#include "file_path.h"

#include "base/memory.h"

static int check_pattern(const file_settings_t *settings, buf_t *seen, err_t *err) {
    size_t at;
    pattern_t *pattern = settings->path_pattern ? pattern_new(text_of(settings->path_pattern), &at, err) : NULL;
    if (settings->path_pattern && !pattern)
        return err_wrap(err, "--path-pattern, at character %zu", at + 1);
    unsigned names = pattern ? pattern_names(pattern) : 0, group;
    int result = pattern && !names ? err_set(err, "--path-pattern: it has no named group, (?<name>...), that could be a field") : 0;
    for (unsigned i = 0; i < names && !result; i++) {
        char *name = mem_text_n(pattern_name(pattern, i, &group).data, pattern_name(pattern, i, &group).size);
        result = tag_check_name(name, "path-pattern", seen, err);
        mem_free(name);
    }
    pattern_free(pattern);
    return result;
}

int file_path_check(const file_settings_t *settings, err_t *err) {
    buf_t seen = {0};
    int result = tag_check_name(settings->path_field, "path-field", &seen, err) || tag_check_parts(settings->path_fields, "path-fields", &seen, err) ||
                 check_pattern(settings, &seen, err) ? -1 : 0;
    buf_fini(&seen);
    return result;
}

pattern_t *file_path_pattern(const file_settings_t *settings) {
    size_t at;
    return settings->path_pattern ? pattern_new(text_of(settings->path_pattern), &at, NULL) : NULL;
}

static void put_groups(tag_t *tag, const pattern_t *pattern, text_t path) {
    pattern_search_t search = {.text = path};
    if (pattern_find(pattern, &search, 0) <= 0)
        return;
    for (unsigned i = 0, group; i < pattern_names(pattern); i++) {
        text_t name = pattern_name(pattern, i, &group), found = pattern_found(pattern, &search, group);
        if (found.data)
            tag_put_text(tag, name, found);
    }
}

void file_path_tag(tag_t *tag, const file_settings_t *settings, const pattern_t *pattern, const char *path) {
    char *valid = mem_text(path);      /* a name may hold any bytes */
    text_make_valid(valid);
    text_t text = text_of(valid);
    tag_clear(tag);
    if (settings->path_field)
        tag_put_text(tag, text_of(settings->path_field), text);
    if (settings->path_fields)
        tag_put_parts(tag, settings->path_fields, text_make(text.data + 1, text.size - 1), '/');
    if (pattern)
        put_groups(tag, pattern, text);
    mem_free(valid);
}
