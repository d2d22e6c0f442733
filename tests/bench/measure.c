/* Runs commands side by side and prints what they took, as JSON: measure [--pipe] [--input BYTES] COMMAND... [:: COMMAND...]...
 * With --pipe each one's output is the next one's input. With --input "middle" is the time from when the first one had read 20 % of so many bytes until it
 * had read 90 %: what a chain does when it neither starts nor ends. CPU time and peak memory come from wait4: this launcher is small, because
 * a process's peak memory starts with that of the one it was forked from. Output of the last goes to /dev/null, errors are shown. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX 16

typedef struct command {
    char **arguments;          /* NULL-terminated */
    pid_t pid;
    int status;
    struct rusage usage;
} command_t;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static double seconds(struct timeval t) {
    return (double) t.tv_sec + (double) t.tv_usec / 1e6;
}

static void spawn(command_t *command, int in, int out) {
    command->pid = fork();
    if (command->pid < 0) {
        perror("fork");
        exit(1);
    }
    if (command->pid)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execvp(command->arguments[0], command->arguments);
    perror(command->arguments[0]);
    _exit(127);
}

typedef struct progress {
    pid_t pid;
    uint64_t input;
    double from, to;           /* when 20 % and 90 % had been read; 0: never seen */
} progress_t;

static void *watch(void *argument) {
    progress_t *progress = argument;
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/io", (int) progress->pid);
    for (;;) {
        unsigned long long bytes;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (n <= 0)
            return NULL;
        text[n] = 0;
        if (sscanf(text, "rchar: %llu", &bytes) != 1)
            return NULL;
        if (!progress->from && bytes >= progress->input / 5)
            progress->from = now();
        if (!progress->to && bytes >= progress->input / 10 * 9) {
            progress->to = now();
            return NULL;
        }
        usleep(5000);
    }
}

/* One has failed: the others would wait for it for ever. */
static void end_all(const command_t *commands, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (commands[i].pid > 0)
            kill(commands[i].pid, SIGKILL);
}

static void collect(command_t *commands, unsigned count) {
    for (unsigned left = count; left; left--) {
        int status;
        struct rusage usage;
        pid_t pid = wait4(-1, &status, 0, &usage);
        for (unsigned i = 0; i < count; i++)
            if (commands[i].pid == pid) {
                commands[i].status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                commands[i].usage = usage;
                commands[i].pid = 0;
                if (commands[i].status)
                    end_all(commands, count);
            }
    }
}

int main(int argc, char **argv) {
    command_t commands[COMMANDS_MAX] = {0};
    unsigned count = 0;
    bool piped = argc > 1 && strcmp(argv[1], "--pipe") == 0;
    int first = piped ? 2 : 1;
    progress_t progress = {0};
    if (argc > first + 1 && strcmp(argv[first], "--input") == 0) {
        progress.input = strtoull(argv[first + 1], NULL, 10);
        first += 2;
    }
    for (int i = first; i < argc && count < COMMANDS_MAX; i++) {
        commands[count++].arguments = argv + i;
        while (i < argc && strcmp(argv[i], "::") != 0)
            i++;
        if (i < argc)
            argv[i] = NULL;
    }
    if (!count) {
        fprintf(stderr, "usage: measure [--pipe] [--input BYTES] COMMAND... [:: COMMAND...]...\n");
        return 64;
    }
    int null_in = open("/dev/null", O_RDONLY | O_CLOEXEC), null_out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int in = null_in;
    double start = now();
    for (unsigned i = 0; i < count; i++) {
        int ends[2] = {-1, null_out};
        if (piped && i + 1 < count && pipe2(ends, O_CLOEXEC)) {
            perror("pipe");
            return 1;
        }
        spawn(&commands[i], in, ends[1]);
        if (in != null_in)
            close(in);
        if (ends[1] != null_out)
            close(ends[1]);
        in = piped && i + 1 < count ? ends[0] : null_in;
    }
    pthread_t watcher;
    progress.pid = commands[0].pid;
    bool watched = progress.input && pthread_create(&watcher, NULL, watch, &progress) == 0;
    collect(commands, count);
    if (watched)
        pthread_join(watcher, NULL);
    double wall = now() - start;
    printf("{\"wall\":%.6f,\"middle\":%.6f,\"processes\":[", wall, progress.to > progress.from && progress.from > 0 ? progress.to - progress.from : 0);
    for (unsigned i = 0; i < count; i++) {
        const char *slash = strrchr(commands[i].arguments[0], '/');
        printf("%s{\"name\":\"%s\",\"user\":%.6f,\"system\":%.6f,\"peak_kib\":%ld,\"status\":%d}", i ? "," : "",
               slash ? slash + 1 : commands[i].arguments[0], seconds(commands[i].usage.ru_utime), seconds(commands[i].usage.ru_stime),
               commands[i].usage.ru_maxrss, commands[i].status);
    }
    printf("]}\n");
    return 0;
}
