#ifndef RUN_CONFIG_PRIVATE_H
#define RUN_CONFIG_PRIVATE_H

#include "base/memory.h"
#include "run/config.h"

/* What the files of the config reader share. */
typedef struct checker {
    config_t *config;
    text_t text;
    const config_tools_t *tools;
    config_errors_t *errors;
    arena_t arena;                    /* pointers ("/sinks/0/name") live here */
    option_list_t refused;            /* names that are not valid: who means them is told nothing more */
} checker_t;

/* "BASE/KEY" and "BASE/INDEX". */
const char *checker_member(checker_t *checker, const char *base, const char *key);
const char *checker_element(checker_t *checker, const char *base, size_t index);

/* Reports an error at the value, or the key, that the pointer names. */
void checker_error(checker_t *checker, const char *pointer, const char *format, ...) __attribute__((format(printf, 3, 4)));
void checker_error_key(checker_t *checker, const char *pointer, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A copy of the value in which ${NAME} and {"file": PATH} are filled in; NULL after an error was reported. */
json_t *config_fill_in(checker_t *checker, const json_t *value, const char *pointer);
bool config_has_reference(const json_t *value);

/* One member against its option. Says what is wrong under the name that the user wrote. */
bool checker_option(checker_t *checker, const option_t *option, void *settings, const json_t *value, const char *pointer,
                    const char *key);
/* An object against one table; `ignored` keys (NULL-terminated, may be NULL) belong to someone else. */
void checker_section(checker_t *checker, const json_t *object, const char *pointer, const option_t *table, void *settings,
                     const char *const *ignored);
/* "unknown key X in WHERE; did you mean Y?" against tables and words; both NULL-terminated, words may be NULL. */
void checker_unknown(checker_t *checker, const char *pointer, const char *key, const char *where, const option_t *const *tables,
                     const char *const *words);
bool checker_is_comment(const char *key);
/* False, and reported, when delivery's option of that name, given in this entry, would be ignored: it is about state and there is no state_dir. */
bool checker_needs(checker_t *checker, const option_t *option, const json_t *entry, const char *pointer);

/* The sections with entries (config_entries.c, config_pipelines.c, config_alerts.c). */
void checker_sources(checker_t *checker, const json_t *list);
void checker_sinks(checker_t *checker, const json_t *list);
void checker_pipelines(checker_t *checker, const json_t *list);
void checker_alerts(checker_t *checker, const json_t *list);         /* after the pipelines: adds to them */
void checker_readers(checker_t *checker);                            /* after both */
void checker_resolve_from(checker_t *checker, config_pipeline_t *pipeline, const option_list_t *from, const json_t *value,
                          const char *pointer);
bool checker_name_refused(const checker_t *checker, const char *name);
bool checker_new_name(checker_t *checker, const char *name, const char *pointer);   /* valid and not yet taken, else reported */

const config_driver_t *config_driver_find(const config_tool_t *tool, const char *word);
void config_option_list_add(option_list_t *list, const char *item);
void config_option_list_fini(option_list_t *list);

/* Options that any sending stage takes: delivery, and each source and pipeline for itself. */
extern const option_t config_delivery_options[];

#endif
