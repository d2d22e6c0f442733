/* Dead letters counted, and split into what can be sent again: events to the last digit, a source's text with its header, what sinks refused by sink. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../cmd/streamctl/dead.h"
#include "../../cmd/streamctl/replay_private.h"
#include "base/file.h"
#include "base/memory.h"

static char directory[] = "/tmp/replayXXXXXX";
static replay_t replay;

static char *path_of(const char *name) {
    return mem_format("%s/%s", directory, name);
}

static void put(const char *name, const char *text) {
    char *path = path_of(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    mem_free(path);
}

static void expect_file(const char *path, const char *text) {
    buf_t got = {0};
    err_t err = {{0}};
    assert_int_equal(file_read(path, 1 << 20, &got, &err), 0);
    assert_string_equal(buf_text(&got), text);
    buf_fini(&got);
}

static int make(void **state) {
    assert_non_null(mkdtemp(directory));
    char *path = path_of("config.json");
    config_t *config = NULL;
    topology_t *topology = NULL;
    config_errors_t errors = {0};
    err_t err = {{0}};
    put("rows.csv", "seq,name\n1,a\n");
    static const char text[] =
        "{\"state_dir\": \"state\", \"data_sources\": [{\"name\": \"rows\", \"type\": \"csv\", \"path\": \"rows.csv\", \"csv_separator\": \",\"},"
        " {\"name\": \"web\", \"type\": \"api\", \"url\": \"https://example.com/x\", \"password\": \"hidden\"}],"
        " \"pipelines\": [{\"name\": \"some\", \"from\": \"rows\", \"program\": \"where seq > 0\"},"
        " {\"name\": \"split\", \"from\": \"web\", \"workers\": 2, \"key\": \"seq\", \"program\": \"where seq > 0\"}],"
        " \"sinks\": [{\"name\": \"one\", \"type\": \"null\"}, {\"name\": \"two\", \"type\": \"null\"}]}";
    assert_int_equal(config_parse(&config, path, text_of(text), NULL, &errors), 0);
    assert_int_equal(topology_new(&topology, config, "/run/streamctl/x", &err), 0);
    replay = (replay_t){config, topology};
    mem_free(path);
    return 0;
}

static int clean(void **state) {
    char command[100];
    topology_free((topology_t *) replay.topology);
    config_free((config_t *) replay.config);
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}

static const topology_stage_t *stage(const char *name) {
    for (size_t i = 0; i < replay.topology->count; i++)
        if (strcmp(replay.topology->stages[i].name, name) == 0)
            return &replay.topology->stages[i];
    fail();
    return NULL;
}

static void open_parts(replay_parts_t *parts, const char *name, const char *letters) {
    err_t err = {{0}};
    char *file = path_of("letters"), *work = mem_format("%s/work-%s", directory, name);
    put("letters", letters);
    assert_int_equal(replay_parts_open(parts, &replay, stage(name), file, work, &err), 0);
    mem_free(file);
    mem_free(work);
}

static void test_events_go_as_they_stand(void **state) {
    replay_parts_t parts;
    open_parts(&parts, "some",
               "{\"n\":1,\"time\":\"t\",\"stage\":\"some\",\"reason\":\"not \\\",\\\"event\\\":{} a number\",\"event\":{\"seq\":18446744073709551615,\"x\":0.1000}}\n"
               "{\"n\":2,\"time\":\"t\",\"stage\":\"some\",\"stream\":\"rows\",\"reason\":\"r\",\"event\":{}}\n"
               "{\"n\":3,\"time\":\"t\",\"stage\":\"some\",\"stream\":\"rows\",\"reason\":\"r\",\"event\":{\"a\":\"}\\n\"}}\n"
               "{\"n\":4,\"time\":\"t\",\"stage\":\"some\",\"reason\":\"r\",\"base64\":\"AAAA\"}\n"
               "half a line");
    assert_int_equal(parts.count, 1);
    assert_int_equal(parts.items[0].letters, 3);
    assert_int_equal(parts.unusable, 2);
    expect_file(parts.items[0].file, "{\"seq\":18446744073709551615,\"x\":0.1000}\n{\"@stream\":\"rows\"}\n{\"@stream\":\"rows\",\"a\":\"}\\n\"}\n");
    replay_parts_fini(&parts);
    char *work = path_of("work-some");
    open_parts(&parts, "some", "{\"n\":9,\"event\":{\"other\":1}}\n"); /* what was prepared stays what it is */
    assert_int_equal(parts.items[0].letters, 3);
    assert_int_equal(parts.unusable, 2);
    err_t err = {{0}};
    json_t *settings = replay_part_settings(&replay, stage("some"), &parts.items[0], work, &err);
    assert_string_equal(json_string_value(json_array_get(json_object_get(settings, "to"), 0)), ">ipc:///run/streamctl/x/l/replay-some");
    assert_string_equal(json_string_value(json_object_get(settings, "name")), "rows");
    assert_string_equal(json_string_value(json_object_get(settings, "format")), "ndjson");
    json_decref(settings);
    replay_parts_fini(&parts);
    mem_free(work);
}

static void test_a_sources_text_comes_with_its_header_and_goes_to_all_readers(void **state) {
    replay_parts_t parts;
    err_t err = {{0}};
    open_parts(&parts, "rows",
               "{\"n\":1,\"reason\":\"r\",\"place\":\"rows.csv:2\",\"text\":\"2,b\"}\n"
               "{\"n\":2,\"reason\":\"r\",\"text\":\"3,\xc3\xa4?\",\"base64\":\"Myz//g==\"}\n");
    assert_int_equal(parts.count, 1);
    assert_string_equal(parts.items[0].name, "text");
    expect_file(parts.items[0].file, "seq,name\n2,b\n3,\xff\xfe\n");
    json_t *settings = replay_part_settings(&replay, stage("rows"), &parts.items[0], directory, &err);
    const json_t *to = json_object_get(settings, "to");
    assert_int_equal(json_array_size(to), 2);
    assert_string_equal(json_string_value(json_array_get(to, 0)), ">ipc:///run/streamctl/x/l/replay-some");
    assert_string_equal(json_string_value(json_array_get(to, 1)), ">ipc:///run/streamctl/x/l/replay-broadcast");
    assert_string_equal(json_string_value(json_object_get(settings, "format")), "csv");
    assert_string_equal(json_string_value(json_object_get(settings, "csv_separator")), ",");
    assert_string_equal(json_string_value(json_object_get(settings, "name")), "rows");
    json_decref(settings);
    replay_parts_fini(&parts);
}

static void test_workers_share_what_is_sent_again_and_secrets_stay(void **state) {
    replay_parts_t parts;
    err_t err = {{0}};
    open_parts(&parts, "web", "{\"n\":1,\"reason\":\"r\",\"text\":\"{bad\"}\n");
    json_t *settings = replay_part_settings(&replay, stage("web"), &parts.items[0], directory, &err);
    const json_t *to = json_object_get(settings, "to");
    assert_int_equal(json_array_size(to), 2);
    assert_string_equal(json_string_value(json_array_get(to, 0)), ">ipc:///run/streamctl/x/l/replay-split?partitions=2&key=seq");
    assert_null(json_object_get(settings, "password"));
    assert_null(json_object_get(settings, "url"));
    json_decref(settings);
    replay_parts_fini(&parts);
    assert_string_equal(json_string_value(json_array_get(json_object_get(stage("split.1")->settings, "side"), 0)),
                        "@ipc:///run/streamctl/x/l/replay-split?partition=1");
}

static void test_what_a_sink_refused_goes_to_that_sink(void **state) {
    replay_parts_t parts;
    err_t err = {{0}};
    open_parts(&parts, "broadcast",
               "{\"n\":1,\"reason\":\"r\",\"place\":\"two\",\"event\":{\"a\":1}}\n"
               "{\"n\":2,\"reason\":\"r\",\"place\":\"one\",\"event\":{\"a\":2}}\n"
               "{\"n\":3,\"reason\":\"r\",\"place\":\"two\",\"event\":{\"a\":3}}\n"
               "{\"n\":4,\"reason\":\"r\",\"place\":\"gone\",\"event\":{\"a\":4}}\n");
    assert_int_equal(parts.count, 3);
    assert_string_equal(parts.items[0].name, "sink-two");
    expect_file(parts.items[0].file, "{\"a\":1}\n{\"a\":3}\n");
    json_t *settings = replay_part_settings(&replay, stage("broadcast"), &parts.items[0], directory, &err);
    const char *link = json_string_value(json_array_get(json_object_get(settings, "to"), 0));
    const json_t *sink = json_array_get(json_object_get(stage("broadcast")->settings, "sinks"), 1);
    assert_string_equal(link + 1, json_string_value(json_object_get(sink, "replay")) + 1);
    json_decref(settings);
    assert_null(replay_part_settings(&replay, stage("broadcast"), &parts.items[2], directory, &err));
    assert_non_null(strstr(err.text, "sink-gone"));
    replay_parts_fini(&parts);
}

static void test_letters_are_counted_by_their_numbers(void **state) {
    put("dead", "{\"n\":17,\"reason\":\"a\"}\n{\"n\":18,\"reason\":\"b\"}\n{\"n\":19,\"reas");
    put("dead.1", "{\"n\":15,\"reason\":\"a\"}\n{\"n\":16,\"reason\":\"b\"}\n");
    put("dead.replay-14", "{\"n\":4,\"reason\":\"a\"}\n{\"n\":14,\"reason\":\"b\"}\n");
    put("dead.unusable-14", "{\"n\":1}\n");
    char *path = path_of("dead");
    dead_count_t count = dead_count(path);
    assert_int_equal(count.handed_over, 11);
    assert_int_equal(count.letters, 11 + 2 + 3);
    json_t *newest = dead_newest(path, 3);
    assert_int_equal(json_array_size(newest), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(newest, 2), "n")), 18);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(newest, 0), "n")), 16);
    json_decref(newest);
    put("plain", "{\"reason\":\"no numbers\"}\n{\"reason\":\"none\"}\n");
    char *plain = path_of("plain");
    assert_int_equal(dead_count(plain).letters, 2);
    assert_int_equal(dead_count("/nonexistent/dead").letters, 0);
    mem_free(plain);
    mem_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_go_as_they_stand),
        cmocka_unit_test(test_a_sources_text_comes_with_its_header_and_goes_to_all_readers),
        cmocka_unit_test(test_workers_share_what_is_sent_again_and_secrets_stay),
        cmocka_unit_test(test_what_a_sink_refused_goes_to_that_sink),
        cmocka_unit_test(test_letters_are_counted_by_their_numbers),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
