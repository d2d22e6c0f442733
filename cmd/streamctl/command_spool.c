/* spool: looks into the durable log of a stage, which may be at work, and repairs one that is not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "command.h"
#include "net/spool.h"

/* A stage's state directory holds the log in "spool"; that directory itself will do as well. */
static char *log_directory(const char *given) {
    char *inside = mem_format("%s/spool/meta", given);
    bool state = access(inside, F_OK) == 0;
    mem_free(inside);
    return mem_format("%s%s", given, state ? "/spool" : "");
}

int command_spool(int argc, char **argv) {
    static const char *const verbs[] = {"ls", "cat", "fsck", "repair"};
    bool notes = command_flag(&argc, argv, NULL, "--notes");
    if (argc != 2)
        return command_usage("spool", "it takes what to do (ls, cat, fsck or repair) and a directory");
    size_t verb = 0;
    while (verb < 4 && strcmp(argv[0], verbs[verb]) != 0)
        verb++;
    if (verb == 4) {
        const char *nearest = text_nearest(argv[0], verbs, 4);
        return command_usage("spool", "unknown: %s; %s%s%s", argv[0], nearest ? "did you mean " : "there are ls, cat, fsck and repair",
                             nearest ? nearest : "", nearest ? "?" : "");
    }
    if (notes && verb != 1)
        return command_usage("spool", "--notes goes with cat");
    char *directory = log_directory(argv[1]);
    err_t err = {{0}};
    int damages = verb == 0   ? spool_list(directory, stdout, &err)
                  : verb == 1 ? spool_print(directory, notes, stdout, &err)
                  : verb == 2 ? spool_check(directory, stdout, &err)
                              : spool_repair(directory, stdout, &err);
    mem_free(directory);
    if (damages < 0 || (damages && err.text[0]))
        return command_failed("%s", err.text);
    if (fflush(stdout) != 0 || ferror(stdout))
        return command_failed("standard output could not be written");
    return damages && verb != 3 ? EXIT_FAILURE : EXIT_SUCCESS;
}
