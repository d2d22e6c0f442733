/* Parsing of /proc: as the kernel writes it, and as it should never be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../cmd/ingest/proc.h"
#include "base/memory.h"

static int set_up(void **state) {
    *state = mem_zero(sizeof(proc_sample_t));
    return 0;
}

static int tear_down(void **state) {
    mem_free(*state);
    return 0;
}

static void stat_gives_processor_times_by_core(void **state) {
    proc_sample_t *s = *state;
    proc_parse_stat(s, text_of("cpu  100 20 30 400 50 6 7 8 0 0\ncpu0 60 10 15 200 25 3 4 4 0 0\ncpu1 40 10 15 200 25 3 3 4 0 0\n"
                               "intr 12345 0 9\nctxt 987\nbtime 1700000000\nprocesses 55\nprocs_running 3\nprocs_blocked 1\n"));
    assert_int_equal(s->core_count, 2);
    assert_int_equal(s->total.user, 100);
    assert_int_equal(s->total.idle, 400);
    assert_int_equal(s->total.steal, 8);
    assert_int_equal(s->cores[1].user, 40);
    assert_int_equal(s->context_switches, 987);
    assert_int_equal(s->forks, 55);
    assert_int_equal(s->running, 3);
    assert_int_equal(s->blocked, 1);
}

static void old_kernels_write_fewer_columns(void **state) {
    proc_sample_t *s = *state;
    proc_parse_stat(s, text_of("cpu 1 2 3 4\ncpu0 1 2 3 4\n"));
    assert_int_equal(s->core_count, 1);
    assert_int_equal(s->total.idle, 4);
    assert_int_equal(s->total.steal, 0);
}

static void meminfo_is_in_bytes(void **state) {
    proc_sample_t *s = *state;
    proc_parse_meminfo(s, text_of("MemTotal:       24684096 kB\nMemFree:        1000 kB\nMemAvailable:   2000 kB\nCached:  5 kB\n"
                                  "SwapCached: 77 kB\nSwapTotal:  100 kB\nSwapFree:  40 kB\nHugePages_Total: 0\n"));
    assert_int_equal(s->memory.total, UINT64_C(24684096) * 1024);
    assert_int_equal(s->memory.available, 2000 * 1024);
    assert_int_equal(s->memory.cached, 5 * 1024);
    assert_int_equal(s->memory.swap_total - s->memory.swap_free, 60 * 1024);
}

static void load_and_uptime_are_decimals(void **state) {
    proc_sample_t *s = *state;
    proc_parse_loadavg(s, text_of("0.38 12.20 0.07 2/345 6789\n"));
    proc_parse_uptime(s, text_of("2760.51 5000.00\n"));
    assert_true(s->load[0] == 0.38 && s->load[1] == 12.20 && s->load[2] == 0.07);
    assert_true(s->uptime == 2760.51);
}

static void disks_that_were_never_used_are_left_out(void **state) {
    proc_sample_t *s = *state;
    proc_parse_diskstats(s, text_of("   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
                                    " 254       0 vda 98324 12774 6336 135142 38358 15888 3509 40939 0 26576 177336 8208 17 632960 1 2 3\n"),
                         "/nonexistent");
    assert_int_equal(s->disk_count, 1);
    assert_string_equal(s->disks[0].name, "vda");
    assert_int_equal(s->disks[0].read_bytes, 6336 * 512);
    assert_int_equal(s->disks[0].written_bytes, 3509 * 512);
    assert_int_equal(s->disks[0].busy_ms, 26576);
    assert_false(s->disks[0].whole);
}

static void interfaces_with_colons_in_their_names(void **state) {
    proc_sample_t *s = *state;
    proc_parse_netdev(s, text_of("Inter-|   Receive                            |  Transmit\n"
                                 " face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n"
                                 "    lo:    3267      29    0    0    0     0          0         0     3267      29    0    0    0     0       0          0\n"
                                 "eth0:1:217217475    4160    1    2    0     0          0         0   171026    2321    3    4    0     0       0          0\n"));
    assert_int_equal(s->interface_count, 2);
    assert_string_equal(s->interfaces[1].name, "eth0:1");
    assert_int_equal(s->interfaces[1].received_bytes, 217217475);
    assert_int_equal(s->interfaces[1].sent_bytes, 171026);
    assert_int_equal(s->interfaces[1].sent_dropped, 4);
}

static void nonsense_is_left_out(void **state) {
    static const char *const texts[] = {
        "", "\n\n", "cpu\n", "cpu a b c d\n", "cpu 1 2 3\ncpu99999999999999999999 1\n", "MemTotal:\nMemFree: x kB\n", ":::::\n",
        "1 2\n1 2 x\n1 2 name 1 2 3\n", "eth0: 1 2 3\n: 1 2 3 4 5 6 7 8 9 10 11 12\n",
        " 8 0 a-name-that-is-longer-than-any-name-the-kernel-would-ever-give-to-a-disk 1 1 1 1 1 1 1 1 1 1 1\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        proc_sample_t *s = *state;
        text_t text = text_of(texts[i]);
        proc_parse_stat(s, text);
        proc_parse_meminfo(s, text);
        proc_parse_loadavg(s, text);
        proc_parse_uptime(s, text);
        proc_parse_diskstats(s, text, "/sys");
        proc_parse_netdev(s, text);
        assert_int_equal(s->core_count, 0);
        assert_int_equal(s->disk_count, 0);
        assert_int_equal(s->interface_count, 0);
        assert_int_equal(s->memory.total, 0);
    }
}

static void this_machine_can_be_read(void **state) {
    proc_sample_t *s = *state;
    buf_t scratch = {0};
    err_t err;
    assert_int_equal(proc_read(s, "/proc", "/sys", &scratch, &err), 0);
    assert_true(s->core_count >= 1);
    assert_true(s->memory.total >= s->memory.available && s->memory.available > 0);
    assert_true(s->uptime > 0);
    assert_int_equal(proc_read(s, "/nonexistent", "/sys", &scratch, &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/stat"));
    buf_fini(&scratch);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(stat_gives_processor_times_by_core),
        TEST(old_kernels_write_fewer_columns),
        TEST(meminfo_is_in_bytes),
        TEST(load_and_uptime_are_decimals),
        TEST(disks_that_were_never_used_are_left_out),
        TEST(interfaces_with_colons_in_their_names),
        TEST(nonsense_is_left_out),
        TEST(this_machine_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
