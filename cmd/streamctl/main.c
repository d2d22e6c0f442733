/* streamctl: runs a pipeline that config.json describes, and talks to one that runs. The commands are a table. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "command.h"
#include "facade.h"

typedef struct command {
    const char *name, *usage, *help;
    int (*function)(int argc, char **argv);
} command_t;

static const command_t commands[] = {
    {"run", "[CONFIG] [--reset]", "start everything and stay in the foreground; Ctrl-C drains and stops it", command_run},
    {"start", "[CONFIG] [STAGE] [--interval SECONDS]", "start in the background; with STAGE: start that source of a running one",
     command_start},
    {"stop", "[CONFIG] [STAGE]", "drain and stop everything, or one source or stage", command_stop},
    {"restart", "[CONFIG] [STAGE]", "stop and start again, with the file as it is now; or one source or stage", command_restart},
    {"status", "[CONFIG] [--json]", "what runs, and how", command_status},
    {"reset", "[CONFIG] [STAGE] [--yes]", "delete the state of all stages, or of one, after a question", command_reset},
    {"check", "[CONFIG]", "check the file and its programs; every error is shown", command_check},
    {"test", "FILE... [--filter NAME] [--update]", "run test cases of programs, and show what is not as expected", command_test},
    {"audit", "[CONFIG] [--json]", "whether every event is accounted for, from source to sink", command_audit},
    {"dead", "[CONFIG] [STAGE] [-n LINES]", "dead letters: how many and why, or a stage's newest as NDJSON", command_dead},
    {"replay", "[CONFIG] [STAGE] [--dry-run|--resume]", "send dead letters again, after what was wrong has been repaired", command_replay},
    {"logs", "[CONFIG] [STAGE] [-n LINES] [-f]", "what the stages said", command_logs},
    {"spool", "ls|cat|fsck|repair DIR [--notes]", "look into a stage's durable log, or repair it", command_spool},
    {"facade", NULL, NULL, facade_main}, /* started by the supervisor only */
};
#define COMMANDS (sizeof commands / sizeof *commands)

/* Their options; the words before the colon are the commands that have it. */
static const struct {
    const char *letter, *name, *value, *help;
} options[] = {
    {NULL, "--interval", " SECONDS", "start: time between the source's requests from now on"},
    {NULL, "--reset", "", "run, start: delete the state in state_dir first, after a question"},
    {"-y", "--yes", "", "reset, --reset: do not ask"},
    {NULL, "--json", "", "status, audit: as JSON"},
    {NULL, "--filter", " NAME", "test: only the cases with this in their name"},
    {NULL, "--update", "", "test: write into the file what was found"},
    {NULL, "--config", " FILE", "test: where pipelines are looked up (default: config.json beside the file)"},
    {"-v", "--verbose", "", "test: name the cases that passed, too"},
    {NULL, "--dry-run", "", "replay: only show what would be sent"},
    {NULL, "--resume", "", "replay: only go on with one that was interrupted"},
    {NULL, "--notes", "", "spool cat: records and notes instead of events"},
    {"-n", "--lines", " N", "logs: so many of the last messages (default 50); dead: of the newest letters (default 20)"},
    {"-f", "--follow", "", "logs: and what comes"},
};
#define OPTIONS (sizeof options / sizeof *options)

/* Of the command's options. */
static const char *nearest_option(const char *command, const char *word) {
    const char *names[OPTIONS];
    size_t n = 0;
    for (size_t i = 0; i < OPTIONS; i++) {
        const char *owner = strstr(options[i].help, command);
        if (owner && strchr(owner, ':'))
            names[n++] = options[i].name + 2;
    }
    return text_starts(word, "--") ? text_nearest(word + 2, names, n) : NULL;
}

int command_usage(const char *command, const char *format, ...) {
    static const char unknown[] = "unknown option ";
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *nearest = text_starts(text, unknown) ? nearest_option(command, text + strlen(unknown)) : NULL;
    fprintf(stderr, "streamctl %s: %s", command, text);
    if (nearest)
        fprintf(stderr, "; did you mean --%s?", nearest);
    fputs("\nTry 'streamctl --help'.\n", stderr);
    return EX_USAGE;
}

int command_failed(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("streamctl: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return EXIT_FAILURE;
}

static void take_out(int *argc, char **argv, int at, int count) {
    memmove(argv + at, argv + at + count, (size_t) (*argc - at - count) * sizeof *argv);
    *argc -= count;
}

const char *command_option(int *argc, char **argv, const char *letter, const char *name, int *missing) {
    *missing = 0;
    size_t length = strlen(name);
    for (int i = 0; i < *argc; i++) {
        const char *word = argv[i], *value = NULL;
        bool same = strcmp(word, name) == 0 || (letter && strcmp(word, letter) == 0);
        if (same && i + 1 < *argc) {
            value = argv[i + 1];
            take_out(argc, argv, i, 2);
        } else if (same) {
            *missing = 1;
            take_out(argc, argv, i, 1);
        } else if (text_starts(word, name) && word[length] == '=') {
            value = word + length + 1;
            take_out(argc, argv, i, 1);
        } else if (letter && text_starts(word, letter) && word[2] && word[1] != '-') {
            value = word + 2;
            take_out(argc, argv, i, 1);
        } else {
            continue;
        }
        return value;
    }
    return NULL;
}

int command_flag(int *argc, char **argv, const char *letter, const char *name) {
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], name) != 0 && !(letter && strcmp(argv[i], letter) == 0))
            continue;
        take_out(argc, argv, i, 1);
        return 1;
    }
    return 0;
}

static void print_help(FILE *out) {
    fputs("usage: streamctl COMMAND [CONFIG] ...\n\nRuns a pipeline of sources, programs and sinks that CONFIG (config.json) describes.\n\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].usage)
            fprintf(out, "  %-8s%-38s%s\n", commands[i].name, commands[i].usage, commands[i].help);
    fputs("\nWithout CONFIG: ./config.json, or the only instance that is running.\n\n", out);
    for (size_t i = 0; i < OPTIONS; i++)
        fprintf(out, "  %2s%-2s%s%-*s%s\n", options[i].letter ? options[i].letter : "", options[i].letter ? "," : "", options[i].name,
                21 - (int) strlen(options[i].name), options[i].value, options[i].help);
    fputs("  -h, --help               show this\n"
          "      --version            show the version\n\nSee streamctl(1) and streamctl-config(5).\n",
          out);
}

static int unknown_command(const char *word) {
    const char *names[COMMANDS];
    size_t n = 0;
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].usage)
            names[n++] = commands[i].name;
    static const char *const elsewhere[][2] = {{"reload", "restart"}, {"validate", "check"}, {"ps", "status"}, {"list", "status"}, {"ls", "status"},
                                               {"up", "start"}, {"down", "stop"}, {"kill", "stop"}, {"tail", "logs -f"}};
    const char *nearest = text_nearest(word, names, n);
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
        if (strcmp(word, elsewhere[i][0]) == 0)
            nearest = elsewhere[i][1];
    fprintf(stderr, "streamctl: unknown command %s%s%s%s\nTry 'streamctl --help'.\n", word, nearest ? "; did you mean " : "",
            nearest ? nearest : "", nearest ? "?" : "");
    return EX_USAGE;
}

/* Descriptors 0 to 2 must be something: what we open later must not take their place. */
static void open_standard(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return EX_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(word, "--version") == 0) {
        printf("streamctl %s\n", VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        const command_t *command = &commands[i];
        if (strcmp(command->name, word) != 0)
            continue;
        if (!command->usage)
            return command->function(argc - 1, argv + 1);
        if (argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
            printf("usage: streamctl %s %s\n\n%s\n", command->name, command->usage, command->help);
            return 0;
        }
        log_open("streamctl", NULL, LOG_INFO);
        return command->function(argc - 2, argv + 2);
    }
    return unknown_command(word);
}

int main(int argc, char **argv) {
    open_standard();
    int status = run(argc, argv);
    log_close();
    return file_end_output("streamctl", status);
}
