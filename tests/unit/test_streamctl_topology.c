/* From a configuration to processes and links. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "../../cmd/streamctl/topology.h"

static config_t *config;
static topology_t *topology;

static int clear(void **state) {
    topology_free(topology);
    topology = NULL;
    config_free(config);
    config = NULL;
    return 0;
}

static void build(const char *text, const char *run_dir) {
    config_errors_t errors = {0};
    err_t err = {{0}};
    clear(NULL);
    if (config_parse(&config, "/x/demo.json", text_of(text), NULL, &errors))
        config_errors_print(&errors, "got", stderr);
    assert_int_equal(errors.count, 0);
    if (topology_new(&topology, config, run_dir, &err))
        print_error("%s\n", err.text);
    assert_non_null(topology);
}

static const topology_stage_t *stage(const char *name) {
    for (size_t i = 0; i < topology->count; i++)
        if (strcmp(topology->stages[i].name, name) == 0)
            return &topology->stages[i];
    fail_msg("there is no stage %s", name);
    return NULL;
}

static const char *text_at(const char *name, const char *key, size_t index) {
    const json_t *value = json_object_get(stage(name)->settings, key);
    const char *text = json_string_value(json_is_array(value) ? json_array_get(value, index) : value);
    return text ? text : "(none)";
}

static size_t length(const char *name, const char *key) {
    return json_array_size(json_object_get(stage(name)->settings, key));
}

#define AB "\"data_sources\": [{\"name\": \"a\", \"type\": \"x\", \"interval\": 7}, {\"name\": \"b\", \"type\": \"y\"}]"

static void without_pipelines_sources_flow_straight_through(void **state) {
    build("{" AB ", \"sinks\": [{\"type\": \"file\", \"path\": \"o\"}]}", "/run/d");
    assert_int_equal(topology->count, 4);
    assert_string_equal(text_at("a", "to", 0), "@ipc:///run/d/l/a-broadcast");
    assert_string_equal(text_at("broadcast", "from", 0), ">ipc:///run/d/l/a-broadcast");
    assert_string_equal(text_at("broadcast", "from", 1), ">ipc:///run/d/l/b-broadcast");
    assert_int_equal(length("broadcast", "sinks"), 1);
    assert_string_equal(text_at("broadcast", "pub", 0), "pub+ipc:///run/d/pub");
    assert_string_equal(text_at("a", "metrics", 0), "/run/d/a.metrics");
    assert_string_equal(stage("a")->type, "x");
    assert_int_equal(stage("broadcast")->input_count, 2);
    assert_int_equal(json_integer_value(json_object_get(stage("a")->settings, "interval")), 7);
}

static void each_edge_is_a_link_of_its_own(void **state) {
    build("{" AB ", \"pipelines\": [{\"name\": \"q\", \"from\": [\"p\", \"b\"], \"program\": \"y\"},"
          "{\"name\": \"p\", \"from\": \"a\", \"program\": \"x\", \"publish\": false}]}", "/run/d");
    assert_int_equal(length("a", "to"), 2);
    assert_string_equal(text_at("a", "to", 0), "@ipc:///run/d/l/a-p");
    assert_int_equal(length("p", "to"), 1);
    assert_string_equal(text_at("p", "to", 0), "@ipc:///run/d/l/p-q");
    assert_int_equal(length("broadcast", "from"), 3); /* a, b, q */
    assert_true(stage("p") < stage("q")); /* upstream first, whatever the file's order */
    assert_string_equal(text_at("q", "program", 0), "y");
}

static void workers_share_a_link_by_key(void **state) {
    build("{" AB ", \"pipelines\": [{\"name\": \"p\", \"from\": \"a\", \"program\": \"x\", \"workers\": 2, \"key\": \"the id\"}]}", "/run/d");
    assert_string_equal(text_at("a", "to", 0), "@ipc:///run/d/l/a-p?partitions=2&key=the%20id");
    assert_string_equal(text_at("p.0", "from", 0), ">ipc:///run/d/l/a-p?partition=0");
    assert_string_equal(text_at("p.1", "from", 0), ">ipc:///run/d/l/a-p?partition=1");
    assert_string_equal(text_at("p.1", "name", 0), "p"); /* its stream */
    assert_string_equal(text_at("p.1", "to", 0), "@ipc:///run/d/l/p.1-broadcast");
    assert_int_equal(length("broadcast", "from"), 4);
}

static void names_that_would_share_a_path_do_not(void **state) {
    build("{\"data_sources\": [{\"name\": \"a-b\", \"type\": \"x\"}, {\"name\": \"a\", \"type\": \"x\"}],"
          "\"pipelines\": [{\"name\": \"c\", \"from\": \"a-b\", \"program\": \"x\"}, {\"name\": \"b-c\", \"from\": \"a\", \"program\": \"x\"}]}", "/run/d");
    assert_string_not_equal(text_at("a-b", "to", 0), text_at("a", "to", 0));
}

static void long_names_still_fit_into_a_socket_path(void **state) {
    char text[1000], name[65];
    memset(name, 'n', 64);
    name[64] = 0;
    snprintf(text, sizeof text, "{\"data_sources\": [{\"name\": \"%s\", \"type\": \"x\"}], \"pipelines\": [{\"name\": \"p%.63s\", \"program\": \"x\"}]}",
             name, name);
    build(text, "/run/user/1000/streamctl/a-rather-long-name-12345678");
    assert_true(strlen(text_at(name, "to", 0)) < 100);
    assert_string_not_equal(text_at(name, "to", 0), text_at(name, "to", 1));
    err_t err;
    topology_t *none = NULL;
    char deep[200] = "/";
    memset(deep + 1, 'd', 120);
    deep[121] = 0;
    assert_int_equal(topology_new(&none, config, deep, &err), -1);
    assert_non_null(strstr(err.text, "XDG_RUNTIME_DIR"));
}

static void settings_of_the_whole_are_defaults_for_each_stage(void **state) {
    build("{\"stream_config\": {\"batch_size\": 100, \"buffer_size\": 1000}, \"delivery\": {\"on-full\": \"drop_oldest\", \"flush\": 0.5,"
          "\"dead_letter\": \"dead\"}, \"data_sources\": [{\"name\": \"a\", \"type\": \"x\", \"batch-size\": 7}],"
          "\"pipelines\": [{\"name\": \"p\", \"program\": \"x\", \"window\": \"1MiB\"}]}", "/run/d");
    assert_int_equal(json_integer_value(json_object_get(stage("a")->settings, "batch_size")), 7);
    assert_int_equal(json_integer_value(json_object_get(stage("a")->settings, "window")), 1024000);
    assert_int_equal(json_integer_value(json_object_get(stage("p")->settings, "batch_size")), 100);
    assert_string_equal(text_at("p", "window", 0), "1MiB");
    assert_string_equal(text_at("p", "on_full", 0), "drop_oldest");
    assert_string_equal(text_at("p", "dead_letter", 0), "dead/p.ndjson");
    assert_null(json_object_get(stage("broadcast")->settings, "on_full")); /* it has no outputs */
    assert_string_equal(text_at("broadcast", "dead_letter", 0), "dead/broadcast.ndjson");
}

static void the_server_gets_what_it_needs_and_no_source_secrets(void **state) {
    build("{\"data_sources\": [{\"name\": \"a\", \"type\": \"x\", \"password\": \"hidden\"}], \"server\": {\"port\": 0, \"token\": \"t\", \"origins\": [\"http://o\"]}}",
          "/run/d");
    assert_string_equal(text_at("facade", "control", 0), "/run/d/control.sock");
    assert_string_equal(text_at("facade", "token", 0), "t");
    char *shown = json_dumps(json_object_get(stage("facade")->settings, "config"), 0);
    assert_null(strstr(shown, "hidden"));
    free(shown);
    build("{" AB ", \"server\": {\"enabled\": false}}", "/run/d");
    assert_int_equal(topology->count, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_pipelines_sources_flow_straight_through, clear),
        cmocka_unit_test_teardown(each_edge_is_a_link_of_its_own, clear),
        cmocka_unit_test_teardown(workers_share_a_link_by_key, clear),
        cmocka_unit_test_teardown(names_that_would_share_a_path_do_not, clear),
        cmocka_unit_test_teardown(long_names_still_fit_into_a_socket_path, clear),
        cmocka_unit_test_teardown(settings_of_the_whole_are_defaults_for_each_stage, clear),
        cmocka_unit_test_teardown(the_server_gets_what_it_needs_and_no_source_secrets, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
