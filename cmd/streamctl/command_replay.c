/* dead and replay: looking at dead letters, and sending them again. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "client.h"
#include "command.h"
#include "dead.h"
#include "replay.h"
#include "rundir.h"
#include "tools.h"

#define LINES_DEFAULT 20
#define LINES_MOST 1000
#define REASON_SHOWN 80

typedef struct subject {
    config_t *config;
    topology_t *topology;
    target_t target;
} subject_t;

static void subject_fini(subject_t *subject) {
    topology_free(subject->topology);
    config_free(subject->config);
}

/* The configuration that is meant, also when none is given and one runs; the exit status. */
static int subject_open(subject_t *subject, const char *command, int argc, char **argv) {
    err_t err = {{0}};
    config_errors_t errors = {0};
    *subject = (subject_t){0};
    if (target_parse(&subject->target, argc, argv, &err))
        return command_usage(command, "%s", err.text);
    char *run_dir = NULL, *noted = NULL;
    if (!subject->target.config && access("config.json", F_OK) && target_run_dir(&subject->target, &run_dir, &err))
        return command_failed("%s", err.text);
    noted = run_dir ? rundir_config(run_dir) : NULL;
    const char *path = noted ? noted : target_config(&subject->target);
    int status = 0;
    if (tools_load_config(&subject->config, path, &errors, NULL)) {
        config_errors_print(&errors, path, stderr);
        status = EX_USAGE;
    } else {
        mem_free(run_dir);
        run_dir = rundir_path(subject->config->path);
        if (topology_new(&subject->topology, subject->config, run_dir, &err))
            status = command_failed("%s", err.text);
    }
    config_errors_fini(&errors);
    mem_free(run_dir);
    mem_free(noted);
    return status;
}

/* Whether the stage is meant: by its name, its pipeline's, or as one of all. */
static bool meant(const subject_t *subject, const topology_stage_t *stage) {
    const char *name = subject->target.stage;
    return stage->role != ROLE_SERVER && (!name || strcmp(stage->name, name) == 0 || strcmp(stage->group, name) == 0);
}

static int check_stage(const subject_t *subject) {
    for (size_t i = 0; i < subject->topology->count; i++)
        if (meant(subject, &subject->topology->stages[i]))
            return 0;
    return command_failed("there is no stage \"%s\"", subject->target.stage);
}

static void print_letters(const topology_stage_t *stage, size_t lines) {
    json_t *letters = dead_newest(stage->dead_letter, lines);
    const json_t *letter;
    size_t i;
    json_array_foreach(letters, i, letter) {
        json_dumpf(letter, stdout, JSON_COMPACT);
        putchar('\n');
    }
    json_decref(letters);
}

static void print_count(const topology_stage_t *stage) {
    dead_count_t count = dead_count(stage->dead_letter);
    json_t *newest = dead_newest(stage->dead_letter, 1);
    const json_t *letter = json_array_get(newest, 0);
    const char *reason = json_string_value(json_object_get(letter, "reason")), *time = json_string_value(json_object_get(letter, "time"));
    printf("%-20s %10llu %12llu  ", stage->name, (unsigned long long) count.letters, (unsigned long long) count.bytes);
    if (reason)
        printf("%.19s%s  %.*s", time ? time : "", time ? "Z" : "", REASON_SHOWN, reason);
    putchar('\n');
    json_decref(newest);
}

int command_dead(int argc, char **argv) {
    subject_t subject;
    int missing;
    uint64_t lines = LINES_DEFAULT;
    const char *text = command_option(&argc, argv, "-n", "--lines", &missing);
    if (missing || (text && (text_to_uint(text_of(text), &lines, NULL) || lines > LINES_MOST)))
        return command_usage("dead", "-n takes a number up to %d", LINES_MOST);
    int status = subject_open(&subject, "dead", argc, argv);
    if (status == 0)
        status = check_stage(&subject);
    if (status == 0 && !subject.target.stage)
        printf("%-20s %10s %12s  NEWEST\n", "STAGE", "LETTERS", "BYTES");
    for (size_t i = 0; status == 0 && i < subject.topology->count; i++) {
        const topology_stage_t *stage = &subject.topology->stages[i];
        if (!meant(&subject, stage) || !stage->dead_letter)
            continue;
        if (subject.target.stage)
            print_letters(stage, (size_t) lines);
        else
            print_count(stage);
    }
    subject_fini(&subject);
    return status;
}

/* One stage's; the exit status. */
static int replay_one(const replay_t *replay, const topology_stage_t *stage, bool dry_run) {
    dead_count_t count = dead_count(stage->dead_letter);
    replay_result_t result = {0};
    err_t err = {{0}};
    if (dry_run) {
        printf("%s: %llu dead letter%s would be sent again\n", stage->name, (unsigned long long) count.letters, count.letters == 1 ? "" : "s");
        return 0;
    }
    if (replay_stage(replay, stage, &result, &err))
        return text_starts(err.text, stage->name) && err.text[strlen(stage->name)] == ' ' ? command_failed("%s", err.text) : command_failed("%s: %s", stage->name, err.text);
    printf("%s: %llu dead letter%s sent again as %llu event%s", stage->name, (unsigned long long) result.letters, result.letters == 1 ? "" : "s",
           (unsigned long long) result.sent, result.sent == 1 ? "" : "s");
    if (result.again)
        printf("; %llu could not be read again, and are dead letters still", (unsigned long long) result.again);
    if (result.unusable)
        printf("; %llu hold nothing that can be sent, and are kept beside", (unsigned long long) result.unusable);
    putchar('\n');
    return result.again || result.unusable ? EXIT_FAILURE : 0;
}

int command_replay(int argc, char **argv) {
    subject_t subject;
    err_t err = {{0}};
    bool dry_run = command_flag(&argc, argv, NULL, "--dry-run"), resume = command_flag(&argc, argv, NULL, "--resume");
    int status = subject_open(&subject, "replay", argc, argv), lock = -1;
    replay_t replay = {subject.config, subject.topology, resume};
    if (status == 0)
        status = check_stage(&subject);
    if (status == 0 && (lock = replay_lock(&replay, &err)) < 0)
        status = command_failed("%s", err.text);
    if (status == 0 && !dry_run && !rundir_holder(subject.topology->run_dir))
        status = command_failed("%s does not run: start it, so that someone gets what is sent again", subject.config->path);
    bool any = false;
    for (size_t i = 0; lock >= 0 && status != EX_USAGE && i < subject.topology->count; i++) {
        const topology_stage_t *stage = &subject.topology->stages[i];
        if (status && !any)
            break;
        if (!meant(&subject, stage) || !stage->dead_letter || dead_count(stage->dead_letter).letters == 0)
            continue;
        any = true;
        status |= replay_one(&replay, stage, dry_run);
    }
    if (status == 0 && !any)
        puts("there are no dead letters");
    if (lock >= 0)
        close(lock);
    subject_fini(&subject);
    return status;
}
