/* Files: bounded reads, atomic replacement that fails cleanly, directories, and locks between processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

static char directory[64], path[128], other[128];

static int set_up(void **state) {
    strcpy(directory, "/tmp/test_file.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/file", directory);
    snprintf(other, sizeof other, "%s/other", directory);
    return 0;
}

static int tear_down(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static int entries(void) {
    DIR *list = opendir(directory);
    int n = 0;
    while (readdir(list))
        n++;
    closedir(list);
    return n - 2;
}

static void put(const char *where, const char *text) {
    FILE *file = fopen(where, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void expect_content(const char *where, const char *text) {
    buf_t content = {0};
    assert_int_equal(file_read(where, 1000000, &content, NULL), 0);
    assert_string_equal(buf_text(&content), text);
    buf_fini(&content);
}

static void reading_appends_and_is_bounded(void **state) {
    buf_t content = {0};
    err_t err = {{0}};
    buf_put_text(&content, "before ");
    put(path, "12345");
    assert_int_equal(file_read(path, 5, &content, &err), 0);
    assert_string_equal(buf_text(&content), "before 12345");
    assert_int_equal(file_read(path, 4, &content, &err), -1); /* as it was */
    assert_string_equal(buf_text(&content), "before 12345");
    assert_non_null(strstr(err.text, "larger than 4 bytes"));
    assert_non_null(strstr(err.text, path));
    put(path, "");
    assert_int_equal(file_read(path, 0, &content, &err), 0);
    assert_string_equal(buf_text(&content), "before 12345");
    assert_int_equal(file_read("/dev/zero", 1000000, &content, &err), -1); /* without end */
    assert_true(content.capacity < 4000000);
    assert_int_equal(file_read(other, 10, &content, &err), -1);
    assert_non_null(strstr(err.text, "No such file"));
    assert_non_null(strstr(err.text, other));
    assert_int_equal(file_read(directory, 10, &content, &err), -1);
    assert_non_null(strstr(err.text, "Is a directory"));
    assert_string_equal(buf_text(&content), "before 12345");
    buf_fini(&content);
}

static void large_files_are_read_whole(void **state) {
    enum { SIZE = 1000003 };
    char *bytes = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char) (i * 31 >> 3);
    assert_int_equal(file_write_atomic(path, bytes, SIZE, 0600, NULL), 0);
    buf_t content = {0};
    assert_int_equal(file_read(path, SIZE, &content, NULL), 0);
    assert_int_equal(content.size, SIZE);
    assert_memory_equal(content.data, bytes, SIZE);
    buf_fini(&content);
    free(bytes);
}

static void replacing_is_atomic(void **state) {
    put(path, "old");
    int reader = open(path, O_RDONLY);
    assert_int_equal(file_write_atomic(path, "new content", 11, 0600, NULL), 0);
    char text[16] = "";
    assert_int_equal(read(reader, text, sizeof text - 1), 3); /* who has it open keeps the old one */
    assert_string_equal(text, "old");
    close(reader);
    expect_content(path, "new content");
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(file_write_atomic(path, NULL, 0, 0600, NULL), 0);
    expect_content(path, "");
    assert_int_equal(entries(), 1);
}

static void a_failed_replacement_leaves_all_as_it_was(void **state) {
    err_t err = {{0}};
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(file_write_atomic(path, "x", 1, 0600, &err), -1); /* a directory stands there */
    assert_non_null(strstr(err.text, "rename"));
    assert_int_equal(entries(), 1);
    char missing[200];
    snprintf(missing, sizeof missing, "%s/none/file", directory);
    assert_int_equal(file_write_atomic(missing, "x", 1, 0600, &err), -1);
    assert_non_null(strstr(err.text, "No such file"));
    put(other, "old");
    pid_t pid = fork();
    if (pid == 0) { /* the disk is full after three bytes */
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){3, 3});
        err_t why = {{0}};
        int result = file_write_atomic(other, "new content", 11, 0600, &why);
        _exit(result == -1 && strstr(why.text, "File too large") ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    expect_content(other, "old");
    assert_int_equal(entries(), 2);
}

/* Somebody who may write to the directory must not lead us to another file, nor give ours his rights. */
static void temporary_files_are_our_own(void **state) {
    char temporary[200];
    snprintf(temporary, sizeof temporary, "%s.tmp.%d", path, (int) getpid());
    put(other, "victim");
    assert_int_equal(symlink(other, temporary), 0);
    assert_int_equal(file_write_atomic(path, "secret", 6, 0600, NULL), 0);
    expect_content(other, "victim");
    expect_content(path, "secret");
    put(temporary, "left by a process that crashed");
    assert_int_equal(chmod(temporary, 0666), 0);
    assert_int_equal(file_write_atomic(path, "secret 2", 8, 0600, NULL), 0);
    expect_content(path, "secret 2");
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void writing_all_goes_through_a_full_pipe(void **state) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        char part[1000];
        size_t sum = 0;
        ssize_t n;
        while ((n = read(ends[0], part, sizeof part)) > 0)
            sum += (size_t) n;
        _exit(sum == 1000000 ? 0 : 1);
    }
    close(ends[0]);
    char *bytes = calloc(1, 1000000);
    assert_int_equal(file_write_all(ends[1], bytes, 1000000, NULL), 0);
    free(bytes);
    close(ends[1]);
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    err_t err = {{0}};
    assert_int_equal(file_write_all(ends[1], "x", 1, &err), -1);
    assert_non_null(strstr(err.text, "Bad file descriptor"));
    assert_int_equal(file_write_all(ends[1], NULL, 0, &err), 0);
}

static void directories_are_made_with_parents(void **state) {
    char deep[200];
    struct stat status;
    err_t err = {{0}};
    snprintf(deep, sizeof deep, "%s/a/b//c/", directory);
    assert_int_equal(file_make_directory(deep, 0700, &err), 0);
    assert_int_equal(stat(deep, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(file_make_directory(deep, 0700, &err), 0); /* again */
    assert_int_equal(file_make_directory("/", 0700, &err), 0);
    assert_int_equal(file_make_directory(".", 0700, &err), 0);
    put(path, "");
    assert_int_equal(file_make_directory(path, 0700, &err), -1);
    assert_non_null(strstr(err.text, "not a directory"));
    snprintf(deep, sizeof deep, "%s/x", path);
    assert_int_equal(file_make_directory(deep, 0700, &err), -1);
    assert_non_null(strstr(err.text, path));
    char *empty = calloc(1, 1); /* on the heap, so that a read behind it is seen */
    assert_int_equal(file_make_directory(empty, 0700, &err), -1);
    free(empty);
}

/* Takes the lock in a child; it is held until the pipe is closed. */
static pid_t hold_lock(int ends[2]) {
    int ready[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        close(ready[0]);
        char byte = file_lock(path, NULL, NULL) >= 0 ? 'y' : 'n';
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(ends[0]);
    close(ready[1]);
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    close(ready[0]);
    return pid;
}

static void a_lock_names_its_holder_and_ends_with_it(void **state) {
    int ends[2];
    pid_t child = hold_lock(ends), holder = -1;
    err_t err = {{0}};
    assert_int_equal(file_lock(path, &holder, &err), -1);
    assert_int_equal(holder, child);
    char expected[32];
    snprintf(expected, sizeof expected, "process %d", (int) child);
    assert_non_null(strstr(err.text, expected));
    assert_non_null(strstr(err.text, path));
    assert_int_equal(file_lock(path, NULL, NULL), -1);
    kill(child, SIGKILL); /* its file stays behind, the lock does not */
    int status;
    waitpid(child, &status, 0);
    close(ends[1]);
    int fd = file_lock(path, &holder, &err);
    assert_true(fd >= 0);
    snprintf(expected, sizeof expected, "%d\n", (int) getpid());
    expect_content(path, expected);
    holder = -1;
    assert_int_equal(file_lock(path, &holder, &err), -1); /* not twice, within a process either */
    assert_int_equal(holder, getpid());
    close(fd);
    fd = file_lock(path, &holder, &err);
    assert_true(fd >= 0);
    close(fd);
}

static void stale_content_does_not_matter(void **state) {
    put(path, "99999999999999999999 a much longer text than a process id, from something else altogether\n");
    int fd = file_lock(path, NULL, NULL);
    assert_true(fd >= 0);
    char expected[32];
    snprintf(expected, sizeof expected, "%d\n", (int) getpid());
    expect_content(path, expected);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
}

/* What stands in the file is anybody's; a caller may send a signal to the holder, so that -1 or 0 would be fatal. */
static void a_holder_is_a_process_or_unknown(void **state) {
    static const char *const texts[] = {"", "-1\n", "0\n", "-999999\n", "abc", "99999999999999999999\n", "4294967297\n", "12x34\n"};
    int ends[2];
    pid_t child = hold_lock(ends);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put(path, texts[i]);
        pid_t holder = 7;
        err_t err = {{0}};
        assert_int_equal(file_lock(path, &holder, &err), -1);
        assert_int_equal(holder, 0);
        assert_non_null(strstr(err.text, "another process"));
    }
    close(ends[1]);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

static void a_lock_that_cannot_be_opened(void **state) {
    char missing[200];
    snprintf(missing, sizeof missing, "%s/none/lock", directory);
    pid_t holder = 7;
    err_t err = {{0}};
    assert_int_equal(file_lock(missing, &holder, &err), -1);
    assert_int_equal(holder, 0);
    assert_non_null(strstr(err.text, "No such file"));
    put(other, "victim");
    assert_int_equal(symlink(other, path), 0); /* a link that somebody put there must not be written through */
    assert_int_equal(file_lock(path, &holder, &err), -1);
    expect_content(other, "victim");
}

/* Removed while held: the next one locks a new file, and both believe in theirs. */
static void a_removed_lock_file_is_made_anew(void **state) {
    int first = file_lock(path, NULL, NULL);
    assert_true(first >= 0);
    assert_int_equal(unlink(path), 0);
    int second = file_lock(path, NULL, NULL);
    assert_true(second >= 0);
    struct stat there, ours;
    assert_int_equal(stat(path, &there), 0);
    assert_int_equal(fstat(second, &ours), 0);
    assert_true(there.st_ino == ours.st_ino);
    close(first);
    close(second);
}

/* Many processes that take, release and remove the lock: never two inside at once. */
static void only_one_is_inside(void **state) {
    enum { PROCESSES = 4, ROUNDS = 200 };
    pid_t pids[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        pids[p] = fork();
        if (pids[p])
            continue;
        for (int i = 0; i < ROUNDS;) {
            int fd = file_lock(path, NULL, NULL);
            if (fd < 0)
                continue;
            int mark = open(other, O_WRONLY | O_CREAT | O_EXCL, 0600);
            if (mark < 0)
                _exit(1);
            close(mark);
            unlink(other);
            unlink(path); /* while held, as the owner of an ipc path does at its end */
            close(fd);
            i++;
        }
        _exit(0);
    }
    for (int p = 0; p < PROCESSES; p++) {
        int status;
        waitpid(pids[p], &status, 0);
        assert_int_equal(status, 0);
    }
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        FILE_TEST(reading_appends_and_is_bounded),
        FILE_TEST(large_files_are_read_whole),
        FILE_TEST(replacing_is_atomic),
        FILE_TEST(a_failed_replacement_leaves_all_as_it_was),
        FILE_TEST(temporary_files_are_our_own),
        FILE_TEST(writing_all_goes_through_a_full_pipe),
        FILE_TEST(directories_are_made_with_parents),
        FILE_TEST(a_lock_names_its_holder_and_ends_with_it),
        FILE_TEST(stale_content_does_not_matter),
        FILE_TEST(a_holder_is_a_process_or_unknown),
        FILE_TEST(a_lock_that_cannot_be_opened),
        FILE_TEST(a_removed_lock_file_is_made_anew),
        FILE_TEST(only_one_is_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
