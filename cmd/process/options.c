/* The options, beside the program, that the output follows from: how it is cut into frames, when an input is idle, what is passed by. A replay must
 * have those of the first time; else they may change from one start to the next. A text file in the state directory tells what they were. */
#include "options.h"

#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

#define FILE_MAX 4096

static void put(const program_setup_t *setup, buf_t *out) {
    static const char *const others[] = {"pass", "drop", "process"};
    buf_put_text(out, "--idle ");
    text_put_duration(out, setup->idle);
    buf_format(out, "\n--others %s\n--batch-size %llu\n--batch-bytes %llu\n", others[setup->others], (unsigned long long) setup->batch_events,
               (unsigned long long) setup->batch_bytes);
    if (setup->devices)
        buf_put_text(out, "--about devices\n");
}

/* The first line in which they differ. */
static int refuse(text_t was, text_t is, err_t *err) {
    text_t old = {0}, new = {0};
    do {
        if (!text_split(&was, '\n', &old) || !text_split(&is, '\n', &new))
            return err_set(err, "cannot be read");
    } while (text_equal(old, new));
    return err_set(err, "this stage was interrupted under %.*s, and is to repeat what it did then: start it once more with that; after an orderly end "
                   "(TERM) it may be %.*s. Or begin anew with --reset", (int) old.size, old.data, (int) new.size, new.data);
}

int options_check(const stage_t *stage, const program_setup_t *setup, err_t *err) {
    char *path = stage_state_path(stage, "options");
    buf_t is = {0}, was = {0};
    put(setup, &is);
    int rc = 0;
    bool known = access(path, F_OK) == 0;
    if (known)
        rc = file_read(path, FILE_MAX, &was, err);
    bool same = known && rc == 0 && was.size == is.size && memcmp(was.data, is.data, is.size) == 0;
    if (rc == 0 && !same) {
        if (!stage_will_replay(stage))
            rc = file_write_atomic(path, is.data, is.size, 0600, err);
        else if (known)
            rc = refuse(text_make((char *) was.data, was.size), text_make((char *) is.data, is.size), err);
    }
    if (rc)
        err_wrap(err, "%s", path);
    buf_fini(&is);
    buf_fini(&was);
    mem_free(path);
    return rc;
}
