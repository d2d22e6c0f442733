/* ingest --list: all sources with their options, for people and, as JSON, for streamctl and the dashboard's forms. */
#include <stdio.h>

#include "ingest.h"

static json_t *words_of(const source_driver_t *driver, bool types) {
    json_t *words = json_array();
    if (types) {
        for (const source_type_t *type = driver->types; type->word; type++)
            json_array_append_new(words, json_string(type->word));
    } else {
        for (const char *const *scheme = driver->schemes; *scheme; scheme++)
            json_array_append_new(words, json_string(*scheme));
    }
    return words;
}

static int list_json(void) {
    static const option_t none[] = {{0}};
    json_t *drivers = json_array();
    for (const source_driver_t *const *driver = source_table; *driver; driver++) {
        const option_t *options = (*driver)->options ? (*driver)->options : none;
        json_array_append_new(drivers, json_pack("{s:s, s:s, s:o, s:o, s:s, s:o}", "name", (*driver)->name, "usage",
                                                 (*driver)->usage, "schemes", words_of(*driver, false), "types",
                                                 words_of(*driver, true), "help", (*driver)->help, "options",
                                                 option_describe(options)));
    }
    json_t *all = json_pack("{s:o, s:o}", "drivers", drivers, "options", stage_describe_options(&ingest_tool));
    json_dumpf(all, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(all);
    putchar('\n');
    return 0; /* main looks whether it could be written */
}

void ingest_help(FILE *out) {
    fputs("sources:\n", out);
    for (const source_driver_t *const *driver = source_table; *driver; driver++) {
        fprintf(out, "\n%s\n    %s\n", (*driver)->usage, (*driver)->help);
        if ((*driver)->types[0].word) {
            fputs("    type in config.json:", out);
            for (const source_type_t *type = (*driver)->types; type->word; type++)
                fprintf(out, " %s", type->word);
            fputc('\n', out);
        }
        if ((*driver)->options)
            option_help((*driver)->options, out);
    }
}

int ingest_list(bool as_json) {
    if (as_json)
        return list_json();
    ingest_help(stdout);
    return 0;
}
