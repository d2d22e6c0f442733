/* The log: the shape of a line, levels, what cannot be smuggled in, the listener, the limit for floods, and that nobody waits for who reads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "child.h"

static child_t child;

static void expect_match(const char *text, const char *pattern) {
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int result = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    if (result)
        fail_msg("%s does not match %s", text, pattern);
}

static size_t lines(const char *text) {
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void with_name(void *argument) {
    log_open("ingest", "sensors", LOG_DEBUG);
    log_error("e %d", 1);
    log_warning("w");
    log_info("i");
    log_debug("d");
}

static void without_name(void *argument) {
    log_info("before the log is opened");
    log_open("ingest", NULL, LOG_INFO);
    log_info("unnamed");
}

static void a_line_says_when_what_and_who(void **state) {
#define STAMP "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
    child_run(&child, with_name, NULL);
    expect_match(child.text, "^" STAMP "error ingest\\[sensors\\] e 1\n" STAMP "warning ingest\\[sensors\\] w\n" STAMP
                             "info ingest\\[sensors\\] i\n" STAMP "debug ingest\\[sensors\\] d\n$");
    child_run(&child, without_name, NULL);
    expect_match(child.text, "^" STAMP "info stream before the log is opened\n" STAMP "info ingest unnamed\n$");
}

static void only_errors(void *argument) {
    log_open("t", NULL, LOG_ERROR);
    log_error("one");
    log_warning("two");
    if (log_enabled(LOG_WARNING))
        _exit(9);
    log_set_level(LOG_WARNING);
    if (!log_enabled(LOG_WARNING) || log_enabled(LOG_INFO))
        _exit(9);
    log_warning("three");
    log_info("four");
}

static void levels_are_kept(void **state) {
    child_run(&child, only_errors, NULL);
    assert_int_equal(child.status, 0);
    assert_non_null(strstr(child.text, " one\n"));
    assert_null(strstr(child.text, "two"));
    assert_non_null(strstr(child.text, " three\n"));
    assert_null(strstr(child.text, "four"));
}

static void forge(void *argument) {
    log_open("t", "n", LOG_INFO);
    log_warning("file %s not found", "a\n2026-01-01T00:00:00.000Z error t[n] forged");
    log_warning("%s", "carriage\rreturn \x1b[2J\x1b]0;title\x07 del\x7f c1\xC2\x9B""31m bad\xFF end");
    log_warning("%s", "tab\there, umlaut \xC3\xA4 stays");
    log_warning("%s", "at the end\n\n\n");
    log_warning("%s", "");
    log_warning("%s", "\n");
}

static void nothing_from_outside_makes_a_line_of_its_own(void **state) {
    child_run(&child, forge, NULL);
    assert_int_equal(lines(child.text), 6);
    assert_non_null(strstr(child.text, "file a\\n2026-01-01T00:00:00.000Z error t[n] forged not found\n"));
    assert_non_null(strstr(child.text, "carriage\\x0dreturn \\x1b[2J\\x1b]0;title\\x07 del\\x7f c1\\xc2\\x9b31m bad\\xff end\n"));
    assert_non_null(strstr(child.text, "tab\\there, umlaut \xC3\xA4 stays\n"));
    assert_non_null(strstr(child.text, "t[n] at the end\n"));
    for (const char *c = child.text; *c; c++)
        assert_true(*c == '\n' || (unsigned char) *c >= 0x20);
}

static void say_much(void *argument) {
    char large[10000];
    memset(large, *(char *) argument, sizeof large - 1);
    large[sizeof large - 1] = 0;
    char name[500];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    log_open(name, name, LOG_INFO);
    log_info("%s", large);
    log_info("next");
}

static void long_messages_are_cut_and_still_one_line(void **state) {
    char letters[] = {'x', '\x01', '\xFF', '\n'};
    for (size_t i = 0; i < sizeof letters; i++) {
        child_run(&child, say_much, &letters[i]);
        assert_int_equal(child.status, 0);
        assert_int_equal(lines(child.text), 2);
        assert_true(strchr(child.text, '\n') - child.text < 4096); /* one write stays whole in a pipe */
        if (i < 3)
            assert_non_null(strstr(child.text, "...\n"));
        assert_non_null(strstr(child.text, "] next\n"));
    }
}

static int heard;
static char heard_text[3100];

static void hear(log_level_t level, const char *text) {
    heard++;
    snprintf(heard_text, sizeof heard_text, "%d %s", level, text);
    log_error("from the listener"); /* must not come back here */
}

static void with_listener(void *argument) {
    log_open("t", NULL, LOG_WARNING);
    log_listen(hear);
    log_info("not written, not heard");
    if (heard)
        _exit(1);
    errno = EBADF;
    log_warning("a\nb\n");
    if (errno != EBADF)
        _exit(2);
    if (heard != 1 || strcmp(heard_text, "1 a\\nb") != 0)
        _exit(3);
    log_set_level(LOG_DEBUG);
    log_info("written, not heard");
    if (heard != 1)
        _exit(4);
    log_listen(NULL);
    log_error("nobody listens");
    if (heard != 1)
        _exit(5);
}

static void the_listener_hears_warnings_and_errors(void **state) {
    child_run(&child, with_listener, NULL);
    assert_int_equal(child.status, 0);
    assert_int_equal(lines(child.text), 4);
}

static void closed(void *argument) {
    close(STDERR_FILENO);
    log_open("t", NULL, LOG_INFO);
    errno = 0;
    log_error("nowhere to go");
    if (errno)
        _exit(1);
}

static void a_closed_standard_error_is_survived(void **state) {
    child_run(&child, closed, NULL);
    assert_int_equal(child.status, 0);
}

/* Standard error becomes something whose reading end, which is returned, nobody reads. Who stands still is ended. */
static int unread(const char *kind) {
    int ends[2];
    alarm(60);
    if (strcmp(kind, "terminal") == 0) {
        struct termios raw;
        ends[0] = posix_openpt(O_RDWR | O_NOCTTY);
        if (ends[0] < 0 || grantpt(ends[0]) || unlockpt(ends[0]))
            _exit(90);
        ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY);
        tcgetattr(ends[1], &raw);
        cfmakeraw(&raw);
        tcsetattr(ends[1], TCSANOW, &raw);
    } else if (strcmp(kind, "socket") == 0 ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends)) {
        _exit(91);
    }
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return ends[0];
}

static char all[1024 * 1024];

/* What stands there, until nothing is left to be said. */
static void read_all(int fd) {
    size_t size = 0;
    for (bool nothing_left = false;;) {
        ssize_t n = read(fd, all + size, sizeof all - 1 - size);
        if (n > 0)
            size += (size_t) n;
        else if (nothing_left)
            break;
        nothing_left = log_catch_up();
    }
    all[size] = 0;
}

#define SAID 4000

static void nobody_reads(void *kind) {
    int fd = unread(kind);
    log_open("t", NULL, LOG_INFO);
    for (int i = 0; i < SAID; i++)
        log_info("line %d of many that nobody reads.", i);
    log_error("why it ended");
    if (fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK)
        _exit(80);
    read_all(fd);
    int seen = 0, lost = 0, reports = 0, why = 0;
    char *rest = all;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        char *text = strstr(line, " t "), end;
        int n, count;
        if (text && sscanf(text, " t line %d of many that nobody reads%c", &n, &end) == 2 && end == '.' && n == seen + lost)
            seen++;
        else if (text && sscanf(text, " t %d lines of the log before this one found no roo%c", &count, &end) == 2)
            lost += count, reports++;
        else if (text && strcmp(text, " t why it ended") == 0 && reports)
            why++;
        else
            _exit(81);
    }
    /* A terminal passes on what it holds when it comes to it, and then has room again. */
    bool once = reports == 1 || strcmp(kind, "terminal") == 0;
    if (!lost || seen + lost != SAID || !once || why != 1)
        _exit(82);
}

static void nobody_waits_for_who_reads_it(void **state) {
    static const char *const kinds[] = {"pipe", "terminal", "socket"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        child_run(&child, nobody_reads, (void *) kinds[i]);
        if (child.status)
            fail_msg("%s: status %#x", kinds[i], (unsigned) child.status);
    }
}

static void *read_on(void *argument) {
    int fd = *(int *) argument;
    size_t size = 0;
    fcntl(fd, F_SETFL, 0);
    for (ssize_t n; size < sizeof all - 1 && (n = read(fd, all + size, sizeof all - 1 - size)) > 0;) {
        size += (size_t) n;
        if (strstr(all, "the last one\n"))
            break;
    }
    return NULL;
}

static void reader_comes_back(void *argument) {
    int fd = unread("pipe");
    pthread_t reader;
    log_open("t", NULL, LOG_INFO);
    while (!log_behind())
        log_info("to fill it");
    log_error("the one before");
    log_error("the last one");
    if (pthread_create(&reader, NULL, read_on, &fd))
        _exit(83);
    while (log_behind())
        log_close();
    pthread_join(reader, NULL);
    if (strstr(all, "the one before") || !strstr(all, " t 2 lines of the log before") || !strstr(all, "error t the last one\n"))
        _exit(84);
}

static void the_last_error_gets_out_once_there_is_room(void **state) {
    child_run(&child, reader_comes_back, NULL);
    assert_int_equal(child.status, 0);
}

static void fall(void *argument) {
    unread("pipe");
    while (!log_behind())
        log_info("to fill it");
    ASSERT(1 == 2);
}

static void a_panic_ends_the_process_though_nobody_reads(void **state) {
    child_run(&child, fall, NULL);
    assert_true(child_aborted(&child));
}

/* The window is set back rather than waited for. */
static void floods_are_counted(void **state) {
    log_limit_t limit = {0};
    assert_true(log_limited(&limit));
    assert_int_equal(limit.reported, 0);
    limit.window += INT64_C(3600000000000); /* this second lasts, however slow the machine */
    for (int i = 0; i < 1000; i++)
        assert_false(log_limited(&limit));
    assert_int_equal(limit.held, 1000);
    limit.window -= INT64_C(3602000000000);
    assert_true(log_limited(&limit));
    assert_int_equal(limit.reported, 1000);
    assert_int_equal(limit.held, 0);
    limit.window -= INT64_C(2000000000);
    assert_true(log_limited(&limit));
    assert_int_equal(limit.reported, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_says_when_what_and_who),
        cmocka_unit_test(levels_are_kept),
        cmocka_unit_test(nothing_from_outside_makes_a_line_of_its_own),
        cmocka_unit_test(long_messages_are_cut_and_still_one_line),
        cmocka_unit_test(the_listener_hears_warnings_and_errors),
        cmocka_unit_test(a_closed_standard_error_is_survived),
        cmocka_unit_test(nobody_waits_for_who_reads_it),
        cmocka_unit_test(the_last_error_gets_out_once_there_is_room),
        cmocka_unit_test(a_panic_ends_the_process_though_nobody_reads),
        cmocka_unit_test(floods_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
