/* config.json: places, every error with its place, the brief's file, secrets in and out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "run/config.h"

static const char BRIEF[] =
    "{ \"stream_config\": { \"buffer_size\": 1000, \"batch_size\": 100, \"processing_interval\": 1, \"max_connections\": 50 },\n"
    "  \"data_sources\": [ { \"name\": \"api_source\", \"type\": \"api\", \"url\": \"https://api.example.com/stream\", \"interval\": 5 } ] }\n";

static const char INGEST[] =
    "{\"drivers\": [{\"name\": \"http\", \"schemes\": [\"http\", \"https\"], \"types\": [\"api\", \"rest\"], \"options\": ["
    "  {\"name\": \"interval\", \"type\": \"duration\", \"value\": \"DURATION\", \"minimum\": 1000000, \"maximum\": 86400000000000},"
    "  {\"name\": \"password\", \"type\": \"secret\", \"value\": \"TEXT\"}, {\"name\": \"header\", \"type\": \"list\", \"value\": \"TEXT\"},"
    "  {\"name\": \"retries\", \"type\": \"int\", \"value\": \"N\", \"minimum\": 0, \"maximum\": 9}]},"
    " {\"name\": \"file\", \"schemes\": [\"file\"], \"types\": [\"csv\", \"log\"], \"options\": [{\"name\": \"follow\", \"type\": \"bool\"}]}],"
    " \"options\": [{\"name\": \"time\", \"type\": \"text\"}, {\"name\": \"to\", \"type\": \"list\"}, {\"name\": \"on-full\", \"type\": \"choice\","
    " \"value\": \"block|drop_oldest|drop_newest\"}]}";
static const char BROADCAST[] =
    "{\"drivers\": [{\"name\": \"file\", \"schemes\": [\"file\"], \"types\": [\"file\"], \"options\": [{\"name\": \"rotate-size\", \"type\": \"size\"}]}],"
    " \"options\": []}";

static config_tools_t tools;
static config_t *config;
static config_errors_t errors;

static config_tool_t *tool_of(const char *text) {
    err_t err;
    config_tool_t *tool = NULL;
    json_t *description = json_loads(text, 0, NULL);
    assert_non_null(description);
    assert_int_equal(config_tool_new(&tool, description, &err), 0);
    json_decref(description);
    return tool;
}

static int make_tools(void **state) {
    tools = (config_tools_t){tool_of(INGEST), tool_of(BROADCAST)};
    return 0;
}

static int free_tools(void **state) {
    config_tool_free((config_tool_t *) tools.ingest);
    config_tool_free((config_tool_t *) tools.broadcast);
    return 0;
}

static int clear(void **state) {
    config_free(config);
    config = NULL;
    config_errors_fini(&errors);
    return 0;
}

static int parse(const char *text) {
    clear(NULL);
    return config_parse(&config, "/etc/streams/demo.json", text_of(text), &tools, &errors);
}

/* Exactly one error, at that place, holding that text. */
static void expect_error(const char *text, unsigned line, unsigned column, const char *part) {
    assert_int_equal(parse(text), -1);
    if (errors.count != 1 || errors.items[0].place.line != line || errors.items[0].place.column != column ||
        !strstr(errors.items[0].text, part))
        config_errors_print(&errors, "got", stderr);
    assert_int_equal(errors.count, 1);
    assert_int_equal(errors.items[0].place.line, line);
    assert_int_equal(errors.items[0].place.column, column);
    assert_non_null(strstr(errors.items[0].text, part));
}

static void expect_good(const char *text) {
    if (parse(text))
        config_errors_print(&errors, "got", stderr);
    assert_int_equal(errors.count, 0);
}

#define SOURCES "\"data_sources\": [{\"name\": \"a\", \"type\": \"csv\", \"path\": \"a.csv\"}]"

static void places_count_lines_and_characters(void **state) {
    text_t json = text_of("{\n  \"α\": [1, {\"b\": \"x\\u00e4\\n\\ud83d\\ude00y\"}],\n  \"c\": {}\n}");
    config_place_t place = config_locate(json, "/α/1/b", false);
    assert_int_equal(place.line, 2);
    assert_int_equal(place.column, 18);
    place = config_locate(json, "/α/1/b", true);
    assert_int_equal(place.column, 13);
    place = config_locate(json, "/c", true);
    assert_int_equal(place.line, 3);
    assert_int_equal(place.column, 3);
    place = config_locate(json, "/c/none/x", true); /* the nearest that there is */
    assert_int_equal(place.column, 3);
    place = config_locate(json, "", false);
    assert_int_equal(place.line, 1);
    assert_int_equal(place.column, 1);
}

static void places_inside_strings_see_through_escapes(void **state) {
    text_t json = text_of("{\"p\": \"a\\u00e4\\n\\ud83d\\ude00y\"}"); /* decoded: a, 2 bytes, newline, 4 bytes, y */
    static const unsigned columns[] = {8, 9, 9, 15, 17, 17, 17, 17, 29};
    for (size_t i = 0; i < 9; i++) {
        if (i == 2 || i == 5 || i == 6 || i == 7) /* inside a character */
            continue;
        assert_int_equal(config_locate_inside(json, "/p", i).column, columns[i]);
    }
}

static void the_briefs_file_is_valid_as_it_is(void **state) {
    expect_good(BRIEF);
    assert_int_equal(config->stream.buffer_size, 1000);
    assert_int_equal(config->stream.batch_size, 100);
    assert_true(config->stream.processing_interval == INT64_C(1000000000));
    assert_int_equal(config->stream.max_connections, 50);
    assert_int_equal(config->source_count, 1);
    assert_string_equal(config->sources[0].name, "api_source");
    assert_string_equal(config->sources[0].type, "api");
    assert_true(config->sources[0].takes_interval);
    assert_int_equal(json_integer_value(json_object_get(config->sources[0].settings, "interval")), 5);
    assert_string_equal(json_string_value(json_object_get(config->sources[0].settings, "url")), "https://api.example.com/stream");
    assert_string_equal(config->name, "demo");
    assert_true(config->server.enabled);
    assert_int_equal(config->server.port, 5000);
    assert_string_equal(config->server.listen, "127.0.0.1");
}

static void syntax_errors_have_a_place_and_a_hint(void **state) {
    expect_error("{\n  \"name\": \"x\",\n}", 3, 1, "no comma after the last member");
    expect_error("{\n  'name': 1}", 2, 3, "double quotes");
    expect_error("{ // remark\n}", 1, 3, "no comments");
    expect_error("", 1, 1, "'[' or '{' expected");
    expect_error("{\"name\": \"a\", \"name\": \"b\"}", 1, 15, "duplicate");
    expect_error("[1]", 1, 1, "one object");
}

static void unknown_keys_name_the_nearest(void **state) {
    expect_error("{\n " SOURCES ",\n \"pipeline\": []}", 3, 2, "did you mean \"pipelines\"?");
    expect_error("{" SOURCES ",\n \"stream_config\": {\"bufer_size\": 5}}", 2, 20, "did you mean \"buffer_size\"?");
    expect_error("{\"data_sources\": [\n{\"name\": \"a\", \"type\": \"csv\", \"folow\": true}]}", 2, 30, "did you mean \"follow\"?");
    expect_error("{" SOURCES ",\n \"sinks\": [{\"type\": \"file\", \"rotate_siz\": 1}]}", 2, 29, "did you mean \"rotate_size\"?");
    expect_error("{" SOURCES ",\n \"pipelines\": [{\"name\": \"p\", \"program\": \"x\", \"worker\": 2}]}", 2, 46, "did you mean \"workers\"?");
    expect_error("{" SOURCES ",\n \"server\": {\"prot\": 1}}", 2, 13, "did you mean \"port\"?");
}

static void values_are_checked_against_the_tools_declarations(void **state) {
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"retries\": 10}]}", 2, 12, "between 0 and 9");
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"interval\": \"soon\"}]}", 2, 13, "not a duration");
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"on_full\": \"drop\"}]}", 2, 12, "block|drop_oldest|drop_newest");
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"to\": \"-\"}]}", 2, 1, "set by streamctl");
    expect_error("{\"data_sources\": [{\"name\": \"a\",\n\"type\": \"ap\"}]}", 2, 9, "did you mean \"api\"?");
    expect_error("{\"data_sources\": [{\"name\": \"a\",\n\"type\": \"telepathy\"}]}", 2, 9, "known: http, api, rest, https, file, csv, log");
    expect_error("{\"data_sources\": [{\"name\": \"a\",\n\"url\": \"gopher://x\"}]}", 2, 8, "unknown URL scheme \"gopher\"");
    expect_error("{\"data_sources\": [\n{\"name\": \"a\"}]}", 2, 1, "a \"type\" or a \"url\" is needed");
    expect_good("{\"data_sources\": [{\"name\": \"a\", \"path\": \"x.csv\", \"follow\": true, \"time\": \"ts\", \"comment\": \"none\"}]}");
    assert_string_equal(config->sources[0].type, "file");
    expect_error("{" SOURCES ",\n \"limits\": {\"drain\": 0}}", 2, 22, "between");
    expect_error("{" SOURCES ",\n \"server\": {\"port\": 65536}}", 2, 21, "between 0 and 65535");
}

static void names_are_valid_and_unique(void **state) {
    expect_error("{\"data_sources\": [{\"name\": \"a b\", \"type\": \"csv\"}]}", 1, 28, "characters");
    expect_error("{\"data_sources\": [{\"name\": \"broadcast\", \"type\": \"csv\"}]}", 1, 28, "reserved");
    expect_error("{\"data_sources\": [{\"type\": \"csv\"}]}", 1, 19, "needs a \"name\"");
    expect_error("{" SOURCES ",\n \"pipelines\": [{\"name\": \"a\", \"from\": \"a\", \"program\": \"x\"}]}", 2, 25, "taken");
    expect_error("{\"data_sources\": []}", 1, 18, "at least one source");
    expect_error("{}", 1, 1, "\"data_sources\" is missing");
}

static void pipelines_read_what_exists_and_not_themselves(void **state) {
    expect_error("{" SOURCES ",\n \"pipelines\": [{\"name\": \"p\", \"from\": [\"a\", \"aa\"], \"program\": \"x\"}]}", 2, 44, "did you mean \"a\"?");
    expect_error("{" SOURCES ",\n \"pipelines\": [{\"name\": \"p\", \"from\": \"p\", \"program\": \"x\"}]}", 2, 38, "reads what it makes itself");
    assert_int_equal(parse("{" SOURCES ", \"pipelines\": [{\"name\": \"p\", \"from\": \"q\", \"program\": \"x\"},"
                           "{\"name\": \"q\", \"from\": \"p\", \"program\": \"x\"}, {\"name\": \"r\", \"program\": \"x\"}]}"), -1);
    assert_int_equal(errors.count, 2); /* both of the circle, not r */
    expect_error("{" SOURCES ",\n \"pipelines\": [{\"name\": \"p\"}]}", 2, 16, "needs a \"program\"");
    expect_error("{" SOURCES ",\n \"pipelines\": [{\"name\": \"p\", \"program\": [\"a\", 1]}]}", 2, 47, "line of the program is text");
    expect_error("{" SOURCES ",\n \"pipelines\": [{\"name\": \"p\", \"program\": \"x\", \"publish\": false}]}", 2, 57, "no pipeline reads it");
    expect_error("{" SOURCES ",\n \"sinks\": [{\"type\": \"file\", \"from\": [\"b\"]}]}", 2, 38, "no stream is called");
    expect_good("{\"data_sources\": [{\"name\": \"a\", \"type\": \"csv\"}, {\"name\": \"b\", \"type\": \"csv\", \"publish\": false}],"
                " \"pipelines\": [{\"name\": \"p\", \"from\": \"*\", \"program\": [\"where x > 1\", \"| to special\"], \"workers\": 3, \"key\": \"id\"},"
                "{\"name\": \"q\", \"program\": \"where y\", \"batch_size\": 5}],"
                " \"sinks\": [{\"type\": \"file\", \"path\": \"x\", \"from\": [\"p\", \"special\", \"alerts\", \"q.late\", \"a*\"]}]}");
    assert_int_equal(config->pipelines[0].from.count, 3); /* a, b, q: not itself */
    assert_string_equal(config->pipelines[0].program, "where x > 1\n| to special");
    assert_int_equal(config->pipelines[0].workers, 3);
    assert_int_equal(config->pipelines[1].from.count, 2); /* all sources */
    assert_string_equal(config->sinks[0].name, "file-1");
}

static void an_alert_is_a_pipeline_of_its_own(void **state) {
    expect_good("{" SOURCES ", \"alerts\": [{\"name\": \"hot\", \"from\": \"a\", \"when\": \"t > 80\", \"for\": \"30s\","
                "\"clear_when\": \"t < 70\", \"by\": [\"x\", \"y\"], \"severity\": \"critical\", \"message\": \"{x} is \\\"hot\\\"\"}]}");
    assert_int_equal(config->pipeline_count, 1);
    assert_string_equal(config->pipelines[0].name, "alert-hot");
    assert_string_equal(config->pipelines[0].program, "alert hot when t > 80 for 30s clear when t < 70 by x, y severity critical "
                                                      "message \"{x} is \\\"hot\\\"\"\n| where false");
    assert_string_equal(config->pipelines[0].from.items[0], "a");
    assert_int_equal(config->pipelines[0].skip, strlen("alert hot when "));
    expect_error("{" SOURCES ",\n \"alerts\": [{\"name\": \"hot\", \"from\": \"a\"}]}", 2, 13, "needs a condition");
    expect_error("{" SOURCES ",\n \"alerts\": [{\"name\": \"a b\", \"from\": \"a\", \"when\": \"x\"}]}", 2, 22, "letters");
    expect_error("{" SOURCES ",\n \"alerts\": [{\"name\": \"hot\", \"from\": \"b\", \"when\": \"x\"}]}", 2, 37, "did you mean");
    expect_error("{" SOURCES ",\n \"alerts\": [{\"name\": \"hot\", \"from\": \"a\", \"wen\": \"x\", \"when\": \"x\"}]}", 2, 42, "did you mean \"when\"?");
}

static void all_errors_come_at_once_in_order(void **state) {
    assert_int_equal(parse("{\n\"streem_config\": {},\n\"data_sources\": [\n{\"name\": \"a\", \"type\": \"api\", \"retries\": -1},\n"
                           "{\"name\": \"a\", \"type\": \"api\", \"x\": 1}],\n\"server\": {\"port\": -1, \"listen\": \"0.0.0.0\"}}"), -1);
    assert_int_equal(errors.count, 6);
    for (size_t i = 1; i < errors.count; i++)
        assert_true(errors.items[i - 1].place.line < errors.items[i].place.line ||
                    (errors.items[i - 1].place.line == errors.items[i].place.line &&
                     errors.items[i - 1].place.column <= errors.items[i].place.column));
    buf_t many = {0};
    buf_put_text(&many, "{" SOURCES);
    for (int i = 0; i < 150; i++)
        buf_format(&many, ",\n\"k%d\": 1", i);
    buf_put_text(&many, "}");
    assert_int_equal(parse(buf_text(&many)), -1);
    assert_int_equal(errors.count, CONFIG_ERRORS_MAX);
    assert_int_equal(errors.left_out, 50);
    buf_fini(&many);
}

static void listening_beyond_this_machine_needs_a_token(void **state) {
    expect_error("{" SOURCES ",\n \"server\": {\"listen\": \"0.0.0.0\"}}", 2, 23, "needs a \"token\"");
    expect_good("{" SOURCES ", \"server\": {\"listen\": \"0.0.0.0\", \"token\": \"abc\"}}");
    expect_good("{" SOURCES ", \"server\": {\"listen\": \"::1\"}}");
    expect_good("{" SOURCES ", \"server\": {\"listen\": \"0.0.0.0\", \"enabled\": false}}");
}

static const char *setting(const char *key) {
    return json_string_value(json_object_get(config->sources[0].settings, key));
}

static void secrets_come_from_the_environment_and_files(void **state) {
    char path[] = "/tmp/config-secret-XXXXXX", text[1200];
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "s3cret\n", 7), 7);
    close(fd);
    setenv("CONFIG_TEST_USER", "joe", 1);
    unsetenv("CONFIG_TEST_NONE");
    snprintf(text, sizeof text,
             "{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\", \"url\": \"https://${CONFIG_TEST_USER}:$${x}@h/?a=b\","
             "\"password\": {\"file\": \"%s\"}}], \"server\": {\"token_file\": \"%s\"}}", path, path);
    expect_good(text);
    assert_string_equal(setting("url"), "https://joe:${x}@h/?a=b");
    assert_string_equal(setting("password"), "s3cret");
    assert_string_equal(config->server.token, "s3cret");
    char *shown = json_dumps(config->redacted, 0);
    assert_null(strstr(shown, "s3cret"));
    free(shown);
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"password\": \"${CONFIG_TEST_NONE}\"}]}", 2, 13,
                 "CONFIG_TEST_NONE is not set");
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"password\": {\"file\": \"/nonexistent/x\"}}]}", 2, 13,
                 "/nonexistent/x");
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"password\": \"${not a name}\"}]}", 2, 13, "${NAME}");
    unlink(path);
}

static void a_bad_value_from_a_secret_is_not_shown(void **state) {
    setenv("CONFIG_TEST_VALUE", "topsecret", 1);
    expect_error("{\"data_sources\": [{\"name\": \"a\", \"type\": \"api\",\n\"interval\": \"${CONFIG_TEST_VALUE}\"}]}", 2, 13, "\"interval\"");
    assert_null(strstr(errors.items[0].text, "topsecret"));
}

static void nothing_secret_is_left_after_redaction(void **state) {
    json_t *value = json_loads("{\"password\": \"p1\", \"api_key\": \"p1\", \"token_file\": \"/f\", \"url\": \"mqtt://u:p1@h:1/x\","
                               "\"other\": \"http://h/?q=1&access_token=p1&z=2\", \"header\": [\"Authorization: Bearer p1\", \"Accept: x\"],"
                               "\"token\": \"${T}\", \"secret\": {\"file\": \"/s\"}, \"auth\": {\"a\": \"p1\"}, \"key\": \"device\", \"n\": 5,"
                               "\"program\": \"where password == 1\"}", 0, NULL);
    json_t *shown = config_redact(value);
    char *text = json_dumps(shown, JSON_COMPACT);
    assert_null(strstr(text, "p1"));
    assert_non_null(strstr(text, "mqtt://***@h:1/x"));
    assert_non_null(strstr(text, "?q=1&access_token=***&z=2"));
    assert_non_null(strstr(text, "\"Authorization: ***\",\"Accept: x\""));
    assert_non_null(strstr(text, "\"${T}\""));
    assert_non_null(strstr(text, "{\"file\":\"/s\"}"));
    assert_non_null(strstr(text, "\"key\":\"device\""));
    assert_non_null(strstr(text, "\"token_file\":\"/f\""));
    assert_non_null(strstr(text, "where password == 1"));
    free(text);
    json_decref(shown);
    json_decref(value);
}

static void what_follows_from_a_wrong_name_is_no_error_of_its_own(void **state) {
    clear(NULL);
    assert_int_equal(config_parse(&config, "/x/config.json", text_of("{" SOURCES ", \"pipelines\": [{\"name\": \"a b\", \"program\": \"where x\"},"
                                  "{\"name\": \"c\", \"from\": \"a b\", \"program\": \"where x\"}],"
                                  "\"sinks\": [{\"type\": \"file\", \"path\": \"x\", \"from\": \"a b\"}]}"), &tools, &errors), -1);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.items[0].text, "a name has"));
}

static void an_unknown_scheme_is_answered_with_schemes(void **state) {
    clear(NULL);
    assert_int_equal(config_parse(&config, "/x/config.json", text_of("{\"data_sources\": [{\"name\": \"a\", \"url\": \"gopher://x\", \"follow\": true}]}"),
                                  &tools, &errors), -1);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.items[0].text, "unknown URL scheme \"gopher\"; known: http, https, file"));
}

static void names_and_headers_of_secrets_are_the_same_everywhere(void **state) {
    json_t *value = json_loads("{\"url\": \"http://h/x?sig=p1&code=p1&auth=p1&jwt=p1&sas=p1&pwd=p1&session=p1&Subscription-Key=p1&city=Oslo#token=p1&batch=3\","
                               "\"header\": [\"X-Auth: p1\", \"Ocp-Apim-Subscription-Key: p1\", \"X-Trace: p1\", \"p1\", \"user-agent: me\"],"
                               "\"headers\": \"X-Any:p1\", \"param\": [\"sig=p1\", \"city=Oslo\"], \"jwt\": \"p1\", \"proxy\": \"http://p1@h\","
                               "\"api_key_name\": \"X-Key\", \"tls_key\": \"/k.pem\"}", 0, NULL);
    json_t *shown = config_redact(value);
    char *text = json_dumps(shown, JSON_COMPACT);
    assert_string_equal(text, "{\"url\":\"http://h/x?sig=***&code=***&auth=***&jwt=***&sas=***&pwd=***&session=***&Subscription-Key=***&city=Oslo#token=***&batch=3\","
                              "\"header\":[\"X-Auth: ***\",\"Ocp-Apim-Subscription-Key: ***\",\"X-Trace: ***\",\"***\",\"user-agent: me\"],"
                              "\"headers\":\"X-Any: ***\",\"param\":[\"sig=***\",\"city=Oslo\"],\"jwt\":\"***\",\"proxy\":\"http://***@h\","
                              "\"api_key_name\":\"X-Key\",\"tls_key\":\"/k.pem\"}");
    free(text);
    json_decref(shown);
    json_decref(value);
}

static void expect_body(const char *body, const char *expected) {
    json_t *value = json_pack("{s:s}", "body", body), *shown = config_redact(value);
    assert_string_equal(json_string_value(json_object_get(shown, "body")), expected);
    json_decref(shown);
    json_decref(value);
}

static void of_a_body_the_values_with_secret_names_are_hidden(void **state) {
    expect_body("{\"user\": \"joe\", \"key\": \"p1\", \"in\": [{\"password\": \"p1\", \"n\": 5}], \"token\": {\"a\": 1}}",
                "{\"user\":\"joe\",\"key\":\"***\",\"in\":[{\"password\":\"***\",\"n\":5}],\"token\":\"***\"}");
    expect_body("user=joe&password=p1&since={cursor}", "user=joe&password=***&since={cursor}");
    expect_body("user=joe&password=p1&city=Oslo", "user=joe&password=***&city=Oslo");
    expect_body("<login><password>p1</password></login>", "***");
    expect_body("{\"since\": {cursor}, \"password\": \"p1\"}", "***");
    expect_body("p1", "***");
    expect_body("${BODY}", "${BODY}");
    expect_body("", "");
}

static void a_file_that_cannot_be_read_is_one_error(void **state) {
    clear(NULL);
    assert_int_equal(config_load(&config, "/nonexistent/config.json", &tools, &errors), -1);
    assert_int_equal(errors.count, 1);
    assert_int_equal(errors.items[0].place.line, 0);
    assert_non_null(strstr(errors.items[0].text, "No such file"));
}

static void a_file_called_config_is_named_after_its_directory(void **state) {
    clear(NULL);
    assert_int_equal(config_parse(&config, "/srv/plant one/config.json", text_of("{" SOURCES "}"), &tools, &errors), 0);
    assert_string_equal(config->name, "plant_one");
    expect_good("{" SOURCES ", \"name\": \"mine\"}");
    assert_string_equal(config->name, "mine");
}

static void state_needs_a_place_and_is_relative_to_the_file(void **state) {
    clear(NULL);
    assert_int_equal(config_parse(&config, "/srv/plant/config.json", text_of("{" SOURCES ", \"state_dir\": \"state\", \"delivery\": {\"sync\": \"always\","
                                  " \"spool-limit\": \"2GiB\", \"snapshot\": 5}, \"limits\": {\"memory\": \"32MiB\"}}"), &tools, &errors), 0);
    assert_string_equal(config->state_dir, "/srv/plant/state");
    assert_string_equal(json_string_value(json_object_get(config->delivery, "sync")), "always");
    assert_non_null(json_object_get(config->delivery, "spool_limit"));
    assert_int_equal(config->limits.memory, 32u << 20);
    expect_good("{" SOURCES ", \"state_dir\": \"/var/lib/plant\"}");
    assert_string_equal(config->state_dir, "/var/lib/plant");
    expect_good("{" SOURCES "}");
    assert_null(config->state_dir);
    clear(NULL);
    assert_int_equal(config_parse(&config, "config.json", text_of("{" SOURCES ", \"delivery\": {\"sync\": \"always\"}}"), &tools, &errors), -1);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.items[0].text, "needs \"state_dir\""));
    clear(NULL);
    assert_int_equal(config_parse(&config, "config.json", text_of("{" SOURCES ", \"state_dir\": \"\"}"), &tools, &errors), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_count_lines_and_characters),
        cmocka_unit_test(places_inside_strings_see_through_escapes),
        cmocka_unit_test_teardown(the_briefs_file_is_valid_as_it_is, clear),
        cmocka_unit_test_teardown(syntax_errors_have_a_place_and_a_hint, clear),
        cmocka_unit_test_teardown(unknown_keys_name_the_nearest, clear),
        cmocka_unit_test_teardown(values_are_checked_against_the_tools_declarations, clear),
        cmocka_unit_test_teardown(names_are_valid_and_unique, clear),
        cmocka_unit_test_teardown(pipelines_read_what_exists_and_not_themselves, clear),
        cmocka_unit_test_teardown(an_alert_is_a_pipeline_of_its_own, clear),
        cmocka_unit_test_teardown(all_errors_come_at_once_in_order, clear),
        cmocka_unit_test_teardown(listening_beyond_this_machine_needs_a_token, clear),
        cmocka_unit_test_teardown(secrets_come_from_the_environment_and_files, clear),
        cmocka_unit_test_teardown(a_bad_value_from_a_secret_is_not_shown, clear),
        cmocka_unit_test(nothing_secret_is_left_after_redaction),
        cmocka_unit_test(of_a_body_the_values_with_secret_names_are_hidden),
        cmocka_unit_test_teardown(what_follows_from_a_wrong_name_is_no_error_of_its_own, clear),
        cmocka_unit_test_teardown(an_unknown_scheme_is_answered_with_schemes, clear),
        cmocka_unit_test(names_and_headers_of_secrets_are_the_same_everywhere),
        cmocka_unit_test_teardown(a_file_that_cannot_be_read_is_one_error, clear),
        cmocka_unit_test_teardown(a_file_called_config_is_named_after_its_directory, clear),
        cmocka_unit_test_teardown(state_needs_a_place_and_is_relative_to_the_file, clear),
    };
    return cmocka_run_group_tests(tests, make_tools, free_tools);
}
