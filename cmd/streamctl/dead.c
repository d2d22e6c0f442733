/* Looking at files of dead letters: how many, and the newest. */
#include "dead.h"

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"

#define HEAD_SIZE 64                  /* of a line: its number stands in front */
#define TAIL_SIZE (256u * 1024)
#define PLAIN_MAX (16u * 1024 * 1024) /* of lines without numbers so much is counted */

/* {"n":12,... */
static uint64_t number_of(const char *line) {
    static const char head[] = "{\"n\":";
    return strncmp(line, head, sizeof head - 1) == 0 ? strtoull(line + sizeof head - 1, NULL, 10) : 0;
}

/* The last `size` bytes, or all, as text. */
static void read_tail(int fd, off_t file_size, size_t size, buf_t *out) {
    off_t from = file_size > (off_t) size ? file_size - (off_t) size : 0;
    ssize_t n = pread(fd, buf_reserve(out, size + 1), size, from);
    out->size = n > 0 ? (size_t) n : 0;
    buf_reserve(out, 1)[0] = 0;
}

static uint64_t last_number(const buf_t *tail) {
    const char *text = (const char *) tail->data;
    size_t end = tail->size;
    while (end) { /* a line may be half written, or longer than the tail */
        const char *newline = memrchr(text, '\n', end - 1);
        size_t start = newline ? (size_t) (newline - text) + 1 : 0;
        uint64_t number = start || text[0] == '{' ? number_of(text + start) : 0;
        if (number)
            return number;
        end = start;
    }
    return 0;
}

static uint64_t count_lines(int fd) {
    buf_t text = {0};
    uint64_t lines = 0;
    off_t at = 0;
    for (ssize_t n; at < (off_t) PLAIN_MAX && (n = pread(fd, buf_reserve(&text, 65536), 65536, at)) > 0; at += n)
        for (ssize_t i = 0; i < n; i++)
            lines += text.data[i] == '\n';
    buf_fini(&text);
    return lines;
}

uint64_t dead_count_file(const char *file) {
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    uint64_t count = 0;
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
        char head[HEAD_SIZE + 1] = "";
        buf_t tail = {0};
        read_tail(fd, status.st_size, TAIL_SIZE, &tail);
        uint64_t first = pread(fd, head, HEAD_SIZE, 0) > 0 ? number_of(head) : 0, last = last_number(&tail);
        count = first && last >= first ? last - first + 1 : count_lines(fd);
        buf_fini(&tail);
    }
    if (fd >= 0)
        close(fd);
    return count;
}

static uint64_t size_of(const char *file) {
    struct stat status;
    return stat(file, &status) == 0 && S_ISREG(status.st_mode) ? (uint64_t) status.st_size : 0;
}

char **dead_files(const char *path, size_t *count) {
    static const char *const endings[] = {".replay-*", ".again-*"};
    char **files = mem_zero(sizeof *files);
    *count = 0;
    buf_t escaped = {0};
    for (const char *c = path; *c; c++) { /* the path itself is no pattern */
        if (strchr("*?[\\", *c))
            buf_put_byte(&escaped, '\\');
        buf_put_byte(&escaped, (uint8_t) *c);
    }
    for (size_t i = 0; i < 2; i++) {
        char *pattern = mem_format("%s%s", buf_text(&escaped), endings[i]);
        glob_t found = {0};
        if (glob(pattern, 0, NULL, &found) == 0)
            for (size_t n = 0; n < found.gl_pathc; n++) {
                files = mem_resize(files, (*count + 2) * sizeof *files);
                files[(*count)++] = mem_text(found.gl_pathv[n]);
                files[*count] = NULL;
            }
        globfree(&found);
        mem_free(pattern);
    }
    buf_fini(&escaped);
    return files;
}

void dead_files_free(char **files) {
    for (char **file = files; file && *file; file++)
        mem_free(*file);
    mem_free(files);
}

dead_count_t dead_count(const char *path) {
    dead_count_t count = {0};
    size_t files;
    char *before = mem_format("%s.1", path), **handed = dead_files(path, &files);
    for (size_t i = 0; i < files; i++) {
        count.handed_over += dead_count_file(handed[i]);
        count.bytes += size_of(handed[i]);
    }
    count.letters = count.handed_over + dead_count_file(before) + dead_count_file(path);
    count.bytes += size_of(before) + size_of(path);
    dead_files_free(handed);
    mem_free(before);
    return count;
}

/* Letters of one file, newest last, put in front of what is there already. */
static void add_newest(json_t *list, const char *file, size_t limit) {
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    buf_t tail = {0};
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        read_tail(fd, status.st_size, TAIL_SIZE, &tail);
    if (fd >= 0)
        close(fd);
    const char *text = (const char *) tail.data;
    for (size_t end = tail.size; end && json_array_size(list) < limit;) {
        const char *newline = end > 1 ? memrchr(text, '\n', end - 1) : NULL;
        size_t start = newline ? (size_t) (newline - text) + 1 : 0;
        json_t *letter = json_loadb(text + start, end - start, JSON_ALLOW_NUL, NULL);
        if (!letter) /* an integer beyond 64 bits: shown as nearly as possible */
            letter = json_loadb(text + start, end - start, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
        if (json_is_object(letter)) /* not the half of a line that the tail begins with */
            json_array_insert(list, 0, letter);
        json_decref(letter);
        end = start;
    }
    buf_fini(&tail);
}

json_t *dead_newest(const char *path, size_t limit) {
    json_t *list = json_array();
    size_t files;
    char *before = mem_format("%s.1", path), **handed = dead_files(path, &files);
    add_newest(list, path, limit);
    add_newest(list, before, limit);
    while (files-- > 0)
        add_newest(list, handed[files], limit);
    dead_files_free(handed);
    mem_free(before);
    return list;
}
