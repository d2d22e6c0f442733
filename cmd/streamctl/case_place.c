/* Where a test case runs: beside its file, or with -- file in a directory of its own that holds the files. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "case_run.h"

static bool has_files(const test_case_t *test) {
    for (size_t i = 0; i < test->part_count; i++)
        if (test->parts[i].kind == PART_FILE)
            return true;
    return false;
}

static int write_file(const case_file_t *file, const case_part_t *part, const char *place, err_t *err) {
    char *path = mem_format("%s/%s", place, part->word);
    buf_t content = {0};
    for (size_t i = part->first; i < part->last; i++) {
        buf_put(&content, file->lines[i].data, file->lines[i].size);
        buf_put_byte(&content, '\n');
    }
    int result = file_write_atomic(path, content.data, content.size, 0600, err);
    buf_fini(&content);
    mem_free(path);
    return result;
}

char *case_place(const case_file_t *file, const test_case_t *test, err_t *err) {
    if (!has_files(test))
        return mem_text(test->directory);
    const char *temporary = getenv("TMPDIR");
    char *place = mem_format("%s/streamctl-test-XXXXXX", temporary && *temporary ? temporary : "/tmp");
    if (!mkdtemp(place)) {
        err_errno(err, "%s", place);
        mem_free(place);
        return NULL;
    }
    for (size_t i = 0; i < test->part_count; i++) {
        if (test->parts[i].kind == PART_FILE && write_file(file, &test->parts[i], place, err) < 0) {
            case_place_end(test, place);
            return NULL;
        }
    }
    return place;
}

void case_place_end(const test_case_t *test, char *place) {
    for (size_t i = 0; place && i < test->part_count; i++) {
        if (test->parts[i].kind != PART_FILE)
            continue;
        char *path = mem_format("%s/%s", place, test->parts[i].word);
        unlink(path);
        mem_free(path);
    }
    if (place && has_files(test))
        rmdir(place);
    mem_free(place);
}
