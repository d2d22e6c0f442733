/* The metrics file: what a reader sees of a writer that goes on, dies, or left something else there; quantiles against exact ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "child.h"
#include "run/metrics.h"

static char directory[64], path[128], other[128];
static pid_t writer;
static metrics_snapshot_t snapshot;
static err_t err;

static int set_up(void **state) {
    strcpy(directory, "/tmp/test_metrics.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/metrics", directory);
    snprintf(other, sizeof other, "%s/other", directory);
    memset(&snapshot, 0, sizeof snapshot);
    return 0;
}

static int tear_down(void **state) {
    if (writer > 0) {
        kill(writer, SIGKILL);
        waitpid(writer, NULL, 0);
        writer = 0;
    }
    metrics_snapshot_fini(&snapshot);
    metrics_snapshot_fini(&snapshot); /* again: nothing */
    metrics_close();
    metrics_close();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static void open_registry(void) {
    if (metrics_open(path, "process", "hot", &err))
        fail_msg("%s", err.text);
}

static void read_again(void) {
    metrics_snapshot_fini(&snapshot);
    if (metrics_read(path, &snapshot, &err))
        fail_msg("%s", err.text);
}

static void a_reader_sees_what_was_written(void **state) {
    int64_t before = clock_now();
    open_registry();
    metric_t *in = metrics_add(METRIC_COUNTER, "in_total", "", "Events in");
    metric_t *a = metrics_add(METRIC_COUNTER, "link_total", "link=\"a\"", "By link");
    metric_t *b = metrics_add(METRIC_COUNTER, "link_total", "link=\"b\"", "By link");
    metric_t *held = metrics_add(METRIC_GAUGE, "held", "", "Held");
    metric_add(in, 5);
    metric_add(in, UINT32_MAX);
    metric_set_counter(a, 7);
    metric_add(b, 4);
    metric_set(held, -2.5);
    read_again();
    assert_string_equal(snapshot.tool, "process");
    assert_string_equal(snapshot.name, "hot");
    assert_int_equal(snapshot.pid, getpid());
    assert_true(snapshot.started >= before && snapshot.started <= clock_now());
    assert_int_equal(snapshot.state, STAGE_STARTING);
    assert_true(snapshot.healthy);
    assert_int_equal(snapshot.count, 4);
    assert_string_equal(snapshot.samples[2].label, "link=\"b\"");
    assert_string_equal(snapshot.samples[2].help, "By link");
    assert_true(metrics_find(&snapshot, "in_total")->value == 5.0 + UINT32_MAX);
    assert_ptr_equal(metrics_find(&snapshot, "link_total"), &snapshot.samples[1]);
    assert_true(metrics_sum(&snapshot, "link_total") == 11);
    assert_true(metrics_find(&snapshot, "held")->value == -2.5);
    assert_null(metrics_find(&snapshot, "none"));
    assert_true(metrics_sum(&snapshot, "none") == 0);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0007, 0); /* not for everybody */
    assert_true(status.st_blocks * 512 >= 100000); /* its room is taken: a full disk cannot end the writer later */
}

static void states_and_health(void **state) {
    open_registry();
    metrics_state(STAGE_READY, NULL);
    metrics_health(false, "no data for 5s");
    read_again();
    assert_int_equal(snapshot.state, STAGE_READY);
    assert_string_equal(snapshot.detail, "");
    assert_false(snapshot.healthy);
    assert_string_equal(snapshot.health, "no data for 5s");
    char text[1000] = "x"; /* so that the limit falls inside a character */
    while (strlen(text) < 900)
        strcat(text, "\xE2\x82\xAC");
    metrics_state(STAGE_FAILED, text);
    metrics_health(true, text);
    read_again();
    assert_int_equal(snapshot.state, STAGE_FAILED);
    assert_true(snapshot.healthy);
    assert_true(strlen(snapshot.detail) > 250);
    assert_int_equal(text_utf8_valid(snapshot.detail, strlen(snapshot.detail)), strlen(snapshot.detail));
    assert_int_equal(text_utf8_valid(snapshot.health, strlen(snapshot.health)), strlen(snapshot.health));
    for (int i = STAGE_STARTING; i <= STAGE_FAILED; i++)
        assert_non_null(stage_state_names[i]);
}

static void without_a_file(void **state) {
    metric_t *early = metrics_add(METRIC_COUNTER, "early", "", "before the registry is open");
    metric_add(early, 1);
    metrics_state(STAGE_READY, "");
    metrics_health(true, "");
    assert_int_equal(metrics_open(NULL, "t", "n", &err), 0);
    metric_t *metric = metrics_add(METRIC_HISTOGRAM, "h", "", "h");
    metric_observe(metric, 5, 1);
    metric_observe(early, 5, 1);
}

static void places_that_are_no_file(void **state) {
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(metrics_open(path, "t", "n", &err), -1);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(metrics_read(path, &snapshot, &err), -1);
    char missing[200];
    snprintf(missing, sizeof missing, "%s/none/file", directory);
    assert_int_equal(metrics_open(missing, "t", "n", &err), -1);
    assert_non_null(strstr(err.text, "No such file"));
    assert_int_equal(metrics_read(missing, &snapshot, &err), -1);
    assert_non_null(strstr(err.text, "No such file"));
}

static void a_full_registry_goes_on(void **state) {
    open_registry();
    static char names[400][16];
    char label[200];
    memset(label, 'x', sizeof label);
    label[160] = 0;
    metric_add(metrics_add(METRIC_COUNTER, "label_too_long", label, ""), 1);
    label[159] = 0;
    metric_add(metrics_add(METRIC_COUNTER, "label_fits", label, ""), 1);
    for (int i = 0; i < 40; i++)
        metric_observe(metrics_add(METRIC_HISTOGRAM, "histogram", "", ""), 5000, 1);
    for (int i = 0; i < 400; i++) {
        snprintf(names[i], sizeof names[i], "n%d", i);
        metric_add(metrics_add(METRIC_COUNTER, names[i], "", ""), (uint64_t) i + 1);
    }
    read_again();
    assert_int_equal(snapshot.count, 256);
    assert_null(metrics_find(&snapshot, "label_too_long"));
    assert_int_equal(strlen(metrics_find(&snapshot, "label_fits")->label), 159);
    size_t histograms = 0;
    for (size_t i = 0; i < snapshot.count; i++)
        histograms += snapshot.samples[i].type == METRIC_HISTOGRAM;
    assert_int_equal(histograms, 16);
    assert_true(metrics_find(&snapshot, "n238")->value == 239);
    assert_null(metrics_find(&snapshot, "n239"));
}

static void long_names_are_cut(void **state) {
    char large[1000];
    memset(large, 'n', sizeof large - 1);
    large[sizeof large - 1] = 0;
    assert_int_equal(metrics_open(path, large, large, &err), 0);
    metrics_add(METRIC_COUNTER, large, "", large);
    read_again();
    assert_int_equal(strlen(snapshot.tool), sizeof snapshot.tool - 1);
    assert_int_equal(strlen(snapshot.name), sizeof snapshot.name - 1);
    assert_int_equal(strlen(snapshot.samples[0].name), sizeof snapshot.samples[0].name - 1);
    assert_int_equal(strlen(snapshot.samples[0].help), sizeof snapshot.samples[0].help - 1);
}

/* Each bucket begins where the one before it ends, and takes exactly what lies between. */
static void bucket_limits_are_continuous(void **state) {
    open_registry();
    metric_t *metric = metrics_add(METRIC_HISTOGRAM, "h", "", "h");
    assert_true(isinf(metric_bucket_limit(METRIC_BUCKETS - 1)));
    assert_true(isinf(metric_bucket_limit(METRIC_BUCKETS + 5)));
    double low = 0;
    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        double high = metric_bucket_limit(i);
        assert_true(high > low);
        metric_observe(metric, (int64_t) low, 1); /* its least value */
        metric_observe(metric, isinf(high) ? INT64_MAX : (int64_t) high - 1, 2); /* and its greatest */
        if (i && !isinf(high))
            assert_true((high - low) / low <= 0.125);
        low = high;
    }
    metric_observe(metric, INT64_MIN, 10);
    metric_observe(metric, -1, 10);
    metric_observe(metric, 77, 0); /* weight 0: nothing */
    read_again();
    const metrics_sample_t *sample = &snapshot.samples[0];
    assert_int_equal(sample->buckets[0], 23);
    for (unsigned i = 1; i < METRIC_BUCKETS; i++)
        assert_int_equal(sample->buckets[i], 3);
    assert_int_equal(sample->count, 3 * METRIC_BUCKETS + 20);
    assert_true(sample->maximum == (double) INT64_MAX);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
    return x < y ? -1 : x > y;
}

static void expect_near(double found, const int64_t *sorted, size_t n, double q) {
    double exact = (double) sorted[(size_t) ceil(q * (double) n) - 1];
    double allowed = exact < 1024 ? 1024 : exact * 0.0625;
    if (!(fabs(found - exact) <= allowed + 1))
        fail_msg("quantile %g of %zu: %g, exactly %g", q, n, found, exact);
}

static void quantiles_are_near_the_exact_ones(void **state) {
    enum { MOST = 20000 };
    static const size_t sizes[] = {1, 2, 3, 10, 99, 100, 101, 1000, MOST};
    int64_t *values = malloc(MOST * sizeof *values);
    uint64_t random = 88172645463325252u;
    for (int shape = 0; shape < 5; shape++) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            size_t n = sizes[s];
            metrics_close();
            open_registry();
            metric_t *metric = metrics_add(METRIC_HISTOGRAM, "h", "", "h");
            double sum = 0;
            for (size_t i = 0; i < n; i++) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                double uniform = (double) (random >> 11) / 9007199254740992.0;
                double value = shape == 0   ? pow(10, uniform * 10.8)       /* 1 ns to 63 s, each size alike */
                               : shape == 1 ? 1e6 + uniform * 1e6           /* 1 to 2 ms */
                               : shape == 2 ? 5e5                           /* all the same */
                               : shape == 3 ? (uniform < 0.985 ? 2e4 : 3e9) /* a few very slow ones */
                                            : uniform * 900;                /* below the first limit */
                values[i] = (int64_t) value;
                sum += (double) values[i];
                metric_observe(metric, values[i], 1);
            }
            qsort(values, n, sizeof *values, compare);
            read_again();
            const metrics_sample_t *sample = &snapshot.samples[0];
            assert_int_equal(sample->count, n);
            assert_true(fabs(sample->sum - sum) <= 1);
            assert_true(sample->maximum == (double) values[n - 1]);
            expect_near(sample->p50, values, n, 0.5);
            expect_near(sample->p99, values, n, 0.99);
            expect_near(sample->p999, values, n, 0.999);
        }
    }
    free(values);
}

static void an_empty_histogram_and_one_beyond_its_range(void **state) {
    open_registry();
    metric_t *empty = metrics_add(METRIC_HISTOGRAM, "empty", "", "h");
    metric_t *slow = metrics_add(METRIC_HISTOGRAM, "slow", "", "h");
    metric_observe(slow, INT64_C(200000000000), 5);
    metric_observe(empty, 5, 0);
    read_again();
    const metrics_sample_t *sample = metrics_find(&snapshot, "empty");
    assert_true(sample->count == 0 && sample->p50 == 0 && sample->p999 == 0 && sample->maximum == 0);
    sample = metrics_find(&snapshot, "slow");
    assert_true(sample->p50 == 2e11 && sample->p99 == 2e11);
}

/* A frame whose ingest time is nonsense must not turn the sum around: to Prometheus that is a restart. */
static void the_sum_never_goes_back(void **state) {
    open_registry();
    metric_t *metric = metrics_add(METRIC_HISTOGRAM, "h", "", "h");
    metric_observe(metric, INT64_C(1) << 62, 4); /* 2^64 */
    read_again();
    double last = snapshot.samples[0].sum;
    assert_true(last >= 1e19);
    for (int i = 0; i < 20; i++) {
        metric_observe(metric, INT64_MAX, 1000);
        metric_observe(metric, 1, 1);
        read_again();
        assert_true(snapshot.samples[0].sum >= last);
        last = snapshot.samples[0].sum;
    }
    assert_int_equal(snapshot.samples[0].count, 20 * 1001 + 4);
}

static void write_notices(void *argument) {
    open_registry();
    log_open("process", "hot", LOG_INFO);
    log_info("not a notice");
    for (int i = 1; i <= *(int *) argument; i++) {
        if (i % 2)
            log_warning("number %d", i);
        else
            log_error("number %d of these\nnext line", i);
    }
    char text[1000] = "xx";
    while (strlen(text) < 900)
        strcat(text, "\xE2\x82\xAC");
    log_error("%s", text);
}

static void notices_come_oldest_first(void **state) {
    static const int counts[] = {0, 1, 30, 31, 32, 33, 64, 100};
    static child_t child;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        int last = counts[c] + 1, n = last < METRICS_NOTICES ? last : METRICS_NOTICES;
        child_run(&child, write_notices, (void *) &counts[c]);
        assert_int_equal(child.status, 0);
        read_again(); /* of a process that has ended */
        for (int i = 0; i < n; i++) {
            const metrics_notice_t *notice = &snapshot.notices[i];
            int number = last - n + 1 + i;
            char expected[64];
            snprintf(expected, sizeof expected, number % 2 ? "number %d" : "number %d of these\\nnext line", number);
            assert_int_equal(notice->serial, number);
            assert_true(notice->time > 0);
            if (number == last) {
                assert_int_equal(text_utf8_valid(notice->text, strlen(notice->text)), strlen(notice->text));
                assert_true(strlen(notice->text) > 230);
                continue;
            }
            assert_string_equal(notice->text, expected);
            assert_int_equal(notice->level, number % 2 ? LOG_WARNING : LOG_ERROR);
        }
        if (n < METRICS_NOTICES)
            assert_int_equal(snapshot.notices[n].serial, 0);
    }
}

/* A whole, valid file, to be spoilt. */
static buf_t sample_file(void) {
    open_registry();
    for (int i = 0; i < 10; i++) {
        metric_add(metrics_add(METRIC_COUNTER, "counter", "a=\"b\"", "help"), 5);
        metric_observe(metrics_add(METRIC_HISTOGRAM, "histogram", "", "help"), 5000, 3);
    }
    metrics_state(STAGE_READY, "detail");
    log_set_level(LOG_ERROR);
    buf_t bytes = {0};
    assert_int_equal(file_read(path, 10000000, &bytes, &err), 0);
    metrics_close();
    return bytes;
}

static int read_bytes(const void *bytes, size_t size) {
    FILE *file = fopen(other, "w");
    fwrite(bytes, 1, size, file);
    fclose(file);
    metrics_snapshot_fini(&snapshot);
    return metrics_read(other, &snapshot, &err);
}

static void a_file_cut_short_is_an_error(void **state) {
    buf_t bytes = sample_file();
    assert_int_equal(read_bytes(bytes.data, bytes.size), 0);
    assert_int_equal(snapshot.count, 20);
    size_t needed = 0, failures = 0;
    for (size_t size = 0; size < bytes.size; size += 509) {
        if (read_bytes(bytes.data, size)) {
            assert_non_null(strstr(err.text, "cut short"));
            assert_null(snapshot.samples);
            assert_true(needed == 0);
            failures++;
        } else {
            needed = size;
            assert_int_equal(snapshot.count, 20);
        }
    }
    assert_true(failures > 50);
    buf_fini(&bytes);
}

static void other_files_are_refused(void **state) {
    buf_t bytes = sample_file();
    bytes.data[0]++; /* another version */
    assert_int_equal(read_bytes(bytes.data, bytes.size), -1);
    assert_non_null(strstr(err.text, "not a metrics file of this version"));
    memset(bytes.data, 0, bytes.size); /* made, and not yet filled */
    assert_int_equal(read_bytes(bytes.data, bytes.size), -1);
    memset(bytes.data, 0xFF, bytes.size);
    assert_int_equal(read_bytes(bytes.data, bytes.size), -1);
    for (size_t i = 0; i < bytes.size; i++)
        bytes.data[i] = "not a metrics file\n"[i % 19];
    assert_int_equal(read_bytes(bytes.data, bytes.size), -1);
    buf_fini(&bytes);
}

static void expect_text(const char *text, size_t size) {
    size_t length = strnlen(text, size);
    assert_true(length < size);
    assert_int_equal(text_utf8_valid(text, length), length);
}

/* Whatever stands in the file: what is returned can be shown and walked. */
static void garbage_is_refused_or_harmless(void **state) {
    buf_t bytes = sample_file();
    uint8_t *spoilt = malloc(bytes.size);
    uint32_t random = 1, taken = 0;
    for (int round = 0; round < 1500; round++) {
        memcpy(spoilt, bytes.data, bytes.size);
        size_t changes = 1u << round % 11;
        for (size_t i = 0; i < changes; i++) {
            random = random * 1664525 + 1013904223;
            size_t at = 8 + (random >> 4) % (round % 3 ? 18000 : bytes.size - 8); /* the header and first entries mostly */
            random = random * 1664525 + 1013904223;
            spoilt[at] = (uint8_t) (round % 2 ? 0xFF : random >> 24);
        }
        if (round % 5 == 0)
            memset(spoilt + 8 + random % 30, (int) (random >> 24), 400);
        if (read_bytes(spoilt, bytes.size))
            continue;
        taken++;
        expect_text(snapshot.tool, sizeof snapshot.tool);
        expect_text(snapshot.name, sizeof snapshot.name);
        expect_text(snapshot.detail, sizeof snapshot.detail);
        expect_text(snapshot.health, sizeof snapshot.health);
        assert_in_range(snapshot.state, STAGE_STARTING, STAGE_FAILED);
        for (size_t i = 0; i < snapshot.count; i++) {
            const metrics_sample_t *sample = &snapshot.samples[i];
            assert_in_range(sample->type, METRIC_COUNTER, METRIC_HISTOGRAM);
            assert_int_equal(sample->type == METRIC_HISTOGRAM, sample->buckets != NULL);
            expect_text(sample->name, sizeof sample->name);
            expect_text(sample->label, sizeof sample->label);
            expect_text(sample->help, sizeof sample->help);
        }
        for (size_t i = 0; i < METRICS_NOTICES; i++) {
            expect_text(snapshot.notices[i].text, sizeof snapshot.notices[i].text);
            assert_in_range(snapshot.notices[i].level, LOG_ERROR, LOG_DEBUG);
        }
    }
    assert_true(taken > 100);
    free(spoilt);
    buf_fini(&bytes);
}

static void write_on(void *argument) {
    int ready = *(int *) argument;
    open_registry();
    log_open("process", "hot", LOG_WARNING);
    log_set_level(LOG_WARNING);
    if (!freopen("/dev/null", "w", stderr))
        _exit(1);
    dup2(fileno(stderr), STDERR_FILENO);
    metric_t *counter = metrics_add(METRIC_COUNTER, "counter", "", ""), *histogram = metrics_add(METRIC_HISTOGRAM, "h", "", "");
    char text[256], more[256];
    if (write(ready, "y", 1) != 1)
        _exit(1);
    for (unsigned i = 0;; i++) {
        memset(text, 'a' + i % 26, 255);
        text[255] = 0;
        metrics_state(STAGE_READY, text);
        metrics_health(i % 2, text);
        snprintf(more, sizeof more, "%.*s", (int) (i % 200 + 20), text);
        log_warning("%s", more);
        metric_add(counter, 3);
        metric_observe(histogram, i * 1000, 1);
    }
}

static void expect_one_letter(const char *text) {
    for (const char *c = text; *c; c++)
        if (*c != *text)
            fail_msg("two texts in one: %s", text);
}

/* Readers never see half of one text and half of another, nor numbers that go back. */
static void reading_while_a_writer_goes_on(void **state) {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    writer = fork();
    if (writer == 0) {
        write_on(&ready[1]);
        _exit(1);
    }
    close(ready[1]);
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    double counter = 0, count = 0;
    unsigned moved = 0;
    for (int i = 0; i < 2000 || (moved < 20 && i < 1000000); i++) {
        read_again();
        expect_one_letter(snapshot.detail);
        expect_one_letter(snapshot.health);
        for (size_t n = 0; n < METRICS_NOTICES; n++) {
            expect_one_letter(snapshot.notices[n].text);
            if (n && snapshot.notices[n].serial)
                assert_true(snapshot.notices[n].serial > snapshot.notices[n - 1].serial);
        }
        double now = metrics_find(&snapshot, "counter")->value;
        const metrics_sample_t *histogram = metrics_find(&snapshot, "h");
        uint64_t sum = 0;
        for (unsigned b = 0; b < METRIC_BUCKETS; b++)
            sum += histogram->buckets[b];
        assert_true(now >= counter && (double) histogram->count >= count);
        assert_true(sum >= histogram->count);
        assert_true(fmod(now, 3) == 0);
        moved += now > counter;
        counter = now;
        count = (double) histogram->count;
        if (i % 50 == 0)
            sched_yield();
    }
    assert_true(moved >= 20);
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    read_again(); /* its last numbers are still there */
    assert_true(metrics_find(&snapshot, "counter")->value >= counter);
    assert_int_equal(snapshot.pid, writer);
    writer = 0;
}

/* A restarted stage begins a new file; who reads the old one is not disturbed. */
static void a_new_writer_begins_anew(void **state) {
    open_registry();
    metric_add(metrics_add(METRIC_COUNTER, "n", "", ""), 5);
    FILE *old = fopen(path, "r");
    metrics_close();
    open_registry();
    read_again();
    assert_int_equal(snapshot.count, 0);
    assert_int_equal(fseek(old, 0, SEEK_END), 0);
    assert_true(ftell(old) > 0);
    fclose(old);
}

#define METRICS_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        METRICS_TEST(a_reader_sees_what_was_written),
        METRICS_TEST(states_and_health),
        METRICS_TEST(without_a_file),
        METRICS_TEST(places_that_are_no_file),
        METRICS_TEST(a_full_registry_goes_on),
        METRICS_TEST(long_names_are_cut),
        METRICS_TEST(bucket_limits_are_continuous),
        METRICS_TEST(quantiles_are_near_the_exact_ones),
        METRICS_TEST(an_empty_histogram_and_one_beyond_its_range),
        METRICS_TEST(the_sum_never_goes_back),
        METRICS_TEST(notices_come_oldest_first),
        METRICS_TEST(a_file_cut_short_is_an_error),
        METRICS_TEST(other_files_are_refused),
        METRICS_TEST(garbage_is_refused_or_harmless),
        METRICS_TEST(reading_while_a_writer_goes_on),
        METRICS_TEST(a_new_writer_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
